// From lists to codes: exact scores, and the k best of them.
//
// A block takes a row. It lays the centred row into shared memory and scores the row's candidates, some 1.2 k, four threads
// to each in the order of the CPU's `dot`: 32 candidates at a time, for each of which a piece of 64 bytes of its row of W_enc
// is asked for at once. That is the traffic: 36 rows of 3 kB for each of 4,096 rows of the batch, 450 MB at 768 -> 12,288, k
// 30, from the second-level cache or, where W_enc (38 MB) does not fit it, from memory. Nothing else is large.
//
// The k best are found by rank: every score is compared with every other of its list, which shared memory serves to all
// threads at once. Among equal scores the lower latent is better. Codes are written in ascending order of latent.
//
// What a list cannot decide is left to `select_in_full`: the row's scores of all latents go to memory, the k-th largest is
// found by its digits of 8 bits, from the highest on, and what is larger, or equal and among the first, is gathered in order.
#include "device.cuh"

// A block of 128 a row; shared: [d rounded up to 4] floats, 3 x [keep]. `pending` takes the rows that are left over.
extern "C" __global__ void __launch_bounds__(128, 6)
select_codes(const float* __restrict__ x, const float* __restrict__ w_enc, const float* __restrict__ b_enc, const float* __restrict__ b_dec,
             const float* __restrict__ bars, const unsigned* __restrict__ counts, const unsigned* __restrict__ listed, unsigned d, unsigned k, unsigned room,
             unsigned keep, unsigned relu, unsigned* __restrict__ latents, float* __restrict__ values, unsigned* __restrict__ pending, Report* __restrict__ report) {
    DYNAMIC_SHARED(float, shared);
    float* centred = shared;
    float* scores = centred + (d + 3) / 4 * 4;
    unsigned* candidates = (unsigned*)(scores + keep);
    unsigned* chosen = candidates + keep;
    const unsigned row = blockIdx.x, t = threadIdx.x, count = counts[row];
    if (bars[row] == INFINITE || count < k || count > keep) { // the whole block
        if (t == 0) pending[atomicAdd(&report->in_full, 1u)] = row;
        return;
    }
    by_alignment(d, [&](auto vector) {
        for (unsigned i = t * 4; i < d; i += 512) {
            const float4 v = load4(x + (size_t)row * d + i, d - i, vector), b = load4(b_dec + i, d - i, vector);
            *(float4*)(centred + i) = make_float4(v.x - b.x, v.y - b.y, v.z - b.z, v.w - b.w);
        }
        for (unsigned i = t; i < count; i += 128) candidates[i] = listed[(size_t)row * room + i];
        __syncthreads();
        for (unsigned from = 0; from < count; from += 32) {
            const unsigned i = from + t / 4, latent = candidates[min(i, count - 1)];
            const float score = dot(centred, w_enc + (size_t)latent * d, d, vector) + b_enc[latent];
            if (i < count && t % 4 == 0) scores[i] = score;
        }
        __syncthreads();
        for (unsigned i = t; i < count; i += 128) {
            const float score = scores[i];
            const unsigned latent = candidates[i];
            unsigned better = 0;
            for (unsigned j = 0; j < count; j++) better += scores[j] > score || (scores[j] == score && candidates[j] < latent);
            chosen[i] = better < k;
        }
        __syncthreads();
        for (unsigned i = t; i < count; i += 128) {
            if (!chosen[i]) continue;
            const unsigned latent = candidates[i];
            unsigned place = 0;
            for (unsigned j = 0; j < count; j++) place += chosen[j] && candidates[j] < latent;
            latents[(size_t)row * k + place] = latent;
            values[(size_t)row * k + place] = relu && !(scores[i] > 0.f) ? 0.f : scores[i];
        }
    });
}

// A number as one whose order is that of unsigned numbers; 0 for what is never chosen, NaN and -infinity.
static __device__ __forceinline__ unsigned ordered(float score) {
    const unsigned bits = __float_as_uint(score);
    return !(score >= LEAST) ? 0u : bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

// The rows that are pending, block by block in turn, each with a row of `all` [blocks, d_sae]. Blocks of 256; shared: [d
// rounded up to 4] floats.
extern "C" __global__ void __launch_bounds__(256, 4)
select_in_full(const float* __restrict__ x, const float* __restrict__ w_enc, const float* __restrict__ b_enc, const float* __restrict__ b_dec, unsigned d,
               unsigned d_sae, unsigned k, unsigned relu, const unsigned* __restrict__ pending, float* all, unsigned* __restrict__ latents,
               float* __restrict__ values, Report* report) {
    DYNAMIC_SHARED(float, centred);
    __shared__ unsigned digits[256], of_warps[8], found, left;
    const unsigned t = threadIdx.x, warp = t / 32, rows = report->in_full;
    float* scores = all + (size_t)blockIdx.x * d_sae;
    for (unsigned at = blockIdx.x; at < rows; at += gridDim.x) {
        const unsigned row = pending[at];
        for (unsigned i = t; i < d; i += 256) centred[i] = x[(size_t)row * d + i] - b_dec[i];
        __syncthreads();
        by_alignment(d, [&](auto vector) {
            for (unsigned from = 0; from < d_sae; from += 64) {
                const unsigned latent = min(from + t / 4, d_sae - 1);
                const float score = dot(centred, w_enc + (size_t)latent * d, d, vector) + b_enc[latent];
                if (from + t / 4 < d_sae && t % 4 == 0) scores[latent] = score;
            }
        });
        // The k-th largest, from its highest digit on: `found` are the digits so far, `left` how many of those that begin so.
        unsigned prefix = 0, wanted = k;
        bool is_bad = false;
        for (int shift = 24; shift >= 0; shift -= 8) {
            digits[t] = 0;
            __syncthreads();
            for (unsigned i = t; i < d_sae; i += 256) {
                const unsigned key = ordered(scores[i]);
                if (key && (shift == 24 || key >> (shift + 8) == prefix)) atomicAdd(&digits[key >> shift & 255u], 1u);
            }
            __syncthreads();
            if (t == 0) {
                int digit = 255;
                unsigned more = wanted;
                while (digit >= 0 && digits[digit] < more) more -= digits[digit--];
                found = digit < 0 ? 0u : prefix << 8 | (unsigned)digit;
                left = digit < 0 ? 0u : more;
            }
            __syncthreads();
            prefix = found;
            wanted = left;
            if (wanted == 0) { // fewer than k numbers: the whole block sees it
                is_bad = true;
                break;
            }
        }
        if (is_bad) {
            if (t == 0) atomicMin(&report->bad_row, row);
            continue;
        }
        unsigned written = 0, equals = 0;
        for (unsigned from = 0; from < d_sae; from += 256) {
            const unsigned i = from + t, key = i < d_sae ? ordered(scores[i]) : 0u;
            const unsigned same = __ballot_sync(FULL, key == prefix);
            if (t % 32 == 0) of_warps[warp] = __popc(same);
            __syncthreads();
            unsigned earlier = equals + before(same);
            for (unsigned w = 0; w < 8; w++) {
                earlier += w < warp ? of_warps[w] : 0u;
                equals += of_warps[w];
            }
            __syncthreads();
            const bool is_taken = key > prefix || (key == prefix && earlier < wanted);
            const unsigned taken = __ballot_sync(FULL, is_taken);
            if (t % 32 == 0) of_warps[warp] = __popc(taken);
            __syncthreads();
            unsigned place = written + before(taken);
            for (unsigned w = 0; w < 8; w++) {
                place += w < warp ? of_warps[w] : 0u;
                written += of_warps[w];
            }
            if (is_taken) {
                latents[(size_t)row * k + place] = i;
                values[(size_t)row * k + place] = relu && !(scores[i] > 0.f) ? 0.f : scores[i];
            }
            __syncthreads();
        }
    }
}
