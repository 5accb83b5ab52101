/* Counts the instructions of one call in an emulated program: a plugin of QEMU's translator.
 *
 * Arguments: begin=ADDRESS of the function that is called, caller=FIRST-END of the function that calls it, marks=FILE
 * with lines `address layer` (layer -1 for the end of one), out=FILE for the result. Counting begins when the function is
 * entered and ends when its caller goes on. A block of translated code is cut where a mark stands: each piece is counted as
 * a whole whenever its first instruction runs, which is exact as long as nothing interrupts the program.
 *
 * Only functions that all versions of the interface have are used, and they are declared here: few systems bring the header.
 * https://www.qemu.org/docs/master/devel/tcg-plugins.html */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int flags, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);

enum { NO_MARK = -2, OUTSIDE = -1 };

typedef struct piece {
    uint64_t address, length, runs;
    int mark;
    struct piece *next;
} piece;

typedef struct {
    uint64_t address;
    int layer;
} mark;

static uint64_t begin, caller_first, caller_end, *layers, outside;
static const char *out;
static mark *marks;
static size_t mark_count;
static int counting, current = OUTSIDE;
static piece *pieces;

static void finish(void) {
    FILE *file = fopen(out, "w");
    if (file == NULL) {
        return;
    }
    fprintf(file, "outside %llu\n", (unsigned long long)outside);
    for (size_t k = 0; k < mark_count; k++) {
        if (layers[k]) {
            fprintf(file, "layer %zu %llu\n", k, (unsigned long long)layers[k]);
        }
    }
    for (const piece *p = pieces; p; p = p->next) {
        if (p->runs) {
            fprintf(file, "code %llx %llu\n", (unsigned long long)p->address, (unsigned long long)(p->runs * p->length));
        }
    }
    fprintf(file, "end\n");
    fclose(file);
}

static void on_run(unsigned cpu, void *data) {
    piece *p = data;
    (void)cpu;
    if (!counting) {
        if (p->address != begin) {
            return;
        }
        counting = 1;
    } else if (p->address >= caller_first && p->address < caller_end) {
        counting = 0;
        finish();
        return;
    }
    if (p->mark != NO_MARK) {
        current = p->mark;
    }
    *(current == OUTSIDE ? &outside : &layers[current]) += p->length;
    p->runs++;
}

static int mark_at(uint64_t address) {
    size_t low = 0, high = mark_count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (marks[middle].address < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    int found = NO_MARK;
    for (; low < mark_count && marks[low].address == address; low++) {
        /* Where one layer ends and the next begins, the beginning counts. */
        found = marks[low].layer > found ? marks[low].layer : found;
    }
    return found;
}

static void on_translate(plugin_id id, struct qemu_plugin_tb *block) {
    const size_t count = qemu_plugin_tb_n_insns(block);
    piece *p = NULL;
    (void)id;
    for (size_t k = 0; k < count; k++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, k);
        const uint64_t address = qemu_plugin_insn_vaddr(instruction);
        const int found = mark_at(address);
        if (p == NULL || found != NO_MARK || address == begin) {
            p = calloc(1, sizeof *p);
            if (p == NULL) {
                abort();
            }
            p->address = address;
            p->mark = found;
            p->next = pieces;
            pieces = p;
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_run, 0, p);
        }
        p->length++;
    }
}

static int read_marks(const char *path) {
    FILE *file = fopen(path, "r");
    unsigned long long address;
    int layer;
    if (file == NULL) {
        return -1;
    }
    while (fscanf(file, "%llx %d", &address, &layer) == 2) {
        marks = realloc(marks, (mark_count + 1) * sizeof *marks);
        if (marks == NULL) {
            abort();
        }
        marks[mark_count++] = (mark){address, layer};
    }
    fclose(file);
    layers = calloc(mark_count + 1, sizeof *layers);
    return layers == NULL ? -1 : 0;
}

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments) {
    int status = -1;
    (void)info;
    for (int k = 0; k < count; k++) {
        char *value = strchr(arguments[k], '=');
        if (value == NULL) {
            continue;
        }
        value++;
        if (strncmp(arguments[k], "begin=", 6) == 0) {
            begin = strtoull(value, NULL, 16);
        } else if (strncmp(arguments[k], "caller=", 7) == 0) {
            caller_first = strtoull(value, &value, 16);
            caller_end = strtoull(value + 1, NULL, 16);
        } else if (strncmp(arguments[k], "marks=", 6) == 0) {
            status = read_marks(value);
        } else if (strncmp(arguments[k], "out=", 4) == 0) {
            out = strdup(value);
        }
    }
    if (status == 0 && out != NULL) {
        qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
        return 0;
    }
    return -1;
}
