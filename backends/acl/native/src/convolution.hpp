// What Neon and OpenCL share: a convolution by any method, and a target that prepares convolutions. The functions of
// the two differ in their names, hardly in what they take.
//
// A Platform holds what differs: the types Tensor, Allocator and LifetimeManager, the functions Auto, Gemm, Direct,
// Winograd and Depthwise, and the calls choose(), map() and unmap().
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

// Refuses what a function can't do but does not refuse itself, and what belongs to another function.
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

// Refuses what the library refuses, in its own words.
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
        with_mapped(_bias, [](Tensor &bias) { fill_constant(bias, true); });
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
        with_mapped(_output,
                    [&](Tensor &output) { write_to_file(output, _order.problem.output_sizes(), file); });
    }

private:
    using Tensor = typename Platform::Tensor;

    // Every function is given a manager: since 24.11 one without it is slower (ACL's issue 1150).
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
        _chosen = compat::method_name(Platform::choose(_dilation, _order.fast_math, _input.info(), _weights.info(),
                                                       _output.info(), _pad_stride, _no_weights_info));
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
        configure_as<typename Platform::Direct>("DIRECT", _no_activation);
    }

    void configure_winograd()
    {
        configure_as<typename Platform::Winograd>("WINOGRAD", _no_activation, _order.fast_math);
    }

    void configure_depthwise()
    {
        configure_as<typename Platform::Depthwise>("DEPTHWISE", _order.problem.depth_multiplier(), _no_activation,
                                                   _dilation);
    }

    // A function takes the same arguments twice: with descriptions of the tensors to validate, with the tensors to
    // configure.
    template <class Function, class... Arguments>
    void configure_as(const char *name, const Arguments &...arguments)
    {
        check(Function::validate(_input.info(), _weights.info(), _bias.info(), _output.info(), _pad_stride,
                                 arguments...));
        _chosen = name;
        make<Function>().configure(&_input, &_weights, &_bias, &_output, _pad_stride, arguments...);
    }

    // Creates the function, which this object keeps.
    template <class Function>
    Function &make()
    {
        std::unique_ptr<Function> function = compat::make_function<Function>(_manager);
        Function &made = *function;
        _function = std::move(function);
        return made;
    }

    // Must come after configure(), which may ask for padded rows.
    void allocate()
    {
        _input.allocator()->allocate();
        _weights.allocator()->allocate();
        _bias.allocator()->allocate();
        _output.allocator()->allocate();
        _manager->populate(_allocator, 1);
    }

    void fill(Tensor &to_fill, const Sizes &sizes, const std::string &file)
    {
        with_mapped(to_fill, [&](Tensor &tensor) {
            if (file.empty())
            {
                fill_constant(tensor, false);
            }
            else
            {
                fill_from_file(tensor, sizes, file);
            }
        });
    }

    // The values of a tensor can be reached only while it is mapped.
    template <class Use>
    static void with_mapped(Tensor &tensor, Use use)
    {
        Platform::map(tensor);
        use(tensor);
        Platform::unmap(tensor);
    }

    const Order _order;
    const arm_compute::PadStrideInfo _pad_stride = _order.problem.pad_stride();
    const arm_compute::Size2D _dilation = _order.problem.dilation_size();
    const arm_compute::WeightsInfo _no_weights_info{};
    const arm_compute::ActivationLayerInfo _no_activation{};
    std::string _chosen;

    // The order matters, for the last is destroyed first: the function, then the tensors that it points to, then their
    // memory.
    typename Platform::Allocator _allocator{};
    std::shared_ptr<arm_compute::MemoryManagerOnDemand> _manager;
    Tensor _input, _weights, _bias, _output;
    std::unique_ptr<arm_compute::IFunction> _function;
};

// A target whose layers are convolutions of one platform.
template <class Platform>
class PlatformTarget : public Target
{
public:
    std::unique_ptr<Layer> prepare(const Order &order) override
    {
        std::unique_ptr<Layer> layer(new Convolution<Platform>(order));
        finish();
        return layer;
    }
};

#endif
