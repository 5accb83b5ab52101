/* Start code of an emulated Cortex-M, and its calls of the host (semihosting). */
#include "emulator.h"

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;

int32_t emulator_call(uint32_t operation, const void *block) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

__attribute__((used)) void start(void) {
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: floating point and vectors */
#ifdef TRAP_UNALIGNED
    *(volatile uint32_t *)0xE000ED14u |= 1u << 3; /* CCR: this processor has no unaligned accesses */
#endif
    __asm__ volatile("dsb\n\tisb" : : : "memory");
    for (volatile uint32_t *to = &data_start, *from = &data_load; to < &data_end;) {
        *to++ = *from++;
    }
    for (volatile uint32_t *to = &bss_start; to < &bss_end;) {
        *to++ = 0;
    }
    emulator_exit((uint32_t)main());
}

static void fault(void) {
    emulator_exit(STATUS_FAULT);
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))&stack_top, start, fault, fault, fault, fault, fault, fault, 0, 0, 0, fault, fault, 0, fault, fault};
