/* What runs before and after main, and the way out to the debugger or emulator (Arm semihosting). */
#include "board.h"

#include <stddef.h>
#include <stdint.h>

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;
int main(void);
void reset(void);

static int32_t semihosting(int32_t operation, const void *argument) {
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void print(const char *text) {
    semihosting(0x04, text);
}

void print_number(uint32_t number) {
    char digits[11];
    size_t at = sizeof digits - 1;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    print(digits + at);
}

static void leave(uint32_t code) {
    const uint32_t block[2] = {0x20026, code}; /* the application has ended, with this exit code */
    for (;;) {
        semihosting(0x20, block);
    }
}

static void fault(void) {
    print("fault\n");
    leave(99);
}

void reset(void) {
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the floating point unit is on */
    __asm__ volatile("dsb\n\tisb");
    for (uint32_t *from = &data_load, *to = &data_start; to < &data_end;) {
        *(volatile uint32_t *)to++ = *from++;
    }
    for (uint32_t *to = &bss_start; to < &bss_end;) {
        *(volatile uint32_t *)to++ = 0;
    }
    leave((uint32_t)main());
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))&stack_top, reset, fault, fault, fault, fault, fault,
};
