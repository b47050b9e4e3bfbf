/* An OpenCL library without a device: it answers as an Arm Mali would, takes every program, and runs nothing.
 *
 * Arm Compute Library (ACL) chooses kernels and work-group sizes by what OpenCL tells of the device. With this library
 * in place of the vendor's that choice can be seen on any machine. Results are never computed: outputs stay as they
 * were. The driver's version says so, for nobody may take this for a device.
 *
 *     NEVER_SLOWER_GPU        the device's name, as its driver tells it: Mali-T628, Mali-G72 (default), Mali-G610 …
 *     NEVER_SLOWER_GPU_UNITS  its cores (default 12, as in a HiKey 970)
 *
 * It has the functions that ACL looks up (core/CL/OpenCL.h of 20.08 and 24.11), except command buffers, which no ACL
 * uses for convolutions. Objects are counted as OpenCL wants it and freed with their last reference.
 */
#define CL_TARGET_OPENCL_VERSION 200
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS /* clEnqueueMarker */
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS /* clCreateCommandQueue */
#include <CL/cl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DRIVER "never-slower null OpenCL 1"
#define MEBIBYTE ((cl_ulong)1 << 20)

/* ---- What kind of device this is ---- */

/* What a generation's drivers tell, from clinfo listings that users of T628, T860, G71, G52, G310 and G610 published;
   in between by likeness. ACL's choice depends on the name, the version and the extensions; the rest only bounds it.
   The extensions are those that ACL asks about for floats. */
struct generation {
    const char *version, *c_version;
    size_t group_size;   /* the most work-items in a group */
    size_t multiple;     /* group sizes had better be multiples of this */
    cl_uint image_pitch; /* in pixels */
    const char *extensions;
};

#define VERSION(number) "OpenCL " number " " DRIVER, "OpenCL C " number " " DRIVER
#define EXTENSIONS                                                                                                    \
    "cl_khr_global_int32_base_atomics cl_khr_local_int32_base_atomics cl_khr_int64_base_atomics cl_khr_fp16 "         \
    "cl_khr_image2d_from_buffer cl_arm_core_id cl_arm_non_uniform_work_group_size"

static const struct generation MIDGARD = {VERSION("1.2"), 256, 4, 16, EXTENSIONS};
static const struct generation BIFROST = {VERSION("2.0"), 384, 4, 64, EXTENSIONS};
static const struct generation LATE_BIFROST = {VERSION("2.0"), 384, 8, 64, EXTENSIONS};
static const struct generation VALHALL = {VERSION("2.0"), 512, 16, 64, EXTENSIONS};
static const struct generation LATE_VALHALL = {VERSION("3.0"), 1024, 16, 64, EXTENSIONS};
/* From G615 and G715 on, Mali has instructions that multiply matrices, and ACL has kernels for them. */
static const struct generation MATRICES = {VERSION("3.0"), 1024, 16, 64, EXTENSIONS " cl_arm_matrix_multiply"};

static const char *environment(const char *name, const char *otherwise)
{
    const char *text = getenv(name);
    return text && *text ? text : otherwise;
}

static const char *device_name(void)
{
    return environment("NEVER_SLOWER_GPU", "Mali-G72");
}

/* The generation of a name such as "Mali-G610 r0p0"; a model that is not listed is taken for a newer one. */
static const struct generation *generation(void)
{
    static const struct {
        const char *model;
        const struct generation *generation;
    } known[] = {
        {"G31", &BIFROST},       {"G51", &BIFROST},       {"G71", &BIFROST},       {"G72", &BIFROST},
        {"G52", &LATE_BIFROST},  {"G76", &LATE_BIFROST},  {"G57", &VALHALL},       {"G68", &VALHALL},
        {"G77", &VALHALL},       {"G78", &VALHALL},       {"G310", &LATE_VALHALL}, {"G510", &LATE_VALHALL},
        {"G610", &LATE_VALHALL}, {"G710", &LATE_VALHALL},
    };
    const char *dash = strchr(device_name(), '-');
    const char *model = dash ? dash + 1 : device_name();
    const size_t digits = 1 + strspn(model + (*model != 0), "0123456789");
    if (*model == 'T')
        return &MIDGARD;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].model) == digits && strncmp(known[i].model, model, digits) == 0)
            return known[i].generation;
    return &MATRICES;
}

static cl_uint compute_units(void)
{
    const int units = atoi(environment("NEVER_SLOWER_GPU_UNITS", "12"));
    return units > 0 ? (cl_uint)units : 1;
}

/* ---- Objects ---- */

/* cl.h names these structures and leaves them to the library. Platform, device and context are there once, for ever. */
struct _cl_platform_id {
    char unused;
};
struct _cl_device_id {
    char unused;
};
struct _cl_context {
    char unused;
};
static struct _cl_platform_id the_platform;
static struct _cl_device_id the_device;
static struct _cl_context the_context;

struct _cl_command_queue {
    atomic_uint references;
    cl_command_queue_properties properties;
};

struct _cl_event {
    atomic_uint references;
};

struct _cl_program {
    atomic_uint references;
};

struct _cl_kernel {
    atomic_uint references;
    cl_program program;
    char *name;
};

struct _cl_mem {
    atomic_uint references;
    cl_mem parent; /* the buffer that an image is made from */
    bool owned;
    size_t size;
    char *memory;
};

static cl_int tell(cl_int *error, cl_int code)
{
    if (error)
        *error = code;
    return code;
}

/* A zeroed object with one reference; each structure but the three above begins with its count. */
static void *create(size_t size, cl_int *error)
{
    atomic_uint *object = calloc(1, size);
    if (object)
        atomic_init(object, 1);
    tell(error, object ? CL_SUCCESS : CL_OUT_OF_HOST_MEMORY);
    return object;
}

static bool was_last(atomic_uint *references)
{
    return atomic_fetch_sub(references, 1) == 1;
}

#define COUNTED(Name, type, invalid, destroy)                                                                         \
    cl_int clRetain##Name(type object)                                                                                \
    {                                                                                                                 \
        if (!object)                                                                                                  \
            return invalid;                                                                                           \
        atomic_fetch_add(&object->references, 1);                                                                     \
        return CL_SUCCESS;                                                                                            \
    }                                                                                                                 \
    cl_int clRelease##Name(type object)                                                                               \
    {                                                                                                                 \
        if (!object)                                                                                                  \
            return invalid;                                                                                           \
        if (was_last(&object->references))                                                                            \
            destroy(object);                                                                                          \
        return CL_SUCCESS;                                                                                            \
    }

static void destroy_kernel(cl_kernel kernel)
{
    clReleaseProgram(kernel->program);
    free(kernel->name);
    free(kernel);
}

static void destroy_memory(cl_mem memory)
{
    if (memory->parent)
        clReleaseMemObject(memory->parent);
    if (memory->owned)
        free(memory->memory);
    free(memory);
}

COUNTED(CommandQueue, cl_command_queue, CL_INVALID_COMMAND_QUEUE, free)
COUNTED(Event, cl_event, CL_INVALID_EVENT, free)
COUNTED(Program, cl_program, CL_INVALID_PROGRAM, free)
COUNTED(Kernel, cl_kernel, CL_INVALID_KERNEL, destroy_kernel)
COUNTED(MemObject, cl_mem, CL_INVALID_MEM_OBJECT, destroy_memory)

#define PERMANENT(Name, type)                                                                                         \
    cl_int clRetain##Name(type object)                                                                                \
    {                                                                                                                 \
        (void)object;                                                                                                 \
        return CL_SUCCESS;                                                                                            \
    }                                                                                                                 \
    cl_int clRelease##Name(type object)                                                                               \
    {                                                                                                                 \
        (void)object;                                                                                                 \
        return CL_SUCCESS;                                                                                            \
    }

PERMANENT(Context, cl_context)
PERMANENT(Device, cl_device_id)

/* ---- Answers to the clGet…Info functions ---- */

/* Where the caller wants an answer, and how much room there is. */
struct request {
    size_t room;
    void *value;
    size_t *size;
};

static cl_int answer(const struct request *to, const void *value, size_t size)
{
    if (to->size)
        *to->size = size;
    if (!to->value)
        return CL_SUCCESS;
    if (to->room < size)
        return CL_INVALID_VALUE;
    memcpy(to->value, value, size);
    return CL_SUCCESS;
}

static cl_int answer_text(const struct request *to, const char *text)
{
    return answer(to, text, strlen(text) + 1);
}

static cl_int answer_uint(const struct request *to, cl_uint value)
{
    return answer(to, &value, sizeof value);
}

static cl_int answer_ulong(const struct request *to, cl_ulong value)
{
    return answer(to, &value, sizeof value);
}

static cl_int answer_size(const struct request *to, size_t value)
{
    return answer(to, &value, sizeof value);
}

static cl_int answer_pointer(const struct request *to, const void *value)
{
    return answer(to, &value, sizeof value);
}

/* NULL for what is no text. */
static const char *text_of_device(cl_device_info which)
{
    switch (which) {
    case CL_DEVICE_NAME:
        return device_name();
    case CL_DEVICE_VENDOR:
        return "ARM";
    case CL_DEVICE_VERSION:
        return generation()->version;
    case CL_DEVICE_OPENCL_C_VERSION:
        return generation()->c_version;
    case CL_DRIVER_VERSION:
        return DRIVER;
    case CL_DEVICE_PROFILE:
        return "FULL_PROFILE";
    case CL_DEVICE_EXTENSIONS:
        return generation()->extensions;
    case CL_DEVICE_BUILT_IN_KERNELS:
        return "";
    default:
        return NULL;
    }
}

static cl_int answer_number_of_device(const struct request *to, cl_device_info which)
{
    const size_t group = generation()->group_size;
    const size_t groups[3] = {group, group, group};
    switch (which) {
    case CL_DEVICE_MAX_COMPUTE_UNITS:
        return answer_uint(to, compute_units());
    case CL_DEVICE_MAX_WORK_ITEM_DIMENSIONS:
        return answer_uint(to, 3);
    case CL_DEVICE_MAX_WORK_ITEM_SIZES:
        return answer(to, groups, sizeof groups);
    case CL_DEVICE_MAX_WORK_GROUP_SIZE:
        return answer_size(to, group);
    case CL_DEVICE_ADDRESS_BITS:
        return answer_uint(to, 64);
    case CL_DEVICE_GLOBAL_MEM_SIZE:
    case CL_DEVICE_MAX_MEM_ALLOC_SIZE:
        return answer_ulong(to, 4096 * MEBIBYTE);
    case CL_DEVICE_GLOBAL_MEM_CACHE_SIZE:
        return answer_ulong(to, 1 * MEBIBYTE);
    case CL_DEVICE_GLOBAL_MEM_CACHELINE_SIZE:
        return answer_uint(to, 64);
    case CL_DEVICE_LOCAL_MEM_SIZE:
        return answer_ulong(to, 32768);
    case CL_DEVICE_LOCAL_MEM_TYPE:
        return answer_uint(to, CL_GLOBAL);
    case CL_DEVICE_MEM_BASE_ADDR_ALIGN:
        return answer_uint(to, 1024);
    case CL_DEVICE_IMAGE2D_MAX_WIDTH:
    case CL_DEVICE_IMAGE2D_MAX_HEIGHT:
        return answer_size(to, 65536);
    case CL_DEVICE_IMAGE_PITCH_ALIGNMENT:
        return answer_uint(to, generation()->image_pitch);
    case CL_DEVICE_IMAGE_BASE_ADDRESS_ALIGNMENT:
        return answer_uint(to, 32);
    case CL_DEVICE_SVM_CAPABILITIES:
        return answer_ulong(to, 0);
    case CL_DEVICE_AVAILABLE:
    case CL_DEVICE_COMPILER_AVAILABLE:
    case CL_DEVICE_LINKER_AVAILABLE:
    case CL_DEVICE_IMAGE_SUPPORT:
    case CL_DEVICE_HOST_UNIFIED_MEMORY:
    case CL_DEVICE_ENDIAN_LITTLE:
        return answer_uint(to, CL_TRUE);
    default:
        return CL_INVALID_VALUE;
    }
}

cl_int clGetDeviceInfo(cl_device_id device, cl_device_info which, size_t room, void *value, size_t *size)
{
    const struct request to = {room, value, size};
    if (!device)
        return CL_INVALID_DEVICE;
    const char *text = text_of_device(which);
    if (text)
        return answer_text(&to, text);
    switch (which) {
    case CL_DEVICE_TYPE:
        return answer_ulong(&to, CL_DEVICE_TYPE_GPU);
    case CL_DEVICE_PLATFORM:
        return answer_pointer(&to, &the_platform);
    case CL_DEVICE_PARENT_DEVICE:
        return answer_pointer(&to, NULL);
    case CL_DEVICE_QUEUE_PROPERTIES:
        return answer_ulong(&to, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE | CL_QUEUE_PROFILING_ENABLE);
    default:
        return answer_number_of_device(&to, which);
    }
}

cl_int clGetPlatformInfo(cl_platform_id platform, cl_platform_info which, size_t room, void *value, size_t *size)
{
    const struct request to = {room, value, size};
    (void)platform;
    switch (which) {
    case CL_PLATFORM_NAME:
        return answer_text(&to, "ARM Platform");
    case CL_PLATFORM_VENDOR:
        return answer_text(&to, "ARM");
    case CL_PLATFORM_VERSION:
        return answer_text(&to, generation()->version);
    case CL_PLATFORM_PROFILE:
        return answer_text(&to, "FULL_PROFILE");
    case CL_PLATFORM_EXTENSIONS:
        return answer_text(&to, generation()->extensions);
    default:
        return CL_INVALID_VALUE;
    }
}

/* ---- Platform, device, context, queue ---- */

cl_int clGetPlatformIDs(cl_uint room, cl_platform_id *platforms, cl_uint *count)
{
    if (count)
        *count = 1;
    if (platforms && room > 0)
        platforms[0] = &the_platform;
    return CL_SUCCESS;
}

cl_int clGetDeviceIDs(cl_platform_id platform, cl_device_type type, cl_uint room, cl_device_id *devices,
                      cl_uint *count)
{
    const bool wanted = type & (CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_DEFAULT);
    (void)platform;
    if (count)
        *count = wanted;
    if (wanted && devices && room > 0)
        devices[0] = &the_device;
    return wanted ? CL_SUCCESS : CL_DEVICE_NOT_FOUND;
}

typedef void(CL_CALLBACK *on_context_error)(const char *, const void *, size_t, void *);

cl_context clCreateContext(const cl_context_properties *properties, cl_uint count, const cl_device_id *devices,
                           on_context_error on_error, void *given, cl_int *error)
{
    (void)properties, (void)count, (void)devices, (void)on_error, (void)given;
    tell(error, CL_SUCCESS);
    return &the_context;
}

cl_context clCreateContextFromType(const cl_context_properties *properties, cl_device_type type,
                                   on_context_error on_error, void *given, cl_int *error)
{
    (void)type;
    return clCreateContext(properties, 1, NULL, on_error, given, error);
}

cl_int clGetContextInfo(cl_context context, cl_context_info which, size_t room, void *value, size_t *size)
{
    const struct request to = {room, value, size};
    (void)context;
    switch (which) {
    case CL_CONTEXT_DEVICES:
        return answer_pointer(&to, &the_device);
    case CL_CONTEXT_NUM_DEVICES:
        return answer_uint(&to, 1);
    case CL_CONTEXT_PROPERTIES: /* none were given */
        return answer(&to, NULL, 0);
    default:
        return CL_INVALID_VALUE;
    }
}

cl_command_queue clCreateCommandQueue(cl_context context, cl_device_id device, cl_command_queue_properties properties,
                                      cl_int *error)
{
    cl_command_queue queue = create(sizeof *queue, error);
    if (queue)
        queue->properties = properties;
    (void)context, (void)device;
    return queue;
}

cl_command_queue clCreateCommandQueueWithProperties(cl_context context, cl_device_id device,
                                                    const cl_queue_properties *properties, cl_int *error)
{
    cl_command_queue_properties chosen = 0;
    for (; properties && properties[0]; properties += 2) /* pairs of name and value, and a zero at the end */
        if (properties[0] == CL_QUEUE_PROPERTIES)
            chosen = (cl_command_queue_properties)properties[1];
    return clCreateCommandQueue(context, device, chosen, error);
}

cl_int clGetCommandQueueInfo(cl_command_queue queue, cl_command_queue_info which, size_t room, void *value,
                             size_t *size)
{
    const struct request to = {room, value, size};
    if (!queue)
        return CL_INVALID_COMMAND_QUEUE;
    switch (which) {
    case CL_QUEUE_CONTEXT:
        return answer_pointer(&to, &the_context);
    case CL_QUEUE_DEVICE:
        return answer_pointer(&to, &the_device);
    case CL_QUEUE_PROPERTIES:
        return answer_ulong(&to, queue->properties);
    default:
        return CL_INVALID_VALUE;
    }
}

/* ---- Programs and kernels: every source compiles, every name is a kernel ---- */

cl_program clCreateProgramWithSource(cl_context context, cl_uint count, const char **sources, const size_t *lengths,
                                     cl_int *error)
{
    (void)context, (void)count, (void)sources, (void)lengths;
    return create(sizeof(struct _cl_program), error);
}

cl_program clCreateProgramWithBinary(cl_context context, cl_uint count, const cl_device_id *devices,
                                     const size_t *lengths, const unsigned char **binaries, cl_int *statuses,
                                     cl_int *error)
{
    (void)context, (void)devices, (void)lengths, (void)binaries;
    for (cl_uint i = 0; statuses && i < count; i++)
        statuses[i] = CL_SUCCESS;
    return create(sizeof(struct _cl_program), error);
}

cl_int clBuildProgram(cl_program program, cl_uint count, const cl_device_id *devices, const char *options,
                      void(CL_CALLBACK *on_built)(cl_program, void *), void *given)
{
    (void)count, (void)devices, (void)options;
    if (!program)
        return CL_INVALID_PROGRAM;
    if (on_built)
        on_built(program, given);
    return CL_SUCCESS;
}

cl_int clGetProgramBuildInfo(cl_program program, cl_device_id device, cl_program_build_info which, size_t room,
                             void *value, size_t *size)
{
    const struct request to = {room, value, size};
    (void)program, (void)device;
    switch (which) {
    case CL_PROGRAM_BUILD_STATUS:
        return answer_uint(&to, CL_BUILD_SUCCESS);
    case CL_PROGRAM_BUILD_OPTIONS:
    case CL_PROGRAM_BUILD_LOG:
        return answer_text(&to, "");
    default:
        return CL_INVALID_VALUE;
    }
}

cl_int clGetProgramInfo(cl_program program, cl_program_info which, size_t room, void *value, size_t *size)
{
    const struct request to = {room, value, size};
    (void)program;
    switch (which) {
    case CL_PROGRAM_CONTEXT:
        return answer_pointer(&to, &the_context);
    case CL_PROGRAM_NUM_DEVICES:
        return answer_uint(&to, 1);
    case CL_PROGRAM_DEVICES:
        return answer_pointer(&to, &the_device);
    case CL_PROGRAM_BINARY_SIZES: /* nothing was compiled, so there is nothing to keep */
        return answer_size(&to, 0);
    case CL_PROGRAM_BINARIES: /* the caller's pointers stay as they are */
        return answer_pointer(&(struct request){0, NULL, size}, NULL);
    default:
        return CL_INVALID_VALUE;
    }
}

cl_kernel clCreateKernel(cl_program program, const char *name, cl_int *error)
{
    if (!program || !name)
        return tell(error, program ? CL_INVALID_VALUE : CL_INVALID_PROGRAM), NULL;
    cl_kernel kernel = create(sizeof *kernel, error);
    if (!kernel)
        return NULL;
    const size_t size = strlen(name) + 1;
    clRetainProgram(program);
    kernel->program = program;
    kernel->name = malloc(size);
    if (!kernel->name) {
        clReleaseKernel(kernel);
        return tell(error, CL_OUT_OF_HOST_MEMORY), NULL;
    }
    memcpy(kernel->name, name, size);
    return kernel;
}

cl_int clSetKernelArg(cl_kernel kernel, cl_uint index, size_t size, const void *value)
{
    (void)index, (void)size, (void)value;
    return kernel ? CL_SUCCESS : CL_INVALID_KERNEL;
}

cl_int clSetKernelArgSVMPointer(cl_kernel kernel, cl_uint index, const void *value)
{
    return clSetKernelArg(kernel, index, sizeof value, value);
}

cl_int clSetKernelExecInfo(cl_kernel kernel, cl_kernel_exec_info which, size_t size, const void *value)
{
    return clSetKernelArg(kernel, which, size, value);
}

cl_int clGetKernelInfo(cl_kernel kernel, cl_kernel_info which, size_t room, void *value, size_t *size)
{
    const struct request to = {room, value, size};
    if (!kernel)
        return CL_INVALID_KERNEL;
    switch (which) {
    case CL_KERNEL_FUNCTION_NAME:
        return answer_text(&to, kernel->name);
    case CL_KERNEL_PROGRAM:
        return answer_pointer(&to, kernel->program);
    case CL_KERNEL_CONTEXT:
        return answer_pointer(&to, &the_context);
    default: /* the number of arguments, too: it would be in the source */
        return CL_INVALID_VALUE;
    }
}

cl_int clGetKernelWorkGroupInfo(cl_kernel kernel, cl_device_id device, cl_kernel_work_group_info which, size_t room,
                                void *value, size_t *size)
{
    const struct request to = {room, value, size};
    const size_t none[3] = {0, 0, 0};
    (void)device;
    if (!kernel)
        return CL_INVALID_KERNEL;
    switch (which) {
    case CL_KERNEL_WORK_GROUP_SIZE:
        return answer_size(&to, generation()->group_size);
    case CL_KERNEL_PREFERRED_WORK_GROUP_SIZE_MULTIPLE:
        return answer_size(&to, generation()->multiple);
    case CL_KERNEL_COMPILE_WORK_GROUP_SIZE:
        return answer(&to, none, sizeof none);
    case CL_KERNEL_LOCAL_MEM_SIZE:
    case CL_KERNEL_PRIVATE_MEM_SIZE:
        return answer_ulong(&to, 0);
    default:
        return CL_INVALID_VALUE;
    }
}

/* ---- Memory: real and zeroed, so that it can be mapped, written and read back ---- */

cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t size, void *host, cl_int *error)
{
    (void)context;
    if (size == 0)
        return tell(error, CL_INVALID_BUFFER_SIZE), NULL;
    cl_mem buffer = create(sizeof *buffer, error);
    if (!buffer)
        return NULL;
    buffer->size = size;
    buffer->owned = !(flags & CL_MEM_USE_HOST_PTR);
    buffer->memory = buffer->owned ? calloc(1, size) : host;
    if (!buffer->memory) {
        clReleaseMemObject(buffer);
        return tell(error, CL_MEM_OBJECT_ALLOCATION_FAILURE), NULL;
    }
    if (flags & CL_MEM_COPY_HOST_PTR && host)
        memcpy(buffer->memory, host, size);
    return buffer;
}

/* ACL makes images from buffers alone; such an image is another look at the buffer. */
cl_mem clCreateImage(cl_context context, cl_mem_flags flags, const cl_image_format *format,
                     const cl_image_desc *description, void *host, cl_int *error)
{
    (void)context, (void)flags, (void)format, (void)host;
    cl_mem buffer = description ? description->buffer : NULL;
    if (!buffer)
        return tell(error, CL_INVALID_IMAGE_DESCRIPTOR), NULL;
    cl_mem image = create(sizeof *image, error);
    if (!image)
        return NULL;
    clRetainMemObject(buffer);
    image->parent = buffer;
    image->size = buffer->size;
    image->memory = buffer->memory;
    return image;
}

cl_int clGetMemObjectInfo(cl_mem memory, cl_mem_info which, size_t room, void *value, size_t *size)
{
    const struct request to = {room, value, size};
    if (!memory)
        return CL_INVALID_MEM_OBJECT;
    switch (which) {
    case CL_MEM_SIZE:
        return answer_size(&to, memory->size);
    case CL_MEM_TYPE:
        return answer_uint(&to, memory->parent ? CL_MEM_OBJECT_IMAGE2D : CL_MEM_OBJECT_BUFFER);
    case CL_MEM_CONTEXT:
        return answer_pointer(&to, &the_context);
    case CL_MEM_REFERENCE_COUNT:
        return answer_uint(&to, atomic_load(&memory->references));
    default:
        return CL_INVALID_VALUE;
    }
}

/* Shared memory and imports are not told among the extensions; ACL then takes buffers. */
void *clSVMAlloc(cl_context context, cl_svm_mem_flags flags, size_t size, cl_uint alignment)
{
    (void)context, (void)flags, (void)size, (void)alignment;
    return NULL;
}

void clSVMFree(cl_context context, void *pointer)
{
    (void)context, (void)pointer;
}

cl_mem clImportMemoryARM(cl_context context, cl_mem_flags flags, const intptr_t *properties, void *memory, size_t size,
                         cl_int *error)
{
    (void)context, (void)flags, (void)properties, (void)memory, (void)size;
    return tell(error, CL_INVALID_OPERATION), NULL;
}

/* ---- Commands: done as soon as they are queued ---- */

/* An event, where the caller wants one. */
static cl_int done(cl_event *event)
{
    cl_int error = CL_SUCCESS;
    if (event)
        *event = create(sizeof **event, &error);
    return error;
}

static bool is_within(cl_mem memory, size_t offset, size_t size)
{
    return memory && offset <= memory->size && size <= memory->size - offset;
}

void *clEnqueueMapBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_map_flags flags, size_t offset,
                         size_t size, cl_uint waits, const cl_event *wait, cl_event *event, cl_int *error)
{
    (void)queue, (void)blocking, (void)flags, (void)waits, (void)wait;
    if (!is_within(buffer, offset, size))
        return tell(error, CL_INVALID_VALUE), NULL;
    return tell(error, done(event)) == CL_SUCCESS ? buffer->memory + offset : NULL;
}

cl_int clEnqueueUnmapMemObject(cl_command_queue queue, cl_mem memory, void *mapped, cl_uint waits,
                               const cl_event *wait, cl_event *event)
{
    (void)queue, (void)memory, (void)mapped, (void)waits, (void)wait;
    return done(event);
}

cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size,
                           void *to, cl_uint waits, const cl_event *wait, cl_event *event)
{
    (void)queue, (void)blocking, (void)waits, (void)wait;
    if (!is_within(buffer, offset, size) || !to)
        return CL_INVALID_VALUE;
    memcpy(to, buffer->memory + offset, size);
    return done(event);
}

cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size,
                            const void *from, cl_uint waits, const cl_event *wait, cl_event *event)
{
    (void)queue, (void)blocking, (void)waits, (void)wait;
    if (!is_within(buffer, offset, size) || !from)
        return CL_INVALID_VALUE;
    memcpy(buffer->memory + offset, from, size);
    return done(event);
}

/* What a driver refuses is refused here, too, for a dispatch that no device would take must not be shown as one. */
cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset,
                              const size_t *global, const size_t *local, cl_uint waits, const cl_event *wait,
                              cl_event *event)
{
    size_t group = 1;
    (void)queue, (void)offset, (void)waits, (void)wait;
    if (!kernel)
        return CL_INVALID_KERNEL;
    if (dimensions < 1 || dimensions > 3)
        return CL_INVALID_WORK_DIMENSION;
    for (cl_uint i = 0; i < dimensions; i++) {
        if (!global || global[i] == 0)
            return CL_INVALID_GLOBAL_WORK_SIZE;
        group *= local ? local[i] : 1;
    }
    return group >= 1 && group <= generation()->group_size ? done(event) : CL_INVALID_WORK_GROUP_SIZE;
}

cl_int clEnqueueMarker(cl_command_queue queue, cl_event *event)
{
    (void)queue;
    return done(event);
}

cl_int clEnqueueSVMMap(cl_command_queue queue, cl_bool blocking, cl_map_flags flags, void *pointer, size_t size,
                       cl_uint waits, const cl_event *wait, cl_event *event)
{
    (void)queue, (void)blocking, (void)flags, (void)pointer, (void)size, (void)waits, (void)wait, (void)event;
    return CL_INVALID_OPERATION;
}

cl_int clEnqueueSVMUnmap(cl_command_queue queue, void *pointer, cl_uint waits, const cl_event *wait, cl_event *event)
{
    (void)queue, (void)pointer, (void)waits, (void)wait, (void)event;
    return CL_INVALID_OPERATION;
}

cl_int clWaitForEvents(cl_uint count, const cl_event *events)
{
    (void)count, (void)events;
    return CL_SUCCESS;
}

cl_int clFlush(cl_command_queue queue)
{
    return queue ? CL_SUCCESS : CL_INVALID_COMMAND_QUEUE;
}

cl_int clFinish(cl_command_queue queue)
{
    return clFlush(queue);
}

cl_int clGetEventInfo(cl_event event, cl_event_info which, size_t room, void *value, size_t *size)
{
    const struct request to = {room, value, size};
    (void)event;
    return which == CL_EVENT_COMMAND_EXECUTION_STATUS ? answer_uint(&to, CL_COMPLETE) : CL_INVALID_VALUE;
}

/* No kernel ran, so none took any time: better refused than told as zero. */
cl_int clGetEventProfilingInfo(cl_event event, cl_profiling_info which, size_t room, void *value, size_t *size)
{
    (void)event, (void)which, (void)room, (void)value, (void)size;
    return CL_PROFILING_INFO_NOT_AVAILABLE;
}

void *clGetExtensionFunctionAddressForPlatform(cl_platform_id platform, const char *name)
{
    (void)platform, (void)name;
    return NULL;
}
