// The ladder to `screen.cu`: the product that it begins with, bytes [n, width] by bytes [d_sae, width], in three ways that lead
// up to it. Each asks less of memory or instructions than the one before, and more of its reader; that file is the fourth rung.
//
// At 768 -> 12,288 and 4,096 rows these are 39 G multiplications, of only 13 MB of bytes. What the rungs ask for:
//
//                    of memory or its caches   of shared memory   multiplications an instruction   scores written
//     scores_naive                     77 GB                  -                               11           200 MB
//     scores_tiled                    1.2 GB              19 GB                               21           200 MB
//     scores_by_mma                   1.2 GB             3.6 GB                            1,024           200 MB
//     screen                          0.6 GB             1.8 GB                            2,979             none
//
// Bytes are those that threads name; instructions are the loads and multiplications of a warp in its innermost loop. Scores
// that are written are read once more, by whoever looks for the largest of every row.
//
// Widths are multiples of 64, filled up with zeros; n and d_sae are any. A sum of whole numbers is the same in every order, so
// `ladder.rs` holds the rungs to the very same scores. Nothing but the tests' emulator runs this file: no PTX is made of it.
#include "device.cuh"

#define SIDE 64  // rows and latents of a tile
#define PIECE 64 // bytes of a row that are in shared memory at a time

// The first rung is the definition: a thread takes a score, and fetches two bytes for each multiplication. The 32 threads of a
// warp have one row, whose byte is fetched for all at once, and 32 latents, whose bytes lie `width` apart: 32 lines of memory
// for 32 bytes. Their neighbours, which are wanted next, lie in the first-level cache, unless something has driven them out.
// Grid (d_sae / 32, n / 8), block 256.
extern "C" __global__ void __launch_bounds__(256)
scores_naive(const signed char* __restrict__ rows, const signed char* __restrict__ latents, unsigned n, unsigned d_sae, unsigned width,
             int* __restrict__ scores) {
    const unsigned row = blockIdx.y * 8 + threadIdx.x / 32, latent = blockIdx.x * 32 + threadIdx.x % 32;
    if (row >= n || latent >= d_sae) return;
    int sum = 0;
    for (unsigned i = 0; i < width; i++) sum += rows[(size_t)row * width + i] * latents[(size_t)latent * width + i];
    scores[(size_t)row * d_sae + latent] = sum;
}

// The second fetches a byte once for a tile of 64 by 64 scores: a block lays 64 bytes of each of its rows and latents into
// shared memory, neighbouring threads neighbouring bytes, and all its threads multiply from there. So memory is asked for a
// 64th, and shared memory in its place. Of that a thread asks little, for it keeps a square of 4 by 4 scores, 16 apart, in its
// registers: 8 bytes make 16 multiplications, half a byte each, where a score a thread would take two. Rows of 68 bytes begin
// in banks 17 apart, so that the 16 latents that a warp reads at once meet no bank twice. Beyond the last row the last is read
// again, and not written: the loops know nothing of the edge. Grid (d_sae / 64, n / 64), block 256.
extern "C" __global__ void __launch_bounds__(256)
scores_tiled(const signed char* __restrict__ rows, const signed char* __restrict__ latents, unsigned n, unsigned d_sae, unsigned width,
             int* __restrict__ scores) {
    __shared__ signed char of_rows[SIDE][PIECE + 4], of_latents[SIDE][PIECE + 4];
    const unsigned t = threadIdx.x, row0 = blockIdx.y * SIDE, latent0 = blockIdx.x * SIDE;
    int sums[4][4] = {};
    for (unsigned from = 0; from < width; from += PIECE) {
        for (unsigned i = t; i < SIDE * PIECE; i += 256) {
            const unsigned at = i / PIECE, byte = i % PIECE;
            of_rows[at][byte] = rows[(size_t)min(row0 + at, n - 1) * width + from + byte];
            of_latents[at][byte] = latents[(size_t)min(latent0 + at, d_sae - 1) * width + from + byte];
        }
        __syncthreads(); // the piece is there for all
        for (unsigned byte = 0; byte < PIECE; byte++)
            for (unsigned i = 0; i < 4; i++)
                for (unsigned j = 0; j < 4; j++) sums[i][j] += of_rows[i * 16 + t / 16][byte] * of_latents[j * 16 + t % 16][byte];
        __syncthreads(); // all are done with it
    }
    for (unsigned i = 0; i < 4; i++)
        for (unsigned j = 0; j < 4; j++) {
            const unsigned row = row0 + i * 16 + t / 16, latent = latent0 + j * 16 + t % 16;
            if (row < n && latent < d_sae) scores[(size_t)row * d_sae + latent] = sums[i][j];
        }
}

// The third has the same tile from the same memory, and leaves multiplying to the tensor cores: by one instruction a warp
// multiplies 16 rows with 8 latents, 32 bytes deep. It takes bytes as they lie, in words of four: a lane brings words lane % 4
// and 4 on, of row lane / 4, of the row 8 below, and of latent lane / 4; it holds four of the scores. A warp has 16 rows by 32
// latents, so that what it fetches of its rows serves four instructions. Rows of 80 bytes begin in banks 20 apart: the 8 rows
// by 4 words of a load lie in 32 banks. Grid (d_sae / 64, n / 64), block 256.
extern "C" __global__ void __launch_bounds__(256)
scores_by_mma(const unsigned* __restrict__ rows, const unsigned* __restrict__ latents, unsigned n, unsigned d_sae, unsigned width,
              int* __restrict__ scores) {
    __shared__ unsigned of_rows[SIDE][PIECE / 4 + 4], of_latents[SIDE][PIECE / 4 + 4];
    const unsigned t = threadIdx.x, lane = t % 32, warp = t / 32, warp_row = warp % 4 * 16, warp_latent = warp / 4 * 32;
    const unsigned row0 = blockIdx.y * SIDE, latent0 = blockIdx.x * SIDE, words = width / 4;
    int sums[4][4] = {};
    for (unsigned from = 0; from < words; from += PIECE / 4) {
        for (unsigned i = t; i < SIDE * PIECE / 4; i += 256) {
            const unsigned at = i / (PIECE / 4), word = i % (PIECE / 4);
            of_rows[at][word] = rows[(size_t)min(row0 + at, n - 1) * words + from + word];
            of_latents[at][word] = latents[(size_t)min(latent0 + at, d_sae - 1) * words + from + word];
        }
        __syncthreads();
        for (unsigned word = lane % 4; word < PIECE / 4; word += 8) {
            const unsigned *row = of_rows[warp_row + lane / 4], *below = of_rows[warp_row + lane / 4 + 8];
            const unsigned a[4] = {row[word], below[word], row[word + 4], below[word + 4]};
            for (unsigned j = 0; j < 4; j++) {
                const unsigned* latent = of_latents[warp_latent + j * 8 + lane / 4];
                const unsigned b[2] = {latent[word], latent[word + 4]};
                mma_s8(sums[j], a, b);
            }
        }
        __syncthreads();
    }
    for (unsigned j = 0; j < 4; j++)
        for (unsigned r = 0; r < 4; r++) {
            const unsigned row = row0 + warp_row + lane / 4 + r / 2 * 8, latent = latent0 + warp_latent + j * 8 + lane % 4 * 2 + r % 2;
            if (row < n && latent < d_sae) scores[(size_t)row * d_sae + latent] = sums[j][r];
        }
}

// The fourth is `screen`. Its tile has twice the height and width, so that both memories are asked for half; `ldmatrix` brings
// four of the words above by one load, and pieces come in while others are multiplied, where here all threads wait for them.
// And its scores end in the registers that they were formed in: there they become bounds, by the scales of row and latent,
// and only what may be among the k largest of its row is written, lists of some 25 MB in place of 200 MB of scores.
