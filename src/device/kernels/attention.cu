// Causal attention of a model: each position to itself and all before, in every head of every sequence.
//
// A block of 256 threads takes 64 queries of a head, and up to 64 dimensions of its values. 64 keys at a time, scores are
// formed 4 by 4 a thread, from pieces of 32 dimensions in shared memory, become shares there, and are multiplied with the
// values, 4 by 4 again: no scores are written, and of each number fetched 64 products are made. The CPU's bits need a
// row's greatest score before its first share, so the keys pass by twice, the first time for that alone: 1.5 times the products
// of one pass, and 2.5 times where a head has more than 64 dimensions. Queries, keys and values of a head, 196 kB at 256
// positions of 64 dimensions, come from the second-level cache after the first block.
//
// Each score runs over the dimensions from 0 on, each sum of values over the keys, every product fused with its addition;
// shares are added up in the CPU's sixteen lanes. Keys behind a query count as shares of 0, of which the CPU skips others: that
// could show in the sign of a zero alone, which no bias added later keeps.
#include "device.cuh"

#define KEYS 64      // at a time; as many queries, and dimensions of values
#define DIMENSIONS 32 // of a piece of queries and keys
#define PADDED (KEYS + 4)

// qkv [n_seq * n_ctx, queries of all heads, keys, values], `group` heads of queries to one of keys; out [n_seq * n_ctx, n_heads *
// d_head], `rounded` to bf16 or not: grid (n_seq * n_heads, n_ctx / 64 * ceil(d_head / 64)), block 256.
extern "C" __global__ void __launch_bounds__(256)
attend(const float* __restrict__ qkv, unsigned n_ctx, unsigned n_heads, unsigned group, unsigned d_head, float scale, unsigned rounded,
       void* __restrict__ out) {
    __shared__ float4 pieces[2 * DIMENSIONS * PADDED / 4]; // of queries and of keys, each turned; or of values, [keys, dimensions]
    __shared__ float4 of_shares[KEYS * PADDED / 4];        // [keys, queries]
    float* queries = (float*)pieces;
    float* keys = queries + DIMENSIONS * PADDED;
    float* values = (float*)pieces;
    float* shares = (float*)of_shares;
    const unsigned t = threadIdx.x, x = t % 16, y = t / 16 * 4; // keys x, x + 16, …, or dimensions 4 x on; queries y on
    const unsigned head = blockIdx.x % n_heads, parts = (d_head + KEYS - 1) / KEYS;
    const unsigned query0 = blockIdx.y / parts * KEYS, d0 = blockIdx.y % parts * KEYS, last = min(query0 + KEYS, n_ctx) - 1;
    const unsigned d_attn = n_heads * d_head, d_kv = n_heads / group * d_head, d_qkv = d_attn + 2 * d_kv;
    const size_t first_row = (size_t)(blockIdx.x / n_heads) * n_ctx;
    const float* q = qkv + first_row * d_qkv + head * d_head;
    const float* k = qkv + first_row * d_qkv + d_attn + head / group * d_head;
    const float* v = k + d_kv;

    float scores[4][4]; // [queries, keys]
    const auto score = [&](unsigned key0) {
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) scores[i][j] = 0.f;
        for (unsigned from = 0; from < d_head; from += DIMENSIONS) {
            __syncthreads(); // all are done with what lies there
            const unsigned dimension = t % DIMENSIONS;
            if (from + dimension < d_head)
                for (unsigned row = t / DIMENSIONS; row < KEYS; row += 256 / DIMENSIONS) { // beyond the last the last is read again
                    queries[dimension * PADDED + row] = q[(size_t)min(query0 + row, n_ctx - 1) * d_qkv + from + dimension];
                    keys[dimension * PADDED + row] = k[(size_t)min(key0 + row, n_ctx - 1) * d_qkv + from + dimension];
                }
            __syncthreads();
            const unsigned to = min(DIMENSIONS, d_head - from);
#pragma unroll 4
            for (unsigned i = 0; i < to; i++) {
                const float4 a = *(const float4*)&queries[i * PADDED + y];
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float b = keys[i * PADDED + x + 16 * j];
                    scores[0][j] = fmaf(a.x, b, scores[0][j]);
                    scores[1][j] = fmaf(a.y, b, scores[1][j]);
                    scores[2][j] = fmaf(a.z, b, scores[2][j]);
                    scores[3][j] = fmaf(a.w, b, scores[3][j]);
                }
            }
        }
    };

    float most[4] = {-INFINITE, -INFINITE, -INFINITE, -INFINITE};
    for (unsigned key0 = 0; key0 <= last; key0 += KEYS) {
        score(key0);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (key0 + x + 16 * j <= query0 + y + i && scores[i][j] > most[i]) most[i] = scores[i][j];
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        for (unsigned half = 8; half > 0; half /= 2) {
            const float other = __shfl_xor_sync(FULL, most[i], half);
            most[i] = other > most[i] ? other : most[i];
        }

    float totals[4] = {0.f, 0.f, 0.f, 0.f}, sums[4][4]; // of this thread's lane; [queries, dimensions]
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] = 0.f;
    for (unsigned key0 = 0; key0 <= last; key0 += KEYS) {
        score(key0);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float share[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const bool seen = key0 + x + 16 * j <= query0 + y + i;
                share[i] = seen ? exponential((scores[i][j] - most[i]) * scale) : 0.f;
                totals[i] = totals[i] + share[i];
            }
            *(float4*)&shares[(x + 16 * j) * PADDED + y] = make_float4(share[0], share[1], share[2], share[3]);
        }
        __syncthreads(); // the shares are there, and all are done with the keys
        const unsigned dimension = t % KEYS, n = min(KEYS, last + 1 - key0);
        for (unsigned row = t / KEYS; row < n; row += 256 / KEYS)
            values[row * PADDED + dimension] = d0 + dimension < d_head ? v[(size_t)(key0 + row) * d_qkv + d0 + dimension] : 0.f;
        __syncthreads();
#pragma unroll 4
        for (unsigned key = 0; key < n; key++) {
            const float4 a = *(const float4*)&shares[key * PADDED + y], b = *(const float4*)&values[key * PADDED + 4 * x];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float share = i == 0 ? a.x : i == 1 ? a.y : i == 2 ? a.z : a.w;
                sums[i][0] = fmaf(share, b.x, sums[i][0]);
                sums[i][1] = fmaf(share, b.y, sums[i][1]);
                sums[i][2] = fmaf(share, b.z, sums[i][2]);
                sums[i][3] = fmaf(share, b.w, sums[i][3]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        for (unsigned half = 8; half > 0; half /= 2) totals[i] = totals[i] + __shfl_xor_sync(FULL, totals[i], half);
        const float weight = 1.f / totals[i];
        if (query0 + y + i > last) continue;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const unsigned dimension = d0 + 4 * x + j;
            if (dimension < d_head) put_for_product(out, rounded, first_row + query0 + y + i, d_attn, head * d_head + dimension, sums[i][j] * weight);
        }
    }
}

// The same for one more position of every sequence, as in sampling, to the keys and values of those before.
//
// A block of 128 threads takes a head of a sequence. Nothing is used twice but by heads that share keys, so it waits for memory:
// for GPT-2 at position 255 each block reads 128 kB of keys and values once, in pieces of 32 bytes or more, and 1,536 blocks of 128
// sequences keep a card's memory busy. Scores, and shares in their place, 1 kB a head, stay in the cache. The first of the heads
// that share keys puts this position's keys and values where the next step finds them; all read them in `qkv`, where they are.
//
// The CPU forms these sums in another order than those above, and fuses nothing: a score in eight parts, a thread a part, which
// are added in turn; shares in sixteen lanes, and then over what is left; values four positions at a time.
//
// qkv [n_seq, queries of all heads, keys, values] of position `at`; cache [n_seq, n_ctx, keys, values] of those before; scores
// [n_seq * n_heads, n_ctx] is room; out [n_seq, n_heads * d_head]: grid n_seq * n_heads, block 128.
extern "C" __global__ void __launch_bounds__(128)
attend_next(const float* __restrict__ qkv, float* cache, float* scores, unsigned at, unsigned n_ctx, unsigned n_heads, unsigned group, unsigned d_head, float scale,
            float* __restrict__ out) {
    const unsigned t = threadIdx.x, head = blockIdx.x % n_heads, n = at + 1;
    const unsigned d_attn = n_heads * d_head, d_kv = n_heads / group * d_head;
    const size_t seq = blockIdx.x / n_heads;
    const float* q = qkv + seq * (d_attn + 2 * d_kv) + head * d_head;
    const float* own = qkv + seq * (d_attn + 2 * d_kv) + d_attn + head / group * d_head;
    float* before = cache + seq * n_ctx * 2 * d_kv + head / group * d_head;
    float* shares = scores + (size_t)blockIdx.x * n_ctx;
    const auto keys = [&](unsigned i) { return i < at ? before + (size_t)i * 2 * d_kv : own; }; // the values lie d_kv behind
    if (head % group == 0)
        for (unsigned i = t; i < d_head; i += 128) {
            before[(size_t)at * 2 * d_kv + i] = own[i];
            before[(size_t)at * 2 * d_kv + d_kv + i] = own[d_kv + i];
        }

    const unsigned part = t % 8, whole = d_head / 8 * 8;
    for (unsigned key0 = 0; key0 < n; key0 += 16) {
        const unsigned key = key0 + t / 8;
        const float* k = keys(min(key, at));
        float sum = 0.f;
        for (unsigned i = part; i < whole; i += 8) sum = sum + q[i] * k[i];
        if (part == 0)
            for (unsigned i = whole; i < d_head; i++) sum = sum + q[i] * k[i];
        float score = __shfl_sync(FULL, sum, t % 32 - part);
        for (unsigned i = 1; i < 8; i++) score = score + __shfl_sync(FULL, sum, t % 32 - part + i);
        if (part == 0 && key < n) shares[key] = scale * score;
    }
    __syncthreads(); // the scores are there
    float most = -INFINITE;
    for (unsigned i = t % 32; i < n; i += 32) most = shares[i] > most ? shares[i] : most;
    most = warp_most(most);
    __syncthreads(); // all warps have seen them
    for (unsigned i = t; i < n; i += 128) shares[i] = exponential(shares[i] - most);
    __syncthreads(); // the shares are there, but for their sum
    float total = 0.f;
    for (unsigned i = t % 16; i < n / 16 * 16; i += 16) total = total + shares[i];
    for (unsigned half = 8; half > 0; half /= 2) total = total + __shfl_xor_sync(FULL, total, half);
    for (unsigned i = n / 16 * 16; i < n; i++) total = total + shares[i];
    const float weight = 1.f / total;
    for (unsigned i = t; i < d_head; i += 128) {
        const auto one = [&](unsigned key) { return shares[key] * weight * keys(key)[d_kv + i]; };
        float sum = 0.f;
        unsigned key = 0;
        for (; key + 4 <= n; key += 4) sum = sum + ((one(key) + one(key + 1)) + (one(key + 2) + one(key + 3)));
        for (; key < n; key++) sum = sum + one(key);
        out[seq * d_attn + head * d_head + i] = sum;
    }
}
