// Rows times a matrix of a model: y = activation(x . w + bias), written, added to what is there, or multiplied with a gate.
//
// The matrix lies as the CPU packs it, in panels of 32 columns [panels, depth, 32]: 32 numbers of a panel are a line of 128
// bytes. A block of 256 threads forms a tile of 128 rows by 128 columns, 8 by 8 a thread, in registers. 16 of the depth at a
// time, 16 kB, come by way of registers into one of two stages of shared memory while the other is multiplied, rows turned so
// that four of them are one vector: of each number fetched 128 products are made, of each read from shared memory 8. Nothing
// but the result is written: bias, activation, gate and the residual stream join as a tile leaves the registers. At
// 768 -> 3,072 and 2,048 rows x and w are each read 16 to 24 times, 150 MB, mostly from the second-level cache, and y is written
// once, 25 MB, for 9.7 GFLOP: the multipliers decide.
//
// Each sum runs as in the CPU's tiles: from 0 on over the depth, each product fused with its addition, in stretches that
// are as even as can be, whose sums are added one after the other; then the bias. How many stretches there are the host says.
#include "epilogue.cuh"

#define TILE 128
#define DEPTH 16 // of a stage

struct __align__(16) Stage { float rows[DEPTH][TILE], columns[DEPTH][TILE]; };

// Four numbers of a row of which `left` are there, where rows may begin at multiples of 16 bytes.
static __device__ __forceinline__ float4 load4_if(bool whole, const float* p, unsigned left) {
    return whole ? load4(p, left, Vectors<true>()) : load4(p, left, Vectors<false>());
}

// x [n, depth], w in panels, bias [whole panels], y [n, width]: grid (n / 128, width / 128), block 256. `gate` [n, width] may be
// null. `add`: to what y holds.
extern "C" __global__ void __launch_bounds__(256)
product(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ bias, const float* __restrict__ gate, unsigned n, unsigned depth,
        unsigned width, unsigned stretches, unsigned activation, unsigned add, float* __restrict__ y) {
    __shared__ Stage stages[2];
    const unsigned t = threadIdx.x, tile_row = t / 16 * 4, tile_column = t % 16 * 4; // of this thread's; the other four are 64 on
    const unsigned row0 = blockIdx.x * TILE, column0 = blockIdx.y * TILE;
    // What this thread fetches for all: eight numbers of a row, and of two lines of a panel four each. Beyond the last row and
    // the last panel those are read again, and nothing of it is written.
    const float* row = x + (size_t)min(row0 + t / 2, n - 1) * depth;
    const float* panel = w + (size_t)min(column0 / 32 + t % 32 / 8, (width + 31) / 32 - 1) * depth * 32 + t % 8 * 4;
    float4 of_row[2], of_panel[2];
    const auto fetch = [&](unsigned from) {
#pragma unroll
        for (unsigned i = 0; i < 2; i++) {
            const unsigned k = from + t % 2 * 8 + i * 4, line = from + t / 32 + i * 8;
            of_row[i] = of_panel[i] = make_float4(0.f, 0.f, 0.f, 0.f);
            if (k < depth) of_row[i] = load4_if(depth % 4 == 0, row + k, depth - k);
            if (line < depth) of_panel[i] = *(const float4*)(panel + (size_t)line * 32);
        }
    };
    const auto put = [&](Stage& stage) {
#pragma unroll
        for (unsigned i = 0; i < 2; i++) {
            const unsigned k = t % 2 * 8 + i * 4;
            stage.rows[k][t / 2] = of_row[i].x;
            stage.rows[k + 1][t / 2] = of_row[i].y;
            stage.rows[k + 2][t / 2] = of_row[i].z;
            stage.rows[k + 3][t / 2] = of_row[i].w;
            *(float4*)&stage.columns[t / 32 + i * 8][t % 32 * 4] = of_panel[i];
        }
    };
    float sums[8][8], before[8][8]; // of this stretch, and of those before
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sums[i][j] = before[i][j] = 0.f;
    const auto multiply = [&](const Stage& stage, unsigned from, unsigned to) {
#pragma unroll 4
        for (unsigned k = from; k < to; k++) {
            float4 a[2], b[2];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                a[half] = *(const float4*)&stage.rows[k][tile_row + half * 64];
                b[half] = *(const float4*)&stage.columns[k][tile_column + half * 64];
            }
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float of_row = i % 4 == 0 ? a[i / 4].x : i % 4 == 1 ? a[i / 4].y : i % 4 == 2 ? a[i / 4].z : a[i / 4].w;
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    sums[i][half * 4] = fmaf(of_row, b[half].x, sums[i][half * 4]);
                    sums[i][half * 4 + 1] = fmaf(of_row, b[half].y, sums[i][half * 4 + 1]);
                    sums[i][half * 4 + 2] = fmaf(of_row, b[half].z, sums[i][half * 4 + 2]);
                    sums[i][half * 4 + 3] = fmaf(of_row, b[half].w, sums[i][half * 4 + 3]);
                }
            }
        }
    };
    unsigned stretch = 0;
    const auto add_before = [&]() {
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int j = 0; j < 8; j++) sums[i][j] = stretch > 0 ? sums[i][j] + before[i][j] : sums[i][j];
    };

    fetch(0);
    put(stages[0]);
    __syncthreads();
    for (unsigned from = 0, at = 0; from < depth; from += DEPTH, at ^= 1) {
        if (from + DEPTH < depth) fetch(from + DEPTH);
        const unsigned len = min(DEPTH, depth - from), end = depth * (stretch + 1) / stretches - from;
        multiply(stages[at], 0, min(end, len));
        if (end < len) {
            add_before();
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    before[i][j] = sums[i][j];
                    sums[i][j] = 0.f;
                }
            stretch++;
            multiply(stages[at], end, len);
        }
        if (from + DEPTH < depth) put(stages[at ^ 1]); // all are done with what is there since the last barrier
        __syncthreads();
    }
    add_before();

#pragma unroll 1
    for (unsigned i = 0; i < 8; i++) { // the first row of sums, whose place the next one takes: so what follows is there once
        const unsigned r = row0 + tile_row + i % 4 + i / 4 * 64;
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            const unsigned column = column0 + tile_column + half * 64;
            if (r >= n || column >= width) continue;
            const size_t place = (size_t)r * width + column;
            store_side(y + place, finished<4>(&sums[0][half * 4], bias, gate ? gate + place : gate, width, column, activation), width, column, add);
        }
#pragma unroll
        for (int later = 1; later < 8; later++)
#pragma unroll
            for (int j = 0; j < 8; j++) sums[later - 1][j] = sums[later][j];
    }
}
