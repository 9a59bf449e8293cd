// Convolution of letters as products of whole numbers. A few places are computed at once for 16 outputs, the sums in
// registers; which places, of which step, is no matter: each is an address in a padded copy of the letters.

constexpr int VECTORS = 16 / W;                            // of 16 sums
constexpr int PLACES = W == 4 ? 2 : W == 8 ? 6 : 12;       // at once

// The sums of PLACES places for the 16 outputs of a block.
template <bool FLUSH>
static inline void products(const Term& term, int64_t row, const uint8_t* letters, const int64_t* places, const int8_t* weights,
                            I (*whole_sums)[VECTORS]) {
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
    for (int p = 0; p < PLACES; p++) x[p] = letters + places[p] + k * term.dilation_h * row;
    for (int64_t from = 0; from < term.groups; from += span) {
      const int64_t to = std::min(from + span, term.groups);
      for (int64_t g = from; g < to; g++, weights += 64) {
        B w[VECTORS];
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; v++) w[v] = load(weights + 4 * W * v);
#pragma GCC unroll 16
        for (int p = 0; p < PLACES; p++) {
          const B some = four(x[p] + 4 * g);
#pragma GCC unroll 16
          for (int v = 0; v < VECTORS; v++) sums[p][v] = add(sums[p][v], some, w[v]);
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

// The drives of all places for the 16 outputs of a block.
template <bool FLUSH>
static void dense(const Term& term, const Stage& stage, int64_t row, const uint8_t* letters, const std::vector<int64_t>& places,
                  const Block<int8_t>& own, float* y) {
  const int64_t count = static_cast<int64_t>(places.size()) - PLACES;
  F scale[VECTORS], bias[VECTORS];
  for (int v = 0; v < VECTORS; v++) scale[v] = load(own.scale + v * W), bias[v] = load(own.bias + v * W);
  for (int64_t at = 0; at < count; at += PLACES) {
    I sums[PLACES][VECTORS];
    products<FLUSH>(term, row, letters, &places[at], own.weights, sums);
    const int last = static_cast<int>(std::min<int64_t>(PLACES, count - at));
    float* to = y + at * stage.outputs + own.first;
    if (last == PLACES && own.outputs == 16) {
#pragma GCC unroll 16
      for (int p = 0; p < PLACES; p++, to += stage.outputs)
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; v++) store(to + v * W, real(sums[p][v]) * scale[v] + bias[v]);
    } else {
      for (int p = 0; p < last; p++, to += stage.outputs)
        for (int v = 0; v < VECTORS; v++) store(to + v * W, real(sums[p][v]) * scale[v] + bias[v], own.outputs - v * W);
    }
  }
}

// The drives [steps, rows * out_w, outputs] of the output rows from `row` on. `zero` counts in no sum: `bias` knows of it.
static void dense(const Term& term, const Stage& stage, const Padded& padded, int64_t row, int64_t rows, float* y) {
  const std::vector<int64_t> places = padded.places(term, stage, row, rows, PLACES);
  const auto run = term.flush < term.groups * term.kernel_h ? dense<true> : dense<false>;
  for (int64_t window = 0; window < term.windows; window++)
    for (int64_t block = 0; block < term.blocks; block++)
      run(term, stage, padded.row, padded.held.data() + window * padded.window, places, {term, stage, window, block}, y);
}
