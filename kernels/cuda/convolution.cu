// Convolutions as matrix products whose left factor is gathered on the way (implicit GEMM): C = A B, C of M x N.
//
// forward: a row of A is what an output position sees, B the kernel. Input gradient: for each of the stride² phases of
// input positions, a row is the dy that reaches a position, B the transposed taps that it comes through. Weight
// gradient: A is x transposed, a row one input unit under one tap, B is dy; the sum over positions is cut into parts.
//
// A block of 128 threads makes a tile of 128 x COLUMNS. It brings 16 columns of A and rows of B into shared memory,
// fetching the next while it multiplies. PRECISION 0 multiplies in float32; 1 and 2 round both factors to TF32 or BF16
// when they are fetched, and let tensor cores multiply and add them up in float32.

constexpr int ROWS = 128, DEPTH = 16, THREADS = 128;
constexpr int PAD = PRECISION == 2 ? 4 : 8;  // lanes that load a fragment then meet 32 different banks

struct Shape {
  int samples, height, width, inputs, out_height, out_width, outputs, kernel_height, kernel_width, stride, padding;
};
#define SHAPE                                                                                                    \
  int samples, int height, int width, int inputs, int out_height, int out_width, int outputs, int kernel_height, \
      int kernel_width, int stride, int padding
#define SHAPE_VALUE                                                                                                  \
  Shape {                                                                                                            \
    samples, height, width, inputs, out_height, out_width, outputs, kernel_height, kernel_width, stride, padding     \
  }

__device__ inline word bits_of(float x) { return __float_as_uint(x); }

// To what the tensor cores take, NaN as it is: TF32 drops 13 bits (ties away from 0), BF16 16 (ties to even).
__device__ inline float rounded(float x) {
  if (PRECISION == 0 || x != x) return x;
  const word u = bits_of(x);
  if (PRECISION == 1) return __uint_as_float((u + 0x1000u) & 0xffffe000u);
  return __uint_as_float((u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u);
}

template <int COLUMNS>
struct Factors {
  float a[DEPTH][ROWS + PAD];
  float b[DEPTH][COLUMNS + PAD];
};

#if PRECISION == 0

// A thread's 8 rows and COLUMNS / 8 columns of the tile.
template <int COLUMNS>
struct Tile {
  static constexpr int HIGH = 8, ACROSS = COLUMNS / 8;
  float sums[HIGH][ACROSS] = {};

  __device__ void add(const Factors<COLUMNS>& f) {
    const int row = threadIdx.x / 8 * HIGH, column = threadIdx.x % 8 * ACROSS;
#pragma unroll
    for (int k = 0; k < DEPTH; ++k) {
      const float4 upper = *(const float4*)&f.a[k][row], lower = *(const float4*)&f.a[k][row + 4];
      const float a[HIGH] = {upper.x, upper.y, upper.z, upper.w, lower.x, lower.y, lower.z, lower.w};
      float b[ACROSS];
#pragma unroll
      for (int j = 0; j < ACROSS; j += 2) {
        const float2 two = *(const float2*)&f.b[k][column + j];
        b[j] = two.x;
        b[j + 1] = two.y;
      }
#pragma unroll
      for (int i = 0; i < HIGH; ++i)
#pragma unroll
        for (int j = 0; j < ACROSS; ++j) sums[i][j] += a[i] * b[j];
    }
  }

  template <class Store>
  __device__ void each(Store store) const {
    const int row = threadIdx.x / 8 * HIGH, column = threadIdx.x % 8 * ACROSS;
#pragma unroll
    for (int i = 0; i < HIGH; ++i)
#pragma unroll
      for (int j = 0; j < ACROSS; ++j) store(row + i, column + j, sums[i][j]);
  }
};

#else

// d += a b for a of 16 x K, b of K x 8, spread over the lanes of a warp as the PTX manual says ("mma.m16n8k8" of TF32,
// "mma.m16n8k16" of BF16).
__device__ inline void mma(float (&d)[4], const word (&a)[4], const word (&b)[2]) {
#ifdef __CUDA_ARCH__
#if PRECISION == 1
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
#endif
               "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif defined(HOST_EMULATION)
  emulated_mma(PRECISION, d, a, b);
#endif
}

// A register of a fragment: one number of TF32; of BF16 two, of depths k and k + 1, the first in the lower half.
template <int PITCH>
__device__ inline word fragment(const float (*rows)[PITCH], int k, int at) {
  if (PRECISION == 1) return bits_of(rows[k][at]);
  return (bits_of(rows[k][at]) >> 16) | (bits_of(rows[k + 1][at]) & 0xffff0000u);
}

// A warp's 32 rows and all columns of the tile.
template <int COLUMNS>
struct Tile {
  static constexpr int PER_WORD = PRECISION == 1 ? 1 : 2, STEP = 8 * PER_WORD;
  float sums[2][COLUMNS / 8][4] = {};

  __device__ void add(const Factors<COLUMNS>& f) {
    const int row = threadIdx.x / WARP * 32 + threadIdx.x % WARP / 4, column = threadIdx.x % WARP / 4;
    const int inner = threadIdx.x % 4 * PER_WORD;
#pragma unroll
    for (int k = 0; k < DEPTH; k += STEP) {
      const int near = k + inner, far = near + STEP / 2;
      word a[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        a[i][0] = fragment<ROWS + PAD>(f.a, near, row + 16 * i);
        a[i][1] = fragment<ROWS + PAD>(f.a, near, row + 16 * i + 8);
        a[i][2] = fragment<ROWS + PAD>(f.a, far, row + 16 * i);
        a[i][3] = fragment<ROWS + PAD>(f.a, far, row + 16 * i + 8);
      }
#pragma unroll
      for (int j = 0; j < COLUMNS / 8; ++j) {
        const word b[2] = {fragment<COLUMNS + PAD>(f.b, near, column + 8 * j),
                           fragment<COLUMNS + PAD>(f.b, far, column + 8 * j)};
        mma(sums[0][j], a[0], b);
        mma(sums[1][j], a[1], b);
      }
    }
  }

  template <class Store>
  __device__ void each(Store store) const {
    const int row = threadIdx.x / WARP * 32 + threadIdx.x % WARP / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) store(row + 16 * i + e / 2 * 8, column + 8 * j + e % 2, sums[i][j][e]);
  }
};

#endif

// C's tile of a block over the depths first ... last. A problem says how a thread fetches the 16 numbers of its own
// row of A, where an element of B is, and where one of C goes.
template <int COLUMNS, class Problem>
__device__ inline void multiply(const Problem& problem, const Block& block, int first, int last) {
  __shared__ __align__(16) Factors<COLUMNS> factors;
  constexpr int SHARE = COLUMNS * DEPTH / THREADS;
  const int t = threadIdx.x, row = block.x * ROWS, column = block.y * COLUMNS;
  const auto own = problem.row(row + t);
  float next_a[DEPTH], next_b[SHARE];
  int k_of[SHARE], n_of[SHARE];
#pragma unroll
  for (int u = 0; u < SHARE; ++u) {
    const int e = t + u * THREADS;
    k_of[u] = Problem::ALONG_DEPTH ? e % DEPTH : e / COLUMNS;
    n_of[u] = Problem::ALONG_DEPTH ? e / DEPTH : e % COLUMNS;
  }
  const auto fetch = [&](int k0) {
    problem.fetch(own, k0, last, next_a);
#pragma unroll
    for (int u = 0; u < SHARE; ++u)
      next_b[u] = k0 + k_of[u] < last && column + n_of[u] < problem.columns()
                      ? rounded(problem.b(k0 + k_of[u], column + n_of[u]))
                      : 0;
  };
  Tile<COLUMNS> tile;
  if (first < last) fetch(first);
  for (int k0 = first; k0 < last; k0 += DEPTH) {
#pragma unroll
    for (int k = 0; k < DEPTH; ++k) factors.a[k][t] = rounded(next_a[k]);
#pragma unroll
    for (int u = 0; u < SHARE; ++u) factors.b[k_of[u]][n_of[u]] = next_b[u];
    __syncthreads();
    if (k0 + DEPTH < last) fetch(k0 + DEPTH);
    tile.add(factors);
    __syncthreads();
  }
  tile.each([&](int i, int j, float value) {
    if (row + i < problem.rows() && column + j < problem.columns()) problem.store(row + i, column + j, value);
  });
}

// What a row of A reads: units at (top + direction p, left + direction q) of an image, p < high, q < broad taps.
struct Window {
  const float* image;
  int top, left;
};

// Sixteen numbers from depth k0 on of a window; depth (p, q, unit) in this order.
__device__ inline void fetch_window(const Window& w, int height, int width, int units, int broad, int direction,
                                    int k0, int last, float (&next)[DEPTH]) {
  int unit = k0 % units, q = k0 / units % broad, p = k0 / units / broad;
  if (units % DEPTH == 0) {  // all sixteen lie side by side
    const int i = w.top + direction * p, j = w.left + direction * q;
    const bool inside = w.image && 0 <= i && i < height && 0 <= j && j < width;
    const float4* from = (const float4*)(w.image + ((wide)(inside ? i : 0) * width + (inside ? j : 0)) * units + unit);
#pragma unroll
    for (int u = 0; u < DEPTH / 4; ++u) {
      const float4 four = inside ? from[u] : float4{0, 0, 0, 0};
      next[4 * u] = four.x;
      next[4 * u + 1] = four.y;
      next[4 * u + 2] = four.z;
      next[4 * u + 3] = four.w;
    }
    return;
  }
#pragma unroll
  for (int u = 0; u < DEPTH; ++u) {
    const int i = w.top + direction * p, j = w.left + direction * q;
    const bool inside = w.image && k0 + u < last && 0 <= i && i < height && 0 <= j && j < width;
    next[u] = inside ? w.image[((wide)i * width + j) * units + unit] : 0;
    if (++unit == units) {
      unit = 0;
      if (++q == broad) {
        q = 0;
        ++p;
      }
    }
  }
}

struct Forward {
  static constexpr bool ALONG_DEPTH = false;
  const float *x, *w;
  float* y;
  Shape s;

  __device__ int rows() const { return s.samples * s.out_height * s.out_width; }
  __device__ int columns() const { return s.outputs; }
  __device__ Window row(int m) const {
    const int j = m % s.out_width, i = m / s.out_width % s.out_height, n = m / s.out_width / s.out_height;
    const float* image = m < rows() ? x + (wide)n * s.height * s.width * s.inputs : nullptr;
    return {image, i * s.stride - s.padding, j * s.stride - s.padding};
  }
  __device__ void fetch(const Window& own, int k0, int last, float (&next)[DEPTH]) const {
    fetch_window(own, s.height, s.width, s.inputs, s.kernel_width, 1, k0, last, next);
  }
  __device__ float b(int k, int n) const { return w[(wide)k * s.outputs + n]; }
  __device__ void store(int m, int n, float value) const { y[(wide)m * s.outputs + n] = value; }
};

// Position stride a + phase is seen by output (position + padding - tap) / stride, for taps first + stride t: these are
// the outputs a + seen - t.
struct Axis {
  int phase, count, first, taps, seen;
};

__device__ inline Axis axis_of(int phase, int size, int kernel, int stride, int padding) {
  Axis a;
  a.phase = phase;
  a.count = phase < size ? (size - phase + stride - 1) / stride : 0;
  a.first = (phase + padding) % stride;
  a.taps = a.first < kernel ? (kernel - a.first + stride - 1) / stride : 0;
  a.seen = (phase + padding) / stride;
  return a;
}

struct InputGradient {
  static constexpr bool ALONG_DEPTH = true;
  const float *dy, *w;
  float* dx;
  Shape s;
  Axis down, right;

  __device__ int rows() const { return s.samples * down.count * right.count; }
  __device__ int columns() const { return s.inputs; }
  __device__ int depth() const { return down.taps * right.taps * s.outputs; }
  __device__ Window row(int m) const {
    if (m >= rows()) return {nullptr, 0, 0};
    const int j = m % right.count, i = m / right.count % down.count, n = m / right.count / down.count;
    return {dy + (wide)n * s.out_height * s.out_width * s.outputs, i + down.seen, j + right.seen};
  }
  __device__ void fetch(const Window& own, int k0, int last, float (&next)[DEPTH]) const {
    fetch_window(own, s.out_height, s.out_width, s.outputs, right.taps, -1, k0, last, next);
  }
  __device__ float b(int k, int n) const {
    const int o = k % s.outputs, q = k / s.outputs % right.taps, p = k / s.outputs / right.taps;
    const int tap = (down.first + s.stride * p) * s.kernel_width + right.first + s.stride * q;
    return w[((wide)tap * s.inputs + n) * s.outputs + o];
  }
  __device__ void store(int m, int n, float value) const {
    const int j = m % right.count, i = m / right.count % down.count, image = m / right.count / down.count;
    const int row = s.stride * i + down.phase, column = s.stride * j + right.phase;
    dx[(((wide)image * s.height + row) * s.width + column) * s.inputs + n] = value;
  }
};

// One input unit under one tap.
struct Tap {
  const float* unit;
  int down, right;
};

struct WeightGradient {
  static constexpr bool ALONG_DEPTH = false;
  const float *x, *dy;
  float* dw;
  Shape s;

  __device__ int rows() const { return s.kernel_height * s.kernel_width * s.inputs; }
  __device__ int columns() const { return s.outputs; }
  __device__ Tap row(int m) const {
    const int tap = m / s.inputs;
    return {m < rows() ? x + m % s.inputs : nullptr, tap / s.kernel_width - s.padding,
            tap % s.kernel_width - s.padding};
  }
  __device__ void fetch(const Tap& own, int k0, int last, float (&next)[DEPTH]) const {
    int j = k0 % s.out_width, i = k0 / s.out_width % s.out_height, n = k0 / s.out_width / s.out_height;
#pragma unroll
    for (int u = 0; u < DEPTH; ++u) {
      const int row = i * s.stride + own.down, column = j * s.stride + own.right;
      const bool inside =
          own.unit && k0 + u < last && 0 <= row && row < s.height && 0 <= column && column < s.width;
      next[u] = inside ? own.unit[(((wide)n * s.height + row) * s.width + column) * s.inputs] : 0;
      if (++j == s.out_width) {
        j = 0;
        if (++i == s.out_height) {
          i = 0;
          ++n;
        }
      }
    }
  }
  __device__ float b(int k, int n) const { return dy[(wide)k * s.outputs + n]; }
  __device__ void store(int m, int n, float value) const { dw[(wide)m * s.outputs + n] = value; }
};

// Arrays of a seed lie x_seed, w_seed, ... floats apart, 0 for what all seeds share. Grid: tiles of rows, tiles of
// columns, seeds (times phases, or parts), told as `across` and `down`.
#define CONVOLUTION(COLUMNS)                                                                                        \
  KERNEL __launch_bounds__(THREADS)                                                                                 \
      convolution_##COLUMNS(const float* x, wide x_seed, const float* w, wide w_seed, float* y, SHAPE, int across,  \
                            int down) {                                                                             \
    const Shape s = SHAPE_VALUE;                                                                                    \
    const Block block = block_of(across, down);                                                                     \
    const wide seed = block.z, y_seed = (wide)samples * out_height * out_width * outputs;                           \
    const Forward problem{x + seed * x_seed, w + seed * w_seed, y + seed * y_seed, s};                              \
    multiply<COLUMNS>(problem, block, 0, kernel_height * kernel_width * inputs);                                    \
  }                                                                                                                 \
  KERNEL __launch_bounds__(THREADS) input_gradient_##COLUMNS(const float* dy, wide dy_seed, const float* w,         \
                                                             wide w_seed, float* dx, SHAPE, int across, int down) { \
    const Shape s = SHAPE_VALUE;                                                                                    \
    const Block block = block_of(across, down);                                                                     \
    const wide seed = block.z / (stride * stride), dx_seed = (wide)samples * height * width * inputs;               \
    const int phase = block.z % (stride * stride);                                                                  \
    const Axis vertical = axis_of(phase / stride, height, kernel_height, stride, padding);                          \
    const Axis horizontal = axis_of(phase % stride, width, kernel_width, stride, padding);                          \
    const InputGradient problem{dy + seed * dy_seed, w + seed * w_seed, dx + seed * dx_seed, s, vertical, horizontal};\
    multiply<COLUMNS>(problem, block, 0, problem.depth());                                                          \
  }                                                                                                                 \
  KERNEL __launch_bounds__(THREADS)                                                                                 \
      weight_gradient_##COLUMNS(const float* x, wide x_seed, const float* dy, wide dy_seed, float* sums, SHAPE,     \
                                int parts, int part, int across, int down) {                                        \
    const Shape s = SHAPE_VALUE;                                                                                    \
    const Block block = block_of(across, down);                                                                     \
    const wide seed = block.z / parts, size = (wide)kernel_height * kernel_width * inputs * outputs;                \
    const int first = block.z % parts * part;                                                                       \
    const WeightGradient problem{x + seed * x_seed, dy + seed * dy_seed, sums + block.z * size, s};                 \
    multiply<COLUMNS>(problem, block, first, min(samples * out_height * out_width, first + part));                  \
  }

CONVOLUTION(16)
CONVOLUTION(32)
CONVOLUTION(64)

// dw = Σ over parts, in order; sums (S, parts, n), a row of blocks a seed.
KERNEL sum_parts(const float* sums, float* dw, wide dw_seed, int n, int parts, int across) {
  const Block block = block_of(across);
  for (wide i = first_item(block.x); i < n; i += item_step(across)) {
    const float* from = sums + (wide)block.y * parts * n + i;
    double sum = 0;
    for (int p = 0; p < parts; ++p) sum += from[(wide)p * n];
    dw[block.y * dw_seed + i] = (float)sum;
  }
}
