// What all kernels share: sums in the CPU's order, Adam, and the instructions that C++ has no name for.
//
// Compiled with --fmad=false: where the CPU multiplies and adds, so does the GPU, with the same two roundings. Where the CPU
// fuses the two, in the products of a model, `fmaf` says so.
#pragma once
#define FULL 0xffffffffu
#define INFINITE __uint_as_float(0x7f800000u)
#define LEAST __uint_as_float(0xff7fffffu) // the most negative number

// Rows in a block, the unit in which sums over rows are formed; latents in a chunk, likewise. The CPU's.
#define BLOCK 112
#define CHUNK 32

// Coordinates that leave the 8-bit product at most, and how many are reserved for every row and latent.
#define OUTLIERS 32

#ifndef EMULATED
#define DYNAMIC_SHARED(type, name) extern __shared__ float4 dynamic_shared[]; type* name = (type*)dynamic_shared
static __device__ __forceinline__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
// c[16, 8] += a[16, 32] b[8, 32]^T in bytes, by a warp.
static __device__ __forceinline__ void mma_s8(int* c, const unsigned* a, const unsigned* b) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// c[16, 8] += a[16, 16] b[8, 16]^T in bf16, summed in f32, by a warp.
static __device__ __forceinline__ void mma_bf16(float* c, const unsigned* a, const unsigned* b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Four matrices of 8 rows of 16 bytes, each row named by a lane.
static __device__ __forceinline__ void load_matrices_x4(unsigned* to, const void* from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(from)) : "memory");
}
// 16 bytes from global to shared memory, while the thread goes on.
static __device__ __forceinline__ void copy_async(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(shared_address(to)), "l"(from) : "memory");
}
// Likewise, of which the first `bytes` are there, and the others are 0.
static __device__ __forceinline__ void copy_async_some(void* to, const void* from, unsigned bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
static __device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all but the last `but` groups have arrived.
#define wait_copies(but) asm volatile("cp.async.wait_group %0;" :: "n"(but) : "memory")
#endif

// Whether rows begin at multiples of 16 bytes, known when a kernel is compiled: both ways are, and `by_alignment` takes one.
template <bool is_so> struct Vectors {};
template <class F> static __device__ __forceinline__ void by_alignment(unsigned d, F body) {
    if (d % 4 == 0) body(Vectors<true>{}); else body(Vectors<false>{});
}

// Four numbers from p on, of which `left` are there.
static __device__ __forceinline__ float4 load4(const float* p, unsigned, Vectors<true>) { return *(const float4*)p; }
static __device__ __forceinline__ float4 load4(const float* p, unsigned left, Vectors<false>) {
    return make_float4(p[0], left > 1 ? p[1] : 0.f, left > 2 ? p[2] : 0.f, left > 3 ? p[3] : 0.f);
}
static __device__ __forceinline__ void store4(float* p, float4 x, unsigned, Vectors<true>) { *(float4*)p = x; }
static __device__ __forceinline__ void store4(float* p, float4 x, unsigned left, Vectors<false>) {
    p[0] = x.x;
    if (left > 1) p[1] = x.y;
    if (left > 2) p[2] = x.z;
    if (left > 3) p[3] = x.w;
}
static __device__ __forceinline__ void add_scaled(float4& sum, float a, float4 x) {
    sum.x = sum.x + a * x.x;
    sum.y = sum.y + a * x.y;
    sum.z = sum.z + a * x.z;
    sum.w = sum.w + a * x.w;
}

// a . b in the order of the CPU's `dot`: sixteen lanes, of which each of four neighbouring threads keeps four, added in
// halves; then the rest in turn. All 32 threads of a warp call it, with eight pairs of rows; all four get the sum.
template <class V> static __device__ __forceinline__ float dot(const float* a, const float* b, unsigned d, V vector) {
    const unsigned whole = d / 16 * 16;
    float4 s = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 4
    for (unsigned i = threadIdx.x % 4 * 4; i < whole; i += 16) {
        const float4 x = load4(a + i, 4, vector), w = load4(b + i, 4, vector);
        s.x = s.x + x.x * w.x;
        s.y = s.y + x.y * w.y;
        s.z = s.z + x.z * w.z;
        s.w = s.w + x.w * w.w;
    }
    for (unsigned half = 2; half > 0; half /= 2) { // lanes 8 apart, then 4
        s.x = s.x + __shfl_xor_sync(FULL, s.x, half);
        s.y = s.y + __shfl_xor_sync(FULL, s.y, half);
        s.z = s.z + __shfl_xor_sync(FULL, s.z, half);
        s.w = s.w + __shfl_xor_sync(FULL, s.w, half);
    }
    float sum = (s.x + s.z) + (s.y + s.w);
    for (unsigned i = whole; i < d; i++) sum = sum + a[i] * b[i];
    return sum;
}

// The CPU's `exp`.
static __device__ __forceinline__ float exponential(float x) {
    x = x < -87.f ? -87.f : x > 87.f ? 87.f : x;
    const float shifted = x * 1.4426950408889634f + 12582912.f, n = shifted - 12582912.f;
    const float r = x - n * 0.6933594f - n * -2.1219444e-4f;
    float p = 1.9875691e-4f * r + 1.3982e-3f;
    p = p * r + 8.333452e-3f;
    p = p * r + 4.1665796e-2f;
    p = p * r + 1.6666665e-1f;
    p = p * r + 0.5f;
    return (p * r * r + r + 1.f) * __uint_as_float((__float_as_uint(shifted) << 23) + 0x3f800000u);
}

// The nearest bf16, ties to even; as the CPU's `round`.
static __device__ __forceinline__ unsigned short bf16_of(float x) {
    const unsigned bits = __float_as_uint(x);
    return (bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
// Numbers from a row of bf16 to the next: rows begin at multiples of 16 bytes.
static __device__ __forceinline__ unsigned row_of_bf16(unsigned width) { return (width + 7) / 8 * 8; }
// A number of what a product reads: of rows in f32, or `rounded` to bf16.
static __device__ __forceinline__ void put_for_product(void* rows, unsigned rounded, size_t row, unsigned width, unsigned column, float x) {
    if (rounded) ((unsigned short*)rows)[row * row_of_bf16(width) + column] = bf16_of(x);
    else ((float*)rows)[row * width + column] = x;
}

// The sum over a warp, in no order that anybody relies on.
static __device__ __forceinline__ float warp_sum(float x) {
    for (unsigned half = 16; half > 0; half /= 2) x += __shfl_xor_sync(FULL, x, half);
    return x;
}
static __device__ __forceinline__ float warp_most(float x) {
    for (unsigned half = 16; half > 0; half /= 2) {
        const float other = __shfl_xor_sync(FULL, x, half);
        x = other > x ? other : x;
    }
    return x;
}
// How many of the threads before this one in its warp said yes.
static __device__ __forceinline__ unsigned before(unsigned ballot) {
    return __popc(ballot & ((1u << threadIdx.x % 32) - 1u));
}

// The numbers that every row of one step of Adam shares; as the host lays them out.
struct Adam { float beta1, beta2, one_minus_beta1, one_minus_beta2, rate, scale, epsilon; };

// One number's step.
static __device__ __forceinline__ void move_one(const Adam& adam, float& w, float& m, float& v, float g) {
    m = adam.beta1 * m + adam.one_minus_beta1 * g;
    v = adam.beta2 * v + adam.one_minus_beta2 * (g * g);
    w = w - adam.rate * m / (sqrtf(v) * adam.scale + adam.epsilon);
}
template <class V> static __device__ __forceinline__ void move_four(const Adam& adam, float* w, float* m, float* v, float4 g, unsigned left, V vector) {
    float4 ws = load4(w, left, vector), ms = load4(m, left, vector), vs = load4(v, left, vector);
    move_one(adam, ws.x, ms.x, vs.x, g.x);
    move_one(adam, ws.y, ms.y, vs.y, g.y);
    move_one(adam, ws.z, ms.z, vs.z, g.z);
    move_one(adam, ws.w, ms.w, vs.w, g.w);
    store4(w, ws, left, vector);
    store4(m, ms, left, vector);
    store4(v, vs, left, vector);
}

// What a step reports; as the host reads it.
struct Report {
    double squared_error, nmse;
    unsigned in_full;       // rows that were scored in full
    unsigned bad_row;       // the first row without k numbers among its scores
    unsigned stop;          // whether nothing may move
    unsigned unscreenable;  // whether some latent's weights are too large or no numbers
};

// A code as a latent sees it: its row of the batch, and what it gives to the gradient of the latent's weights.
struct __align__(16) Code { unsigned row; float value, gradient; unsigned unused; };
