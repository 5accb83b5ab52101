/* Start code of an emulated RISC-V processor, and its calls of the host (semihosting). */
#include "emulator.h"

extern uint32_t bss_start, bss_end;

__asm__(".section .vectors, \"ax\"\n"
        ".globl start\n"
        "start:\n"
        "    la sp, stack_top\n"
        "    la t0, fault\n"
        "    csrw mtvec, t0\n"
        "    li t0, 0x6000\n" /* mstatus.FS: floating point */
        "    csrs mstatus, t0\n"
        "    j run_main\n"
        "    .balign 4\n"
        "fault:\n"
        "    la sp, stack_top\n"
        "    j end_in_fault\n"
        ".text\n");

int32_t emulator_call(uint32_t operation, const void *block) {
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = block;
    __asm__ volatile(".option push\n\t.option norvc\n\t.balign 16\n\tslli x0, x0, 0x1f\n\tebreak\n\tsrai x0, x0, 7\n\t.option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return (int32_t)a0;
}

__attribute__((used)) void run_main(void) {
    for (volatile uint32_t *to = &bss_start; to < &bss_end;) {
        *to++ = 0;
    }
    emulator_exit((uint32_t)main());
}

__attribute__((used)) void end_in_fault(void) {
    emulator_exit(STATUS_FAULT);
}
