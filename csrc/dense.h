// Convolution of letters as products of whole numbers. A few places are computed at once for 16 outputs, the sums in
// registers; which places, of which step, is no matter: each is an address in a padded copy of the letters.

constexpr int VECTORS = 16 / W;                            // of 16 sums
constexpr int PLACES = W == 4 ? 2 : W == 8 ? 6 : 12;       // at once

// The letters of an image, all steps, with a rim of `pad`; every letter with `zero` added, so that none is negative.
struct Padded {
  std::vector<uint8_t> held;
  int64_t row, step;

  void fill(const Term& term, const int8_t* x, int64_t steps) {
    const int64_t width = term.width + 2 * term.pad_w, line = term.width * term.taken;
    row = width * term.taken, step = row * (term.height + 2 * term.pad_h);
    held.resize(steps * step + 64);
    const uint8_t zero = static_cast<uint8_t>(term.zero);
    uint8_t* to = held.data();
    for (int64_t t = 0; t < steps; t++) {
      memset(to, zero, term.pad_h * row), to += term.pad_h * row;
      for (int64_t h = 0; h < term.height; h++) {
        memset(to, zero, term.pad_w * term.taken), to += term.pad_w * term.taken;
        copy(term, x, to, zero), x += term.width * term.channels, to += line;
        memset(to, zero, term.pad_w * term.taken), to += term.pad_w * term.taken;
      }
      memset(to, zero, term.pad_h * row), to += term.pad_h * row;
    }
    memset(to, 0, 64);
  }

 private:
  static void copy(const Term& term, const int8_t* x, uint8_t* to, uint8_t zero) {
    if (term.taken == term.channels) return shifted(x, to, term.width * term.channels, zero);
    for (int64_t w = 0; w < term.width; w++, x += term.channels, to += term.taken) shifted(x + term.first, to, term.taken, zero);
  }

  static void shifted(const int8_t* __restrict x, uint8_t* __restrict to, int64_t n, uint8_t zero) {
    for (int64_t k = 0; k < n; k++) to[k] = static_cast<uint8_t>(x[k]) + zero;
  }
};

// The drives of PLACES places for the 16 outputs of a block.
template <bool FLUSH>
static inline void products(const Term& term, int64_t row, const uint8_t* const* places, const int8_t* weights, I (*whole_sums)[VECTORS]) {
  Sum sums[PLACES][VECTORS] = {};
  if constexpr (FLUSH)
#pragma GCC unroll 16
    for (int p = 0; p < PLACES; p++)
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; v++) whole_sums[p][v] = I{};
  const int64_t span = FLUSH ? term.flush : term.groups;
  for (int64_t k = 0; k < term.kernel_h; k++) {
    const uint8_t* x[PLACES];
#pragma GCC unroll 16
    for (int p = 0; p < PLACES; p++) x[p] = places[p] + k * term.dilation_h * row;
    for (int64_t from = 0; from < term.groups; from += span) {
      const int64_t to = std::min(from + span, term.groups);
      for (int64_t g = from; g < to; g++, weights += 64) {
        B w[VECTORS];
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; v++) w[v] = load(weights + 4 * W * v);
#pragma GCC unroll 16
        for (int p = 0; p < PLACES; p++) {
          const B letters = four(x[p] + 4 * g);
#pragma GCC unroll 16
          for (int v = 0; v < VECTORS; v++) sums[p][v] = add(sums[p][v], letters, w[v]);
        }
      }
      if constexpr (FLUSH)
#pragma GCC unroll 16
        for (int p = 0; p < PLACES; p++)
#pragma GCC unroll 16
          for (int v = 0; v < VECTORS; v++) whole_sums[p][v] += whole(sums[p][v]), sums[p][v] = Sum{};
    }
  }
  if constexpr (!FLUSH)
#pragma GCC unroll 16
    for (int p = 0; p < PLACES; p++)
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; v++) whole_sums[p][v] = whole(sums[p][v]);
}

// The drives [steps, rows * out_w, outputs] of the output rows from `row` on. `zero` counts in no sum: `bias` knows of it.
template <bool FLUSH>
static void dense(const Term& term, const Stage& stage, const Padded& padded, int64_t row, int64_t rows, float* y) {
  const int64_t here = rows * stage.out_w, count = stage.steps * here;
  std::vector<const uint8_t*> places(count + PLACES);
  int64_t n = 0;
  for (int64_t t = 0; t < stage.steps; t++)
    for (int64_t h = row; h < row + rows; h++)
      for (int64_t w = 0; w < stage.out_w; w++)
        places[n++] = padded.held.data() + t * padded.step + h * term.stride_h * padded.row + w * term.stride_w * term.taken;
  for (; n < count + PLACES; n++) places[n] = places[count - 1];
  for (int64_t block = 0; block < term.blocks; block++) {
    const int8_t* weights = static_cast<const int8_t*>(term.weights) + block * term.block_step;
    const int outputs = static_cast<int>(std::min<int64_t>(16, stage.outputs - 16 * block));
    F scale[VECTORS], bias[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
      scale[v] = load(term.scale + 16 * block + v * W, outputs - v * W, 0.0f);
      bias[v] = load(term.bias + 16 * block + v * W, outputs - v * W, 0.0f);
    }
    for (int64_t at = 0; at < count; at += PLACES) {
      I sums[PLACES][VECTORS];
      products<FLUSH>(term, padded.row, &places[at], weights, sums);
      const int last = static_cast<int>(std::min<int64_t>(PLACES, count - at));
      float* to = y + at * stage.outputs + 16 * block;
      if (last == PLACES && outputs == 16) {
#pragma GCC unroll 16
        for (int p = 0; p < PLACES; p++, to += stage.outputs)
#pragma GCC unroll 16
          for (int v = 0; v < VECTORS; v++) store(to + v * W, real(sums[p][v]) * scale[v] + bias[v]);
      } else {
        for (int p = 0; p < last; p++, to += stage.outputs)
          for (int v = 0; v < VECTORS; v++) store(to + v * W, real(sums[p][v]) * scale[v] + bias[v], outputs - v * W);
      }
    }
  }
}
