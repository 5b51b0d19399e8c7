// The table: rows whose tokens occur move at every step; the others make up for it when they are next looked at.
//
// At 50,257 rows of 768 the table and its moments are 460 MB, and a step of dense Adam would read and write all of them. A
// batch of 4,096 tokens has some 1,200 different ones: 11 MB. Before they are looked at, the steps that a row owes are
// replayed with the very operations of Adam (`replay`), each thread a column at a time in registers: one read and one write
// for all of them. What is computed meanwhile, a root and a division a step, is bounded as on the CPU: where no step ahead can
// change a bit of w, only m and v are replayed (`deferred.rs` has the proof, which holds for each number by itself).
//
// A table that is subtracted before the encoder as well takes two passes over the rows of the batch more, each of 4 n d bytes
// or a few times as many: what the encoder reads is formed once (`without_table`), and what comes back through the encoder is
// taken from the residuals, by a gather of k rows of W_enc a row as that of `decode` (`less_what_returns`).
#include "device.cuh"

// What the steps from one on can do at most; as the host lays it out.
struct Ahead { float reach, fade, least_w; };

#define LOOK 8 // steps between two looks at whether a number stands still

static __device__ __forceinline__ bool stands_still(const Ahead& ahead, float w, float m, float v) {
    const float quarter = 0.999f / 33554432.f;
    if (m == 0.f) return true;
    w = fabsf(w);
    return ahead.reach * fabsf(m) <= quarter * w * sqrtf(v) && w >= ahead.least_w && v * ahead.fade >= 1e-30f;
}

// Brings rows up to date: those listed in `rows`, or all if that is null. A block of 128 a row.
extern "C" __global__ void __launch_bounds__(128, 8)
replay(const unsigned* __restrict__ rows, const Adam* __restrict__ steps, const Ahead* __restrict__ ahead, unsigned n_steps, unsigned d, float* __restrict__ table,
       float* __restrict__ m_table, float* __restrict__ v_table, unsigned* made) {
    const unsigned row = rows ? rows[blockIdx.x] : blockIdx.x, from = made[row];
    if (from >= n_steps) return; // the whole block
    for (unsigned i = threadIdx.x; i < d; i += 128) {
        const size_t at = (size_t)row * d + i;
        float w = table[at], m = m_table[at], v = v_table[at];
        if (m == 0.f && v == 0.f) continue; // a token that has not occurred yet
        unsigned step = from;
        while (step < n_steps && !stands_still(ahead[step], w, m, v))
#pragma unroll 1
            for (unsigned until = min(step + LOOK, n_steps); step < until; step++) move_one(steps[step], w, m, v, 0.f);
        table[at] = w;
        for (; step < n_steps; step++) {
            m = steps[step].beta1 * m + steps[step].one_minus_beta1 * 0.f;
            v = steps[step].beta2 * v + steps[step].one_minus_beta2 * 0.f;
        }
        m_table[at] = m;
        v_table[at] = v;
    }
    __syncthreads();
    if (threadIdx.x == 0) made[row] = n_steps;
}

// Moves the rows whose tokens occur: row i of them is `rows[i]`, and stands on the rows `entries[starts[i]..starts[i + 1]]`
// of the batch, in ascending order. They have then made `n_steps`. A block of 128 a row.
extern "C" __global__ void __launch_bounds__(128, 8)
move_table(const unsigned* __restrict__ rows, const unsigned* __restrict__ starts, const unsigned* __restrict__ entries, const float* __restrict__ residuals,
           unsigned d, Adam adam, unsigned n_steps, float* __restrict__ table, float* __restrict__ m_table, float* __restrict__ v_table, unsigned* __restrict__ made,
           const Report* __restrict__ report) {
    const unsigned row = rows[blockIdx.x], start = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    if (report->stop) return;
    by_alignment(d, [&](auto vector) {
        for (unsigned i = threadIdx.x * 4; i < d; i += 512) {
            float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 4
            for (unsigned at = start; at < end; at++) add_scaled(sum, 1.f, load4(residuals + (size_t)entries[at] * d + i, d - i, vector));
            const size_t to = (size_t)row * d + i;
            move_four(adam, table + to, m_table + to, v_table + to, sum, d - i, vector);
        }
        if (threadIdx.x == 0) made[row] = n_steps;
    });
}

// x less the rows of the table: four columns a thread, a row of blocks a row.
extern "C" __global__ void __launch_bounds__(128)
without_table(const float* __restrict__ x, const unsigned* __restrict__ tokens, const float* __restrict__ table, unsigned d, float* __restrict__ out) {
    const unsigned row = blockIdx.x;
    by_alignment(d, [&](auto vector) {
        for (unsigned i = threadIdx.x * 4; i < d; i += 512) {
            float4 part = make_float4(0.f, 0.f, 0.f, 0.f), v = load4(x + (size_t)row * d + i, d - i, vector);
            add_scaled(part, 1.f, load4(table + (size_t)tokens[row] * d + i, d - i, vector));
            add_scaled(v, -1.f, part);
            store4(out + (size_t)row * d + i, v, d - i, vector);
        }
    });
}

// What a table receives that is subtracted too: the residuals less sum of gradient . W_enc[latent], latent by latent in
// ascending order. A block of 128 a row; shared: 2 x [k].
extern "C" __global__ void __launch_bounds__(128, 8)
less_what_returns(const float* __restrict__ residuals, const float* __restrict__ w_enc, const unsigned* __restrict__ latents, const float* __restrict__ gradients,
                  unsigned d, unsigned k, float* __restrict__ out, const Report* __restrict__ report) {
    DYNAMIC_SHARED(float, of_codes);
    unsigned* active = (unsigned*)(of_codes + k);
    const unsigned row = blockIdx.x;
    if (report->stop) return;
    for (unsigned j = threadIdx.x; j < k; j += 128) {
        of_codes[j] = gradients[(size_t)row * k + j];
        active[j] = latents[(size_t)row * k + j];
    }
    __syncthreads();
    by_alignment(d, [&](auto vector) {
        for (unsigned i = threadIdx.x * 4; i < d; i += 512) {
            float4 back = make_float4(0.f, 0.f, 0.f, 0.f), r = load4(residuals + (size_t)row * d + i, d - i, vector);
#pragma unroll 4
            for (unsigned j = 0; j < k; j++) add_scaled(back, of_codes[j], load4(w_enc + (size_t)active[j] * d + i, d - i, vector));
            add_scaled(r, -1.f, back);
            store4(out + (size_t)row * d + i, r, d - i, vector);
        }
    });
}
