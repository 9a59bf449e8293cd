// Convolution of sparse input: each entry that is not 0, an event, adds its weights to the outputs that see it. The sums
// of the few outputs that an input column meets stay in registers while the row is walked from left to right.
// Included once for each instruction set, like `lanes.h`.

// What the events in a given column of the input have in common.
struct Column {
  int32_t weights;  // the weights of the first channel; -1: no output sees this column
  int32_t first;    // the first output that sees it
};

// Events, and where those of each place begin: places in the order in which they are visited.
struct Events {
  Scratch<float> values;
  Scratch<int32_t> weights, first;

  void make(int64_t most, int64_t places) { values.reserve(most + 2 * W), weights.reserve(most + 2 * W), first.reserve(places + 1); }
};

// The events of an image `x`, pixel after pixel, with their weights in the first kernel row.
static void decode(const EventConv& conv, const std::vector<Column>& columns, const float* x, Events& out) {
  out.make(conv.height * conv.width * conv.channels, conv.height * conv.width);
  int32_t lane[W];
  const int32_t step = static_cast<int32_t>(conv.most * conv.vectors * W);
  for (int k = 0; k < W; k++) lane[k] = k * step;
  const I lanes = load(lane);
  const int channels = static_cast<int>(conv.channels);
  float* values = out.values.data();
  int32_t *weights = out.weights.data(), *first = out.first.data(), n = 0;
  for (int64_t row = 0; row < conv.height; row++)
    for (const Column& column : columns) {
      *first++ = n;
      if (column.weights >= 0)
        for (int c = 0; c < channels; c += W)
          n += compress(load(x + c, channels - c, 0.0f), lanes + (c * step + column.weights), values + n, weights + n);
      x += channels;
    }
  *first = n;
}

// For each output row and input column the events of all kernel rows in one list.
static void merge(const EventConv& conv, const Events& events, Events& out) {
  out.make(conv.out_h * std::min(conv.kernel_h, conv.height) * conv.width * conv.channels, conv.out_h * conv.width);
  float* values = out.values.data();
  int32_t *weights = out.weights.data(), *first = out.first.data(), n = 0;
  for (int64_t row = 0; row < conv.out_h; row++) {
    const int64_t top = row * conv.stride_h - conv.pad_h, above = std::max<int64_t>(0, -top);
    const int64_t begin = (above + conv.dilation_h - 1) / conv.dilation_h;  // kernel rows inside the image
    const int64_t end = std::min(conv.kernel_h, (conv.height - top + conv.dilation_h - 1) / conv.dilation_h);
    for (int64_t column = 0; column < conv.width; column++) {
      *first++ = n;
      for (int64_t k = begin; k < end; k++) {
        const int32_t* pixel = &events.first[(top + k * conv.dilation_h) * conv.width + column];
        const int32_t from = pixel[0], count = pixel[1] - from, shift = static_cast<int32_t>(k * conv.kernel_step);
        int32_t e = 0;
        do {
          store(values + n + e, load(&events.values[from + e]));
          store(weights + n + e, load(&events.weights[from + e]) + shift);
        } while ((e += W) < count);
        n += count;
      }
    }
  }
  *first = n;
}

// One row of outputs, one block of them, from the merged events.
template <int MOST, int VECTORS>
static void gather(const EventConv& conv, const Column* columns, const Events& events, int64_t row, int64_t block, float* y) {
  const float *weights = conv.weights + block * conv.block_step, *bias = conv.bias + block * VECTORS * W;
  const float* values = events.values.data();
  const int32_t *places = events.weights.data(), *first = &events.first[row * conv.width];
  const int64_t outputs = conv.outputs, width = conv.width, out_w = conv.out_w;
  const int here = static_cast<int>(std::min<int64_t>(VECTORS * W, outputs - block * VECTORS * W));
  F sum[MOST][VECTORS];
#pragma GCC unroll 16
  for (int j = 0; j < MOST; j++)
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) sum[j][v] = load(bias + v * W);
  int64_t at = std::min(0, columns[0].first), column = 0;
  y += at * outputs;
  for (;; at++, y += outputs) {  // outputs from left to right, each after the last column it sees
    for (; column < width && columns[column].first == at; column++)
      for (int32_t e = first[column]; e < first[column + 1]; e++) {
        const F a = all(values[e]);
        const float* w = weights + places[e];
#pragma GCC unroll 16
        for (int j = 0; j < MOST; j++)
#pragma GCC unroll 16
          for (int v = 0; v < VECTORS; v++) sum[j][v] = fma(a, load(w + (j * VECTORS + v) * W), sum[j][v]);
      }
    if (at >= 0) {
      if (at >= out_w) return;
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; v++) store(y + v * W, sum[0][v], here - v * W);
    }
#pragma GCC unroll 16
    for (int j = 0; j + 1 < MOST; j++)
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; v++) sum[j][v] = sum[j + 1][v];
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) sum[MOST - 1][v] = load(bias + v * W);
  }
}

// Images [begin, end): block after block of outputs, so that the weights of one stay in the cache.
template <int MOST, int VECTORS>
static void gather_all(const EventConv& conv, int64_t begin, int64_t end) {
  std::vector<Column> columns(conv.width);
  for (int64_t column = 0; column < conv.width; column++) {
    const int64_t right = column + conv.pad_w, phase = right % conv.stride_w;
    columns[column] = {phase < conv.kernel_w ? static_cast<int32_t>(phase * conv.phase_step) : -1,
                       static_cast<int32_t>(right / conv.stride_w - (MOST - 1))};
  }
  const int64_t together = conv.blocks * conv.block_step > 65536 ? 16 : 1;  // 256 KiB of weights
  Events pixels;
  std::vector<Events> events(std::min(together, end - begin));
  for (int64_t image = begin; image < end; image += together) {
    const int64_t here = std::min(together, end - image);
    for (int64_t k = 0; k < here; k++) {
      decode(conv, columns, conv.x + (image + k) * conv.height * conv.width * conv.channels, pixels);
      merge(conv, pixels, events[k]);
    }
    for (int64_t block = 0; block < conv.blocks; block++)
      for (int64_t k = 0; k < here; k++)
        for (int64_t row = 0; row < conv.out_h; row++)
          gather<MOST, VECTORS>(conv, columns.data(), events[k], row, block,
                                conv.y + ((image + k) * conv.out_h + row) * conv.out_w * conv.outputs + block * VECTORS * W);
  }
}

template <int MOST, int VECTORS = 1>
static void run_most(const EventConv& conv, int64_t begin, int64_t end) {
  if constexpr (MOST * VECTORS <= MOST_SUMS) {
    if (conv.vectors == VECTORS) return gather_all<MOST, VECTORS>(conv, begin, end);
    run_most<MOST, VECTORS + 1>(conv, begin, end);
  }
}

template <int MOST = 1>
static void run_events(const EventConv& conv, int64_t begin, int64_t end) {
  if constexpr (MOST <= MOST_SUMS) {
    if (conv.most == MOST) return run_most<MOST>(conv, begin, end);
    run_events<MOST + 1>(conv, begin, end);
  }
}
