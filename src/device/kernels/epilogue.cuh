// What becomes of a product's sums when a tile leaves the registers: bias, activation, gate, and where they go.
#pragma once
#include "device.cuh"

// The numbers of the host's `Activation`s.
enum { NONE, GELU_TANH, GELU_ERF, RELU, SILU };

// As the CPU's, which never fuses here.
static __device__ __forceinline__ float activate(float x, unsigned activation) {
    if (activation == GELU_TANH) return x / (1.f + exponential(-1.595769f * x * (1.f + 0.044715f * x * x)));
    if (activation == GELU_ERF) {
        float z = x * 0.70710678118654752f;
        z = z < -4.f ? -4.f : z > 4.f ? 4.f : z;
        const float z2 = z * z;
        float over = -2.7261423e-10f * z2 + 2.7706814e-8f;
        over = over * z2 - 2.101024e-6f;
        over = over * z2 - 5.6925064e-5f;
        over = over * z2 - 7.3499063e-4f;
        over = over * z2 - 2.9546e-3f;
        over = over * z2 - 1.6096033e-2f;
        float under = -1.4566072e-5f * z2 - 2.1337405e-4f;
        under = under * z2 - 1.6828277e-3f;
        under = under * z2 - 7.3733292e-3f;
        under = under * z2 - 1.4264739e-2f;
        return 0.5f * x * (1.f + z * over / under);
    }
    if (activation == RELU) return x < 0.f ? 0.f : x;
    if (activation == SILU) return x / (1.f + exponential(-x));
    return x;
}

// Numbers that lie side by side in a row: one vector, where rows of `width` begin at multiples of it.
template <unsigned n> struct __align__(4 * n) Side { float of[n]; };
template <unsigned n> static __device__ __forceinline__ Side<n> load_side(const float* p, unsigned width, unsigned column) {
    if (width % n == 0) return *(const Side<n>*)p;
    Side<n> x;
#pragma unroll
    for (unsigned i = 0; i < n; i++) x.of[i] = column + i < width ? p[i] : 0.f;
    return x;
}

// activation(sums + bias) of columns `column` on, times the gate there unless that is null. The bias goes on to a multiple of 32.
template <unsigned n> static __device__ __forceinline__ Side<n> finished(const float* sums, const float* bias, const float* gate, unsigned width, unsigned column, unsigned activation) {
    const Side<n> b = *(const Side<n>*)(bias + column);
    Side<n> v;
#pragma unroll
    for (unsigned i = 0; i < n; i++) v.of[i] = activate(sums[i] + b.of[i], activation);
    if (gate) {
        const Side<n> by = load_side<n>(gate, width, column);
#pragma unroll
        for (unsigned i = 0; i < n; i++) v.of[i] = v.of[i] * by.of[i];
    }
    return v;
}

// Written to y, or added to what it holds.
template <unsigned n> static __device__ __forceinline__ void store_side(float* y, Side<n> v, unsigned width, unsigned column, bool add) {
    if (add) {
        const Side<n> to = load_side<n>(y, width, column);
#pragma unroll
        for (unsigned i = 0; i < n; i++) v.of[i] = to.of[i] + v.of[i];
    }
    if (width % n == 0) {
        *(Side<n>*)y = v;
        return;
    }
#pragma unroll
    for (unsigned i = 0; i < n; i++)
        if (column + i < width) y[i] = v.of[i];
}
