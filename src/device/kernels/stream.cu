// What a model does to rows one by one: embeddings, norms, turns by position, additions to the residual stream.
//
// All of it waits for memory. Embedding and addition read and write each number once. A norm reads a row three times, of which
// the last two come from the cache, and writes it once: at 768 and 2,048 rows 13 MB, a hundredth of the time of the products
// behind it. A turn reads and writes queries and keys in place, cosines and sines [n_ctx, rotary_dim / 2] stay in the cache.
//
// Sums run in the CPU's sixteen lanes, a lane a thread, added in halves, and then over what is left of the row in turn.
#include "device.cuh"

// [n, d] from the embedding [d_vocab, d] and, unless null, those of positions, of which `n_new` of each sequence are here, `first` on: a
// block of 128 a row.
extern "C" __global__ void __launch_bounds__(128)
embed(const unsigned* __restrict__ ids, const float* __restrict__ embedding, const float* __restrict__ positions, unsigned first, unsigned n_new, unsigned d,
      float* __restrict__ out) {
    const unsigned row = blockIdx.x;
    for (unsigned i = threadIdx.x; i < d; i += 128) {
        const float token = embedding[(size_t)ids[row] * d + i];
        out[(size_t)row * d + i] = positions ? token + positions[(size_t)(first + row % n_new) * d + i] : token;
    }
}

// (x - mean) / sqrt(variance + eps) * gain + bias; with 0 for the mean unless `centred`. [n, d], `rounded` to bf16 or not: sixteen threads
// a row, block 256.
extern "C" __global__ void __launch_bounds__(256)
normalise(const float* __restrict__ x, const float* __restrict__ gain, const float* __restrict__ bias, unsigned n, unsigned d, unsigned centred, float eps,
          unsigned rounded, void* __restrict__ out) {
    const unsigned row = blockIdx.x * 16 + threadIdx.x / 16, lane = threadIdx.x % 16, whole = d / 16 * 16;
    const float* of = x + (size_t)min(row, n - 1) * d; // beyond the last row the last goes along
    float mean = 0.f;
    if (centred) {
        for (unsigned i = lane; i < whole; i += 16) mean = mean + of[i];
        for (unsigned half = 8; half > 0; half /= 2) mean = mean + __shfl_xor_sync(FULL, mean, half);
        for (unsigned i = whole; i < d; i++) mean = mean + of[i];
        mean = mean / (float)d;
    }
    float square = 0.f;
    for (unsigned i = lane; i < whole; i += 16) square = square + (of[i] - mean) * (of[i] - mean);
    for (unsigned half = 8; half > 0; half /= 2) square = square + __shfl_xor_sync(FULL, square, half);
    for (unsigned i = whole; i < d; i++) square = square + (of[i] - mean) * (of[i] - mean);
    const float scale = 1.f / sqrtf(square / (float)d + eps);
    if (row >= n) return;
    for (unsigned i = lane; i < d; i += 16) put_for_product(out, rounded, row, d, i, (of[i] - mean) * scale * gain[i] + bias[i]);
}

// The first 2 * half dimensions of each head of the rows [n, width], of which the first `heads` heads of d_head are turned; pairs
// are `half` apart. cos and sin [n_ctx, half], positions as above. A block of 128 a row.
extern "C" __global__ void __launch_bounds__(128)
turn(float* __restrict__ rows, const float* __restrict__ cos, const float* __restrict__ sin, unsigned first, unsigned n_new, unsigned width, unsigned heads,
     unsigned d_head, unsigned half) {
    const unsigned row = blockIdx.x, position = first + row % n_new;
    for (unsigned i = threadIdx.x; i < heads * half; i += 128) {
        float* at = rows + (size_t)row * width + i / half * d_head + i % half;
        const float a = at[0], b = at[half], c = cos[(size_t)position * half + i % half], s = sin[(size_t)position * half + i % half];
        at[0] = a * c - b * s;
        at[half] = a * s + b * c;
    }
}

// to += x, of n numbers: block 256.
extern "C" __global__ void __launch_bounds__(256)
add_to(float* __restrict__ to, const float* __restrict__ x, unsigned n) {
    const unsigned i = blockIdx.x * 256 + threadIdx.x;
    if (i < n) to[i] = to[i] + x[i];
}
