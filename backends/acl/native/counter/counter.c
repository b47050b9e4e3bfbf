/* A QEMU plugin that counts the instructions which a 64-bit Arm program runs between two marks (src/marks.h).
 *
 *     qemu-aarch64 -plugin libcounter.so,out=FILE PROGRAM
 *
 * For each pair of marks one line is appended to FILE and flushed before the program goes on:
 *
 *     {"instructions": 31927601, "fmla": 9437184, "loads_stores": 5898240}
 *
 * Only the thread that set the first mark is counted. QEMU translates blocks of instructions without branches, and
 * this adds up the sizes of the blocks that run. A system call ends its block: so the count begins after the first
 * mark's `svc` and ends with the second one's, and is the same in every process that takes the same branches.
 *
 * QEMU's plugin interface is declared here, as far as it is used, since Debian's qemu-user has no header for it. Inline
 * counters would be quicker, but they differ between versions and, before QEMU 9, mix up threads; what is used here
 * is in every version from 1 (QEMU 7.2) to 4 (QEMU 10.0) but for the two differences below:
 *
 *     - From version 2 (QEMU 9.0) on, QEMU refuses plugins that say they are of version 1, and older ones refuse 2.
 *     - From version 3 (QEMU 9.1) on, qemu_plugin_insn_data copies an instruction instead of pointing at it.
 *
 * It was run in Debian 12's QEMU 7.2. Debian 13's qemu-user is linked statically and loads no plugins at all: there
 * QEMU must be built from source, with --enable-plugins.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../src/marks.h"

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

/* The head of qemu_info_t, which is the same in all versions. */
struct info {
    const char *target;
    struct {
        int least, current;
    } version;
};

typedef void on_block_translated(plugin_id, struct qemu_plugin_tb *);
typedef void on_block_run(unsigned vcpu, void *given);
typedef void on_system_call(plugin_id, unsigned vcpu, int64_t number, uint64_t first, uint64_t second, uint64_t third,
                            uint64_t fourth, uint64_t fifth, uint64_t sixth, uint64_t seventh, uint64_t eighth);
enum registers { NO_REGISTERS = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_block_translated *);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, on_block_run *, enum registers, void *given);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, on_system_call *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t index);
/* One function of QEMU, as it was before version 3 and as it is since. */
extern const void *instruction_at(const struct qemu_plugin_insn *) __asm__("qemu_plugin_insn_data");
extern size_t copy_instruction(const struct qemu_plugin_insn *, void *, size_t) __asm__("qemu_plugin_insn_data");
extern void *qemu_plugin_scoreboard_new(size_t size) __attribute__((weak)); /* there from version 2 on */

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(plugin_id id, const struct info *info, int count, char **arguments);

struct counts {
    uint64_t instructions, fmla, loads_stores;
};

enum { NOBODY = -1 };
static atomic_int counted_vcpu = NOBODY;
static struct counts counts; /* written by the thread that is counted, and by no other */
static bool copies_instructions;
static FILE *out;

/* QEMU reads the version after it has loaded this file and before it calls anything in it. */
__attribute__((constructor)) static void choose_version(void)
{
    if (qemu_plugin_scoreboard_new)
        qemu_plugin_version = 2;
}

static uint32_t read_word(const struct qemu_plugin_insn *instruction)
{
    uint32_t word = 0;
    if (copies_instructions)
        copy_instruction(instruction, &word, sizeof word);
    else
        memcpy(&word, instruction_at(instruction), sizeof word);
    return word;
}

/* NEON's FMLA on vectors, whole or by element, and not SVE's. Patterns: Arm Architecture Reference Manual. */
static bool is_fmla(uint32_t word)
{
    return (word & 0xBFA0FC00) == 0x0E20CC00     /* float and double */
           || (word & 0xBF80F400) == 0x0F801000  /* by element */
           || (word & 0xBFE0FC00) == 0x0E400C00  /* half */
           || (word & 0xBFC0F400) == 0x0F001000; /* half, by element */
}

/* The manual's group "loads and stores", prefetches among them. */
static bool is_load_or_store(uint32_t word)
{
    return (word & 0x0A000000) == 0x08000000;
}

/* A block's counts travel in the pointer that QEMU hands back: 16 bits each, and blocks have 512 instructions at most.
   So nothing is allocated for a block, which QEMU may drop without a word. */
_Static_assert(sizeof(void *) == 8, "the counter needs a 64-bit machine");

static void *pack(const struct counts *block)
{
    return (void *)(uintptr_t)(block->instructions | block->fmla << 16 | block->loads_stores << 32);
}

static void count_block(unsigned vcpu, void *packed)
{
    if ((int)vcpu != atomic_load_explicit(&counted_vcpu, memory_order_relaxed))
        return;
    const uint64_t block = (uintptr_t)packed;
    counts.instructions += block & 0xFFFF;
    counts.fmla += block >> 16 & 0xFFFF;
    counts.loads_stores += block >> 32;
}

static void watch_block(plugin_id id, struct qemu_plugin_tb *block)
{
    struct counts found = {.instructions = qemu_plugin_tb_n_insns(block)};
    for (size_t i = 0; i < found.instructions; i++) {
        const uint32_t word = read_word(qemu_plugin_tb_get_insn(block, i));
        found.fmla += is_fmla(word);
        found.loads_stores += is_load_or_store(word);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(block, count_block, NO_REGISTERS, pack(&found));
    (void)id;
}

static void begin(int vcpu)
{
    counts = (struct counts){0};
    atomic_store(&counted_vcpu, vcpu);
}

static void end(int vcpu)
{
    if (vcpu != atomic_load(&counted_vcpu))
        return;
    atomic_store(&counted_vcpu, NOBODY);
    fprintf(out, "{\"instructions\": %" PRIu64 ", \"fmla\": %" PRIu64 ", \"loads_stores\": %" PRIu64 "}\n",
            counts.instructions, counts.fmla, counts.loads_stores);
    fflush(out);
}

static void watch_call(plugin_id id, unsigned vcpu, int64_t number, uint64_t option, uint64_t phase, uint64_t third,
                       uint64_t fourth, uint64_t fifth, uint64_t sixth, uint64_t seventh, uint64_t eighth)
{
    if (number == NEVER_SLOWER_PRCTL && option == NEVER_SLOWER_MARK) {
        if (phase == NEVER_SLOWER_MARK_BEGIN)
            begin((int)vcpu);
        else if (phase == NEVER_SLOWER_MARK_END)
            end((int)vcpu);
    }
    (void)id, (void)third, (void)fourth, (void)fifth, (void)sixth, (void)seventh, (void)eighth;
}

static int refuse(const char *why, const char *what)
{
    fprintf(stderr, "counter: %s%s\n", why, what);
    return -1;
}

static int open_output(int count, char **arguments)
{
    static const char key[] = "out=";
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], key, strlen(key)) != 0)
            return refuse("the only argument is out=FILE, not ", arguments[i]);
        out = fopen(arguments[i] + strlen(key), "a");
        if (!out)
            return refuse("can't write to ", arguments[i] + strlen(key));
    }
    return out ? 0 : refuse("needs a file to write to: -plugin libcounter.so,out=FILE", "");
}

int qemu_plugin_install(plugin_id id, const struct info *info, int count, char **arguments)
{
    if (strcmp(info->target, "aarch64") != 0)
        return refuse("counts programs for aarch64, not for ", info->target);
    if (open_output(count, arguments) != 0)
        return -1;
    copies_instructions = info->version.current >= 3;
    qemu_plugin_register_vcpu_tb_trans_cb(id, watch_block);
    qemu_plugin_register_vcpu_syscall_cb(id, watch_call);
    return 0;
}
