// The kinds of sums that stay in registers: whole numbers of 16 bits, which the weights were proved not to overflow, and
// floats. Each is a vector of WIDTH sums, which as reals are REALS vectors of floats.

struct Whole {
  typedef int8_t Weight;
  typedef S Vector;
  static constexpr int REALS = 2, WIDTH = REALS * W;
  static inline S weights(const int8_t* w) { return doubled(w); }
  static inline S letters(const int8_t* x) { return doubled(x); }
  static inline void reals(S sum, F* a) { a[0] = real(half<0>(sum)), a[1] = real(half<1>(sum)); }
};

// Sums of whole numbers for the events, two outputs to a lane of 16 bits: x = 256 * second + first. One load serves both. Kept
// are the sum of all x, modulo 2^16, and that of the seconds; they tell that of the firsts. Of each 32 outputs the first 16 are
// firsts.
template <int N>
struct Pairs {
  typedef int8_t Weight;
  typedef int16_t Words __attribute__((vector_size(2 * N)));
  typedef uint16_t Wraps __attribute__((vector_size(2 * N)));
  struct Vector {
    Wraps all;
    Words second;
  };
  static constexpr int WIDTH = 2 * N, REALS = WIDTH / W;

  // 256 * second + first + 128 is at most 2^15 - 1.
  static inline Words second(Words x) {
#if defined(RHEOBASE_AVX512)
    if constexpr (N == 32) return (Words)_mm512_mulhrs_epi16((__m512i)x, _mm512_set1_epi16(128));
#endif
#if defined(RHEOBASE_AVX2) || defined(RHEOBASE_AVX512)
    if constexpr (N == 16) return (Words)_mm256_mulhrs_epi16((__m256i)x, _mm256_set1_epi16(128));
#endif
    return (x + int16_t{128}) >> 8;
  }

  template <bool WEIGHTED>
  static inline void add(Vector& sum, const int8_t* weights, int32_t value) {
    Words x;
    memcpy(&x, weights, sizeof(x));
    const Words own = second(x), times = Words{} + static_cast<int16_t>(value);
    sum.all += WEIGHTED ? (Wraps)x * (Wraps)times : (Wraps)x;
    sum.second += WEIGHTED ? own * times : own;
  }

  static inline void reals(const Vector& sum, F* a) {
    typedef int16_t Some __attribute__((vector_size(2 * W)));
    const Words first = (Words)(sum.all - ((Wraps)sum.second << 8));
    int16_t held[WIDTH];
    for (int k = 0; k < N; k += 16) {
      memcpy(held + 2 * k, reinterpret_cast<const int16_t*>(&first) + k, 32);
      memcpy(held + 2 * k + 16, reinterpret_cast<const int16_t*>(&sum.second) + k, 32);
    }
    for (int k = 0; k < REALS; k++) {
      Some some;
      memcpy(&some, held + k * W, sizeof(some));
      a[k] = __builtin_convertvector(some, F);
    }
  }
};

struct Real {
  typedef float Weight;
  typedef F Vector;
  static constexpr int REALS = 1, WIDTH = W;
  static inline F weights(const float* w) { return load(w); }
  static inline F letters(const int8_t* x) { return real(widened(x)); }
  template <bool WEIGHTED>
  static inline void add(F& sum, const float* weights, int32_t value) {
    sum += WEIGHTED ? load(weights) * all(static_cast<float>(value)) : load(weights);
  }
  static inline void reals(F sum, F* a) { a[0] = sum; }
};

// y = scale * sums + bias, for the first n of WIDTH outputs.
template <class Number>
static inline void write(float* y, const F* sums, const float* scale, const float* bias, int n) {
#pragma GCC unroll 8
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
