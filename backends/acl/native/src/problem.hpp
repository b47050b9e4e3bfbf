// One convolution, as a request describes it.
#ifndef NEVER_SLOWER_PROBLEM_HPP
#define NEVER_SLOWER_PROBLEM_HPP

#include "arm_compute/core/TensorInfo.h"
#include "arm_compute/core/Types.h"

#include <nlohmann/json.hpp>

#include <array>
#include <cstddef>
#include <string>

// Sizes in the logical order, whatever the layout: what a file holds, one after the other.
using Sizes = std::array<std::size_t, 4>;

struct Problem
{
    std::size_t batch = 0;
    std::size_t groups = 0;
    std::array<std::size_t, 3> in{};  // channels, height, width
    std::array<std::size_t, 3> out{}; // channels, height, width
    std::array<std::size_t, 2> kernel{};
    std::array<std::size_t, 2> stride{};
    std::array<std::size_t, 2> dilation{};
    std::array<std::size_t, 4> padding{}; // top, bottom, left, right
    arm_compute::DataType type = arm_compute::DataType::F32;
    arm_compute::DataLayout layout = arm_compute::DataLayout::NCHW;

    bool depthwise() const;
    bool dilated() const;

    Sizes input_sizes() const;
    Sizes weights_sizes() const;
    Sizes output_sizes() const;

    arm_compute::TensorInfo input_info() const;
    arm_compute::TensorInfo weights_info() const;
    arm_compute::TensorInfo bias_info() const;
    arm_compute::TensorInfo output_info() const;

    arm_compute::PadStrideInfo pad_stride() const;
    arm_compute::Size2D dilation_size() const;
    unsigned int depth_multiplier() const;
};

// What "prepare" asks for.
struct Order
{
    Problem problem;
    std::string method;
    bool fast_math = false;
    std::string inputs;  // a file, or "" for a constant
    std::string weights; // a file, or "" for a constant
};

// Throws BadRequest, with the field's name.
Order read_order(const nlohmann::json &request);

#endif
