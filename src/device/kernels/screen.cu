// Which latents of a row can be among its k largest: the product in bytes, which ends in a comparison.
//
// A block of 256 threads forms a tile of 128 rows by 128 latents on the tensor cores. 64 bytes of each row and latent at a
// time, 16 kB, come by asynchronous copies into one of three stages of shared memory while the stage before is multiplied
// (`tiles.cuh`). Of each byte fetched 128 products are made; batch and encoder, 3 and 9 MB at 768 -> 12,288 and 4,096 rows,
// stay in the second-level cache.
//
// The scores [n, d_sae], 200 MB, never leave the registers. They become estimates, outliers are added from shared memory,
// and what reaches its row's bar less the most that a margin in this tile can be goes on to have a margin of its own. What
// stands that test joins the row's list by an atomic addition: latent, upper and lower bound.
//
// A bar is the k-th largest lower bound seen so far (`raise_bars`). It is raised where the latents seen have grown fourfold: the
// first 8k latents are all listed, in their places; then some 3k join between one raise and the next. So a list has room for
// 16k, and is cut to little more than k at each raise. A list that overflows is closed: its row is scored in full.
//
// The same product in simpler kernels, from a thread a score to the matrix instruction, is in `tests/gpu/ladder.cu`.
#include "tiles.cuh"

struct Scales { float step[TILE], bias[TILE], p[TILE], q[TILE], norm[TILE], slack[TILE]; };
struct RowScales { float step[TILE], a[TILE], b[TILE], norm[TILE], bar[TILE], eager[TILE]; };
struct End { // what the stages hold once the product is done; rows of 33, so that neighbours lie in other banks
    Scales latents;
    RowScales rows;
    float of_rows[TILE * (OUTLIERS + 1)], of_latents[TILE * (OUTLIERS + 1)];
};

// Latents from..to of all rows: grid ((to - from) / 128, n / 128), block 256. If `from` is 0 all are listed.
extern "C" __global__ void __launch_bounds__(256)
screen(const unsigned char* __restrict__ rows, const unsigned char* __restrict__ latents, const float* __restrict__ row_scales, const float* __restrict__ latent_scales,
       const float* __restrict__ row_outliers, const float* __restrict__ latent_outliers, const unsigned* __restrict__ outliers, const float* __restrict__ offset_norm,
       unsigned n, unsigned d_sae, unsigned width, unsigned from, unsigned to, unsigned room, const float* __restrict__ bars, unsigned* __restrict__ counts,
       unsigned* __restrict__ listed, float2* __restrict__ bounds) {
    __shared__ float4 storage[STAGES * 2 * TILE * STEP / 16];
    unsigned char* stages = (unsigned char*)storage;
    const unsigned t = threadIdx.x, lane = t % 32, warp = t / 32, warp_row = warp % 2 * 64, warp_latent = warp / 2 * 32;
    const unsigned row0 = blockIdx.y * TILE, latent0 = from + blockIdx.x * TILE, steps = width / STEP;
    int sums[4][4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int r = 0; r < 4; r++) sums[i][j][r] = 0;

    const auto fetch = [&](unsigned step) {
        unsigned char* stage = stages + step % STAGES * 2 * TILE * STEP;
#pragma unroll
        for (unsigned p = t; p < TILE * 4; p += 256) { // beyond the last row the last is read again, and not listed
            const unsigned at = p / 4, piece = p % 4, row = min(row0 + at, n - 1), latent = min(latent0 + at, d_sae - 1);
            copy_async(stage + place(at, piece), rows + (size_t)row * width + step * STEP + piece * 16);
            copy_async(stage + TILE * STEP + place(at, piece), latents + (size_t)latent * width + step * STEP + piece * 16);
        }
    };
#pragma unroll
    for (unsigned step = 0; step < STAGES - 1; step++) {
        if (step < steps) fetch(step);
        commit_copies();
    }
    for (unsigned step = 0; step < steps; step++) {
        wait_copies(STAGES - 2);
        __syncthreads(); // the stage is there for all, and all are done with the one that is fetched into next
        if (step + STAGES - 1 < steps) fetch(step + STAGES - 1);
        commit_copies();
        const unsigned char* stage = stages + step % STAGES * 2 * TILE * STEP;
        multiply_stage(sums, stage, stage + TILE * STEP, [](int* c, const unsigned* a, const unsigned* b) { mma_s8(c, a, b); });
    }
    wait_copies(0);
    __syncthreads();

    End& end = *(End*)storage;
    if (t < TILE) {
        const unsigned row = min(row0 + t, n - 1);
        end.rows.step[t] = row_scales[row];
        end.rows.a[t] = row_scales[(size_t)n + row];
        end.rows.b[t] = row_scales[2 * (size_t)n + row];
        // The norms of x - mean and mean - b_dec bound that of x - b_dec: so much bounds all three.
        end.rows.norm[t] = 2.f * (row_scales[3 * (size_t)n + row] + *offset_norm);
        end.rows.bar[t] = bars[row];
    } else {
        const unsigned at = t - TILE;
        const size_t latent = min(latent0 + at, d_sae - 1);
        end.latents.step[at] = latent_scales[latent];
        end.latents.bias[at] = latent_scales[(size_t)d_sae + latent];
        end.latents.p[at] = latent_scales[2 * (size_t)d_sae + latent];
        end.latents.q[at] = latent_scales[3 * (size_t)d_sae + latent];
        end.latents.norm[at] = latent_scales[4 * (size_t)d_sae + latent];
        end.latents.slack[at] = latent_scales[5 * (size_t)d_sae + latent];
    }
    const unsigned n_out = outliers[0];
    if (n_out > 0)
        for (unsigned i = t; i < TILE * OUTLIERS; i += 256) {
            const unsigned at = i / OUTLIERS, o = i % OUTLIERS;
            if (o >= n_out) continue;
            end.of_rows[at * (OUTLIERS + 1) + o] = row_outliers[(size_t)min(row0 + at, n - 1) * OUTLIERS + o];
            end.of_latents[at * (OUTLIERS + 1) + o] = latent_outliers[(size_t)min(latent0 + at, d_sae - 1) * OUTLIERS + o];
        }
    __syncthreads();
    // The most that a margin can be here, linear in what the margin takes the root of; and a little more for its own rounding.
    float most[4] = {0.f, 0.f, 0.f, 0.f};
    for (unsigned i = lane; i < TILE; i += 32) {
        most[0] = fmaxf(most[0], end.latents.p[i]);
        most[1] = fmaxf(most[1], end.latents.q[i]);
        most[2] = fmaxf(most[2], end.latents.norm[i]);
        most[3] = fmaxf(most[3], end.latents.slack[i]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) most[i] = warp_most(most[i]);
    if (t < TILE) {
        const float margin = end.rows.a[t] * most[0] + end.rows.b[t] * most[1] + end.rows.norm[t] * most[2] + most[3];
        end.rows.eager[t] = end.rows.bar[t] - margin * (1.f + 1e-5f);
    }
    __syncthreads();

    float estimates[4][4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const unsigned row = warp_row + i * 16 + lane / 4 + r / 2 * 8, latent = warp_latent + j * 8 + lane % 4 * 2 + r % 2;
                estimates[i][j][r] = (float)sums[i][j][r] * end.rows.step[row] * end.latents.step[latent] + end.latents.bias[latent];
            }
    for (unsigned o = 0; o < n_out; o++) {
        float of_rows[8], of_latents[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            of_rows[i] = end.of_rows[(warp_row + i * 8 + lane / 4) * (OUTLIERS + 1) + o];
            of_latents[i] = end.of_latents[(warp_latent + i / 2 * 8 + lane % 4 * 2 + i % 2) * (OUTLIERS + 1) + o];
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int r = 0; r < 4; r++) estimates[i][j][r] += of_rows[i * 2 + r / 2] * of_latents[j * 2 + r % 2];
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const unsigned at = warp_row + i * 16 + lane / 4 + r / 2 * 8, column = warp_latent + j * 8 + lane % 4 * 2 + r % 2;
                const unsigned row = row0 + at, latent = latent0 + column;
                const float estimate = estimates[i][j][r];
                if (!(estimate >= end.rows.eager[at] || from == 0) || row >= n || latent >= to) continue;
                const float a = end.rows.a[at] * end.latents.p[column], b = end.rows.b[at] * end.latents.q[column];
                const float noise = sqrtf(a * a + b * b) * (1.f + 1.f / 8192.f);
                const float margin = noise + (end.rows.norm[at] * end.latents.norm[column] + end.latents.slack[column]);
                if (from > 0 && !(estimate + margin >= end.rows.bar[at])) continue;
                const unsigned slot = from == 0 ? latent : atomicAdd(&counts[row], 1u);
                if (slot >= room) continue;
                listed[(size_t)row * room + slot] = latent;
                bounds[(size_t)row * room + slot] = make_float2(estimate + margin, estimate - margin);
            }
}

// Raises every row's bar to about, and never above, the k-th largest lower bound of its list, and cuts the list. After the
// first latents, `first` of them, lists are as they were written; rows that cannot be screened are closed then. A warp a
// row, eight rows a block; a list of a few kilobytes stays in the first-level cache.
extern "C" __global__ void __launch_bounds__(256)
raise_bars(unsigned n, unsigned k, unsigned room, unsigned first, const float* __restrict__ row_scales, const Report* __restrict__ report, float* __restrict__ bars,
      unsigned* __restrict__ counts, unsigned* __restrict__ listed, float2* __restrict__ bounds) {
    const unsigned row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= n) return; // the whole warp
    unsigned* latents = listed + (size_t)row * room;
    float2* bound = bounds + (size_t)row * room;
    float bar = first > 0 ? LEAST : bars[row];
    const unsigned count = first > 0 ? first : counts[row];
    const bool is_closed = (first > 0 && (report->unscreenable || row_scales[4 * (size_t)n + row] == 0.f)) || bar == INFINITE || count > room;
    if (is_closed || count < k) { // fewer than k: nothing to raise it to yet
        __syncwarp();
        if (lane == 0) {
            bars[row] = is_closed ? INFINITE : bar;
            counts[row] = is_closed ? 0 : count;
        }
        return;
    }
    float low = INFINITE, most = LEAST;
    for (unsigned i = lane; i < count; i += 32) {
        low = fminf(low, bound[i].y);
        most = fmaxf(most, bound[i].y);
    }
    low = -warp_most(-low);
    float high = warp_most(most);
    for (int halving = 0; halving < 12; halving++) {
        const float middle = low + (high - low) * 0.5f;
        unsigned reach = 0;
        for (unsigned i = lane; i < count; i += 32) reach += bound[i].y >= middle;
        for (unsigned half = 16; half > 0; half /= 2) reach += __shfl_xor_sync(FULL, reach, half);
        if (reach >= k) low = middle; else high = middle;
    }
    bar = fmaxf(bar, low);
    unsigned kept = 0;
    for (unsigned from = 0; from < count; from += 32) { // an entry moves down or stays, and all 32 are read before one is written
        const unsigned i = from + lane;
        const unsigned latent = i < count ? latents[i] : 0;
        const float2 of = i < count ? bound[i] : make_float2(LEAST, LEAST);
        const bool stays = i < count && of.x >= bar;
        const unsigned ballot = __ballot_sync(FULL, stays);
        __syncwarp();
        if (stays) {
            latents[kept + before(ballot)] = latent;
            bound[kept + before(ballot)] = of;
        }
        kept += __popc(ballot);
    }
    if (lane == 0) {
        bars[row] = bar;
        counts[row] = kept;
    }
}
