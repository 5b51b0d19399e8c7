// A stage of a product on the matrix units, whatever its numbers: 64 bytes of each of 128 rows and 128 columns.
#pragma once
#include "device.cuh"

#define TILE 128
#define STEP 64 // bytes of a row in a stage
#define STAGES 3

// Where a piece of 16 bytes lies turns with its row, so that `ldmatrix` meets no bank twice.
static __device__ __forceinline__ unsigned place(unsigned row, unsigned piece) { return row * STEP + ((piece ^ (row >> 1 & 3u)) << 4); }

// Adds the products of 64 rows by 32 columns, a warp's part of the tile, in fragments of 16 by 8. The instruction takes 32
// bytes of each, in the same places of its fragments whether they are bytes or bf16.
template <class Sum, class Multiply>
static __device__ __forceinline__ void multiply_stage(Sum (&sums)[4][4][4], const unsigned char* rows, const unsigned char* columns, Multiply mma) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_row = warp % 2 * 64, warp_column = warp / 2 * 32;
#pragma unroll
    for (unsigned half = 0; half < 2; half++) {
        unsigned of_rows[4][4], of_columns[2][4];
#pragma unroll
        for (int i = 0; i < 4; i++) load_matrices_x4(of_rows[i], rows + place(warp_row + i * 16 + lane % 16, half * 2 + lane / 16));
#pragma unroll
        for (int j = 0; j < 2; j++) load_matrices_x4(of_columns[j], columns + place(warp_column + j * 16 + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) mma(sums[i][j], of_rows[i], &of_columns[j / 2][j % 2 * 2]);
    }
}
