// The command line.
#ifndef NEVER_SLOWER_OPTIONS_HPP
#define NEVER_SLOWER_OPTIONS_HPP

#include <string>

struct Options
{
    std::string evidence; // device_time, instructions or dispatch
    std::string target;   // neon or opencl
    int threads = 1;
    bool tuner = false;
};

// Throws CannotStart; what it has read by then is filled in, so that the hello can say it.
void read_options(int count, char **arguments, Options &options);

#endif
