// BatchNorm, LayerNorm and sums over the batch.
//
// Sums over R rows: a block takes a chunk of the rows and up to 32 units, a thread one unit and every `lanes`-th row;
// the float32 sums of the chunks are added in float64, in order. `bits` is the logarithm of the units of a block.

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;

// Blocks lie `across` the units, then `down` the chunks of rows, then by seed.
struct Share {
  wide seed, first, last;
  int unit, lane, lanes, chunk;
  bool inside;
};

__device__ inline Share share_of(int rows, int units, int chunk, int bits, int across, int down) {
  const Block block = block_of(across, down);
  Share s;
  s.seed = block.z;
  s.chunk = block.y;
  s.unit = (block.x << bits) + (int)(threadIdx.x & ((1u << bits) - 1));
  s.lane = (int)(threadIdx.x >> bits);
  s.lanes = THREADS >> bits;
  s.first = (wide)block.y * chunk + s.lane;
  s.last = min((wide)rows, (block.y + 1ll) * chunk);
  s.inside = s.unit < units;
  return s;
}

// Adds up what the lanes of each unit hold and writes it to partials (2, S, chunks, C).
__device__ inline void write_partials(const Share& s, float first, float second, float* partials, int units,
                                      int bits, int across, int down) {
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
    const wide at = (s.seed * down + s.chunk) * units + s.unit;
    partials[at] = sums[0][t];
    partials[(wide)gridDim.x / across * units + at] = sums[1][t];
  }
}

// Σ (x - pivot) and Σ (x - pivot)², the pivot the first row, or 0.
KERNEL sum_deviations(const float* x, float* partials, int pivoted, int rows, int units, int chunk, int bits,
                      int across, int down) {
  const Share s = share_of(rows, units, chunk, bits, across, down);
  x += s.seed * rows * units;
  const float pivot = pivoted && s.inside ? x[s.unit] : 0;
  float sum = 0, squares = 0;
  if (s.inside)
    for (wide r = s.first; r < s.last; r += s.lanes) {
      const float d = x[r * units + s.unit] - pivot;
      sum += d;
      squares += d * d;
    }
  write_partials(s, sum, squares, partials, units, bits, across, down);
}

// Σ x, Σ x², Σ x³, Σ x⁴ and Σ |x + offset| to partials (6, S, chunks, C), whose last plane is not used.
KERNEL power_sums(const float* x, const float* offset, float* partials, int rows, int units, int chunk, int bits,
                  int across, int down) {
  const Share s = share_of(rows, units, chunk, bits, across, down);
  x += s.seed * rows * units;
  const float moved = s.inside ? offset[s.seed * units + s.unit] : 0;
  float sum = 0, squares = 0, cubes = 0, fourths = 0, sizes = 0;
  if (s.inside)
    for (wide r = s.first; r < s.last; r += s.lanes) {
      const float v = x[r * units + s.unit], v2 = v * v;
      sum += v;
      squares += v2;
      cubes += v2 * v;
      fourths += v2 * v2;
      sizes += fabsf(v + moved);
    }
  const wide pair = 2 * ((wide)gridDim.x / across * units);
  write_partials(s, sum, squares, partials, units, bits, across, down);
  write_partials(s, cubes, fourths, partials + pair, units, bits, across, down);
  write_partials(s, sizes, 0, partials + 2 * pair, units, bits, across, down);
}

// scale / √(variance + ε) and what is added then: y = factor x + offset. Seeds of scale and shift lie `pitch` apart.
// The gradients find out anew which y were above 0. Every fused operation is written out, so that the compiler cannot
// round one kernel's y otherwise than another's.
struct Affine {
  float factor, offset;

  __device__ float of(float x) const { return fmaf(x, factor, offset); }
};

__device__ inline Affine affine_of(const Share& s, const float* mean, const float* variance, const float* scale,
                                   const float* shift, wide pitch, float epsilon, int units) {
  const wide at = s.seed * units + s.unit, parameter = s.seed * pitch + s.unit;
  Affine a;
  a.factor = scale[parameter] / sqrtf(variance[at] + epsilon);
  a.offset = fmaf(-mean[at], a.factor, shift[parameter]);
  return a;
}

// Σ dy and Σ dy (x - mean), where `masked` only over the rows whose normalised x is above 0.
KERNEL sum_products(const float* dy, const float* x, const float* mean, const float* variance, const float* scale,
                    const float* shift, wide pitch, float epsilon, int masked, float* partials, int rows, int units,
                    int chunk, int bits, int across, int down) {
  const Share s = share_of(rows, units, chunk, bits, across, down);
  const wide seed = s.seed * rows * units;
  float sum = 0, products = 0;
  if (s.inside) {
    const float m = mean[s.seed * units + s.unit];
    Affine a = {0, 0};
    if (masked) a = affine_of(s, mean, variance, scale, shift, pitch, epsilon, units);
    for (wide r = s.first; r < s.last; r += s.lanes) {
      const wide i = seed + r * units + s.unit;
      const float value = x[i], g = !masked || a.of(value) > 0 ? dy[i] : 0;
      sum += g;
      products += g * (value - m);
    }
  }
  write_partials(s, sum, products, partials, units, bits, across, down);
}

// What follows has one thread for each unit of each seed: n = S C. Chunks are added in their order.
__device__ inline double total(const float* partials, wide i, int units, int chunks) {
  double sum = 0;
  for (int k = 0; k < chunks; ++k) sum += partials[(i / units * chunks + k) * units + i % units];
  return sum;
}

KERNEL finish_sums(const float* partials, float* out, wide pitch, wide n, int units, int chunks) {
  for (wide i = first_item(); i < n; i += item_step())
    out[i / units * pitch + i % units] = (float)total(partials, i, units, chunks);
}

KERNEL finish_moments(const float* partials, const float* x, float* mean, float* variance, wide n, int rows, int units,
                      int chunks) {
  for (wide i = first_item(); i < n; i += item_step()) {
    const double deviation = total(partials, i, units, chunks) / rows;
    const double squares = total(partials + n * chunks, i, units, chunks) / rows - deviation * deviation;
    mean[i] = (float)(x[i / units * rows * units + i % units] + deviation);
    variance[i] = (float)(squares < 0 ? 0 : squares);
  }
}

KERNEL finish_gradients(const float* partials, const float* variance, float epsilon, float* dscale, float* dshift,
                        wide n, int units, int chunks) {
  for (wide i = first_item(); i < n; i += item_step()) {
    dshift[i] = (float)total(partials, i, units, chunks);
    dscale[i] = (float)(total(partials + n * chunks, i, units, chunks) / sqrtf(variance[i] + epsilon));
  }
}

// y = factor x + offset (+ skip), rectified if asked for. skip may be null.
KERNEL normalise(const float* x, const float* skip, const float* mean, const float* variance, const float* scale,
                 const float* shift, wide pitch, float epsilon, int rectify, float* y, int rows, int units, int chunk,
                 int bits, int across, int down) {
  const Share s = share_of(rows, units, chunk, bits, across, down);
  if (!s.inside) return;
  const Affine a = affine_of(s, mean, variance, scale, shift, pitch, epsilon, units);
  for (wide r = s.first; r < s.last; r += s.lanes) {
    const wide i = (s.seed * rows + r) * units + s.unit;
    float value = a.of(x[i]);
    if (skip) value += skip[i];
    y[i] = rectify ? rectified(value) : value;
  }
}

// dx = factor (dy - m(dy) - z m(dy z)), dy where `masked` only where the normalised x is above 0.
KERNEL normalise_gradient(const float* dy, const float* x, const float* mean, const float* variance,
                          const float* scale, const float* shift, wide pitch, float epsilon, int masked,
                          const float* dscale, const float* dshift, float* dx, int rows, int units, int chunk,
                          int bits, int across, int down) {
  const Share s = share_of(rows, units, chunk, bits, across, down);
  if (!s.inside) return;
  const wide of_unit = s.seed * units + s.unit;
  const Affine a = affine_of(s, mean, variance, scale, shift, pitch, epsilon, units);
  const float m = mean[of_unit], inverse = 1 / sqrtf(variance[of_unit] + epsilon);
  const float along = inverse * dscale[of_unit] / (float)rows, level = dshift[of_unit] / (float)rows;
  for (wide r = s.first; r < s.last; r += s.lanes) {
    const wide i = (s.seed * rows + r) * units + s.unit;
    const float value = x[i], g = !masked || a.of(value) > 0 ? dy[i] : 0;
    dx[i] = a.factor * (g - level - (value - m) * along);
  }
}

KERNEL add_units(float* x, const float* b, wide pitch, int rows, int units, int chunk, int bits, int across, int down) {
  const Share s = share_of(rows, units, chunk, bits, across, down);
  if (!s.inside) return;
  const float value = b[s.seed * pitch + s.unit];
  for (wide r = s.first; r < s.last; r += s.lanes) x[(s.seed * rows + r) * units + s.unit] += value;
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
