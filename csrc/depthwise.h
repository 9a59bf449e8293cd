// Convolution of each channel by itself. A few places are computed at once for a vector of channels, the sums in registers:
// `flush` kernel places are added up before the sums are taken as reals.

constexpr int BESIDE = W == 4 ? 4 : 8;  // places at once

// The drives [steps, rows * out_w, outputs] of the output rows from `row` on.
template <class Number>
static void depthwise(const Term& term, const Stage& stage, const Padded& padded, int64_t row, int64_t rows, float* y) {
  const int64_t count = stage.steps * rows * stage.out_w, taps = term.kernel_h * term.kernel_w;
  const std::vector<int64_t> places = padded.places(term, stage, row, rows, BESIDE);
  std::vector<int64_t> reached;
  for (int64_t k = 0; k < term.kernel_h; k++)
    for (int64_t l = 0; l < term.kernel_w; l++) reached.push_back(k * term.dilation_h * padded.row + l * term.dilation_w * term.taken);
  for (int64_t block = 0; block < term.blocks; block++) {
    const Block<typename Number::Weight> own(term, stage, 0, block);
    for (int from = 0; from < own.outputs; from += Number::WIDTH) {
      const int8_t* letters = reinterpret_cast<const int8_t*>(padded.held.data()) + own.first + from;
      for (int64_t at = 0; at < count; at += BESIDE) {
        const int8_t* x[BESIDE];
        F sums[BESIDE][Number::REALS] = {};
#pragma GCC unroll 8
        for (int p = 0; p < BESIDE; p++) x[p] = letters + places[at + p];
        for (int64_t tap = 0; tap < taps;) {
          typename Number::Vector some[BESIDE] = {};
          for (const int64_t end = std::min(tap + term.flush, taps); tap < end; tap++) {
            const auto w = Number::weights(own.weights + tap * term.block + from);
#pragma GCC unroll 8
            for (int p = 0; p < BESIDE; p++) some[p] += Number::letters(x[p] + reached[tap]) * w;
          }
#pragma GCC unroll 8
          for (int p = 0; p < BESIDE; p++) {
            F a[Number::REALS];
            Number::reals(some[p], a);
#pragma GCC unroll 2
            for (int k = 0; k < Number::REALS; k++) sums[p][k] += a[k];
          }
        }
        const int last = static_cast<int>(std::min<int64_t>(BESIDE, count - at));
        float* to = y + at * stage.outputs + own.first + from;
        for (int p = 0; p < last; p++, to += stage.outputs)
          write<Number>(to, sums[p], own.scale + from, own.bias + from, own.outputs - from);
      }
    }
  }
}
