// A convolution by any method, for Neon and OpenCL alike: their functions differ in names, not in what they take.
//
// A Platform names the types and the few calls that differ: Tensor, Allocator, LifetimeManager, the functions Auto,
// Gemm, Direct, Winograd and Depthwise, choose(), map() and unmap().
#ifndef NEVER_SLOWER_CONVOLUTION_HPP
#define NEVER_SLOWER_CONVOLUTION_HPP

#include "compat.hpp"
#include "errors.hpp"
#include "problem.hpp"
#include "target.hpp"
#include "tensors.hpp"

#include "arm_compute/runtime/IFunction.h"
#include "arm_compute/runtime/MemoryManagerOnDemand.h"
#include "arm_compute/runtime/PoolManager.h"

#include <memory>
#include <string>

// What the functions do not take, and what belongs to another function.
inline void check_method(const Order &order)
{
    const Problem &problem = order.problem;
    const std::string &method = order.method;
    if (problem.depthwise() && method != "auto" && method != "depthwise")
    {
        throw Refused("depthwise layers go by the depthwise method or auto, not by " + method);
    }
    if (!problem.depthwise() && method == "depthwise")
    {
        throw Refused("the depthwise method is for layers with as many groups as input channels, more than one");
    }
    if (method != "direct" && method != "winograd")
    {
        return;
    }
    if (problem.groups != 1)
    {
        throw Refused("the " + method + " method has no groups");
    }
    if (problem.dilated())
    {
        throw Refused("the " + method + " method has no dilation");
    }
}

inline void check(const arm_compute::Status &status)
{
    if (!bool(status))
    {
        throw Refused(status.error_description());
    }
}

template <class Platform>
class Convolution final : public Layer
{
public:
    explicit Convolution(const Order &order) : _order(order), _manager(make_manager())
    {
        check_method(order);
        const Problem &problem = order.problem;
        _input.allocator()->init(problem.input_info());
        _weights.allocator()->init(problem.weights_info());
        _bias.allocator()->init(problem.bias_info());
        _output.allocator()->init(problem.output_info());
        configure();
        allocate();
        fill(_input, problem.input_sizes(), order.inputs);
        fill(_weights, problem.weights_sizes(), order.weights);
        Platform::map(_bias);
        fill_constant(_bias, true);
        Platform::unmap(_bias);
        _function->prepare();
    }

    std::string chosen() const override
    {
        return _chosen;
    }

    void run() override
    {
        _function->run();
    }

    void write_output(const std::string &file) override
    {
        Platform::map(_output);
        write_to_file(_output, _order.problem.output_sizes(), file);
        Platform::unmap(_output);
    }

private:
    // Given explicitly: since 24.11 a function without one is slower (ACL's issue 1150).
    static std::shared_ptr<arm_compute::MemoryManagerOnDemand> make_manager()
    {
        return std::make_shared<arm_compute::MemoryManagerOnDemand>(
            std::make_shared<typename Platform::LifetimeManager>(), std::make_shared<arm_compute::PoolManager>());
    }

    void configure()
    {
        if (_order.problem.depthwise())
        {
            configure_depthwise();
        }
        else if (_order.method == "auto")
        {
            configure_auto();
        }
        else if (_order.method == "gemm")
        {
            configure_gemm();
        }
        else if (_order.method == "direct")
        {
            configure_direct();
        }
        else
        {
            configure_winograd();
        }
    }

    void configure_auto()
    {
        const auto groups = static_cast<unsigned int>(_order.problem.groups);
        check(Platform::Auto::validate(_input.info(), _weights.info(), _bias.info(), _output.info(), _pad_stride,
                                       _no_weights_info, _dilation, _no_activation, _order.fast_math, groups));
        _chosen = compat::method_name(Platform::choose(*_input.info(), *_weights.info(), *_output.info(), _pad_stride,
                                                       _dilation, _order.fast_math));
        make<typename Platform::Auto>().configure(&_input, &_weights, &_bias, &_output, _pad_stride, _no_weights_info,
                                                  _dilation, _no_activation, _order.fast_math, groups);
    }

    void configure_gemm()
    {
        using Function = typename Platform::Gemm;
        const auto groups = static_cast<unsigned int>(_order.problem.groups);
        check(compat::validate_gemm<Function>(compat::Prefer(), _order.fast_math, groups, _input.info(),
                                              _weights.info(), _bias.info(), _output.info(), _pad_stride,
                                              _no_weights_info, _dilation, _no_activation));
        _chosen = "GEMM";
        compat::configure_gemm(compat::Prefer(), make<Function>(), _order.fast_math, groups, &_input, &_weights,
                               &_bias, &_output, _pad_stride, _no_weights_info, _dilation, _no_activation);
    }

    void configure_direct()
    {
        using Function = typename Platform::Direct;
        check(Function::validate(_input.info(), _weights.info(), _bias.info(), _output.info(), _pad_stride,
                                 _no_activation));
        _chosen = "DIRECT";
        make<Function>().configure(&_input, &_weights, &_bias, &_output, _pad_stride, _no_activation);
    }

    void configure_winograd()
    {
        using Function = typename Platform::Winograd;
        check(Function::validate(_input.info(), _weights.info(), _bias.info(), _output.info(), _pad_stride,
                                 _no_activation, _order.fast_math));
        _chosen = "WINOGRAD";
        make<Function>().configure(&_input, &_weights, &_bias, &_output, _pad_stride, _no_activation,
                                   _order.fast_math);
    }

    void configure_depthwise()
    {
        using Function = typename Platform::Depthwise;
        const unsigned int multiplier = _order.problem.depth_multiplier();
        check(Function::validate(_input.info(), _weights.info(), _bias.info(), _output.info(), _pad_stride,
                                 multiplier, _no_activation, _dilation));
        _chosen = "DEPTHWISE";
        make<Function>().configure(&_input, &_weights, &_bias, &_output, _pad_stride, multiplier, _no_activation,
                                   _dilation);
    }

    template <class Function>
    Function &make()
    {
        std::unique_ptr<Function> function = compat::make_function<Function>(_manager);
        Function &made = *function;
        _function = std::move(function);
        return made;
    }

    // After configure(), which may ask for padded rows.
    void allocate()
    {
        _input.allocator()->allocate();
        _weights.allocator()->allocate();
        _bias.allocator()->allocate();
        _output.allocator()->allocate();
        _manager->populate(_allocator, 1);
    }

    void fill(typename Platform::Tensor &tensor, const Sizes &sizes, const std::string &file)
    {
        Platform::map(tensor);
        if (file.empty())
        {
            fill_constant(tensor, false);
        }
        else
        {
            fill_from_file(tensor, sizes, file);
        }
        Platform::unmap(tensor);
    }

    const Order _order;
    const arm_compute::PadStrideInfo _pad_stride = _order.problem.pad_stride();
    const arm_compute::Size2D _dilation = _order.problem.dilation_size();
    const arm_compute::WeightsInfo _no_weights_info{};
    const arm_compute::ActivationLayerInfo _no_activation{};
    std::string _chosen;

    // The order of destruction: the function first, then the tensors that it points to, then their memory.
    typename Platform::Allocator _allocator{};
    std::shared_ptr<arm_compute::MemoryManagerOnDemand> _manager;
    typename Platform::Tensor _input, _weights, _bias, _output;
    std::unique_ptr<arm_compute::IFunction> _function;
};

#endif
