// Elementwise maps, and dropout. n counts the elements of all seeds.

constexpr float SQRT_HALF = 0.70710678118654752f;
constexpr float DENSITY_AT_0 = 0.39894228040143268f;  // of the normal distribution

#define MAP(name, value)                                                          \
  KERNEL name(const float* x, float* y, wide n) {                                 \
    for (wide i = first_item(); i < n; i += item_step()) y[i] = value(x[i]);      \
  }
#define MAP_TWO(name, value)                                                                  \
  KERNEL name(const float* a, const float* b, float* y, wide n) {                             \
    for (wide i = first_item(); i < n; i += item_step()) y[i] = value(a[i], b[i]);            \
  }

__device__ inline float normal_cdf(float x) { return 0.5f * (1 + erff(x * SQRT_HALF)); }
__device__ inline float gelu_of(float x) { return x * normal_cdf(x); }
__device__ inline float tanh_of(float x) { return tanhf(x); }
__device__ inline float sum_of(float a, float b) { return a + b; }
__device__ inline float relu_slope(float dy, float x) { return x > 0 ? dy : 0; }
__device__ inline float gelu_slope(float dy, float x) {
  return dy * (normal_cdf(x) + x * DENSITY_AT_0 * expf(-0.5f * x * x));
}
__device__ inline float tanh_slope(float dy, float x) {
  const float y = tanhf(x);
  return dy * (1 - y * y);
}

MAP(relu, rectified)
MAP(gelu, gelu_of)
MAP(tanh_forward, tanh_of)
MAP_TWO(add, sum_of)
MAP_TWO(relu_gradient, relu_slope)
MAP_TWO(gelu_gradient, gelu_slope)
MAP_TWO(tanh_gradient, tanh_slope)

// SplitMix64 (Steele, Lea and Flood 2014).
__device__ inline unsigned long long splitmix(unsigned long long z) {
  z += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

// n: elements of one seed; a row of blocks is a seed. An element is kept where its `bits` random bits reach `bound`.
KERNEL dropout(const float* x, const float* stream, float* y, wide n, int bits, wide bound, float factor, int across) {
  const Block block = block_of(across);
  const wide seed = block.y;
  const unsigned long long a = (unsigned long long)stream[2 * seed], b = (unsigned long long)stream[2 * seed + 1];
  const unsigned long long start = splitmix((a << 32) + b);
  for (wide i = first_item(block.x); i < n; i += item_step(across)) {
    const bool kept = (splitmix(start + (unsigned long long)i) >> (64 - bits)) >= (unsigned long long)bound;
    y[seed * n + i] = kept ? x[seed * n + i] * factor : 0;
  }
}
