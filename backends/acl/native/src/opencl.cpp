#include "convolution.hpp"
#include "target.hpp"

#ifndef ACL_RUNNER_OPENCL

std::unique_ptr<Target> make_opencl(const Options &)
{
    throw CannotStart("this runner was built against an ACL without OpenCL: build it against one with OpenCL");
}

#else

#include "recorder.hpp"

#include "arm_compute/core/CL/CLKernelLibrary.h"
#include "arm_compute/core/GPUTarget.h"
#include "arm_compute/runtime/BlobLifetimeManager.h"
#include "arm_compute/runtime/CL/CLBufferAllocator.h"
#include "arm_compute/runtime/CL/CLScheduler.h"
#include "arm_compute/runtime/CL/CLTensor.h"
#include "arm_compute/runtime/CL/CLTuner.h"
#include "arm_compute/runtime/CL/functions/CLConvolutionLayer.h"
#include "arm_compute/runtime/CL/functions/CLDepthwiseConvolutionLayer.h"
#include "arm_compute/runtime/CL/functions/CLDirectConvolutionLayer.h"
#include "arm_compute/runtime/CL/functions/CLGEMMConvolutionLayer.h"
#include "arm_compute/runtime/CL/functions/CLWinogradConvolutionLayer.h"

#include <algorithm>
#include <cctype>

using arm_compute::CLScheduler;
using nlohmann::json;

namespace
{
struct OpenCl
{
    using Tensor = arm_compute::CLTensor;
    using Allocator = arm_compute::CLBufferAllocator;
    // OpenCL buffers can't be cut into parts at any offset, as the CPU's memory can.
    using LifetimeManager = arm_compute::BlobLifetimeManager;
    using Auto = arm_compute::CLConvolutionLayer;
    using Gemm = arm_compute::CLGEMMConvolutionLayer;
    using Direct = arm_compute::CLDirectConvolutionLayer;
    using Winograd = arm_compute::CLWinogradConvolutionLayer;
    using Depthwise = arm_compute::CLDepthwiseConvolutionLayer;

    template <class... Arguments>
    static arm_compute::ConvolutionMethod choose(const arm_compute::Size2D &dilation, bool fast_math,
                                                 Arguments &&...arguments)
    {
        return Auto::get_convolution_method(arguments..., arm_compute::ActivationLayerInfo(),
                                            CLScheduler::get().target(), dilation, fast_math);
    }

    static void map(Tensor &tensor)
    {
        tensor.map();
    }

    static void unmap(Tensor &tensor)
    {
        tensor.unmap();
    }
};

std::string type_name(cl_device_type type)
{
    // A simulator may call itself all of them.
    constexpr cl_device_type no_gpu = CL_DEVICE_TYPE_CPU | CL_DEVICE_TYPE_ACCELERATOR;
    if ((type & no_gpu) != 0)
    {
        return (type & CL_DEVICE_TYPE_CPU) != 0 ? "cpu" : "other";
    }
    return (type & CL_DEVICE_TYPE_GPU) != 0 ? "gpu" : "other";
}

std::string lower(std::string text)
{
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
    return text;
}

// The text up to its closing zero, which a driver may have counted as part of it.
template <cl_device_info Name>
std::string device_text(const cl::Device &device)
{
    return device.getInfo<Name>().c_str();
}

double seconds(const cl::Event &event)
{
    const cl_ulong start = event.getProfilingInfo<CL_PROFILING_COMMAND_START>();
    const cl_ulong end = event.getProfilingInfo<CL_PROFILING_COMMAND_END>();
    return static_cast<double>(end - start) * 1e-9;
}

// While it lives, the scheduler has a queue that times every kernel. Then the scheduler has its own again, for such
// timing costs time.
class ProfilingQueue
{
public:
    ProfilingQueue() : _usual(CLScheduler::get().queue())
    {
        const cl::CommandQueue queue(CLScheduler::get().context(),
                                     arm_compute::CLKernelLibrary::get().get_device(), CL_QUEUE_PROFILING_ENABLE);
        CLScheduler::get().set_queue(queue);
    }

    ~ProfilingQueue()
    {
        CLScheduler::get().set_queue(_usual);
    }

    ProfilingQueue(const ProfilingQueue &) = delete;
    ProfilingQueue &operator=(const ProfilingQueue &) = delete;

private:
    const cl::CommandQueue _usual;
};

class OpenClTarget final : public PlatformTarget<OpenCl>
{
public:
    explicit OpenClTarget(bool tuner)
    {
        CLScheduler::get().default_init(tuner ? &_tuner : nullptr);
    }

    json gpu() const override
    {
        const cl::Device &device = arm_compute::CLKernelLibrary::get().get_device();
        return {{"name", device_text<CL_DEVICE_NAME>(device)},
                {"driver", device_text<CL_DRIVER_VERSION>(device)},
                {"version", device_text<CL_DEVICE_VERSION>(device)},
                {"vendor", device_text<CL_DEVICE_VENDOR>(device)},
                {"units", device.getInfo<CL_DEVICE_MAX_COMPUTE_UNITS>()},
                {"type", type_name(device.getInfo<CL_DEVICE_TYPE>())},
                {"target", lower(arm_compute::string_from_target(CLScheduler::get().target()))}};
    }

    void finish() override
    {
        CLScheduler::get().sync();
    }

    json dispatch(Layer &layer) override
    {
        json kernels = json::array();
        for (const Launch &launch : record(layer, false))
        {
            kernels.push_back({{"name", launch.name},
                               {"options", launch.options},
                               {"global", launch.global},
                               {"local", launch.has_local ? json(launch.local) : json()}});
        }
        return kernels;
    }

    json profile(Layer &layer) override
    {
        layer.run_first();
        finish();
        const ProfilingQueue queue;
        json kernels = json::array();
        for (const Launch &launch : record(layer, true))
        {
            kernels.push_back({{"name", launch.name}, {"seconds", seconds(launch.event)}});
        }
        return kernels;
    }

private:
    std::vector<Launch> record(Layer &layer, bool events)
    {
        layer.run_first();
        _recorder.start(events);
        try
        {
            layer.run();
        }
        catch (...)
        {
            _recorder.stop();
            throw;
        }
        finish();
        return _recorder.stop();
    }

    Recorder _recorder;
    arm_compute::CLTuner _tuner;
};
} // namespace

std::unique_ptr<Target> make_opencl(const Options &options)
{
    if (!arm_compute::opencl_is_available())
    {
        throw CannotStart("no OpenCL library found: install the GPU's driver, or put the folder with libOpenCL.so, "
                          "libGLES_mali.so or libmali.so into LD_LIBRARY_PATH");
    }
    try
    {
        return std::unique_ptr<Target>(new OpenClTarget(options.tuner));
    }
    catch (const std::exception &error)
    {
        throw CannotStart("OpenCL does not start: " + compat::describe(error) +
                          "; see that clinfo shows the GPU and that this user may open it");
    }
}

#endif
