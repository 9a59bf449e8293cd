// The gradient of a convolution of events by its weights, stride 1: each event adds the gradients of the outputs that see
// it to those of its weights. The sums of one channel stay in registers while its events are walked; the gradients of
// some outputs of a map, with a border of zeros, stay in the first cache. Included once for each instruction set, like
// `lanes.h`.

// The events of some images by channel: their places on the bordered maps, of one output each, and what they are worth.
struct Channels {
  Scratch<int32_t> places, first;
  Scratch<float> values;
};

// Which of 8 numbers are not 0, of which `n` exist.
static inline uint64_t found(const float* p, int64_t n) {
  uint64_t bits = 0;
  if (n >= 8 && W <= 8)
    for (int k = 0; k < 8; k += W) bits |= static_cast<uint64_t>(nonzero(load(p + k))) << k;
  else
    for (int k = 0; k < std::min<int64_t>(n, 8); k++) bits |= static_cast<uint64_t>(p[k] != 0.0f) << k;
  return bits;
}

// 8 rows of 8 bits become columns.
static inline uint64_t turned(uint64_t a) {
  uint64_t b = (a ^ a >> 7) & 0x00AA00AA00AA00AAull;
  a ^= b ^ b << 7;
  b = (a ^ a >> 14) & 0x0000CCCC0000CCCCull;
  a ^= b ^ b << 14;
  b = (a ^ a >> 28) & 0x00000000F0F0F0F0ull;
  return a ^ b ^ b << 28;
}

// Which of 64 pixels of one image, from `pixel` on, are not 0 in the channels from `c` on, a word for each of 8.
static void marked(const EventWeights& conv, const float* x, int64_t pixel, int64_t c, uint64_t* words) {
  const int64_t pixels = conv.height * conv.width, count = std::min<int64_t>(64, pixels - pixel), here = std::min<int64_t>(8, conv.channels - c);
  std::fill_n(words, 8, 0);
  for (int64_t k = 0; k < count; k += 8) {
    uint64_t bytes = 0;
    if (conv.x_last) {
      for (int64_t i = 0; i < std::min<int64_t>(8, count - k); i++) bytes |= found(x + (pixel + k + i) * conv.channels + c, here) << 8 * i;
      bytes = turned(bytes);
    } else {
      for (int64_t i = 0; i < here; i++) bytes |= found(x + (c + i) * pixels + pixel + k, count - k) << 8 * i;
    }
    for (int64_t i = 0; i < here; i++) words[i] |= (bytes >> 8 * i & 255) << k;
  }
}

// The events of the images [begin, end). cells: of a bordered map, `across` of them in a row.
static void sort(const EventWeights& conv, int64_t begin, int64_t end, int64_t cells, int64_t across, Channels& out) {
  const int64_t pixels = conv.height * conv.width, words = (pixels + 63) / 64, size = (end - begin) * conv.channels * pixels;
  std::vector<int32_t> cell(pixels);
  for (int64_t pixel = 0; pixel < pixels; pixel++) cell[pixel] = static_cast<int32_t>(pixel / conv.width * across + pixel % conv.width);
  std::vector<uint64_t> marks((end - begin) * words * 8);
  out.first.reserve(conv.channels + 1), out.places.reserve(size), out.values.reserve(size);
  int32_t *places = out.places.data(), n = 0;
  float* values = out.values.data();
  for (int64_t c = 0; c < conv.channels; c += 8) {
    for (int64_t image = begin; image < end; image++)
      for (int64_t word = 0; word < words; word++)
        marked(conv, conv.x + image * conv.channels * pixels, word * 64, c, &marks[((image - begin) * words + word) * 8]);
    for (int64_t i = 0; i < std::min<int64_t>(8, conv.channels - c); i++) {
      out.first[c + i] = n;
      for (int64_t image = begin; image < end; image++) {
        const float* x = conv.x + image * conv.channels * pixels + (conv.x_last ? c + i : (c + i) * pixels);
        const int64_t step = conv.x_last ? conv.channels : 1;
        const int32_t map = static_cast<int32_t>((image - begin) * cells);
        for (int64_t word = 0; word < words; word++)
          for (uint64_t left = marks[((image - begin) * words + word) * 8 + i]; left; left &= left - 1) {
            const int64_t pixel = word * 64 + __builtin_ctzll(left);
            places[n] = map + cell[pixel], values[n++] = x[pixel * step];
          }
      }
    }
  }
  out.first[conv.channels] = n;
}

// The gradients of a block of outputs, from the events of some images. maps: their gradients by outputs; sums [channels]
// [ROWS][COLUMNS][VECTORS vectors], of kernel rows and columns from the first, the first of which lies at `from`.
template <int ROWS, int COLUMNS, int VECTORS>
static void add_up(const Channels& events, int64_t channels, const float* maps, int64_t from, int64_t row_step, float* sums) {
  constexpr int BLOCK = VECTORS * W;
  const int32_t *places = events.places.data(), *first = events.first.data();
  const float* values = events.values.data();
  maps += from * BLOCK, row_step *= BLOCK;
  for (int64_t c = 0; c < channels; c++, sums += ROWS * COLUMNS * BLOCK) {
    if (first[c] == first[c + 1]) continue;
    F sum[ROWS][COLUMNS][VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 16
      for (int j = 0; j < COLUMNS; j++)
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; v++) sum[i][j][v] = load(sums + ((i * COLUMNS + j) * VECTORS + v) * W);
    for (int32_t e = first[c]; e < first[c + 1]; e++) {
      const float* at = maps + static_cast<int64_t>(places[e]) * BLOCK;
      const F a = all(values[e]);
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 16
        for (int j = 0; j < COLUMNS; j++)
#pragma GCC unroll 16
          for (int v = 0; v < VECTORS; v++)
            sum[i][j][v] = fma(a, load(at - i * row_step - (j * VECTORS - v) * W), sum[i][j][v]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 16
      for (int j = 0; j < COLUMNS; j++)
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; v++) store(sums + ((i * COLUMNS + j) * VECTORS + v) * W, sum[i][j][v]);
  }
}

// The gradients of the weights of some blocks of outputs.
template <int ROWS, int COLUMNS, int VECTORS>
static void weigh(const EventWeights& conv, const std::vector<Channels>& groups, int64_t begin, int64_t end) {
  constexpr int BLOCK = VECTORS * W;
  const int64_t across = conv.width + COLUMNS - 1, border = (conv.kernel_h - 1) * conv.dilation_h;
  const int64_t cells = (conv.height + border) * across, step = conv.dilation_h * across;
  const int64_t each = conv.channels * conv.kernel_h * COLUMNS * BLOCK;
  Scratch<float> maps(conv.together * cells * BLOCK), sums((end - begin) * each);
  std::fill_n(maps.data(), conv.together * cells * BLOCK, 0.0f), std::fill_n(sums.data(), (end - begin) * each, 0.0f);
  // the output row and column of the first cell
  const int64_t top = conv.pad_h - border, left = conv.pad_w - (COLUMNS - 1);
  const int64_t rows_from = std::max<int64_t>(0, -top), rows_to = std::min(conv.height + border, conv.out_h - top);
  const int64_t from = std::max<int64_t>(0, -left), to = std::min(across, conv.out_w - left);
  for (size_t group = 0; group < groups.size(); group++) {
    const int64_t first = group * conv.together, last = std::min(conv.images, first + conv.together);
    for (int64_t block = begin; block < end; block++) {
      const int here = static_cast<int>(std::min<int64_t>(BLOCK, conv.outputs - block * BLOCK));
      for (int64_t image = first; image < last; image++)
        for (int64_t row = rows_from; row < rows_to; row++) {
          const int64_t pixels = conv.out_h * conv.out_w, pixel = (top + row) * conv.out_w + left + from;
          const float* y = conv.grad + image * pixels * conv.outputs;
          float* cell = maps.data() + ((image - first) * cells + row * across + from) * BLOCK;
          if (conv.grad_last) {
            y += pixel * conv.outputs + block * BLOCK;
            for (int64_t column = from; column < to; column++, y += conv.outputs, cell += BLOCK)
              for (int v = 0; v < VECTORS; v++) store(cell + v * W, load(y + v * W, std::max(0, here - v * W), 0.0f));
          } else {
            y += block * BLOCK * pixels + pixel;
            for (int o = 0; o < here; o++, y += pixels, cell++)
              for (int64_t column = 0; column < to - from; column++) cell[column * BLOCK] = y[column];
          }
        }
      float* of = sums.data() + (block - begin) * each;
      for (int64_t row = 0; row < conv.kernel_h; row += ROWS, of += conv.channels * ROWS * COLUMNS * BLOCK)
        add_up<ROWS, COLUMNS, VECTORS>(groups[group], conv.channels, maps.data(), border / conv.dilation_h * step - row * step + COLUMNS - 1,
                                       step, of);
    }
  }
  for (int64_t block = begin; block < end; block++)
    for (int64_t row = 0; row < conv.kernel_h; row++)
      for (int64_t c = 0; c < conv.channels; c++)
        for (int64_t column = 0; column < COLUMNS; column++) {
          const int64_t among = ((row / ROWS * conv.channels + c) * ROWS + row % ROWS) * COLUMNS + column;
          const float* from = sums.data() + (block - begin) * each + among * BLOCK;
          const int64_t* step = conv.steps;
          for (int64_t o = block * BLOCK; o < std::min(conv.outputs, (block + 1) * BLOCK); o++)
            conv.weights[o * step[0] + c * step[1] + row * step[2] + column * step[3]] = *from++;
        }
}

typedef void (*Weigh)(const EventWeights&, const std::vector<Channels>&, int64_t, int64_t);

template <int COLUMNS = 1>
static Weigh weigh_of(const EventWeights& conv, int64_t& block) {
  if constexpr (COLUMNS <= MOST_COLUMNS_OF_EVENTS) {
    if (conv.kernel_w != COLUMNS) return weigh_of<COLUMNS + 1>(conv, block);
    constexpr int VECTORS = std::min(8, MOST_SUMS / COLUMNS), ROWS = COLUMNS == 3 ? 3 : 1;
    const bool whole = conv.kernel_h == ROWS;
    block = (whole && ROWS > 1 ? 1 : VECTORS) * W;
    return whole && ROWS > 1 ? weigh<ROWS, COLUMNS, 1> : weigh<1, COLUMNS, VECTORS>;
  }
  return nullptr;
}

// Everything, on PyTorch's threads: each sum belongs to one of them, whatever their number.
template <class Parallel>
static void weigh_all(EventWeights conv, const Parallel& parallel) {
  int64_t block = W;
  const Weigh run = weigh_of(conv, block);
  const int64_t across = conv.width + conv.kernel_w - 1, cells = (conv.height + (conv.kernel_h - 1) * conv.dilation_h) * across;
  conv.together = std::clamp<int64_t>(NEAR / (cells * block * 4), 1, conv.images);
  std::vector<Channels> groups((conv.images + conv.together - 1) / conv.together);
  parallel(0, static_cast<int64_t>(groups.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; group++)
      sort(conv, group * conv.together, std::min(conv.images, (group + 1) * conv.together), cells, across, groups[group]);
  });
  parallel(0, (conv.outputs + block - 1) / block, 1, [&](int64_t begin, int64_t end) { run(conv, groups, begin, end); });
}
