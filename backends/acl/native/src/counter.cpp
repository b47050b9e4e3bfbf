#include "counter.hpp"

#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace
{
int open_counter()
{
    perf_event_attr wanted{};
    wanted.size = sizeof wanted;
    wanted.type = PERF_TYPE_HARDWARE;
    wanted.config = PERF_COUNT_HW_INSTRUCTIONS;
    wanted.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
    wanted.disabled = 1;
    wanted.exclude_kernel = 1;
    wanted.exclude_hv = 1;
    constexpr int this_thread = 0, any_cpu = -1, no_group = -1;
    return static_cast<int>(
        syscall(SYS_perf_event_open, &wanted, this_thread, any_cpu, no_group, PERF_FLAG_FD_CLOEXEC));
}
} // namespace

Counter::Counter() : _file(open_counter())
{
}

Counter::~Counter()
{
    if (_file >= 0)
    {
        close(_file);
    }
}

void Counter::start()
{
    if (_file >= 0)
    {
        ioctl(_file, PERF_EVENT_IOC_RESET, 0);
        ioctl(_file, PERF_EVENT_IOC_ENABLE, 0);
    }
}

void Counter::stop()
{
    if (_file >= 0)
    {
        ioctl(_file, PERF_EVENT_IOC_DISABLE, 0);
    }
}

bool Counter::read(std::uint64_t &instructions) const
{
    struct
    {
        std::uint64_t value, enabled, running;
    } result{};
    if (_file < 0 || ::read(_file, &result, sizeof result) != static_cast<ssize_t>(sizeof result))
    {
        return false;
    }
    // A counter that was shared with others counted a part only: an estimate is no count.
    instructions = result.value;
    return result.enabled == result.running && result.value > 0;
}
