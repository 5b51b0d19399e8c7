// By latent: the gradients of a latent's two rows, formed in registers by one block, and Adam on them at once.
//
// No gradient matrix exists, and no two blocks write the same row: nothing is locked, and nothing varies in order. A block
// takes a latent, a thread four columns of both its rows. It runs through the latent's codes in order of their rows and
// gathers x and the residuals, k rows of each for every row of the batch, 2 x 377 MB at 768, k 30 and 4,096 rows, in whole
// lines, from the second-level cache, where both (2 x 13 MB) lie; four codes are asked for before the first is added. A
// latent that is active on every row is a chain of as many additions, which no order but the CPU's own would shorten.
// Then come weights and moments, six rows read and written: 450 MB at 12,288 latents, from memory, which is what bounds the
// kernel. Latents without codes move as well: momentum moves them.
//
// What b_dec receives through the encoder needs W_enc before it moves, and is summed over latents in the CPU's chunks of 32:
// a pass of its own over W_enc (`through_encoder`), 38 MB more.
#include "device.cuh"

// For every chunk of latents, sum of bias gradient . W_enc [chunks, d]: grid (columns / 128, chunks), block 128.
extern "C" __global__ void __launch_bounds__(128)
through_encoder(const float* __restrict__ w_enc, const float* __restrict__ bias_gradients, unsigned d_sae, unsigned d, float* __restrict__ parts, const Report* __restrict__ report) {
    const unsigned column = blockIdx.x * 128 + threadIdx.x, from = blockIdx.y * CHUNK, to = min(from + CHUNK, d_sae);
    if (column >= d || report->stop) return;
    float sum = 0.f;
#pragma unroll 8
    for (unsigned latent = from; latent < to; latent++) {
        const float bias = bias_gradients[latent], w = w_enc[(size_t)latent * d + column];
        if (bias != 0.f) sum = sum + bias * w;
    }
    parts[(size_t)blockIdx.y * d + column] = sum;
}

// A block a latent, a thread four columns and, where d is large, every 4 x blockDim-th four after them.
extern "C" __global__ void __launch_bounds__(256)
move_latents(const unsigned* __restrict__ starts, const Code* __restrict__ codes, const float* __restrict__ x, const float* __restrict__ b_dec,
             const float* __restrict__ residuals, unsigned d, Adam adam, float* __restrict__ w_enc, float* __restrict__ m_enc, float* __restrict__ v_enc,
             float* __restrict__ w_dec, float* __restrict__ m_dec, float* __restrict__ v_dec, const Report* __restrict__ report) {
    const unsigned latent = blockIdx.x, start = starts[latent], end = starts[latent + 1];
    if (report->stop) return;
    by_alignment(d, [&](auto vector) {
        for (unsigned i = threadIdx.x * 4; i < d; i += blockDim.x * 4) {
            const unsigned left = d - i;
            const float4 b = load4(b_dec + i, left, vector);
            float4 of_enc = make_float4(0.f, 0.f, 0.f, 0.f), of_dec = of_enc;
#pragma unroll 4
            for (unsigned at = start; at < end; at++) {
                const Code code = codes[at];
                const float4 v = load4(x + (size_t)code.row * d + i, left, vector), r = load4(residuals + (size_t)code.row * d + i, left, vector);
                add_scaled(of_enc, code.gradient, make_float4(v.x - b.x, v.y - b.y, v.z - b.z, v.w - b.w));
                add_scaled(of_dec, code.value, r);
            }
            const size_t to = (size_t)latent * d + i;
            move_four(adam, w_enc + to, m_enc + to, v_enc + to, of_enc, left, vector);
            move_four(adam, w_dec + to, m_dec + to, v_dec + to, of_dec, left, vector);
        }
    });
}

extern "C" __global__ void __launch_bounds__(256)
move_b_enc(const float* __restrict__ bias_gradients, unsigned d_sae, Adam adam, float* __restrict__ b, float* __restrict__ m, float* __restrict__ v, const Report* __restrict__ report) {
    const unsigned latent = blockIdx.x * 256 + threadIdx.x;
    if (latent < d_sae && !report->stop) move_one(adam, b[latent], m[latent], v[latent], bias_gradients[latent]);
}

// b_dec, from the sums of residuals over `blocks` of rows less what came through the encoder in `chunks`: a warp of columns
// a block.
extern "C" __global__ void __launch_bounds__(32)
move_b_dec(const float* __restrict__ of_blocks, unsigned blocks, const float* __restrict__ of_chunks, unsigned chunks, unsigned d, Adam adam, float* __restrict__ b,
           float* __restrict__ m, float* __restrict__ v, const Report* __restrict__ report) {
    const unsigned column = blockIdx.x * 32 + threadIdx.x;
    if (column >= d || report->stop) return;
    float residual = 0.f, through = 0.f;
#pragma unroll 16
    for (unsigned block = 0; block < blocks; block++) residual = residual + of_blocks[(size_t)block * d + column];
#pragma unroll 16
    for (unsigned chunk = 0; chunk < chunks; chunk++) through = through + of_chunks[(size_t)chunk * d + column];
    move_one(adam, b[column], m[column], v[column], residual - through);
}
