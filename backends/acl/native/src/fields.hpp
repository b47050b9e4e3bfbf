// Fields of a JSON object, read strictly: each error names the field.
#ifndef NEVER_SLOWER_FIELDS_HPP
#define NEVER_SLOWER_FIELDS_HPP

#include "errors.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <vector>

namespace fields
{
// No convolution is larger; beyond it, products of sizes could overflow.
constexpr std::size_t largest = 1 << 20;

inline std::string join(const std::vector<std::string> &words)
{
    std::string text;
    for (const std::string &word : words)
    {
        text += (text.empty() ? "" : ", ") + word;
    }
    return text;
}

inline const nlohmann::json &get(const nlohmann::json &object, const std::string &name)
{
    const auto found = object.find(name);
    if (found == object.end())
    {
        throw BadRequest("field '" + name + "' is missing");
    }
    return *found;
}

inline std::size_t whole_number(const nlohmann::json &value, const std::string &name, std::size_t smallest)
{
    if (!value.is_number_unsigned() || value.get<std::size_t>() < smallest || value.get<std::size_t>() > largest)
    {
        throw BadRequest("field '" + name + "' must hold whole numbers from " + std::to_string(smallest) + " to " +
                         std::to_string(largest) + ", not " + value.dump());
    }
    return value.get<std::size_t>();
}

inline std::size_t number(const nlohmann::json &object, const std::string &name, std::size_t smallest)
{
    return whole_number(get(object, name), name, smallest);
}

template <std::size_t N>
std::array<std::size_t, N> numbers(const nlohmann::json &object, const std::string &name, std::size_t smallest)
{
    const nlohmann::json &value = get(object, name);
    if (!value.is_array() || value.size() != N)
    {
        throw BadRequest("field '" + name + "' must be a list of " + std::to_string(N) + " numbers");
    }
    std::array<std::size_t, N> result{};
    std::transform(value.begin(), value.end(), result.begin(),
                   [&](const nlohmann::json &item) { return whole_number(item, name, smallest); });
    return result;
}

inline std::string text(const nlohmann::json &object, const std::string &name)
{
    const nlohmann::json &value = get(object, name);
    if (!value.is_string())
    {
        throw BadRequest("field '" + name + "' must be a string");
    }
    return value.get<std::string>();
}

inline std::string text_or_empty(const nlohmann::json &object, const std::string &name)
{
    return object.contains(name) ? text(object, name) : std::string();
}

inline bool flag(const nlohmann::json &object, const std::string &name)
{
    if (!object.contains(name))
    {
        return false;
    }
    if (!object[name].is_boolean())
    {
        throw BadRequest("field '" + name + "' must be true or false");
    }
    return object[name].get<bool>();
}

inline std::string one_of(const nlohmann::json &object, const std::string &name, const std::vector<std::string> &known)
{
    const std::string value = text(object, name);
    if (std::find(known.begin(), known.end(), value) == known.end())
    {
        throw BadRequest("field '" + name + "' can't be '" + value + "'; has " + join(known));
    }
    return value;
}

// Refuses unknown fields: a misspelt one would otherwise be ignored in silence.
inline void only(const nlohmann::json &object, const std::vector<std::string> &known)
{
    for (const auto &item : object.items())
    {
        if (std::find(known.begin(), known.end(), item.key()) == known.end())
        {
            throw BadRequest("no field '" + item.key() + "'; has " + join(known));
        }
    }
}
} // namespace fields

#endif
