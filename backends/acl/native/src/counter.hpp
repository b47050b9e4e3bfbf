// Counts the instructions that this thread executes in user space.
#ifndef NEVER_SLOWER_COUNTER_HPP
#define NEVER_SLOWER_COUNTER_HPP

#include <cstdint>

class Counter
{
public:
    // Where the kernel forbids counting or has no counter (an emulator has none), there is nothing to read.
    Counter();
    ~Counter();
    Counter(const Counter &) = delete;
    Counter &operator=(const Counter &) = delete;

    void start();
    void stop();
    // Returns false where nothing was counted, or not for the whole time.
    bool read(std::uint64_t &instructions) const;

private:
    int _file;
};

#endif
