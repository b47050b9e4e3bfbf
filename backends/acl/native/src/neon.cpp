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

    template <class... Arguments>
    static arm_compute::ConvolutionMethod choose(const arm_compute::Size2D &dilation, bool fast_math,
                                                 Arguments &&...arguments)
    {
        return Auto::get_convolution_method(arguments..., dilation, arm_compute::ActivationLayerInfo(), fast_math);
    }

    // The CPU reaches its own memory at any time.
    static void map(Tensor &)
    {
    }

    static void unmap(Tensor &)
    {
    }
};

class NeonTarget final : public PlatformTarget<Neon>
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

    // A call returns when its work is done.
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
