// What differs between versions of ACL, and between builds with OpenCL and without; nothing else asks for a version.
// The headers have no version number (AclVersion.h says 0.1.0 in all of them), so the compiler is asked what they have.
#ifndef NEVER_SLOWER_COMPAT_HPP
#define NEVER_SLOWER_COMPAT_HPP

#include "arm_compute/core/Error.h"
#include "arm_compute/core/Types.h"
#include "arm_compute/core/Version.h"
#include "arm_compute/runtime/IMemoryManager.h"

#include <exception>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

// ACL_RUNNER_OPENCL: told by CMake, which has asked the library itself.
#ifdef ACL_RUNNER_OPENCL
#include "arm_compute/core/CL/OpenCL.h"
#endif

namespace compat
{
#ifdef ACL_RUNNER_OPENCL
constexpr bool has_opencl = true;
#else
constexpr bool has_opencl = false;
#endif

// The versions that the headers can be of, as CMake found out.
inline std::string headers()
{
    return ACL_RUNNER_HEADERS;
}

// "20.08" of "arm_compute_version=v20.08 Build options: …"; "" where the library does not say.
inline std::string version(const std::string &build)
{
    const std::string key = "arm_compute_version=";
    const std::size_t at = build.find(key);
    if (at == std::string::npos)
    {
        return "";
    }
    const std::size_t first = at + key.size() + (build[at + key.size()] == 'v' ? 1 : 0);
    const std::size_t last = build.find_first_not_of("0123456789.", first);
    return build.substr(first, last - first);
}

// Ranks overloads: the compiler takes the one with Prefer, where that compiles at all.
struct Fallback
{
};
struct Prefer : Fallback
{
};

template <class Method>
auto is_gemm_conv2d(Prefer, Method method) -> decltype(method == Method::GEMM_CONV2D)
{
    return method == Method::GEMM_CONV2D;
}

template <class Method>
bool is_gemm_conv2d(Fallback, Method)
{
    return false;
}

template <class Method>
auto is_indirect(Prefer, Method method) -> decltype(method == Method::INDIRECT)
{
    return method == Method::INDIRECT;
}

template <class Method>
bool is_indirect(Fallback, Method)
{
    return false;
}

// GEMM_CONV2D came in 21.08, INDIRECT in 23.02.
inline std::string method_name(arm_compute::ConvolutionMethod method)
{
    using arm_compute::ConvolutionMethod;
    if (is_gemm_conv2d(Prefer(), method))
    {
        return "GEMM_CONV2D";
    }
    if (is_indirect(Prefer(), method))
    {
        return "INDIRECT";
    }
    switch (static_cast<int>(method))
    {
    case static_cast<int>(ConvolutionMethod::GEMM):
        return "GEMM";
    case static_cast<int>(ConvolutionMethod::DIRECT):
        return "DIRECT";
    case static_cast<int>(ConvolutionMethod::WINOGRAD):
        return "WINOGRAD";
    case static_cast<int>(ConvolutionMethod::FFT):
        return "FFT";
    default:
        return "UNKNOWN";
    }
}

// GEMM's function got a fast-math switch on Neon, before the groups; on OpenCL and in 20.08 it has none.
template <class Function, class... Arguments>
auto validate_gemm(Prefer, bool fast_math, unsigned int groups, Arguments &&...arguments)
    -> decltype(Function::validate(arguments..., fast_math, groups))
{
    return Function::validate(arguments..., fast_math, groups);
}

template <class Function, class... Arguments>
arm_compute::Status validate_gemm(Fallback, bool, unsigned int groups, Arguments &&...arguments)
{
    return Function::validate(arguments..., groups);
}

template <class Function, class... Arguments>
auto configure_gemm(Prefer, Function &function, bool fast_math, unsigned int groups, Arguments &&...arguments)
    -> decltype(function.configure(arguments..., fast_math, groups))
{
    function.configure(arguments..., fast_math, groups);
}

template <class Function, class... Arguments>
void configure_gemm(Fallback, Function &function, bool, unsigned int groups, Arguments &&...arguments)
{
    function.configure(arguments..., groups);
}

using Manager = std::shared_ptr<arm_compute::IMemoryManager>;

// Not every function has intermediate tensors that a memory manager could hold.
template <class Function>
std::unique_ptr<Function> make_function(const Manager &manager, std::true_type)
{
    return std::unique_ptr<Function>(new Function(manager));
}

template <class Function>
std::unique_ptr<Function> make_function(const Manager &, std::false_type)
{
    return std::unique_ptr<Function>(new Function());
}

template <class Function>
std::unique_ptr<Function> make_function(const Manager &manager)
{
    return make_function<Function>(manager, std::is_constructible<Function, Manager>());
}

// An OpenCL error's text is only the name of the call; its number says what is wrong.
inline std::string describe(const std::exception &error)
{
#ifdef ACL_RUNNER_OPENCL
    if (const cl::Error *opencl = dynamic_cast<const cl::Error *>(&error))
    {
        return std::string(opencl->what()) + " failed with OpenCL error " + std::to_string(opencl->err());
    }
#endif
    return error.what();
}
} // namespace compat

#endif
