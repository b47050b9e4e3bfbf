#include "problem.hpp"

#include "errors.hpp"
#include "fields.hpp"

using arm_compute::DataLayout;
using arm_compute::DataType;
using arm_compute::TensorInfo;
using arm_compute::TensorShape;

namespace
{
// ACL counts dimensions from the one that changes fastest.
TensorInfo tensor_info(const Sizes &sizes, const Problem &problem)
{
    const bool channels_last = problem.layout == DataLayout::NHWC;
    const TensorShape shape = channels_last ? TensorShape(sizes[1], sizes[3], sizes[2], sizes[0])
                                            : TensorShape(sizes[3], sizes[2], sizes[1], sizes[0]);
    TensorInfo info(shape, 1, problem.type);
    info.set_data_layout(problem.layout);
    return info;
}

std::size_t expected_size(const Problem &problem, std::size_t dimension)
{
    const std::size_t padding = problem.padding[2 * dimension] + problem.padding[2 * dimension + 1];
    const std::size_t reach = problem.dilation[dimension] * (problem.kernel[dimension] - 1) + 1;
    const std::size_t padded = problem.in[dimension + 1] + padding;
    if (padded < reach)
    {
        throw BadRequest("field 'kernel' reaches over the whole padded input");
    }
    return (padded - reach) / problem.stride[dimension] + 1;
}

void check_sizes(const Problem &problem)
{
    if (problem.in[0] % problem.groups != 0 || problem.out[0] % problem.groups != 0)
    {
        throw BadRequest("field 'groups' must divide the channels of 'in' and 'out'");
    }
    for (std::size_t dimension : {0, 1})
    {
        const std::size_t expected = expected_size(problem, dimension);
        if (problem.out[dimension + 1] != expected)
        {
            throw BadRequest("field 'out' has " + std::to_string(problem.out[dimension + 1]) + " as its " +
                             (dimension == 0 ? "height" : "width") + "; the other fields make it " +
                             std::to_string(expected));
        }
    }
}

void check_elements(const Sizes &sizes, const std::string &name)
{
    std::size_t elements = 1;
    for (std::size_t size : sizes)
    {
        elements *= size;
        if (elements > (std::size_t{1} << 30))
        {
            throw BadRequest("the " + name + " would have more than 2^30 elements");
        }
    }
}

Problem read_problem(const nlohmann::json &value)
{
    if (!value.is_object())
    {
        throw BadRequest("field 'problem' must be an object");
    }
    fields::only(value, {"batch", "groups", "in", "out", "kernel", "stride", "dilation", "padding", "dtype", "layout"});
    Problem problem;
    problem.batch = fields::number(value, "batch", 1);
    problem.groups = fields::number(value, "groups", 1);
    problem.in = fields::numbers<3>(value, "in", 1);
    problem.out = fields::numbers<3>(value, "out", 1);
    problem.kernel = fields::numbers<2>(value, "kernel", 1);
    problem.stride = fields::numbers<2>(value, "stride", 1);
    problem.dilation = fields::numbers<2>(value, "dilation", 1);
    problem.padding = fields::numbers<4>(value, "padding", 0);
    const bool half = fields::one_of(value, "dtype", {"float32", "float16"}) == "float16";
    problem.type = half ? DataType::F16 : DataType::F32;
    const bool channels_last = fields::one_of(value, "layout", {"NCHW", "NHWC"}) == "NHWC";
    problem.layout = channels_last ? DataLayout::NHWC : DataLayout::NCHW;
    check_sizes(problem);
    check_elements(problem.input_sizes(), "input");
    check_elements(problem.weights_sizes(), "weights");
    check_elements(problem.output_sizes(), "output");
    return problem;
}
} // namespace

bool Problem::depthwise() const
{
    return groups > 1 && groups == in[0];
}

bool Problem::dilated() const
{
    return dilation[0] != 1 || dilation[1] != 1;
}

Sizes Problem::input_sizes() const
{
    return {batch, in[0], in[1], in[2]};
}

// The depthwise functions take weights of three dimensions: an output channel each, and no input channels. In C order
// that is what OIHW with I = 1 is.
Sizes Problem::weights_sizes() const
{
    if (depthwise())
    {
        return {1, out[0], kernel[0], kernel[1]};
    }
    return {out[0], in[0] / groups, kernel[0], kernel[1]};
}

Sizes Problem::output_sizes() const
{
    return {batch, out[0], out[1], out[2]};
}

TensorInfo Problem::input_info() const
{
    return tensor_info(input_sizes(), *this);
}

TensorInfo Problem::weights_info() const
{
    return tensor_info(weights_sizes(), *this);
}

TensorInfo Problem::bias_info() const
{
    return TensorInfo(TensorShape(out[0]), 1, type);
}

TensorInfo Problem::output_info() const
{
    return tensor_info(output_sizes(), *this);
}

arm_compute::PadStrideInfo Problem::pad_stride() const
{
    const auto size = [](std::size_t value) { return static_cast<unsigned int>(value); };
    return arm_compute::PadStrideInfo(size(stride[1]), size(stride[0]), size(padding[2]), size(padding[3]),
                                      size(padding[0]), size(padding[1]), arm_compute::DimensionRoundingType::FLOOR);
}

arm_compute::Size2D Problem::dilation_size() const
{
    return arm_compute::Size2D(dilation[1], dilation[0]);
}

unsigned int Problem::depth_multiplier() const
{
    return static_cast<unsigned int>(out[0] / in[0]);
}

Order read_order(const nlohmann::json &request)
{
    fields::only(request, {"op", "id", "method", "fast_math", "problem", "inputs", "weights"});
    Order order;
    order.method = fields::one_of(request, "method", {"auto", "gemm", "direct", "winograd", "depthwise"});
    order.fast_math = fields::flag(request, "fast_math");
    order.problem = read_problem(fields::get(request, "problem"));
    order.inputs = fields::text_or_empty(request, "inputs");
    order.weights = fields::text_or_empty(request, "weights");
    return order;
}
