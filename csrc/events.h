// Convolution of sparse input: each entry that is not 0, an event, adds its rows of weights to the outputs that see it.
// Consecutive outputs of a row lie side by side, and so do the weights that an event brings them, so one event and one
// kernel row are one run of additions. Included once for each instruction set, like `lanes.h`.

// The events of one image, pixel after pixel: their values, and where each finds its weights.
struct Events {
  std::vector<float> values;
  std::vector<int32_t> weights, first;  // `first`: where the events of each pixel begin
};

// What the events in a given column of the input have in common.
struct Column {
  int32_t weights, outputs, step;  // step: from one channel's weights to the next
};

static void decode(const EventConv& conv, const std::vector<Column>& columns, const float* x, Events& out) {
  int32_t lane[W];
  for (int k = 0; k < W; k++) lane[k] = k;
  const I lanes = load(lane);
  const int channels = static_cast<int>(conv.channels);
  int n = 0;
  int32_t* first = out.first.data();
  for (int64_t row = 0; row < conv.height; row++)
    for (const Column& column : columns) {
      *first++ = n;
      for (int c = 0, left = channels; c < channels; c += W, left -= W, x += std::min(W, left + W))
        n += compress(load(x, left, 0.0f), (lanes + c) * column.step + column.weights, &out.values[n], &out.weights[n]);
    }
  *first = n;
}

// y += sum of value * weights over n events, VECTORS * W outputs that stay in registers.
template <int VECTORS>
static inline void add(float* y, const float* weights, const float* values, const int32_t* places, int n) {
  F sum[VECTORS];
  for (int k = 0; k < VECTORS; k++) sum[k] = load(y + k * W);
  for (int e = 0; e < n; e++) {
    const F a = all(values[e]);
    const float* w = weights + places[e];
    for (int k = 0; k < VECTORS; k++) sum[k] = fma(a, load(w + k * W), sum[k]);
  }
  for (int k = 0; k < VECTORS; k++) store(y + k * W, sum[k]);
}

// One image: its events into `sums` [out_h, padded_w, outputs], which hold the bias already.
template <int VECTORS>
static void scatter(const EventConv& conv, const std::vector<Column>& columns, const Events& events, float* sums) {
  const int64_t line = conv.padded_w * conv.outputs;
  std::vector<float*> to(conv.kernel_h);
  std::vector<const float*> from(conv.kernel_h);
  const int32_t* first = events.first.data();
  for (int64_t row = 0; row < conv.height; row++) {
    int kernels = 0;  // the kernel rows through which this row is seen
    for (int64_t k = 0; k < conv.kernel_h; k++) {
      const int64_t below = row + conv.pad_h - k * conv.dilation_h, out = below / conv.stride_h;
      if (below < 0 || below % conv.stride_h || out >= conv.out_h) continue;
      to[kernels] = sums + out * line, from[kernels] = conv.weights + k * conv.kernel_step, kernels++;
    }
    for (const Column& column : columns) {
      const int at = *first++, n = *first - at;
      if (n == 0) continue;
      for (int k = 0; k < kernels; k++)
        for (int64_t v = 0; v < conv.vectors; v += VECTORS)
          add<VECTORS>(to[k] + column.outputs + v * W, from[k] + v * W, &events.values[at], &events.weights[at], n);
    }
  }
}

// Images [begin, end). `sums` has columns on both sides that no output reads, so that no event needs a bound.
static void run_events(const EventConv& conv, int64_t begin, int64_t end) {
  const int64_t inputs = conv.height * conv.width * conv.channels, line = conv.padded_w * conv.outputs;
  std::vector<Column> columns(conv.width);
  for (int64_t column = 0; column < conv.width; column++) {
    const int64_t right = column + conv.pad_w, phase = right % conv.stride_w;
    const int64_t outputs = ((right - conv.furthest[phase]) / conv.stride_w + conv.halo) * conv.outputs;
    columns[column] = {static_cast<int32_t>(conv.spans[phase]), static_cast<int32_t>(outputs),
                       static_cast<int32_t>(conv.vectors * W)};
  }
  Events events;
  events.values.resize(inputs + W), events.weights.resize(inputs + W);
  events.first.resize(conv.height * conv.width + 1);
  Aligned sums(conv.out_h * line + conv.vectors * W);
  for (int64_t image = begin; image < end; image++) {
    decode(conv, columns, conv.x + image * inputs, events);
    for (int64_t p = 0; p < conv.padded_w; p++) memcpy(&sums[p * conv.outputs], conv.bias, 4 * conv.outputs);
    for (int64_t row = 1; row < conv.out_h; row++) memcpy(&sums[row * line], sums.data(), 4 * line);
    if (conv.vectors % 12 == 0) scatter<12>(conv, columns, events, sums.data());
    else if (conv.vectors % 6 == 0) scatter<6>(conv, columns, events, sums.data());
    else if (conv.vectors % 4 == 0) scatter<4>(conv, columns, events, sums.data());
    else if (conv.vectors % 3 == 0) scatter<3>(conv, columns, events, sums.data());
    else scatter<1>(conv, columns, events, sums.data());
    for (int64_t row = 0; row < conv.out_h; row++)
      memcpy(conv.y + (image * conv.out_h + row) * conv.out_w * conv.outputs,
             &sums[row * line + conv.halo * conv.outputs], 4 * conv.out_w * conv.outputs);
  }
}
