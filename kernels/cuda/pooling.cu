// Pooling and subsampling. One thread an element of the output; n counts those of all seeds. Images (..., H, W, C) are
// `rows` x `columns` on the side that an index runs over.

struct Place {
  wide image;
  int row, column, unit;
};

__device__ inline Place place_of(wide i, int rows, int columns, int units) {
  Place p;
  p.unit = (int)(i % units);
  i /= units;
  p.column = (int)(i % columns);
  i /= columns;
  p.row = (int)(i % rows);
  p.image = i / rows;
  return p;
}

__device__ inline wide offset(wide image, int row, int column, int unit, int rows, int columns, int units) {
  return ((image * rows + row) * columns + column) * units + unit;
}

// rows, columns: of the output; height, width: of the input. What lies outside of the image is never the largest.
KERNEL max_pool(const float* x, float* y, byte* where, wide n, int rows, int columns, int units, int height, int width,
                int size, int stride, int padding) {
  for (wide i = first_item(); i < n; i += item_step()) {
    const Place p = place_of(i, rows, columns, units);
    float best = 0;
    int at = -1;
    for (int k = 0; k < size * size; ++k) {
      const int row = p.row * stride - padding + k / size, column = p.column * stride - padding + k % size;
      if (row < 0 || row >= height || column < 0 || column >= width) continue;
      const float value = x[offset(p.image, row, column, p.unit, height, width, units)];
      // As numpy's argmax has it: the first of the largest, and a NaN is larger than all.
      if (at < 0 || value > best || (value != value && best == best)) {
        best = value;
        at = k;
      }
    }
    y[i] = best;
    where[i] = (byte)at;
  }
}

// rows, columns: of the input, as in all gradients; height, width: of the output. The windows that a position lies in
// are added in their order.
KERNEL max_pool_gradient(const float* dy, const byte* where, float* dx, wide n, int rows, int columns, int units,
                         int height, int width, int size, int stride, int padding) {
  for (wide i = first_item(); i < n; i += item_step()) {
    const Place p = place_of(i, rows, columns, units);
    const int row = p.row + padding, column = p.column + padding;
    const int top = row < size ? 0 : (row - size) / stride + 1, left = column < size ? 0 : (column - size) / stride + 1;
    float sum = 0;
    for (int a = top; a < height && a * stride <= row; ++a)
      for (int b = left; b < width && b * stride <= column; ++b) {
        const wide from = offset(p.image, a, b, p.unit, height, width, units);
        if (where[from] == (row - a * stride) * size + column - b * stride) sum += dy[from];
      }
    dx[i] = sum;
  }
}

KERNEL average_pool(const float* x, float* y, wide n, int rows, int columns, int units, int size) {
  for (wide i = first_item(); i < n; i += item_step()) {
    const Place p = place_of(i, rows, columns, units);
    float sum = 0;
    for (int k = 0; k < size * size; ++k)
      sum += x[offset(p.image, p.row * size + k / size, p.column * size + k % size, p.unit, rows * size,
                      columns * size, units)];
    y[i] = sum / (float)(size * size);
  }
}

KERNEL average_pool_gradient(const float* dy, float* dx, wide n, int rows, int columns, int units, int size) {
  for (wide i = first_item(); i < n; i += item_step()) {
    const Place p = place_of(i, rows, columns, units);
    dx[i] = dy[offset(p.image, p.row / size, p.column / size, p.unit, rows / size, columns / size, units)] /
            (float)(size * size);
  }
}

KERNEL global_pool(const float* x, float* y, wide n, int positions, int units) {
  for (wide i = first_item(); i < n; i += item_step()) {
    const float* from = x + i / units * positions * units + i % units;
    float sum = 0;
    for (int p = 0; p < positions; ++p) sum += from[(wide)p * units];
    y[i] = sum / (float)positions;
  }
}

KERNEL global_pool_gradient(const float* dy, float* dx, wide n, int positions, int units) {
  for (wide i = first_item(); i < n; i += item_step())
    dx[i] = dy[i / units / positions * units + i % units] / (float)positions;
}

// x has height x width positions of `inputs` units, y rows x columns of `units`.
KERNEL subsample(const float* x, float* y, wide n, int rows, int columns, int units, int height, int width, int inputs,
                 int stride) {
  for (wide i = first_item(); i < n; i += item_step()) {
    const Place p = place_of(i, rows, columns, units);
    y[i] = p.unit < inputs
               ? x[offset(p.image, p.row * stride, p.column * stride, p.unit, height, width, inputs)]
               : 0;
  }
}

KERNEL subsample_gradient(const float* dy, float* dx, wide n, int rows, int columns, int units, int height, int width,
                          int inputs, int stride) {
  for (wide i = first_item(); i < n; i += item_step()) {
    const Place p = place_of(i, height, width, inputs);
    const bool picked = p.row % stride == 0 && p.column % stride == 0;
    dx[i] = picked ? dy[offset(p.image, p.row / stride, p.column / stride, p.unit, rows, columns, units)] : 0;
  }
}
