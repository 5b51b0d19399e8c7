// By row: reconstructions, residuals and the gradients of the codes.
//
// A block takes a row. Each thread forms four columns of x_hat = b_dec + table[token] + sum of code . W_dec[latent], latent
// by latent in ascending order, as the CPU does; k rows of W_dec are read from wherever they lie, each in whole lines by
// neighbouring threads, and several at a time are on their way. The residual stays in shared memory, and the gradient of
// each code is its product with the same row of W_dec again, by four threads. So W_dec is gathered twice: 2 x 377 MB at 768,
// k 30 and 4,096 rows, the first time from the second-level cache, the second time mostly from the first, which keeps the
// 90 kB of a row's latents if few blocks share it. Residuals [n, d] are written once, 13 MB.
//
// Errors and norms of rows are summed as the CPU sums them, and over rows in its blocks of 112 and then in order, in f64
// (`sum_rows`): what the history records has the CPU's bits too.
#include "device.cuh"

// A block of 128 a row; shared: [d rounded up to 4] floats, 2 x [k rounded up to 4]. `table` may be null.
extern "C" __global__ void __launch_bounds__(128, 5)
decode(const float* __restrict__ x, const unsigned* __restrict__ tokens, const float* __restrict__ w_dec, const float* __restrict__ b_dec,
       const float* __restrict__ table, const unsigned* __restrict__ latents, const float* __restrict__ values, unsigned d, unsigned k, unsigned relu, float scale,
       float* __restrict__ residuals, float* __restrict__ gradients, float* __restrict__ errors, float* __restrict__ norms,
       const Report* __restrict__ report) {
    DYNAMIC_SHARED(float, residual);
    float* codes = residual + (d + 3) / 4 * 4;
    unsigned* active = (unsigned*)(codes + (k + 3) / 4 * 4);
    const unsigned row = blockIdx.x, t = threadIdx.x;
    if (report->bad_row != 0xffffffffu) return; // that row has no codes; nothing of the step will be used
    for (unsigned j = t; j < k; j += 128) {
        codes[j] = values[(size_t)row * k + j];
        active[j] = latents[(size_t)row * k + j];
    }
    __syncthreads();
    by_alignment(d, [&](auto vector) {
        for (unsigned i = t * 4; i < d; i += 512) {
            float4 sum = load4(b_dec + i, d - i, vector);
            if (table) add_scaled(sum, 1.f, load4(table + (size_t)tokens[row] * d + i, d - i, vector));
#pragma unroll 4
            for (unsigned j = 0; j < k; j++) add_scaled(sum, codes[j], load4(w_dec + (size_t)active[j] * d + i, d - i, vector));
            const float4 v = load4(x + (size_t)row * d + i, d - i, vector);
            *(float4*)(residual + i) = make_float4(sum.x - v.x, sum.y - v.y, sum.z - v.z, sum.w - v.w);
        }
        __syncthreads();
        if (t < 32) { // four threads for the error, four for the norm; the others go along
            const bool is_norm = t / 4 == 1;
            const float* of = is_norm ? x + (size_t)row * d : residual;
            const float sum = dot(of, of, d, vector);
            if (t == 0) errors[row] = sum;
            if (t == 4) norms[row] = sum;
        }
        __syncthreads();
        for (unsigned i = t * 4; i < d; i += 512) {
            float4 r = *(float4*)(residual + i);
            r = make_float4(r.x * scale, r.y * scale, r.z * scale, r.w * scale);
            *(float4*)(residual + i) = r;
            store4(residuals + (size_t)row * d + i, r, d - i, vector);
        }
        __syncthreads();
        for (unsigned from = 0; from < k; from += 32) {
            const unsigned j = min(from + t / 4, k - 1);
            const float product = dot(residual, w_dec + (size_t)active[j] * d, d, vector);
            if (from + t / 4 < k && t % 4 == 0) gradients[(size_t)row * k + j] = relu && codes[j] == 0.f ? 0.f : product;
        }
    });
}

// The sums over rows, and whether anything may move: one block of 256; `parts` [2, blocks].
extern "C" __global__ void __launch_bounds__(256)
sum_rows(const float* __restrict__ errors, const float* __restrict__ norms, unsigned n, double* parts, Report* report) {
    const unsigned blocks = (n + BLOCK - 1) / BLOCK;
    for (unsigned block = threadIdx.x; block < blocks; block += 256) {
        double error = 0., nmse = 0.;
        for (unsigned row = block * BLOCK; row < n && row < (block + 1) * BLOCK; row++) {
            const double of_row = errors[row];
            error = error + of_row;
            nmse = nmse + of_row / ((double)norms[row] + 1e-4);
        }
        parts[block] = error;
        parts[blocks + block] = nmse;
    }
    __syncthreads();
    if (threadIdx.x > 0) return;
    double error = 0., nmse = 0.;
    for (unsigned block = 0; block < blocks; block++) {
        error = error + parts[block];
        nmse = nmse + parts[blocks + block];
    }
    report->squared_error = error;
    report->nmse = nmse;
    report->stop = report->bad_row != 0xffffffffu || !(error - error == 0.); // an infinity or NaN
}

// Sums of residuals over blocks of rows [blocks, d]: grid (columns / 128, blocks), block 128.
extern "C" __global__ void __launch_bounds__(128)
residual_sums(const float* __restrict__ residuals, unsigned n, unsigned d, float* __restrict__ parts) {
    const unsigned column = blockIdx.x * 128 + threadIdx.x, from = blockIdx.y * BLOCK, to = min(from + BLOCK, n);
    if (column >= d) return;
    float sum = 0.f;
#pragma unroll 8
    for (unsigned row = from; row < to; row++) sum = sum + residuals[(size_t)row * d + column];
    parts[(size_t)blockIdx.y * d + column] = sum;
}
