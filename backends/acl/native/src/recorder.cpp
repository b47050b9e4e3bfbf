#include "recorder.hpp"

#include <algorithm>
#include <utility>

using arm_compute::CLSymbols;

namespace
{
std::string kernel_name(cl_kernel kernel)
{
    std::array<char, 512> name{};
    CLSymbols::get().clGetKernelInfo_ptr(kernel, CL_KERNEL_FUNCTION_NAME, name.size() - 1, name.data(), nullptr);
    return name.data();
}

cl_program kernel_program(cl_kernel kernel)
{
    cl_program program = nullptr;
    CLSymbols::get().clGetKernelInfo_ptr(kernel, CL_KERNEL_PROGRAM, sizeof program, &program, nullptr);
    return program;
}

std::array<std::size_t, 3> sizes(const std::size_t *values, cl_uint dimensions)
{
    std::array<std::size_t, 3> result{{1, 1, 1}};
    std::copy_n(values, std::min<std::size_t>(dimensions, result.size()), result.begin());
    return result;
}
} // namespace

Recorder::Recorder()
{
    replace_build();
    replace_enqueue();
}

// Options are kept as ACL gives them, not as a driver would give them back.
void Recorder::replace_build()
{
    _build = CLSymbols::get().clBuildProgram_ptr;
    CLSymbols::get().clBuildProgram_ptr = [this](cl_program program, cl_uint count, const cl_device_id *devices,
                                                 const char *options, void(CL_CALLBACK * done)(cl_program, void *),
                                                 void *data) {
        _options[program] = options == nullptr ? "" : options;
        return _build(program, count, devices, options, done, data);
    };
}

void Recorder::replace_enqueue()
{
    _enqueue = CLSymbols::get().clEnqueueNDRangeKernel_ptr;
    CLSymbols::get().clEnqueueNDRangeKernel_ptr =
        [this](cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const std::size_t *offset,
               const std::size_t *global, const std::size_t *local, cl_uint count, const cl_event *waits,
               cl_event *event) {
            if (!_recording)
            {
                return _enqueue(queue, kernel, dimensions, offset, global, local, count, waits, event);
            }
            Launch launch = describe(kernel, dimensions, global, local);
            cl_event own = nullptr;
            const bool keep = _events && event == nullptr;
            const cl_int result =
                _enqueue(queue, kernel, dimensions, offset, global, local, count, waits, keep ? &own : event);
            if (result == CL_SUCCESS && _events)
            {
                // An event of the caller's is shared with it; one of our own is taken over.
                launch.event = keep ? cl::Event(own) : cl::Event(*event, true);
            }
            _launches.push_back(std::move(launch));
            return result;
        };
}

Launch Recorder::describe(cl_kernel kernel, cl_uint dimensions, const std::size_t *global,
                          const std::size_t *local) const
{
    Launch launch;
    launch.name = kernel_name(kernel);
    const auto options = _options.find(kernel_program(kernel));
    launch.options = options == _options.end() ? "" : options->second;
    launch.global = sizes(global, dimensions);
    launch.has_local = local != nullptr;
    if (launch.has_local)
    {
        launch.local = sizes(local, dimensions);
    }
    return launch;
}

void Recorder::start(bool events)
{
    _launches.clear();
    _events = events;
    _recording = true;
}

std::vector<Launch> Recorder::stop()
{
    _recording = false;
    return std::exchange(_launches, {});
}
