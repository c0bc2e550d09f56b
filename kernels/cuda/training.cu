// The loss, the optimisers, and gathering a batch. S seeds, N samples, K classes, P parameters.

constexpr int THREADS = 256;

// Adds up the values of a block in a fixed order; the sum is thread 0's.
template <class Number>
__device__ inline Number block_sum(Number value) {
  __shared__ Number sums[THREADS];
  const int t = threadIdx.x;
  sums[t] = value;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if (t < half) sums[t] += sums[t + half];
    __syncthreads();
  }
  return sums[0];
}

// A thread a sample, n = S N: its loss, whether it was hit, and dlogits. Shared labels are those of one row.
KERNEL cross_entropy(const float* logits, const int* labels, int shared, float smoothing, double* losses, int* hits,
                     float* dlogits, wide n, int samples, int classes) {
  const wide i = first_item();
  if (i >= n) return;
  const float* row = logits + i * classes;
  float* gradient = dlogits + i * classes;
  const int label = labels[shared ? i % samples : i];
  const float extra = 1 - smoothing, even = smoothing / (float)classes;
  int best = 0;
  for (int k = 1; k < classes; ++k)
    if (row[k] > row[best]) best = k;
  float normaliser = 0, along = extra * (row[label] - row[best]);
  for (int k = 0; k < classes; ++k) {
    normaliser += expf(row[k] - row[best]);
    along += even * (row[k] - row[best]);
  }
  const float factor = 1 / (normaliser * (float)samples);
  for (int k = 0; k < classes; ++k)
    gradient[k] = expf(row[k] - row[best]) * factor - (even + (k == label ? extra : 0)) / (float)samples;
  losses[i] = log((double)normaliser) - along;
  hits[i] = best == label;
}

// A block a seed.
KERNEL sum_losses(const double* losses, const int* hits, double* loss, wide* hit, int samples) {
  double sum = 0;
  wide count = 0;
  for (int n = threadIdx.x; n < samples; n += THREADS) {
    sum += losses[(wide)blockIdx.x * samples + n];
    count += hits[(wide)blockIdx.x * samples + n];
  }
  sum = block_sum(sum);
  count = block_sum(count);
  if (threadIdx.x == 0) {
    loss[blockIdx.x] = sum / samples;
    hit[blockIdx.x] = count;
  }
}

// Σ g² of a piece of each seed's gradient, (S, pieces) float64; a row of blocks is a seed.
KERNEL sum_squares(const float* gradient, wide pitch, int trained, double* partials, int across) {
  const Block block = block_of(across);
  double sum = 0;
  for (wide i = first_item(block.x); i < trained; i += item_step(across)) {
    const double g = gradient[block.y * pitch + i];
    sum += g * g;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partials[(wide)block.y * across + block.x] = sum;
}

KERNEL finish_squares(const double* partials, double* out, int pieces) {
  double sum = 0;
  for (int k = threadIdx.x; k < pieces; k += THREADS) sum += partials[(wide)blockIdx.x * pieces + k];
  sum = block_sum(sum);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// The rate (and AdamW's step) lie in memory, where a captured launch finds those of its step. A thread a parameter,
// a row of blocks a seed; factor 0 leaves a seed as it is. velocity is null without momentum.
KERNEL sgd(float* theta, const float* gradient, float* velocity, wide pitch, int decayed, int trained,
           const double* rate, const double* factor, float momentum, int nesterov, float decay, int across) {
  const Block block = block_of(across);
  const wide seed = block.y;
  const float scale = (float)factor[seed], step = (float)rate[0];
  if (factor[seed] == 0) return;
  for (wide i = first_item(block.x); i < trained; i += item_step(across)) {
    const wide at = seed * pitch + i;
    float g = scale * gradient[at];
    if (i < decayed) g += decay * theta[at];
    if (velocity) {
      const float v = velocity[at] = momentum * velocity[at] + g;
      g = nesterov ? g + momentum * v : v;
    }
    theta[at] -= step * g;
  }
}

KERNEL adamw(float* theta, const float* gradient, float* first, float* second, wide pitch, int decayed, int trained,
             const double* rate, const double* factor, const double* step, double beta1, double beta2, float epsilon,
             float decay, int across) {
  __shared__ float corrections[2];
  const Block block = block_of(across);
  const wide seed = block.y;
  if (threadIdx.x == 0) {
    corrections[0] = (float)(1 - pow(beta1, step[0]));
    corrections[1] = (float)(1 - pow(beta2, step[0]));
  }
  __syncthreads();
  if (factor[seed] == 0) return;
  const float scale = (float)factor[seed], lr = (float)rate[0];
  for (wide i = first_item(block.x); i < trained; i += item_step(across)) {
    const wide at = seed * pitch + i;
    const float g = scale * gradient[at];
    const float m = first[at] += (float)(1 - beta1) * (g - first[at]);
    const float v = second[at] += (float)(1 - beta2) * (g * g - second[at]);
    float parameter = theta[at];
    if (i < decayed) parameter *= 1 - lr * decay;
    theta[at] = parameter - lr * (m / corrections[0]) / (sqrtf(v / corrections[1]) + epsilon);
  }
}

// n = S N H W C values of a batch; moves has 2 or 5 numbers an image (reference.gather).
template <class Pixel>
__device__ inline void gather_from(const Pixel* images, const int* index, const int* moves, int steps,
                                   const float* mean, const float* inverse, int hole, float* out, wide n, int height,
                                   int width, int channels) {
  for (wide i = first_item(); i < n; i += item_step()) {
    const int c = (int)(i % channels), column = (int)(i / channels % width);
    const int row = (int)(i / channels / width % height);
    const wide sample = i / channels / width / height;
    const int* move = moves + sample * steps;
    int from_column = column;
    bool cut = false;
    if (steps > 2) {
      const int top = move[3] - hole / 2, left = move[4] - hole / 2;
      if (move[2] == 1) from_column = width - 1 - column;
      cut = top <= row && row < top + hole && left <= column && column < left + hole;
    }
    const int from_row = row - move[0];
    from_column -= move[1];
    const bool inside = 0 <= from_row && from_row < height && 0 <= from_column && from_column < width;
    float value = 0;
    if (inside) value = (float)images[(((wide)index[sample] * height + from_row) * width + from_column) * channels + c];
    out[i] = cut ? 0 : (value - mean[c]) * inverse[c];
  }
}

#define GATHER(name, Pixel)                                                                                        \
  KERNEL name(const Pixel* images, const int* index, const int* moves, int steps, const float* mean,              \
              const float* inverse, int hole, float* out, wide n, int height, int width, int channels) {          \
    gather_from(images, index, moves, steps, mean, inverse, hole, out, n, height, width, channels);               \
  }

GATHER(gather_bytes, byte)
GATHER(gather_floats, float)
