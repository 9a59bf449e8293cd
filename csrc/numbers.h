// The two kinds of sums that stay in registers: whole numbers of 16 bits, which the weights were proved not to overflow, and
// floats. Each is a vector of WIDTH sums, which as reals are REALS vectors of floats.

struct Whole {
  typedef int8_t Weight;
  typedef S Vector;
  static constexpr int REALS = 2, WIDTH = REALS * W;
  static inline S weights(const int8_t* w) { return doubled(w); }
  static inline S letters(const int8_t* x) { return doubled(x); }
  static inline S same(int32_t a) { return all(static_cast<int16_t>(a)); }
  static inline void reals(S sum, F* a) { a[0] = real(half<0>(sum)), a[1] = real(half<1>(sum)); }
};

struct Real {
  typedef float Weight;
  typedef F Vector;
  static constexpr int REALS = 1, WIDTH = W;
  static inline F weights(const float* w) { return load(w); }
  static inline F letters(const int8_t* x) { return real(widened(x)); }
  static inline F same(int32_t a) { return all(static_cast<float>(a)); }
  static inline void reals(F sum, F* a) { a[0] = sum; }
};

// y = scale * sums + bias, for the first n of WIDTH outputs.
template <class Number>
static inline void write(float* y, const F* sums, const float* scale, const float* bias, int n) {
#pragma GCC unroll 2
  for (int k = 0; k < Number::REALS; k++) {
    const F drive = sums[k] * load(scale + k * W) + load(bias + k * W);
    if (n >= Number::WIDTH) store(y + k * W, drive);
    else store(y + k * W, drive, n - k * W);
  }
}

// A block of the outputs of a window: what the weights of a term are for it, its first output, how many there are.
template <class Weight>
struct Block {
  const Weight* weights;
  const float *scale, *bias;
  int64_t first;
  int outputs;

  Block(const Term& term, const Stage& stage, int64_t window, int64_t block) {
    const int64_t at = window * term.blocks + block, all = stage.outputs / term.windows;
    weights = static_cast<const Weight*>(term.weights) + at * term.block_step;
    scale = term.scale + at * term.block, bias = term.bias + at * term.block;
    first = window * all + block * term.block;
    outputs = static_cast<int>(std::min(term.block, all - block * term.block));
  }
};
