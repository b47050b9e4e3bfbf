#include "tensors.hpp"

#include "errors.hpp"

#include <cstdint>
#include <cstring>
#include <fstream>
#include <vector>

using arm_compute::DataLayout;
using arm_compute::DataType;
using arm_compute::ITensor;

namespace
{
std::size_t element_count(const Sizes &sizes)
{
    return sizes[0] * sizes[1] * sizes[2] * sizes[3];
}

// Bytes from one element to the next along each logical dimension.
Sizes byte_strides(const ITensor &tensor)
{
    const arm_compute::Strides &strides = tensor.info()->strides_in_bytes();
    if (tensor.info()->data_layout() == DataLayout::NHWC)
    {
        return {strides[3], strides[0], strides[2], strides[1]};
    }
    return {strides[3], strides[2], strides[1], strides[0]};
}

// Calls `visit` with the address of every element, in C order.
template <class Visit>
void for_each_element(ITensor &tensor, const Sizes &sizes, Visit visit)
{
    const Sizes strides = byte_strides(tensor);
    std::uint8_t *const first = tensor.buffer() + tensor.info()->offset_first_element_in_bytes();
    for (std::size_t n = 0; n < sizes[0]; ++n)
    {
        for (std::size_t c = 0; c < sizes[1]; ++c)
        {
            for (std::size_t y = 0; y < sizes[2]; ++y)
            {
                std::uint8_t *const row = first + n * strides[0] + c * strides[1] + y * strides[2];
                for (std::size_t x = 0; x < sizes[3]; ++x)
                {
                    visit(row + x * strides[3]);
                }
            }
        }
    }
}

std::vector<float> read_floats(const std::string &name, std::size_t count)
{
    std::ifstream file(name, std::ios::binary | std::ios::ate);
    if (!file)
    {
        throw BadRequest("can't read " + name);
    }
    const std::size_t bytes = static_cast<std::size_t>(file.tellg());
    if (bytes != count * sizeof(float))
    {
        throw BadRequest(name + " has " + std::to_string(bytes) + " bytes; the problem needs " +
                         std::to_string(count * sizeof(float)));
    }
    std::vector<float> values(count);
    file.seekg(0);
    file.read(reinterpret_cast<char *>(values.data()), static_cast<std::streamsize>(bytes));
    if (!file)
    {
        throw BadRequest("can't read all of " + name);
    }
    return values;
}

template <class Element>
void put(ITensor &tensor, const Sizes &sizes, const std::vector<float> &values)
{
    auto value = values.begin();
    for_each_element(tensor, sizes, [&value](std::uint8_t *address) {
        const Element element = static_cast<Element>(*value++);
        std::memcpy(address, &element, sizeof element);
    });
}

template <class Element>
void get(ITensor &tensor, const Sizes &sizes, std::vector<float> &values)
{
    auto value = values.begin();
    for_each_element(tensor, sizes, [&value](const std::uint8_t *address) {
        Element element;
        std::memcpy(&element, address, sizeof element);
        *value++ = static_cast<float>(element);
    });
}
} // namespace

void fill_constant(ITensor &tensor, bool zero)
{
    // This byte makes a float32 of 0.0115 and a float16 of 1.06: no zero, no denormal, and one call for the whole
    // buffer, which a machine under emulation is glad of.
    constexpr int byte = 0x3c;
    std::memset(tensor.buffer(), zero ? 0 : byte, tensor.info()->total_size());
}

void fill_from_file(ITensor &tensor, const Sizes &sizes, const std::string &file)
{
    const std::vector<float> values = read_floats(file, element_count(sizes));
    if (tensor.info()->data_type() == DataType::F16)
    {
        put<__fp16>(tensor, sizes, values);
    }
    else
    {
        put<float>(tensor, sizes, values);
    }
}

void write_to_file(ITensor &tensor, const Sizes &sizes, const std::string &name)
{
    std::vector<float> values(element_count(sizes));
    if (tensor.info()->data_type() == DataType::F16)
    {
        get<__fp16>(tensor, sizes, values);
    }
    else
    {
        get<float>(tensor, sizes, values);
    }
    std::ofstream file(name, std::ios::binary);
    const std::streamsize bytes = static_cast<std::streamsize>(values.size() * sizeof(float));
    file.write(reinterpret_cast<const char *>(values.data()), bytes);
    file.close();
    if (!file)
    {
        throw BadRequest("can't write " + name);
    }
}
