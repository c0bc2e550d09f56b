// What all kernels share; its text stands before that of every family, so nothing includes anything.
//
// S seeds, N samples, C units, R rows (all samples and positions of a seed), H, W positions. Activations are
// (S, N, ..., C). Sizes within a seed fit 32 bits, offsets between seeds are 64 bits wide. No kernel uses atomics and
// every sum has one order, so the same launch gives the same bits.

#define KERNEL extern "C" __global__ void

typedef long long wide;
typedef unsigned int word;
typedef unsigned char byte;

constexpr int WARP = 32;
constexpr word ALL_LANES = 0xffffffffu;

// The first element of a grid-stride loop, and its step.
__device__ inline wide first_item() { return blockIdx.x * (wide)blockDim.x + threadIdx.x; }
__device__ inline wide item_step() { return gridDim.x * (wide)blockDim.x; }

__device__ inline float warp_sum(float value) {
  for (int lane = WARP / 2; lane > 0; lane /= 2) value += __shfl_xor_sync(ALL_LANES, value, lane);
  return value;
}

// Written so that NaN stays NaN: a diverged seed must be seen.
__device__ inline float rectified(float x) { return x < 0 ? 0 : x; }
