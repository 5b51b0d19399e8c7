// The codes of the batch by latent instead of by row: a counting sort that keeps the order of rows.
//
// n.k codes, 123,000 at k 30 and 4,096 rows, are half a megabyte of latents. They are counted by atomics, the counts become
// starts (`scan`, one block), and atomics again give every code a place among its latent's, in whatever order they come.
// Then a warp a latent puts them in order of their rows, each of which a latent has at most once: it marks the rows in a
// bitmap in shared memory, and a row's place is the number of marks before it. That is 2 kB of shared memory a warp at 4,096
// rows and some ten instructions a code, whether a latent has ten codes or all rows; a sort by comparisons would be slow for
// the latter. What is written, 16 bytes a code, is all that the update by latent reads: one load, the same for a whole warp.
#include "device.cuh"

extern "C" __global__ void __launch_bounds__(256)
count_codes(const unsigned* __restrict__ latents, unsigned codes, unsigned* __restrict__ counts, const Report* __restrict__ report) {
    const unsigned code = blockIdx.x * 256 + threadIdx.x;
    if (code < codes && !report->stop) atomicAdd(&counts[latents[code]], 1u);
}

// counts [d_sae] to starts [d_sae + 1] and the places where each latent's codes begin to be laid. One block of 1,024.
extern "C" __global__ void __launch_bounds__(1024)
scan(const unsigned* __restrict__ counts, unsigned d_sae, unsigned* __restrict__ starts, unsigned* __restrict__ places) {
    __shared__ unsigned of_warps[32];
    const unsigned t = threadIdx.x, lane = t % 32;
    unsigned sum = 0;
    for (unsigned from = 0; from < d_sae; from += 1024) {
        const unsigned i = from + t, count = i < d_sae ? counts[i] : 0u;
        unsigned through = count; // up to and with this one, in the warp and then in the block
        for (unsigned by = 1; by < 32; by *= 2) {
            const unsigned other = __shfl_up_sync(FULL, through, by);
            through += lane >= by ? other : 0u;
        }
        if (lane == 31) of_warps[t / 32] = through;
        __syncthreads();
        unsigned earlier = 0, all = 0;
        for (unsigned w = 0; w < 32; w++) {
            earlier += w < t / 32 ? of_warps[w] : 0u;
            all += of_warps[w];
        }
        if (i < d_sae) starts[i] = places[i] = sum + earlier + through - count;
        sum += all;
        __syncthreads();
    }
    if (t == 0) starts[d_sae] = sum;
}

extern "C" __global__ void __launch_bounds__(256)
lay_codes(const unsigned* __restrict__ latents, unsigned codes, unsigned* __restrict__ places, unsigned* __restrict__ laid, const Report* __restrict__ report) {
    const unsigned code = blockIdx.x * 256 + threadIdx.x;
    if (code < codes && !report->stop) laid[atomicAdd(&places[latents[code]], 1u)] = code;
}

// Puts each latent's codes in order, and sums the gradients of its pre-activations in that order. Four warps a block, a
// latent each; shared: a bit and half a word, 2 x [words] a warp.
extern "C" __global__ void __launch_bounds__(128)
order_codes(const unsigned* __restrict__ starts, const unsigned* __restrict__ laid, const float* __restrict__ values, const float* __restrict__ gradients,
            unsigned k, unsigned d_sae, unsigned words, Code* ordered, float* __restrict__ bias_gradients, const Report* __restrict__ report) {
    DYNAMIC_SHARED(unsigned, shared);
    const unsigned latent = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (latent >= d_sae || report->stop) return; // the whole warp
    unsigned* marks = shared + threadIdx.x / 32 * 2 * words;
    unsigned* earlier = marks + words;
    const unsigned start = starts[latent], end = starts[latent + 1];
    if (start < end) {
        for (unsigned i = lane; i < words; i += 32) marks[i] = 0;
        __syncwarp();
        for (unsigned i = start + lane; i < end; i += 32) {
            const unsigned row = laid[i] / k;
            atomicOr(&marks[row / 32], 1u << row % 32);
        }
        __syncwarp();
        unsigned sum = 0;
        for (unsigned from = 0; from < words; from += 32) {
            const unsigned i = from + lane, count = i < words ? __popc(marks[i]) : 0u;
            unsigned through = count;
            for (unsigned by = 1; by < 32; by *= 2) {
                const unsigned other = __shfl_up_sync(FULL, through, by);
                through += lane >= by ? other : 0u;
            }
            if (i < words) earlier[i] = sum + through - count;
            sum += __shfl_sync(FULL, through, 31);
        }
        __syncwarp();
        for (unsigned i = start + lane; i < end; i += 32) {
            const unsigned code = laid[i], row = code / k;
            const unsigned place = earlier[row / 32] + __popc(marks[row / 32] & ((1u << row % 32) - 1u));
            ordered[start + place] = Code{row, values[code], gradients[code], 0u};
        }
        __syncwarp();
    }
    float sum = -0.f; // as Rust's sum of nothing
    for (unsigned from = start; from < end; from += 32) {
        const float gradient = from + lane < end ? ordered[from + lane].gradient : 0.f;
        const unsigned here = min(end - from, 32u);
        for (unsigned i = 0; i < here; i++) sum = sum + __shfl_sync(FULL, gradient, i);
    }
    if (lane == 0) bias_gradients[latent] = sum;
}
