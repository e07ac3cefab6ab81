// Runs the blocks of a kernel one after the other, and the threads of a block as fibers.
//
// A fiber runs threads of a warp to their end, one after the other, for as long as none
// waits: a kernel without barriers is a plain loop. A thread that waits keeps its fiber,
// and the next thread begins on another. Memory accesses call in here (the compiler
// instruments them as for a kernel's address sanitizer), so that what a device leaves
// undefined is an error: an access outside the arguments, a race in shared memory, a
// barrier or shuffle that not all threads reach.
#include "block_scheduler.h"

#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <memory>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

extern "C" {
// Bounds of the section that holds static shared memory, from the linker.
extern char __start_emulation_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emulation_shared[] __attribute__((weak, visibility("hidden")));
}

namespace emulation {
namespace {

constexpr unsigned WARP = 32;
constexpr size_t STACK_SIZE = 256 * 1024;
constexpr long MOST_ACCESSES = 1l << 32;  // of a launch: some 20 seconds
constexpr int POISON = 0xFF;  // bytes of a NaN, and of -1

struct Range {
    uintptr_t begin, end;
    int argument;  // -1: memory that arguments may point to
};

struct Launch {
    void (*call)(void* const* arguments);
    void* const* arguments;
    unsigned grid[3], block[3];
    const Range* ranges;
    size_t range_count;
    size_t dynamic_shared_size;
};

enum class State { unstarted, ready, at_collective, at_barrier, returned };

struct Fiber {
    std::unique_ptr<char[]> stack{new char[STACK_SIZE]};
    ucontext_t entry;
    jmp_buf context;
    bool entered = false;
};

struct Thread {
    State state;
    uint3 index;
    Fiber* fiber;
    const char* waits_in;
    int line;
    unsigned mask;
    uint64_t value;
    const Group* group;
};

// Who last touched a byte of shared memory, and between which synchronisations.
struct Touch {
    unsigned barriers = 0, warp_syncs = 0;
    int thread = 0;
};

struct Shadow {
    Touch write, read;
    bool read_by_warp = false, read_by_block = false;  // by more than one thread
};

Launch launch;
std::vector<Thread> threads;
std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> idle;
Group groups[WARP];  // not on the heap: kernels read them
std::vector<Shadow> shadows;
std::vector<char> dynamic_shared;
unsigned barriers;                 // passed by the block, from 1 on
std::vector<unsigned> warp_syncs;  // passed by each warp
unsigned next_thread, last_thread;  // of the warp that is being started
int running;                       // number of the running thread
bool predicate_of[1024];
int predicate_count;
bool launched;
long accesses;
jmp_buf scheduler, abandoned;
char message[1024];
Range image;  // this library in memory: its constants and static variables
Range recent;

void select(int number) {
    running = number;
    threadIdx = threads[number].index;
}

void suspend() {
    const int number = running;
    if (!_setjmp(threads[number].fiber->context)) _longjmp(scheduler, 1);
}

void work() {
    Fiber* fiber = idle.back();
    for (;;) {
        idle.pop_back();
        while (next_thread < last_thread) {
            const unsigned number = next_thread++;
            threads[number].fiber = fiber;
            select(number);
            launch.call(launch.arguments);
            threads[running].state = State::returned;
        }
        idle.push_back(fiber);
        if (!_setjmp(fiber->context)) _longjmp(scheduler, 1);
    }
}

void enter(Fiber* fiber) {
    if (_setjmp(scheduler)) return;
    if (fiber->entered) _longjmp(fiber->context, 1);
    fiber->entered = true;
    getcontext(&fiber->entry);
    fiber->entry.uc_stack.ss_sp = fiber->stack.get();
    fiber->entry.uc_stack.ss_size = STACK_SIZE;
    fiber->entry.uc_link = nullptr;
    makecontext(&fiber->entry, work, 0);
    setcontext(&fiber->entry);
}

void start_warp(unsigned first, unsigned end) {
    next_thread = first;
    last_thread = end;
    while (next_thread < last_thread) {
        if (idle.empty()) {
            fibers.push_back(std::make_unique<Fiber>());
            idle.push_back(fibers.back().get());
        }
        enter(idle.back());
    }
}

bool met(const Thread& thread, unsigned first, unsigned end) {
    for (unsigned lane = 0; lane < WARP; ++lane) {
        if (!(thread.mask >> lane & 1) || first + lane >= end) continue;
        const Thread& other = threads[first + lane];
        if (other.state == State::returned) continue;  // CUDA counts the others only
        if (other.state != State::at_collective || other.mask != thread.mask ||
            other.line != thread.line || strcmp(other.waits_in, thread.waits_in))
            return false;
    }
    return true;
}

// Let go the lanes whose shuffle or vote is complete.
bool complete_collectives(unsigned first, unsigned end) {
    size_t count = 0;
    for (unsigned number = first; number < end; ++number) {
        Thread& thread = threads[number];
        if (thread.state != State::at_collective || !met(thread, first, end)) continue;
        // Shuffles and votes order no memory accesses; only this does.
        if (!strcmp(thread.waits_in, "__syncwarp()")) ++warp_syncs[first / WARP];
        Group& group = groups[count++];
        memset(&group, POISON, sizeof group);
        group.mask = 0;
        for (unsigned lane = 0; lane < WARP && first + lane < end; ++lane) {
            Thread& other = threads[first + lane];
            if (!(thread.mask >> lane & 1) || other.state != State::at_collective)
                continue;
            group.mask |= 1u << lane;
            group.values[lane] = other.value;
            other.group = &group;
            other.state = State::ready;
        }
    }
    return count > 0;
}

void run_warp(unsigned first, unsigned end) {
    do {
        for (unsigned number = first; number < end; ++number) {
            if (threads[number].state != State::ready) continue;
            next_thread = last_thread;
            select(number);
            enter(threads[number].fiber);
        }
    } while (complete_collectives(first, end));
}

// Let the threads go on if all of them wait at one barrier; false once all have returned.
bool complete_barrier() {
    const Thread* waiting = nullptr;
    for (const Thread& thread : threads) {
        if (thread.state == State::at_collective) {
            select(&thread - threads.data());
            fail(thread.line,
                 "%s waits for lanes 0x%08x, not all of which come: a diverged warp",
                 thread.waits_in, thread.mask);
        }
        if (thread.state == State::at_barrier && !waiting) waiting = &thread;
    }
    if (!waiting) return false;
    predicate_count = 0;
    for (Thread& thread : threads) {
        const unsigned number = &thread - threads.data();
        if (thread.state != State::at_barrier || thread.line != waiting->line) {
            select(waiting - threads.data());
            char where[64] = "has returned";
            if (thread.state == State::at_barrier)
                snprintf(where, sizeof where, "waits in line %d", thread.line);
            fail(waiting->line,
                 "__syncthreads() is not reached by all threads of the block: "
                 "(%u, %u, %u) %s",
                 thread.index.x, thread.index.y, thread.index.z, where);
        }
        thread.state = State::ready;
        predicate_count += predicate_of[number];
    }
    ++barriers;
    return true;
}

void run_block() {
    if (__start_emulation_shared)
        memset(__start_emulation_shared, POISON,
               __stop_emulation_shared - __start_emulation_shared);
    memset(dynamic_shared.data(), POISON, dynamic_shared.size());
    barriers = 1 + barriers;  // what earlier blocks touched is of no concern
    const unsigned count = threads.size();
    for (unsigned number = 0; number < count; ++number) {
        threads[number].state = State::unstarted;
        const unsigned x = number % blockDim.x, rest = number / blockDim.x;
        threads[number].index = {x, rest % blockDim.y, rest / blockDim.y};
    }
    for (unsigned first = 0; first < count; first += WARP) {
        const unsigned end = first + WARP < count ? first + WARP : count;
        start_warp(first, end);
        if (complete_collectives(first, end)) run_warp(first, end);
    }
    while (complete_barrier())
        for (unsigned first = 0; first < count; first += WARP)
            run_warp(first, first + WARP < count ? first + WARP : count);
}

bool within(uintptr_t address, size_t size, const Range& range) {
    return address >= range.begin && address + size <= range.end;
}

// Which byte of shared memory an address is of; -1: none.
long shared_byte(uintptr_t address, size_t size) {
    const uintptr_t start = reinterpret_cast<uintptr_t>(__start_emulation_shared);
    const uintptr_t stop = reinterpret_cast<uintptr_t>(__stop_emulation_shared);
    if (address >= start && address + size <= stop) return address - start;
    const uintptr_t dynamic = reinterpret_cast<uintptr_t>(dynamic_shared.data());
    if (address >= dynamic && address + size <= dynamic + dynamic_shared.size())
        return stop - start + address - dynamic;
    return -1;
}

// Whether another thread touched a byte with no synchronisation since.
bool unordered(const Touch& touch, bool by_warp = false) {
    if (touch.barriers != barriers) return false;
    if (touch.thread == running && !by_warp) return false;
    const unsigned warp = running / WARP;
    return touch.thread / WARP != warp || touch.warp_syncs == warp_syncs[warp];
}

void check_race(Shadow& shadow, bool writes, void* caller) {
    const bool raced =
        unordered(shadow.write) ||
        (writes && shadow.read.barriers == barriers &&
         (shadow.read_by_block || unordered(shadow.read, shadow.read_by_warp)));
    if (raced)
        fail(0, "races with thread %d of the block for shared memory@%#lx",
             unordered(shadow.write) ? shadow.write.thread : shadow.read.thread,
             reinterpret_cast<uintptr_t>(caller) - image.begin);
    const Touch touch = {barriers, warp_syncs[running / WARP], running};
    if (writes) {
        shadow.write = touch;
        return;
    }
    const Touch& last = shadow.read;
    const bool same_warp = last.thread / int(WARP) == touch.thread / int(WARP);
    if (last.barriers != touch.barriers) {
        shadow.read_by_warp = shadow.read_by_block = false;
    } else if (!same_warp) {
        shadow.read_by_block = true;
    } else if (last.warp_syncs != touch.warp_syncs) {
        shadow.read_by_warp = false;
    } else if (last.thread != touch.thread) {
        shadow.read_by_warp = true;
    }
    shadow.read = touch;
}

void check(uintptr_t address, size_t size, bool writes, bool alone, void* caller) {
    if (!launched) return;
    if (++accesses > MOST_ACCESSES) fail(0, "waits for ever, it seems");
    if (within(address, size, recent)) return;
    const long shared = shared_byte(address, size);
    if (shared >= 0) {
        if (alone)
            for (size_t i = 0; i < size; ++i)
                check_race(shadows[shared + i], writes, caller);
        return;
    }
    for (size_t i = 0; i < launch.range_count; ++i) {
        if (!within(address, size, launch.ranges[i])) continue;
        recent = launch.ranges[i];
        return;
    }
    if (within(address, size, image)) return;
    const uintptr_t stack = reinterpret_cast<uintptr_t>(threads[running].fiber->stack.get());
    if (address >= stack && address + size <= stack + STACK_SIZE) return;

    const Range* near = nullptr;
    long distance = 0;  // in bytes from the array's begin or end, the nearest
    for (size_t i = 0; i < launch.range_count; ++i) {
        const Range& range = launch.ranges[i];
        const long before = range.begin - address, after = address + size - range.end;
        const long off = address < range.begin ? -before : after;
        if (!near || labs(off) < labs(distance)) near = &range, distance = off;
    }
    const uintptr_t code = reinterpret_cast<uintptr_t>(caller) - image.begin;
    if (!near || labs(distance) > 1 << 20)
        fail(0, "%s %zu bytes far outside all arguments@%#lx",
             writes ? "writes" : "reads", size, code);
    fail(0, "%s %zu bytes outside argument %d, %ld bytes %s@%#lx",
         writes ? "writes" : "reads", size, near->argument, labs(distance),
         distance < 0 ? "before its begin" : "past its end", code);
}

void on_crash(int signal) {
    const char* what = signal == SIGFPE ? "divides by zero" : "accesses no memory at all";
    fail(0, "%s", what);
}

int find_image(dl_phdr_info* info, size_t, void*) {
    const uintptr_t here = reinterpret_cast<uintptr_t>(&launch);
    Range range = {UINTPTR_MAX, 0, 0};
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const ElfW(Phdr)& part = info->dlpi_phdr[i];
        if (part.p_type != PT_LOAD) continue;
        const uintptr_t begin = info->dlpi_addr + part.p_vaddr;
        if (begin < range.begin) range.begin = begin;
        if (begin + part.p_memsz > range.end) range.end = begin + part.p_memsz;
    }
    if (here < range.begin || here >= range.end) return 0;
    image = range;
    return 1;
}

void forget_fibers() {
    idle.clear();
    for (auto& fiber : fibers) {
        fiber->entered = false;
        idle.push_back(fiber.get());
    }
}

}  // namespace

void fail(int line, const char* format, ...) {
    const uint3 t = threadIdx, b = blockIdx;
    int used = snprintf(message, sizeof message, "thread (%u, %u, %u) of block (%u, %u, %u)",
                        t.x, t.y, t.z, b.x, b.y, b.z);
    if (line) used += snprintf(message + used, sizeof message - used, ", line %d", line);
    used += snprintf(message + used, sizeof message - used, ": ");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message + used, sizeof message - used, format, arguments);
    va_end(arguments);
    _longjmp(abandoned, 1);
}

int barrier(int line, bool predicate) {
    Thread& thread = threads[running];
    thread.state = State::at_barrier;
    thread.line = line;
    predicate_of[running] = predicate;
    suspend();
    return predicate_count;
}

const Group& collective(const char* name, int line, unsigned mask, uint64_t value) {
    if (!(mask >> lane() & 1))
        fail(line, "%s with a mask that does not name the calling lane", name);
    Thread& thread = threads[running];
    thread.state = State::at_collective;
    thread.waits_in = name;
    thread.line = line;
    thread.mask = mask;
    thread.value = value;
    suspend();
    return *threads[running].group;
}

unsigned lane() { return running % WARP; }

void* dynamic_shared_memory() { return dynamic_shared.data(); }

void check_access(const volatile void* address, size_t size) {
    check(reinterpret_cast<uintptr_t>(address), size, true, false,
          __builtin_return_address(0));
}

}  // namespace emulation

using namespace emulation;

// ------------------------------------------------------------------ for the launcher

extern "C" __attribute__((visibility("default"))) size_t emulation_static_shared_size() {
    return __stop_emulation_shared - __start_emulation_shared;
}

// Null, or what went wrong.
extern "C" __attribute__((visibility("default"))) const char* emulation_launch(
    const Launch* requested) {
    launch = *requested;
    if (!image.end) dl_iterate_phdr(find_image, nullptr);
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    threads.resize(blockDim.x * blockDim.y * blockDim.z);
    warp_syncs.resize((threads.size() + WARP - 1) / WARP);
    dynamic_shared.resize(launch.dynamic_shared_size);
    shadows.resize(emulation_static_shared_size() + dynamic_shared.size());
    recent = {};
    accesses = 0;

    // A wild pointer in what is not instrumented must not end the process.
    static struct sigaction before[3];
    static const int signals[3] = {SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction crash = {};
    crash.sa_handler = on_crash;
    crash.sa_flags = SA_NODEFER;
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &crash, &before[i]);
    static const char* error;
    error = nullptr;
    launched = true;
    if (_setjmp(abandoned)) {
        error = message;
        forget_fibers();
    } else {
        for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
            for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
                for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block();
    }
    launched = false;
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &before[i], nullptr);
    return error;
}

// ------------------------------------- called by code instrumented for memory accesses

#define CALLER __builtin_return_address(0)
#define ON_ACCESS(size)                                                       \
    extern "C" void __asan_load##size##_noabort(uintptr_t address) {          \
        check(address, size, false, true, CALLER);                            \
    }                                                                         \
    extern "C" void __asan_store##size##_noabort(uintptr_t address) {         \
        check(address, size, true, true, CALLER);                             \
    }
ON_ACCESS(1)
ON_ACCESS(2)
ON_ACCESS(4)
ON_ACCESS(8)
ON_ACCESS(16)

extern "C" void __asan_loadN_noabort(uintptr_t address, size_t size) {
    check(address, size, false, true, CALLER);
}
extern "C" void __asan_storeN_noabort(uintptr_t address, size_t size) {
    check(address, size, true, true, CALLER);
}
extern "C" void __asan_handle_no_return() {}

// ------------------------------- called by code instrumented for undefined behaviour

struct SourceLocation {
    const char* file;
    unsigned line, column;
};

struct TypeMismatch {
    SourceLocation location;
    const void* type;
    unsigned char log_alignment, kind;
};

#define ON_UNDEFINED(name, text)                                            \
    extern "C" void __ubsan_handle_##name(SourceLocation* location) {       \
        fail(location->line, text);                                         \
    }
ON_UNDEFINED(out_of_bounds, "an index outside the bounds of an array")
ON_UNDEFINED(divrem_overflow, "an integer division by zero, or that overflows")
ON_UNDEFINED(shift_out_of_bounds, "a shift by more bits than there are")
ON_UNDEFINED(add_overflow, "signed integer overflow in an addition")
ON_UNDEFINED(sub_overflow, "signed integer overflow in a subtraction")
ON_UNDEFINED(mul_overflow, "signed integer overflow in a multiplication")
ON_UNDEFINED(negate_overflow, "signed integer overflow in a negation")

extern "C" void __ubsan_handle_type_mismatch_v1(TypeMismatch* data, uintptr_t pointer) {
    if (!pointer) fail(data->location.line, "a null pointer is accessed");
    fail(data->location.line, "a pointer that is not aligned to %u bytes is accessed",
         1u << data->log_alignment);
}
