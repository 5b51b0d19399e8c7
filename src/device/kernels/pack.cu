// The batch and the encoder in bytes, with what bounds the rounding (see `cpu/screen.rs` for the margins).
//
// The batch [n, d] is read twice for its mean and its bytes, the encoder [d_sae, d] once a step; each is a stream, read in
// whole lines of 128 bytes by neighbouring threads, and what is written is a quarter of it. At 768 -> 12,288 that is 38 MB
// read and 9 MB written for the encoder, 13 MB and 3 MB for a batch of 4,096. A warp packs one row: a first pass finds its
// norm and its largest number, a second rounds it, which finds the row, some kilobytes, in the first-level cache. Rows of
// bytes have a width that is a multiple of 64, filled up with zeros, so that the product reads whole pieces.
//
// Nothing here decides a bit of the result: means and outliers decide how fine the bytes are, and margins are formed from
// what rounding did. So sums come in whatever order is fastest.
#include "device.cuh"

#define BYTE 127.f            // half the steps of a signed byte
#define UNIFORM 0.28867513f   // the standard deviation of a number between -1/2 and 1/2
#define TO_INTEGER 12582912.f // leaves the nearest whole number in the lowest bits of a sum
#define TOO_LARGE 1e15f       // from here on nothing is screened: products could overflow
#define OUTLIER 3.f           // times the median deviation

// Sums and sums of squares of every column over blocks of rows: grid (columns / 128, blocks).
extern "C" __global__ void __launch_bounds__(128)
column_sums(const float* __restrict__ x, unsigned n, unsigned d, float* __restrict__ sums, float* __restrict__ squares) {
    const unsigned column = blockIdx.x * 128 + threadIdx.x, from = blockIdx.y * BLOCK;
    if (column >= d) return;
    float sum = 0.f, square = 0.f;
#pragma unroll 8
    for (unsigned row = from; row < from + BLOCK; row++) {
        const float v = row < n ? x[(size_t)row * d + column] : 0.f;
        const bool usable = fabsf(v) < TOO_LARGE; // not NaN either
        sum += usable ? v : 0.f;
        square += usable ? v * v : 0.f;
    }
    sums[(size_t)blockIdx.y * d + column] = sum;
    squares[(size_t)blockIdx.y * d + column] = square;
}

// Mean and standard deviation of every column: grid columns / 128.
extern "C" __global__ void __launch_bounds__(128)
column_moments(const float* __restrict__ sums, const float* __restrict__ squares, unsigned blocks, unsigned n, unsigned d,
               float* __restrict__ mean, float* __restrict__ deviation) {
    const unsigned column = blockIdx.x * 128 + threadIdx.x;
    if (column >= d) return;
    float sum = 0.f, square = 0.f;
#pragma unroll 8
    for (unsigned block = 0; block < blocks; block++) {
        sum += sums[(size_t)block * d + column];
        square += squares[(size_t)block * d + column];
    }
    const float m = sum / n, variance = square / n - m * m;
    mean[column] = m;
    deviation[column] = sqrtf(variance > 0.f ? variance : 0.f);
}

// The coordinates that leave the bytes, ascending: `is_outlier` [d], their number, then they. One block of 1,024: each
// thread ranks its columns among all, which are read from the first-level cache.
extern "C" __global__ void __launch_bounds__(1024)
find_outliers(const float* __restrict__ deviation, unsigned d, unsigned* is_outlier, unsigned* __restrict__ outliers) {
    __shared__ float median;
    __shared__ unsigned found;
    if (threadIdx.x == 0) found = 0;
    for (unsigned i = threadIdx.x; i < d; i += 1024) {
        unsigned below = 0;
        for (unsigned j = 0; j < d; j++) below += deviation[j] < deviation[i] || (deviation[j] == deviation[i] && j < i);
        if (below == d / 2) median = deviation[i];
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < d; i += 1024) {
        const bool is_large = deviation[i] > OUTLIER * median;
        unsigned above = 0;
        if (is_large)
            for (unsigned j = 0; j < d; j++) above += deviation[j] > deviation[i] || (deviation[j] == deviation[i] && j < i);
        const bool leaves = is_large && above < OUTLIERS;
        is_outlier[i] = leaves;
        if (leaves) atomicAdd(&found, 1u);
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < d; i += 1024) {
        if (!is_outlier[i]) continue;
        unsigned place = 0;
        for (unsigned j = 0; j < i; j++) place += is_outlier[j];
        outliers[1 + place] = i;
    }
    if (threadIdx.x == 0) outliers[0] = found;
}

struct Rounded { float norm, error; };

// Writes four neighbouring numbers of a row as bytes, and counts what that did to them.
static __device__ __forceinline__ unsigned round4(const float* v, float inverse, float step, float& square, float& error) {
    unsigned word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float shifted = v[i] * inverse + TO_INTEGER;
        const float rounded = (shifted - TO_INTEGER) * step;
        word |= (__float_as_uint(shifted) & 255u) << (8 * i);
        square += rounded * rounded;
        error += (rounded - v[i]) * (rounded - v[i]);
    }
    return word;
}

// Four numbers of a row less `mean` (if there is one), outliers and what lies beyond the end set to 0.
static __device__ __forceinline__ void inliers(const float* row, const float* mean, const unsigned* is_outlier, unsigned i, unsigned d, float* v) {
#pragma unroll
    for (unsigned j = 0; j < 4; j++) {
        const unsigned c = i + j;
        v[j] = c < d && !is_outlier[c] ? (mean ? row[c] - mean[c] : row[c]) : 0.f;
    }
}

static __device__ __forceinline__ Rounded pack(const float* row, const float* mean, const unsigned* is_outlier, float step, unsigned d, unsigned width, unsigned* words) {
    const float inverse = step > 0.f ? 1.f / step : 0.f;
    float square = 0.f, error = 0.f, v[4];
    for (unsigned i = threadIdx.x % 32 * 4; i < width; i += 128) {
        inliers(row, mean, is_outlier, i, d, v);
        words[i / 4] = round4(v, inverse, step, square, error);
    }
    return Rounded{sqrtf(warp_sum(square)), sqrtf(warp_sum(error))};
}

static __device__ __forceinline__ float largest(const float* row, const float* mean, const unsigned* is_outlier, unsigned d) {
    float most = 0.f, v[4];
    for (unsigned i = threadIdx.x % 32 * 4; i < d; i += 128) {
        inliers(row, mean, is_outlier, i, d, v);
#pragma unroll
        for (int j = 0; j < 4; j++) most = fabsf(v[j]) > most ? fabsf(v[j]) : most;
    }
    return warp_most(most);
}

// Rows to bytes [n, width], with [5, n]: step, a, b, norm, and 1 if the row can be screened. Eight rows a block of 256.
extern "C" __global__ void __launch_bounds__(256)
pack_rows(const float* __restrict__ x, const float* __restrict__ mean, const unsigned* __restrict__ is_outlier, const unsigned* __restrict__ outliers,
          unsigned n, unsigned d, unsigned width, unsigned proven, unsigned* __restrict__ bytes, float* __restrict__ scales, float* __restrict__ outlier_values) {
    const unsigned row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= n) return; // the whole warp
    const float* from = x + (size_t)row * d;
    float square = 0.f;
    for (unsigned i = lane; i < d; i += 32) square += (from[i] - mean[i]) * (from[i] - mean[i]);
    const float norm = sqrtf(warp_sum(square)), step = largest(from, mean, is_outlier, d) / BYTE;
    const Rounded rounded = pack(from, mean, is_outlier, step, d, width, bytes + (size_t)row * (width / 4));
    const float factor = proven ? 1.41421356f : 6.f, noise = proven ? rounded.error : step * UNIFORM;
    const float a = factor * noise, b = factor * rounded.norm;
    if (lane < outliers[0]) outlier_values[(size_t)row * OUTLIERS + lane] = from[outliers[1 + lane]] - mean[outliers[1 + lane]];
    if (lane == 0) {
        scales[row] = step;
        scales[(size_t)n + row] = a;
        scales[2 * (size_t)n + row] = b;
        scales[3 * (size_t)n + row] = norm;
        scales[4 * (size_t)n + row] = norm < TOO_LARGE && a < TOO_LARGE && b < TOO_LARGE ? 1.f : 0.f;
    }
}

// Latents to bytes [d_sae, width], with [6, d_sae]: step, bias (mean - b_dec).w + b, p, q, norm and slack; and the norm of
// mean - b_dec. Eight latents a block of 256.
extern "C" __global__ void __launch_bounds__(256)
pack_latents(const float* __restrict__ w_enc, const float* __restrict__ b_enc, const float* __restrict__ mean, const float* __restrict__ b_dec,
             const unsigned* __restrict__ is_outlier, const unsigned* __restrict__ outliers, unsigned d_sae, unsigned d, unsigned width, unsigned proven,
             float rounding, unsigned* __restrict__ bytes, float* __restrict__ scales, float* __restrict__ outlier_values, float* __restrict__ offset_norm,
             Report* __restrict__ report) {
    const unsigned latent = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (latent >= d_sae) return; // the whole warp
    const float* w = w_enc + (size_t)latent * d;
    float moved = 0.f, square = 0.f, offset = 0.f;
    for (unsigned i = lane; i < d; i += 32) {
        const float o = mean[i] - b_dec[i];
        moved += o * w[i];
        square += w[i] * w[i];
        offset += o * o;
    }
    moved = warp_sum(moved);
    offset = sqrtf(warp_sum(offset));
    const float norm = sqrtf(warp_sum(square)) * rounding, b = b_enc[latent], step = largest(w, nullptr, is_outlier, d) / BYTE;
    const Rounded rounded = pack(w, nullptr, is_outlier, step, d, width, bytes + (size_t)latent * (width / 4));
    float inner = 0.f; // the norm without outliers
    for (unsigned i = lane; i < d; i += 32) inner += is_outlier[i] ? 0.f : w[i] * w[i];
    const float p = sqrtf(warp_sum(inner)), q = proven ? rounded.error : step * UNIFORM;
    if (lane < outliers[0]) outlier_values[(size_t)latent * OUTLIERS + lane] = w[outliers[1 + lane]];
    if (lane == 0) {
        scales[latent] = step;
        scales[(size_t)d_sae + latent] = moved + b;
        scales[2 * (size_t)d_sae + latent] = p;
        scales[3 * (size_t)d_sae + latent] = q;
        scales[4 * (size_t)d_sae + latent] = norm;
        scales[5 * (size_t)d_sae + latent] = 8.f / 16777216.f * (fabsf(moved) + fabsf(b));
        if (!(fabsf(moved + b) < TOO_LARGE && norm < TOO_LARGE && p < TOO_LARGE && q < TOO_LARGE && offset < TOO_LARGE)) atomicOr(&report->unscreenable, 1u);
        if (latent == 0) *offset_norm = offset;
    }
}
