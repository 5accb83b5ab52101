/* Runs CUDA C++ on a CPU: what the files that onnxc writes need of CUDA, in plain C++17.
 *
 * Blocks run one after the other. The threads of a kernel without barriers are a loop; those of a kernel with
 * barriers are fibers, each of which runs until it waits or ends. All threads of a block must wait at the same
 * barrier: anything else is reported and ends the launch with an error. Shared memory holds NaN when a block
 * starts, and writes behind its end are found. ONNXC_SHIM_ORDER (forward, reverse, random) says in which order
 * the threads run between two barriers; results must not depend on it.
 *
 * This is a check of meaning, not of speed, and it knows nothing of weak memory: all threads of a block share
 * one thread of the CPU.
 */
#ifndef ONNXC_SHIM_H
#define ONNXC_SHIM_H

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Instead of <math.h> and <stdlib.h>, whose C++ forms take longer to compile than most models. */
extern "C" {
char *getenv(const char *);
void *aligned_alloc(size_t, size_t);
void *malloc(size_t);
void free(void *);
[[noreturn]] void abort();
}
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define ONNXC_SHIM_MATH(name, parameters, arguments) \
    static inline double name parameters(double) { return __builtin_##name arguments; } \
    static inline float name##f parameters(float) { return __builtin_##name##f arguments; }
#define ONNXC_SHIM_1(type) (type a)
#define ONNXC_SHIM_2(type) (type a, type b)
#define ONNXC_SHIM_3(type) (type a, type b, type c)
ONNXC_SHIM_MATH(fabs, ONNXC_SHIM_1, (a))
ONNXC_SHIM_MATH(sqrt, ONNXC_SHIM_1, (a))
ONNXC_SHIM_MATH(floor, ONNXC_SHIM_1, (a))
ONNXC_SHIM_MATH(ceil, ONNXC_SHIM_1, (a))
ONNXC_SHIM_MATH(trunc, ONNXC_SHIM_1, (a))
ONNXC_SHIM_MATH(rint, ONNXC_SHIM_1, (a))
ONNXC_SHIM_MATH(copysign, ONNXC_SHIM_2, (a, b))
ONNXC_SHIM_MATH(fmod, ONNXC_SHIM_2, (a, b))
ONNXC_SHIM_MATH(fma, ONNXC_SHIM_3, (a, b, c))

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

namespace onnxc_shim {

enum { MAX_THREADS = 1024, STACK_BYTES = 64 << 10, SHARED_BYTES = 48 << 10, GUARD_BYTES = 4 << 10, LAUNCH_FAILURE = 719 };
enum class State : unsigned char { READY, WAITING, DONE };
enum class Order { FORWARD, REVERSE, RANDOM };

struct Index {
    unsigned x, y, z;
};

struct Fiber {
    void *stack_pointer = nullptr;
    unsigned char *stack = nullptr;
    State state = State::READY;
    int line = 0; /* of the barrier at which it waits */
};

/* All that one thread of the CPU needs to be a GPU. */
struct Device {
    Index thread = {0, 0, 0}, block = {0, 0, 0};
    Fiber fibers[MAX_THREADS];
    Fiber *current = nullptr;
    void *scheduler = nullptr;
    void (*body)(void *) = nullptr;
    void *arguments = nullptr;
    int order[MAX_THREADS];
    unsigned long long random = 0x9E3779B97F4A7C15ull;
    alignas(64) unsigned char shared[SHARED_BYTES + GUARD_BYTES];
    size_t shared_bytes = 0;
    int error = 0;

    ~Device() {
        for (Fiber &fiber : fibers) {
            if (fiber.stack) { munmap(fiber.stack, STACK_BYTES); }
        }
    }
};

inline Device &device() {
    static thread_local Device *found = nullptr; /* a pointer: cheap to reach, and not on the stack */
    static thread_local struct Owner {
        ~Owner() { delete found; }
    } owner;
    (void)owner;
    if (!found) { found = new Device; }
    return *found;
}

inline void report(const char *what, int number) {
    Device &d = device();
    fprintf(stderr, "onnxc shim: %s %d, block %u\n", what, number, d.block.x);
    d.error = LAUNCH_FAILURE;
}

/* --- Fibers ------------------------------------------------------------------------------------------------ */

/* Saves the registers that a call preserves, stores the stack pointer to *save, and goes on where `load` was saved. */
extern "C" void onnxc_shim_switch(void **save, void *load);

#if defined(__x86_64__)
enum { FRAME_WORDS = 8, RETURN_WORD = 6 };
asm(".text\n.hidden onnxc_shim_switch\n.globl onnxc_shim_switch\n.type onnxc_shim_switch, @function\nonnxc_shim_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n");
#elif defined(__aarch64__)
enum { FRAME_WORDS = 20, RETURN_WORD = 11 };
asm(".text\n.hidden onnxc_shim_switch\n.globl onnxc_shim_switch\n.type onnxc_shim_switch, %function\nonnxc_shim_switch:\n"
    "  sub sp, sp, #160\n  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
    "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n"
    "  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n"
    "  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n  add sp, sp, #160\n  ret\n");
#else
#error "the shim knows how to switch fibers on x86-64 and aarch64"
#endif

/* First and only function of a fiber; it is never left. */
inline void fiber_main() {
    Device &d = device();
    d.body(d.arguments);
    d.current->state = State::DONE;
    onnxc_shim_switch(&d.current->stack_pointer, d.scheduler);
    abort();
}

inline void start(Fiber &fiber) {
    if (!fiber.stack) {
        void *memory = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) { abort(); }
        fiber.stack = (unsigned char *)memory;
        mprotect(fiber.stack, 4096, PROT_NONE); /* an overflow stops here */
    }
    void **top = (void **)(fiber.stack + STACK_BYTES) - FRAME_WORDS;
    memset(top, 0, FRAME_WORDS * sizeof(void *));
    top[RETURN_WORD] = (void *)&fiber_main;
    fiber.stack_pointer = top;
    fiber.state = State::READY;
}

inline void barrier(int line) {
    Device &d = device();
    d.current->state = State::WAITING;
    d.current->line = line;
    onnxc_shim_switch(&d.current->stack_pointer, d.scheduler);
}

/* --- Blocks ------------------------------------------------------------------------------------------------ */

inline Order wanted_order() {
    const char *text = getenv("ONNXC_SHIM_ORDER");
    return !text ? Order::FORWARD : text[0] == 'r' && text[1] == 'e' ? Order::REVERSE : text[0] == 'r' ? Order::RANDOM : Order::FORWARD;
}

inline void arrange(Device &d, int threads, Order order) {
    for (int i = 0; i < threads; i++) { d.order[i] = order == Order::REVERSE ? threads - 1 - i : i; }
    if (order != Order::RANDOM) { return; }
    for (int i = threads - 1; i > 0; i--) {
        d.random ^= d.random << 13, d.random ^= d.random >> 7, d.random ^= d.random << 17;
        const int j = (int)(d.random % (unsigned)(i + 1)), other = d.order[i];
        d.order[i] = d.order[j], d.order[j] = other;
    }
}

/* All threads to their next barrier or their end; true while there is a barrier to go on from. */
inline bool advance(Device &d, int threads) {
    int waiting = 0, line = 0;
    for (int k = 0; k < threads; k++) {
        d.current = &d.fibers[d.order[k]];
        d.thread.x = (unsigned)d.order[k];
        onnxc_shim_switch(&d.scheduler, d.current->stack_pointer);
        if (d.current->state != State::WAITING) { continue; }
        if (waiting++ && d.current->line != line) { report("threads of one block wait at different barriers, line", d.current->line); }
        line = d.current->line;
    }
    if (waiting && waiting != threads) { report("threads ended while others wait at a barrier, number", threads - waiting); }
    return waiting != 0 && !d.error;
}

inline void check_guard(Device &d) {
    for (size_t i = d.shared_bytes; i < d.shared_bytes + GUARD_BYTES; i++) {
        if (d.shared[i] != 0xFF) {
            report("a write behind the end of shared memory, at byte", (int)i);
            return;
        }
    }
}

inline unsigned char *shared_memory(size_t bytes) {
    Device &d = device();
    d.shared_bytes = bytes;
    return d.shared;
}

template <class Body> inline void launch(long long blocks, int threads, bool has_barriers, Body body) {
    Device &d = device();
    const Order order = wanted_order();
    d.body = [](void *p) { (*(Body *)p)(); };
    d.arguments = &body;
    d.shared_bytes = 0;
    for (long long b = 0; b < blocks && !d.error; b++) {
        d.block.x = (unsigned)b;
        arrange(d, threads, order);
        if (!has_barriers) {
            for (int k = 0; k < threads; k++) {
                d.thread.x = (unsigned)d.order[k];
                body();
            }
            continue;
        }
        memset(d.shared, 0xFF, sizeof d.shared); /* NaN in every type of float */
        for (int k = 0; k < threads; k++) { start(d.fibers[k]); }
        while (advance(d, threads)) { arrange(d, threads, order); }
        check_guard(d);
    }
}

} /* namespace onnxc_shim */

#define threadIdx (onnxc_shim::device().thread)
#define blockIdx (onnxc_shim::device().block)

/* --- The runtime's functions: the device's memory is the host's, and everything has happened when a call returns. --- */

typedef int cudaError_t;
typedef struct CUstream_st *cudaStream_t;
enum { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };

inline cudaError_t cudaGetLastError() {
    const int found = onnxc_shim::device().error;
    onnxc_shim::device().error = 0;
    return found;
}
inline cudaError_t cudaMallocAsync(void **pointer, size_t bytes, cudaStream_t) {
    *pointer = aligned_alloc(256, (bytes + 256) / 256 * 256);
    return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFreeAsync(void *pointer, cudaStream_t) {
    free(pointer);
    return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind, cudaStream_t) {
    if (bytes) { memmove(target, source, bytes); }
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t) {
    memset(target, value, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    *stream = nullptr;
    return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }

#endif
