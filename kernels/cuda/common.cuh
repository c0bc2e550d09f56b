// What all kernels share; its text stands before that of every family, so nothing includes anything.
//
// S seeds, N samples, C units, R rows (all samples and positions of a seed), H, W positions. Activations are
// (S, N, ..., C). Numbers of samples, positions and units fit 32 bits each; an index of an element is 64 bits wide. No
// kernel uses atomics and every sum has one order, so the same launch gives the same bits.

#define KERNEL extern "C" __global__ void

typedef long long wide;
typedef unsigned int word;
typedef unsigned char byte;

constexpr int WARP = 32;
constexpr word ALL_LANES = 0xffffffffu;

// A block of a grid of two or three dimensions. CUDA allows no more than 65,535 blocks along the second and third, so
// every launch has one row of blocks, and the kernel is told how many lie `across`, and of three dimensions also `down`.
struct Block {
  int x, y, z;
};

__device__ inline Block block_of(int across) {
  return {(int)(blockIdx.x % across), (int)(blockIdx.x / across), 0};
}
__device__ inline Block block_of(int across, int down) {
  const int row = (int)(blockIdx.x / across);
  return {(int)(blockIdx.x % across), row % down, row / down};
}

// The first element of a grid-stride loop over blocks `across`, and its step; without a number over the whole grid.
__device__ inline wide first_item(int x) { return x * (wide)blockDim.x + threadIdx.x; }
__device__ inline wide item_step(int across) { return across * (wide)blockDim.x; }
__device__ inline wide first_item() { return first_item((int)blockIdx.x); }
__device__ inline wide item_step() { return item_step((int)gridDim.x); }

__device__ inline float warp_sum(float value) {
  for (int lane = WARP / 2; lane > 0; lane /= 2) value += __shfl_xor_sync(ALL_LANES, value, lane);
  return value;
}

// Written so that NaN stays NaN: a diverged seed must be seen.
__device__ inline float rectified(float x) { return x < 0 ? 0 : x; }
