/* Marks around the code that is counted: a system call that a QEMU plugin sees and that a kernel refuses.
 *
 * prctl with an unknown option changes nothing and returns EINVAL. On 64-bit Arm the call is made without the C
 * library: its wrapper would be counted, too, and is of another length in another C library. So what is counted begins
 * after the first mark's `svc` and ends with the second one's.
 */
#ifndef NEVER_SLOWER_MARKS_H
#define NEVER_SLOWER_MARKS_H

#ifdef __linux__
#include <sys/prctl.h>
#endif

/* The prctl option, "nslw" in ASCII, which is none of the kernel's. */
#define NEVER_SLOWER_MARK 0x6e736c77L
#define NEVER_SLOWER_MARK_BEGIN 1L
#define NEVER_SLOWER_MARK_END 2L

/* prctl's number among the system calls of 64-bit Arm. */
#define NEVER_SLOWER_PRCTL 167L

static inline void never_slower_mark(long phase)
{
#if defined(__aarch64__)
    register long option __asm__("x0") = NEVER_SLOWER_MARK;
    register long argument __asm__("x1") = phase;
    register long call __asm__("x8") = NEVER_SLOWER_PRCTL;
    __asm__ volatile("svc #0" : "+r"(option) : "r"(argument), "r"(call) : "memory", "cc");
#elif defined(__linux__)
    prctl((int)NEVER_SLOWER_MARK, phase, 0L, 0L, 0L);
#else
    (void)phase;
#endif
}

static inline void never_slower_mark_begin(void)
{
    never_slower_mark(NEVER_SLOWER_MARK_BEGIN);
}

static inline void never_slower_mark_end(void)
{
    never_slower_mark(NEVER_SLOWER_MARK_END);
}

#endif
