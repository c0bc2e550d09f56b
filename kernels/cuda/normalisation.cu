// BatchNorm, LayerNorm and sums over the batch.
//
// Sums over R rows: a block takes a chunk of the rows and up to 32 units, a thread one unit and every `lanes`-th row;
// the float32 sums of the chunks are added in float64, in order. `bits` is the logarithm of the units of a block.

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;

struct Share {
  int unit, lane, lanes, first, last;
  bool inside;
};

__device__ inline Share share_of(int rows, int units, int chunk, int bits) {
  Share s;
  s.unit = (int)((blockIdx.x << bits) + (threadIdx.x & ((1u << bits) - 1)));
  s.lane = (int)(threadIdx.x >> bits);
  s.lanes = THREADS >> bits;
  s.first = (int)blockIdx.y * chunk + s.lane;
  s.last = min(rows, (int)(blockIdx.y + 1) * chunk);
  s.inside = s.unit < units;
  return s;
}

// Adds up what the lanes of each unit hold and writes it to partials (2, S, chunks, C).
__device__ inline void write_partials(const Share& s, float first, float second, float* partials, int units,
                                      int bits) {
  __shared__ float sums[2][THREADS];
  const int t = threadIdx.x;
  sums[0][t] = first;
  sums[1][t] = second;
  __syncthreads();
  for (int half = s.lanes / 2; half > 0; half /= 2) {
    if (s.lane < half) {
      sums[0][t] += sums[0][t + (half << bits)];
      sums[1][t] += sums[1][t + (half << bits)];
    }
    __syncthreads();
  }
  if (s.lane == 0 && s.inside) {
    const wide at = ((wide)blockIdx.z * gridDim.y + blockIdx.y) * units + s.unit;
    partials[at] = sums[0][t];
    partials[(wide)gridDim.z * gridDim.y * units + at] = sums[1][t];
  }
}

// Σ (x - pivot) and Σ (x - pivot)², the pivot the first row, or 0.
KERNEL sum_deviations(const float* x, float* partials, int rows, int units, int chunk, int bits, int pivoted) {
  const Share s = share_of(rows, units, chunk, bits);
  x += (wide)blockIdx.z * rows * units;
  const float pivot = pivoted && s.inside ? x[s.unit] : 0;
  float sum = 0, squares = 0;
  if (s.inside)
    for (int r = s.first; r < s.last; r += s.lanes) {
      const float d = x[(wide)r * units + s.unit] - pivot;
      sum += d;
      squares += d * d;
    }
  write_partials(s, sum, squares, partials, units, bits);
}

// scale / √(variance + ε) and what is added then: y = factor x + offset. Seeds of scale and shift lie `pitch` apart.
struct Affine {
  float factor, offset;
};

__device__ inline Affine affine_of(const float* mean, const float* variance, const float* scale, const float* shift,
                                   wide pitch, float epsilon, int units, int unit) {
  const wide at = (wide)blockIdx.z * units + unit, parameter = blockIdx.z * pitch + unit;
  Affine a;
  a.factor = scale[parameter] / sqrtf(variance[at] + epsilon);
  a.offset = shift[parameter] - mean[at] * a.factor;
  return a;
}

// Σ dy and Σ dy (x - mean), where `masked` only over the rows whose normalised x is above 0.
KERNEL sum_products(const float* dy, const float* x, const float* mean, const float* variance, const float* scale,
                    const float* shift, wide pitch, float epsilon, int masked, float* partials, int rows, int units,
                    int chunk, int bits) {
  const Share s = share_of(rows, units, chunk, bits);
  const wide seed = (wide)blockIdx.z * rows * units;
  float sum = 0, products = 0;
  if (s.inside) {
    const float m = mean[(wide)blockIdx.z * units + s.unit];
    Affine a = {0, 0};
    if (masked) a = affine_of(mean, variance, scale, shift, pitch, epsilon, units, s.unit);
    for (int r = s.first; r < s.last; r += s.lanes) {
      const wide i = seed + (wide)r * units + s.unit;
      const float value = x[i], g = !masked || value * a.factor + a.offset > 0 ? dy[i] : 0;
      sum += g;
      products += g * (value - m);
    }
  }
  write_partials(s, sum, products, partials, units, bits);
}

// What follows has one thread for each unit of each seed: n = S C. Chunks are added in their order.
__device__ inline double total(const float* partials, wide i, int units, int chunks) {
  double sum = 0;
  for (int k = 0; k < chunks; ++k) sum += partials[(i / units * chunks + k) * units + i % units];
  return sum;
}

KERNEL finish_sums(const float* partials, float* out, wide pitch, int n, int units, int chunks) {
  const wide i = first_item();
  if (i < n) out[i / units * pitch + i % units] = (float)total(partials, i, units, chunks);
}

KERNEL finish_moments(const float* partials, const float* x, float* mean, float* variance, int n, int rows, int units,
                      int chunks) {
  const wide i = first_item();
  if (i >= n) return;
  const double deviation = total(partials, i, units, chunks) / rows;
  const double squares = total(partials + (wide)n * chunks, i, units, chunks) / rows - deviation * deviation;
  mean[i] = (float)(x[i / units * rows * units + i % units] + deviation);
  variance[i] = (float)(squares < 0 ? 0 : squares);
}

KERNEL finish_gradients(const float* partials, const float* variance, float epsilon, float* dscale, float* dshift,
                        int n, int units, int chunks) {
  const wide i = first_item();
  if (i >= n) return;
  dshift[i] = (float)total(partials, i, units, chunks);
  dscale[i] = (float)(total(partials + (wide)n * chunks, i, units, chunks) / sqrtf(variance[i] + epsilon));
}

// y = factor x + offset (+ skip), rectified if asked for. skip may be null.
KERNEL normalise(const float* x, const float* skip, const float* mean, const float* variance, const float* scale,
                 const float* shift, wide pitch, float epsilon, int rectify, float* y, int rows, int units, int chunk,
                 int bits) {
  const Share s = share_of(rows, units, chunk, bits);
  if (!s.inside) return;
  const Affine a = affine_of(mean, variance, scale, shift, pitch, epsilon, units, s.unit);
  for (int r = s.first; r < s.last; r += s.lanes) {
    const wide i = ((wide)blockIdx.z * rows + r) * units + s.unit;
    float value = x[i] * a.factor + a.offset;
    if (skip) value += skip[i];
    y[i] = rectify ? rectified(value) : value;
  }
}

// dx = factor (dy - m(dy) - z m(dy z)), dy where `masked` only where the normalised x is above 0.
KERNEL normalise_gradient(const float* dy, const float* x, const float* mean, const float* variance,
                          const float* scale, const float* shift, wide pitch, float epsilon, int masked,
                          const float* dscale, const float* dshift, float* dx, int rows, int units, int chunk,
                          int bits) {
  const Share s = share_of(rows, units, chunk, bits);
  if (!s.inside) return;
  const wide of_unit = (wide)blockIdx.z * units + s.unit;
  const Affine a = affine_of(mean, variance, scale, shift, pitch, epsilon, units, s.unit);
  const float m = mean[of_unit], inverse = 1 / sqrtf(variance[of_unit] + epsilon);
  const float along = inverse * dscale[of_unit] / (float)rows, level = dshift[of_unit] / (float)rows;
  for (int r = s.first; r < s.last; r += s.lanes) {
    const wide i = ((wide)blockIdx.z * rows + r) * units + s.unit;
    const float value = x[i], g = !masked || value * a.factor + a.offset > 0 ? dy[i] : 0;
    dx[i] = a.factor * (g - level - (value - m) * along);
  }
}

KERNEL add_units(float* x, const float* b, wide pitch, int rows, int units, int chunk, int bits) {
  const Share s = share_of(rows, units, chunk, bits);
  if (!s.inside) return;
  const float value = b[blockIdx.z * pitch + s.unit];
  for (int r = s.first; r < s.last; r += s.lanes) x[((wide)blockIdx.z * rows + r) * units + s.unit] += value;
}

// LayerNorm: a warp a row, n = S R rows of which `rows` a seed.
struct Row {
  float mean, inverse;
};

__device__ inline Row row_of(const float* x, int units, float epsilon) {
  const int lane = threadIdx.x % WARP;
  float sum = 0, squares = 0;
  for (int c = lane; c < units; c += WARP) sum += x[c];
  const float mean = warp_sum(sum) / (float)units;
  for (int c = lane; c < units; c += WARP) squares += (x[c] - mean) * (x[c] - mean);
  return {mean, 1 / sqrtf(warp_sum(squares) / (float)units + epsilon)};
}

KERNEL layernorm(const float* x, const float* scale, const float* shift, wide pitch, float epsilon, float* y, wide n,
                 int rows, int units) {
  const wide row = blockIdx.x * (wide)WARPS + threadIdx.x / WARP;
  if (row >= n) return;  // a whole warp
  x += row * units;
  const Row s = row_of(x, units, epsilon);
  for (int c = threadIdx.x % WARP; c < units; c += WARP)
    y[row * units + c] = (x[c] - s.mean) * s.inverse * scale[row / rows * pitch + c] + shift[row / rows * pitch + c];
}

// dx, and the products dy z whose sums are the gradient of the scale.
KERNEL layernorm_gradient(const float* dy, const float* x, const float* scale, wide pitch, float epsilon, float* dx,
                          float* products, wide n, int rows, int units) {
  const wide row = blockIdx.x * (wide)WARPS + threadIdx.x / WARP;
  if (row >= n) return;
  const int lane = threadIdx.x % WARP;
  x += row * units;
  dy += row * units;
  scale += row / rows * pitch;
  const Row s = row_of(x, units, epsilon);
  float sum = 0, along = 0;
  for (int c = lane; c < units; c += WARP) {
    const float z = (x[c] - s.mean) * s.inverse, g = dy[c] * scale[c];
    sum += g;
    along += g * z;
    products[row * units + c] = dy[c] * z;
  }
  sum = warp_sum(sum) / (float)units;
  along = warp_sum(along) / (float)units;
  for (int c = lane; c < units; c += WARP) {
    const float z = (x[c] - s.mean) * s.inverse;
    dx[row * units + c] = (dy[c] * scale[c] - sum - z * along) * s.inverse;
  }
}
