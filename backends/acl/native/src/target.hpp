// Neon and OpenCL as the protocol sees them.
#ifndef NEVER_SLOWER_TARGET_HPP
#define NEVER_SLOWER_TARGET_HPP

#include "options.hpp"
#include "problem.hpp"

#include <nlohmann/json.hpp>

#include <memory>
#include <string>

// A convolution that is configured, with its tensors and its reshaped weights.
class Layer
{
public:
    virtual ~Layer() = default;

    virtual std::string chosen() const = 0;
    virtual void run() = 0;
    virtual void write_output(const std::string &file) = 0;

    // Runs once, unless it has: a first run may allocate, compile or tune, so a later one is observed.
    void run_first()
    {
        if (!_ran)
        {
            run();
            _ran = true;
        }
    }

private:
    bool _ran = false;
};

class Target
{
public:
    virtual ~Target() = default;

    // Describes the GPU for the hello; null where there is none.
    virtual nlohmann::json gpu() const = 0;
    // Throws Refused where the library or the method can't do it.
    virtual std::unique_ptr<Layer> prepare(const Order &order) = 0;
    // Waits until everything that was run has ended.
    virtual void finish() = 0;
    // Returns the kernels of one run in order: what is launched, or how many seconds each takes.
    virtual nlohmann::json dispatch(Layer &layer) = 0;
    virtual nlohmann::json profile(Layer &layer) = 0;
};

// Both throw CannotStart.
std::unique_ptr<Target> make_neon(const Options &options);
std::unique_ptr<Target> make_opencl(const Options &options);

#endif
