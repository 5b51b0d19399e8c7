// Rows times a matrix of a model in bf16, on the matrix units: y = activation(x . w + bias), as `product` has it in f32.
//
// Both operands lie in bf16: rows as the kernel before wrote them, the matrix turned, [width, depth], so that a column is a row
// of memory. A block of 256 threads forms a tile of 128 rows by 128 columns, 64 by 32 a warp, in registers. 32 of the depth at a
// time, 16 kB, come by asynchronous copies into one of three stages of shared memory while the stage before is multiplied: of
// each number fetched 128 products are made, 64 operations a byte. At 768 -> 3,072 and 2,048 rows x is read 24 times and w 16
// times, 150 MB, half of what `product` reads, nearly all from the second-level cache, for the same 9.7 GFLOP. By their
// data sheets, the units of cards for data centres are some fifteen times as fast as the multipliers of f32, so that the cache may
// decide as well. What is written is the result alone: 25 MB in f32, half of it where the next product reads it. Where the result
// has 768 columns there are 96 blocks, fewer than a large card has multiprocessors: passes of more rows use it better.
//
// Products are exact, and the unit adds up a few at once, in f32, of which it cuts off what the largest among them leaves no room
// for: every 8 or 16 of the depth some 2^-23 of the sum, always towards 0. At a depth of 8,192 that is 2^-13 at most, and rounding
// an operand took 2^-9. So the bits are those of no processor, and may be others on another kind of card.
#include "epilogue.cuh"
#include "tiles.cuh"

// How `y` takes the result: written or added to in f32, or written in bf16.
enum { WRITE, ADD, ROUND };

// x [n, depth] in bf16, rows at multiples of 16 bytes; w [width, depth] in bf16, rows of whole 64 bytes, zeros beyond the depth;
// bias [whole panels of 32]; y [n, width], in bf16 with rows as x has them: grid (n / 128, width / 128), block 256. `gate` [n,
// width] may be null.
extern "C" __global__ void __launch_bounds__(256)
product16(const unsigned short* __restrict__ x, const unsigned short* __restrict__ w, const float* __restrict__ bias, const float* __restrict__ gate, unsigned n,
          unsigned depth, unsigned width, unsigned activation, unsigned into, void* __restrict__ y) {
    __shared__ float4 storage[STAGES * 2 * TILE * STEP / 16];
    unsigned char* stages = (unsigned char*)storage;
    const unsigned t = threadIdx.x, lane = t % 32, warp = t / 32, warp_row = warp % 2 * 64, warp_column = warp / 2 * 32;
    const unsigned row0 = blockIdx.x * TILE, column0 = blockIdx.y * TILE, steps = (2 * depth + STEP - 1) / STEP;
    float sums[4][4][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int r = 0; r < 4; r++) sums[i][j][r] = 0.f;

    const auto fetch = [&](unsigned step) {
        unsigned char* stage = stages + step % STAGES * 2 * TILE * STEP;
#pragma unroll
        for (unsigned p = t; p < TILE * 4; p += 256) { // beyond the last row and column those are read again, and not written
            const unsigned at = p / 4, piece = p % 4, k = step * (STEP / 2) + piece * 8, left = k < depth ? min(8, depth - k) : 0;
            const size_t row = min(row0 + at, n - 1), column = min(column0 + at, width - 1);
            // What lies behind a row may be anything: zeros come in its place.
            copy_async_some(stage + place(at, piece), x + row * row_of_bf16(depth) + (left ? k : 0), 2 * left);
            copy_async(stage + TILE * STEP + place(at, piece), w + column * steps * (STEP / 2) + k);
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
        multiply_stage(sums, stage, stage + TILE * STEP, [](float* c, const unsigned* a, const unsigned* b) { mma_bf16(c, a, b); });
    }

#pragma unroll 1
    for (unsigned i = 0; i < 4; i++) { // the first fragments' sums, whose place the next ones take: so what follows is there once
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int j = 0; j < 4; j++) { // four lanes a row, two numbers each: whole sectors of 32 bytes, but of bf16 half ones
                const unsigned row = row0 + warp_row + i * 16 + half * 8 + lane / 4, column = column0 + warp_column + j * 8 + lane % 4 * 2;
                if (row >= n || column >= width) continue;
                const size_t at = (size_t)row * width + column;
                const Side<2> v = finished<2>(&sums[0][j][half * 2], bias, gate ? gate + at : gate, width, column, activation);
                if (into == ROUND) *(unsigned*)((unsigned short*)y + (size_t)row * row_of_bf16(width) + column) = bf16_of(v.of[0]) | (unsigned)bf16_of(v.of[1]) << 16;
                else store_side((float*)y + at, v, width, column, into == ADD);
            }
#pragma unroll
        for (int later = 1; later < 4; later++)
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int r = 0; r < 4; r++) sums[later - 1][j][r] = sums[later][j][r];
    }
}
