// What ACL asks OpenCL to launch, seen on the way: ACL reaches OpenCL through a table of functions, and two entries of
// it are replaced. That works on a device as on a library that runs nothing.
#ifndef NEVER_SLOWER_RECORDER_HPP
#define NEVER_SLOWER_RECORDER_HPP

#include "arm_compute/core/CL/OpenCL.h"

#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

struct Launch
{
    std::string name;
    std::string options; // of the compiler
    std::array<std::size_t, 3> global{};
    std::array<std::size_t, 3> local{};
    bool has_local = false; // else the driver decides
    cl::Event event;        // only where events were asked for
};

class Recorder
{
public:
    // Replaces the entries. A process may have one recorder, made before the first kernel is compiled.
    Recorder();
    Recorder(const Recorder &) = delete;
    Recorder &operator=(const Recorder &) = delete;

    // Begins to record; with `events` each launch keeps one, which holds its times.
    void start(bool events);
    std::vector<Launch> stop();

private:
    using Enqueue = decltype(arm_compute::CLSymbols::clEnqueueNDRangeKernel_ptr);
    using Build = decltype(arm_compute::CLSymbols::clBuildProgram_ptr);

    void replace_build();
    void replace_enqueue();
    Launch describe(cl_kernel kernel, cl_uint dimensions, const std::size_t *global, const std::size_t *local) const;

    Build _build;
    Enqueue _enqueue;
    std::map<cl_program, std::string> _options;
    std::vector<Launch> _launches;
    bool _recording = false;
    bool _events = false;
};

#endif
