#include "convolution.hpp"
#include "target.hpp"

#include "arm_compute/runtime/Allocator.h"
#include "arm_compute/runtime/NEON/NEScheduler.h"
#include "arm_compute/runtime/NEON/functions/NEConvolutionLayer.h"
#include "arm_compute/runtime/NEON/functions/NEDepthwiseConvolutionLayer.h"
#include "arm_compute/runtime/NEON/functions/NEDirectConvolutionLayer.h"
#include "arm_compute/runtime/NEON/functions/NEGEMMConvolutionLayer.h"
#include "arm_compute/runtime/NEON/functions/NEWinogradConvolutionLayer.h"
#include "arm_compute/runtime/OffsetLifetimeManager.h"
#include "arm_compute/runtime/Tensor.h"

namespace
{
struct Neon
{
    using Tensor = arm_compute::Tensor;
    using Allocator = arm_compute::Allocator;
    using LifetimeManager = arm_compute::OffsetLifetimeManager;
    using Auto = arm_compute::NEConvolutionLayer;
    using Gemm = arm_compute::NEGEMMConvolutionLayer;
    using Direct = arm_compute::NEDirectConvolutionLayer;
    using Winograd = arm_compute::NEWinogradConvolutionLayer;
    using Depthwise = arm_compute::NEDepthwiseConvolutionLayer;

    static arm_compute::ConvolutionMethod choose(const arm_compute::ITensorInfo &input,
                                                 const arm_compute::ITensorInfo &weights,
                                                 const arm_compute::ITensorInfo &output,
                                                 const arm_compute::PadStrideInfo &pad_stride,
                                                 const arm_compute::Size2D &dilation, bool fast_math)
    {
        return Auto::get_convolution_method(&input, &weights, &output, pad_stride, arm_compute::WeightsInfo(),
                                            dilation, arm_compute::ActivationLayerInfo(), fast_math);
    }

    // Memory of the CPU is always there to be read.
    static void map(Tensor &)
    {
    }

    static void unmap(Tensor &)
    {
    }
};

class NeonTarget final : public Target
{
public:
    explicit NeonTarget(int threads)
    {
        arm_compute::NEScheduler::get().set_num_threads(static_cast<unsigned int>(threads));
    }

    nlohmann::json gpu() const override
    {
        return nullptr;
    }

    std::unique_ptr<Layer> prepare(const Order &order) override
    {
        return std::unique_ptr<Layer>(new Convolution<Neon>(order));
    }

    void finish() override
    {
    }

    nlohmann::json dispatch(Layer &) override
    {
        throw BadRequest("only OpenCL has a dispatch: use --target opencl");
    }

    nlohmann::json profile(Layer &) override
    {
        throw BadRequest("only OpenCL has kernels to profile: use --target opencl");
    }
};
} // namespace

std::unique_ptr<Target> make_neon(const Options &options)
{
    return std::unique_ptr<Target>(new NeonTarget(options.threads));
}
