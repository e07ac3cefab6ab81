// What compiled kernels ask of the scheduler that runs their threads.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emulation {

// The lanes of a warp that met at one shuffle or vote, and what each brought.
struct Group {
    unsigned mask;
    uint64_t values[32];
};

// End the launch with a message about the running thread.
[[noreturn]] void fail(int line, const char* format, ...);

// Wait for all threads of the block; the number of those that brought a true predicate.
int barrier(int line, bool predicate);

// Wait for the lanes that `mask` names.
const Group& collective(const char* name, int line, unsigned mask, uint64_t value);

// The running thread's place in its warp.
unsigned lane();

// Fail unless the running thread may access this memory; for what is not instrumented.
void check_access(const volatile void* address, size_t size);

void* dynamic_shared_memory();

}  // namespace emulation
