/*
 * QEMU plugin: how often each translated block of guest code ran between two marks.
 *
 *   -plugin counter.so,out=FILE,syscall=NUMBER,mark=VALUE
 *
 * A mark is the guest's system call NUMBER with VALUE as its first argument. At each one, and at the end
 * of the guest, a section is appended to FILE and all counters go back to zero:
 *
 *   mark
 *   ADDRESS TIMES WORD WORD ...
 *   ...
 *
 * A line is a block that ran: guest address (hexadecimal), how often (decimal), and its instructions as
 * 32-bit words (hexadecimal). What the words mean is not decided here. Nothing is counted per instruction
 * at run time, so counting costs little.
 *
 * Source: QEMU's plugin interface, include/qemu/qemu-plugin.h, version 1.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

struct block {
    struct block *next;
    uint64_t address;
    uint64_t times;
    size_t length;
    uint32_t words[];
};

/* A block lives as long as the process: code that QEMU translates anew gets a new one. */
static struct block *blocks;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *out;
static int64_t mark_syscall = -1;
static uint64_t mark_value;

static void give_up(const char *what)
{
    fprintf(stderr, "counter: %s\n", what);
    abort();
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t length = qemu_plugin_tb_n_insns(tb);
    struct block *block = calloc(1, sizeof *block + length * sizeof block->words[0]);
    if (!block) {
        give_up("out of memory");
    }
    block->address = qemu_plugin_tb_vaddr(tb);
    block->length = length;
    for (size_t i = 0; i < length; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        memcpy(&block->words[i], qemu_plugin_insn_data(instruction), sizeof block->words[i]);
    }
    pthread_mutex_lock(&lock);
    block->next = blocks;
    blocks = block;
    pthread_mutex_unlock(&lock);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &block->times, 1);
}

static void write_section(void)
{
    pthread_mutex_lock(&lock);
    fputs("mark\n", out);
    for (struct block *block = blocks; block; block = block->next) {
        if (!block->times) {
            continue;
        }
        fprintf(out, "%" PRIx64 " %" PRIu64, block->address, block->times);
        for (size_t i = 0; i < block->length; i++) {
            fprintf(out, " %" PRIx32, block->words[i]);
        }
        fputc('\n', out);
        block->times = 0;
    }
    pthread_mutex_unlock(&lock);
    if (fflush(out) != 0) {
        give_up("the counts cannot be written");
    }
}

static void on_syscall(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2,
                       uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    if (number == mark_syscall && a1 == mark_value) {
        write_section();
    }
}

static void on_end(qemu_plugin_id_t id, void *unused)
{
    write_section();
    if (fclose(out) != 0) {
        give_up("the counts cannot be written");
    }
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                           char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        } else if (strncmp(argv[i], "syscall=", 8) == 0) {
            mark_syscall = atoll(argv[i] + 8);
        } else if (strncmp(argv[i], "mark=", 5) == 0) {
            mark_value = (uint64_t)atoll(argv[i] + 5);
        } else {
            return -1;
        }
    }
    if (!out || mark_syscall < 0) {
        fputs("counter: out=FILE, syscall=NUMBER and mark=VALUE are needed\n", stderr);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_end, NULL);
    return 0;
}
