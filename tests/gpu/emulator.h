// Runs CUDA kernels on a CPU, for tests: every thread of a block is a fibre, blocks come one after another.
//
// A fibre runs until it has to wait for others: at a barrier, a shuffle, a ballot, an mma. Which fibre runs next, which
// warps are held up meanwhile, and which block comes next is drawn from a seed, so that what depends on an order comes
// out differently with another one. Shared
// memory holds rubbish when a block begins. Asynchronous copies arrive at once or not before they are waited for, as
// drawn. Reported: threads of a warp that meet at different operations, barriers that some threads never reach, and
// threads that wait for ever. Not shown: speed, and races between threads that both run to their next wait unharmed.
#pragma once
#define EMULATED 1
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#ifdef __ELF__ // a section of its own, so that its bounds are known
#define __shared__ static __attribute__((section("emulated_shared")))
extern char __start_emulated_shared[] __attribute__((weak)), __stop_emulated_shared[] __attribute__((weak));
#else
#define __shared__ static
#endif
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) float2 { float x, y; };
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }

namespace emulator {

const size_t STACK = 64 * 1024;
struct Meeting { uint32_t words[32][8]; unsigned arrived; int line; };
struct Warp { Meeting meetings[2]; };
struct Copy { void* to; const void* from; unsigned bytes; };
struct Fibre {
    void* stack_pointer; std::unique_ptr<char[]> stack; bool done;
    unsigned thread, lane, met; Warp* warp; std::vector<std::vector<Copy>> copies;
};
inline std::vector<Fibre> fibres; inline std::vector<Warp> warps;
inline Fibre* current; inline void* scheduler;
inline dim3 block_index, block_size, grid_size;
inline unsigned alive, at_barrier, barriers_passed; inline int barrier_line;
inline uint64_t progress, random_state; inline char failure[256];
inline std::vector<float4> dynamic_shared;
inline void (*body)(void**); inline void** arguments;

inline unsigned draw(unsigned below) {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)((random_state >> 33) % below);
}
inline void fail(const char* what, int line, int other) {
    if (!failure[0]) snprintf(failure, sizeof failure, "block %u,%u, thread %u: %s (lines %d and %d)", block_index.x, block_index.y, current->thread, what, line, other);
}

// Saves what a function must keep on one stack and takes it from another.
extern "C" void emulator_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(.text
.globl emulator_switch
emulator_switch:
 pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
 movq %rsp, (%rdi)
 movq %rsi, %rsp
 popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
 ret
)");
const int SAVED = 6, ENTRY = 6;
#elif defined(__aarch64__)
asm(R"(.text
.globl emulator_switch
emulator_switch:
 sub sp, sp, #160
 stp x19, x20, [sp, #0]; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]; stp x25, x26, [sp, #48]; stp x27, x28, [sp, #64]
 stp x29, x30, [sp, #80]; stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]; stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]
 mov x9, sp
 str x9, [x0]
 mov sp, x1
 ldp x19, x20, [sp, #0]; ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32]; ldp x25, x26, [sp, #48]; ldp x27, x28, [sp, #64]
 ldp x29, x30, [sp, #80]; ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]; ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]
 add sp, sp, #160
 ret
)");
const int SAVED = 20, ENTRY = 11;
#else
#error "the emulator switches fibres on x86-64 and aarch64 only"
#endif

inline void yield() { emulator_switch(&current->stack_pointer, scheduler); }
inline void enter() {
    body(arguments);
    current->done = true;
    alive--, progress++;
    for (;;) yield();
}
inline void start(Fibre& fibre, unsigned thread) {
    if (!fibre.stack) fibre.stack.reset(new char[STACK]);
    auto top = ((uintptr_t)fibre.stack.get() + STACK - 256) & ~(uintptr_t)63;
    void** frame = (void**)top - SAVED - 2; // entered as if called: 8 below a multiple of 16
    memset(frame, 0, (SAVED + 2) * sizeof(void*));
    frame[ENTRY] = (void*)enter;
    fibre.stack_pointer = frame;
    fibre.done = false, fibre.thread = thread, fibre.lane = thread % 32, fibre.met = 0;
    fibre.warp = &warps[thread / 32];
    fibre.copies.assign(1, {});
}

// All threads of a block meet.
inline void barrier(int line) {
    unsigned passed = barriers_passed;
    if (at_barrier && barrier_line != line) fail("threads wait at different barriers", barrier_line, line);
    barrier_line = line, progress++;
    if (++at_barrier == block_size.x) at_barrier = 0, barriers_passed++;
    while (barriers_passed == passed) yield();
}
// The 32 threads of a warp meet; each gives up to eight words and sees all of them.
inline const uint32_t (*meet(int line, std::initializer_list<uint32_t> words))[8] {
    Meeting& meeting = current->warp->meetings[current->met++ % 2];
    if (meeting.arrived == 32) meeting.arrived = 0; // the one before the last, which all have left
    if (meeting.arrived && meeting.line != line) fail("threads of a warp meet at different operations", meeting.line, line);
    meeting.line = line;
    unsigned i = 0;
    for (uint32_t word : words) meeting.words[current->lane][i++] = word;
    meeting.arrived++, progress++;
    while (meeting.arrived < 32) yield();
    return meeting.words;
}

inline void run_block() {
    unsigned n = block_size.x;
    alive = n, at_barrier = 0, warps.assign(n / 32, Warp{});
    for (float4& x : dynamic_shared) { uint32_t rubbish = 0x7fc00000u | draw(1u << 20); memcpy(&x.x, &rubbish, 4); x.y = x.z = x.w = x.x; }
#ifdef __ELF__
    if (__start_emulated_shared) for (char* at = __start_emulated_shared; at < __stop_emulated_shared; at++) *at = (char)(0x40 + draw(100));
#endif
    std::vector<unsigned> order(n);
    for (unsigned i = 0; i < n; i++) { start(fibres[i], i); order[i] = i; }
    for (unsigned i = n; i > 1; i--) std::swap(order[i - 1], order[draw(i)]);
    uint32_t held = 0; // warps that make no step for a while, so that others get far ahead
    unsigned until = 0;
    for (unsigned pass = 0; alive && !failure[0]; pass++) {
        if (pass >= until) until = pass + 1 + draw(40), held = draw(4) ? draw(1u << 16) | draw(1u << 16) << 16 : 0;
        uint64_t before = progress;
        unsigned first = draw(n);
        bool back = draw(2);
        for (unsigned i = 0; i < n && !failure[0]; i++) {
            current = &fibres[order[back ? (first + n - i) % n : (first + i) % n]];
            if (!current->done && !(held >> current->thread / 32 & 1)) emulator_switch(&scheduler, current->stack_pointer);
        }
        if (progress > before || !alive) continue;
        if (held) held = 0, until = pass + 2; // the others wait for them
        else fail(at_barrier ? "a barrier that not all threads reach" : "threads wait for others that never come", barrier_line, barrier_line);
    }
}

inline uint32_t bits(float x) { uint32_t word; memcpy(&word, &x, 4); return word; }
inline float number(uint32_t word) { float x; memcpy(&x, &word, 4); return x; }

// Calls a kernel with arguments as cuLaunchKernel takes them; `sizes` says how long each is, if it is known.
template <auto kernel> struct Call;
using Kept = std::vector<std::vector<uint64_t>>; // a copy of them, for a launch to come
inline std::vector<uint64_t> kept(const void* p, size_t bytes) { std::vector<uint64_t> words((bytes + 7) / 8); memcpy(words.data(), p, bytes); return words; }
template <class... A, void (*kernel)(A...)> struct Call<kernel> {
    template <size_t... i> static void with(void** p, std::index_sequence<i...>) { kernel(*(std::remove_reference_t<A>*)p[i]...); }
    static void run(void** p) { with(p, std::index_sequence_for<A...>{}); }
    static bool fits(const size_t* sizes, size_t n) {
        const size_t want[] = {sizeof(A)...};
        return n == sizeof...(A) && memcmp(want, sizes, n * sizeof(size_t)) == 0;
    }
    static Kept keep(void** p) { size_t i = 0; return {kept(p[i++], sizeof(A))...}; }
};
struct Entry { const char* name; void (*run)(void**); bool (*fits)(const size_t*, size_t); Kept (*keep)(void**); };

inline const char* launch(const Entry& entry, const unsigned* grid, unsigned block, size_t shared, void** p, const size_t* sizes, size_t n, uint64_t seed) {
    failure[0] = 0, random_state = seed;
    if (sizes && !entry.fits(sizes, n)) return "the arguments are not those that the kernel takes";
    if (block % 32 || block == 0 || block > 1024 || shared % 16) return "a block has 32 to 1024 threads in whole warps, and its shared memory whole vectors";
    grid_size = {grid[0], grid[1], grid[2]}, block_size = {block, 1, 1};
    dynamic_shared.assign(shared / 16, float4{});
    while (fibres.size() < block) fibres.emplace_back();
    body = entry.run, arguments = p;
    unsigned blocks = grid[0] * grid[1], first = blocks ? draw(blocks) : 0;
    bool back = draw(2);
    for (unsigned i = 0; i < blocks && !failure[0]; i++) {
        unsigned at = (back ? first + blocks - i : first + i) % blocks;
        block_index = {at % grid[0], at / grid[0], 0};
        run_block();
    }
    return failure[0] ? failure : nullptr;
}

// A matrix of bytes out of the fragments of a warp: lane l holds row l/4 (and 8 below), columns 4(l%4).. (and 16 on).
inline void mma(int line, int* c, const uint32_t* a, const uint32_t* b) {
    const auto words = meet(line, {a[0], a[1], a[2], a[3], b[0], b[1]});
    unsigned lane = current->lane;
    auto byte = [&](unsigned l, unsigned w, unsigned i) { return (int)(int8_t)(words[l][w] >> 8 * i); };
    for (unsigned r = 0; r < 4; r++) {
        unsigned row = lane / 4 + r / 2 * 8, column = lane % 4 * 2 + r % 2;
        for (unsigned k = 0; k < 32; k++)
            c[r] += byte(row % 8 * 4 + k % 16 / 4, row / 8 + k / 16 * 2, k % 4) * byte(column * 4 + k % 16 / 4, 4 + k / 16, k % 4);
    }
}
// The sum of some numbers as a matrix unit forms it: of each is cut off what lies below the 24 bits of the largest, and so of the
// sum. That is as coarse as the coarsest card that Fasi, Higham, Mikaitis and Pranesh measured (PeerJ Computer Science 7:e330).
inline float cut_sum(const double* terms, int n) {
    double most = 0, plain = 0;
    for (int i = 0; i < n; i++) most = std::fmax(most, std::fabs(terms[i])), plain += terms[i];
    if (most == 0 || !std::isfinite(plain)) return (float)plain;
    int exponent;
    std::frexp(most, &exponent);
    double unit = std::ldexp(1, exponent - 24);
    int64_t sum = 0;
    for (int i = 0; i < n; i++) sum += (int64_t)(terms[i] / unit);
    for (; sum >= 1 << 24 || sum <= -(1 << 24); sum /= 2) unit *= 2;
    return (float)(sum * unit);
}
// A matrix of bf16, in the same places: two numbers a word. Eight of the depth are added up at once.
inline void mma_bf16(int line, float* c, const uint32_t* a, const uint32_t* b) {
    const auto words = meet(line, {a[0], a[1], a[2], a[3], b[0], b[1]});
    unsigned lane = current->lane;
    auto half = [&](unsigned l, unsigned w, unsigned i) { uint32_t word = words[l][w] >> 16 * i << 16; float x; memcpy(&x, &word, 4); return (double)x; };
    for (unsigned r = 0; r < 4; r++) {
        unsigned row = lane / 4 + r / 2 * 8, column = lane % 4 * 2 + r % 2;
        for (unsigned k8 = 0; k8 < 2; k8++) {
            double terms[9] = {c[r]};
            for (unsigned k = 0; k < 8; k++) terms[1 + k] = half(row % 8 * 4 + k / 2, row / 8 + k8 * 2, k % 2) * half(column * 4 + k / 2, 4 + k8, k % 2);
            c[r] = cut_sum(terms, 9);
        }
    }
}
// Every lane names 16 bytes; lane l gets word l % 4 of what lane 8q + l/4 named, for q = 0..4.
inline void load_matrices(int line, uint32_t* to, const void* from) {
    uint64_t address = (uint64_t)from;
    const auto words = meet(line, {(uint32_t)address, (uint32_t)(address >> 32)});
    for (unsigned q = 0; q < 4; q++) {
        const uint32_t* named = words[q * 8 + current->lane / 4];
        to[q] = ((const uint32_t*)((uint64_t)named[1] << 32 | named[0]))[current->lane % 4];
    }
}
inline void arrive(const Copy& copy) {
    memcpy(copy.to, copy.from, copy.bytes);
    memset((char*)copy.to + copy.bytes, 0, 16 - copy.bytes);
}
inline void copy_later(void* to, const void* from, unsigned bytes) {
    if (draw(2)) arrive({to, from, bytes}); else current->copies.back().push_back({to, from, bytes});
}
inline void wait_copies(size_t but) {
    auto& groups = current->copies;
    while (groups.size() - 1 > but) {
        for (const Copy& copy : groups.front()) arrive(copy);
        groups.erase(groups.begin());
    }
}
} // namespace emulator

#define threadIdx (dim3{emulator::current->thread, 0, 0})
#define blockIdx (emulator::block_index)
#define blockDim (emulator::block_size)
#define gridDim (emulator::grid_size)
#define DYNAMIC_SHARED(type, name) type* name = (type*)emulator::dynamic_shared.data()
#define __syncthreads() emulator::barrier(__LINE__)
#define __syncwarp() ((void)emulator::meet(__LINE__, {}))
#define __shfl_sync(mask, x, from) emulator::shuffle(__LINE__, x, from)
#define __shfl_xor_sync(mask, x, with) emulator::shuffle(__LINE__, x, emulator::current->lane ^ (with))
#define __shfl_up_sync(mask, x, by) emulator::shuffle(__LINE__, x, emulator::current->lane >= (unsigned)(by) ? emulator::current->lane - (by) : emulator::current->lane)
#define __ballot_sync(mask, p) emulator::ballot(__LINE__, p)
#define mma_s8(c, a, b) emulator::mma(__LINE__, c, a, b)
#define mma_bf16(c, a, b) emulator::mma_bf16(__LINE__, c, a, b)
#define load_matrices_x4(to, from) emulator::load_matrices(__LINE__, to, from)
#define copy_async(to, from) emulator::copy_later(to, from, 16)
#define copy_async_some(to, from, bytes) emulator::copy_later(to, from, bytes)
#define commit_copies() emulator::current->copies.emplace_back()
#define wait_copies(but) emulator::wait_copies(but)
namespace emulator {
inline uint32_t word(float x) { return bits(x); }
inline uint32_t word(unsigned x) { return x; }
template <class T> inline T shuffle(int line, T x, unsigned from) {
    uint32_t w = meet(line, {word(x)})[from % 32][0];
    T out; memcpy(&out, &w, 4); return out;
}
inline unsigned ballot(int line, bool p) {
    const auto words = meet(line, {(uint32_t)p});
    unsigned mask = 0;
    for (int i = 0; i < 32; i++) mask |= words[i][0] << i;
    return mask;
}
} // namespace emulator
static inline uint32_t __float_as_uint(float x) { return emulator::bits(x); }
static inline float __uint_as_float(uint32_t x) { return emulator::number(x); }
static inline unsigned __popc(unsigned x) { return (unsigned)__builtin_popcount(x); }
static inline unsigned atomicAdd(unsigned* p, unsigned x) { unsigned old = *p; *p += x; return old; }
static inline unsigned atomicOr(unsigned* p, unsigned x) { unsigned old = *p; *p |= x; return old; }
static inline unsigned atomicMin(unsigned* p, unsigned x) { unsigned old = *p; if (x < old) *p = x; return old; }
