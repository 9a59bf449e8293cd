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

// The letters of a list of events: all 1, none negative, any.
enum Spelled { ONES, COUNTS, SIGNED };

#if defined(RHEOBASE_AVX512) || defined(RHEOBASE_AVX2)
// Loaded once: a compiler reads memory again for each use, and loads are what the events wait for.
template <class Register>
static inline Register once(Register a) {
#if !defined(RHEOBASE_EMULATED)
  asm("" : "+v"(a));
#endif
  return a;
}

// w1 * x1 + w2 * x2 of neighbouring bytes, in 16 bits. One factor of the instruction has no sign.
template <int SPELLED>
static inline __m256i products(__m256i weights, __m256i letters) {
  if constexpr (SPELLED == SIGNED) return _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(letters, weights));
  return _mm256_maddubs_epi16(letters, weights);
}
#endif
#if defined(RHEOBASE_AVX512)
template <int SPELLED>
static inline __m512i products(__m512i weights, __m512i letters) {
  if constexpr (SPELLED == SIGNED) {
    const __m512i turned = _mm512_mask_sub_epi8(letters, _mm512_movepi8_mask(weights), _mm512_setzero_si512(), letters);
    return _mm512_maddubs_epi16(_mm512_abs_epi8(weights), turned);
  }
  return _mm512_maddubs_epi16(letters, weights);
}
#endif

// Sums of whole numbers for the events, which are taken in couples: the weights of both side by side, times their letters. A
// vector is 2 N outputs. The weights of 32 of them lie in the order 0-7, 16-23, 8-15, 24-31, which interleaving puts right.
template <int N>
struct Couples {
  typedef int8_t Weight;
  typedef int16_t Words __attribute__((vector_size(2 * N)));
  typedef int16_t Letters __attribute__((vector_size(2 * N)));  // two bytes, again and again
  struct Vector {
    Words lower, upper;
  };
  static constexpr int TOGETHER = 2, WIDTH = 2 * N, REALS = WIDTH / W;

  template <int SPELLED>
  ALWAYS Letters letters(const int32_t* values) {
    if constexpr (SPELLED == ONES) return Letters{} + int16_t{0x0101};
    else return Letters{} + static_cast<int16_t>((values[0] & 255) + 256 * values[1]);
  }

  template <int SPELLED>
  ALWAYS void add(Vector& sum, const int8_t* first, const int8_t* second, Letters letters) {
#if defined(RHEOBASE_AVX512)
    if constexpr (N == 32) {
      const __m512i a = once(_mm512_loadu_si512(first)), b = once(_mm512_loadu_si512(second));
      sum.lower += (Words)products<SPELLED>(_mm512_unpacklo_epi8(a, b), (__m512i)letters);
      sum.upper += (Words)products<SPELLED>(_mm512_unpackhi_epi8(a, b), (__m512i)letters);
      return;
    }
#endif
#if defined(RHEOBASE_AVX512) || defined(RHEOBASE_AVX2)
    if constexpr (N == 16) {
      const __m256i a = once(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first)));
      const __m256i b = once(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(second)));
      sum.lower += (Words)products<SPELLED>(_mm256_unpacklo_epi8(a, b), (__m256i)letters);
      sum.upper += (Words)products<SPELLED>(_mm256_unpackhi_epi8(a, b), (__m256i)letters);
      return;
    }
#endif
    int8_t both[2];
    memcpy(both, &letters, 2);
    for (int k = 0; k < N; k++) {
      const int at = 16 * (k / 8) + k % 8;
      sum.lower[k] = static_cast<int16_t>(sum.lower[k] + both[0] * first[at] + both[1] * second[at]);
      sum.upper[k] = static_cast<int16_t>(sum.upper[k] + both[0] * first[at + 8] + both[1] * second[at + 8]);
    }
  }

  // The sums in 32 bits, in the order of the outputs.
  ALWAYS void whole(const Vector& sum, I* a) {
#if defined(RHEOBASE_AVX512)
    if constexpr (N == 32) {
      a[0] = half<0>((S)sum.lower), a[1] = half<0>((S)sum.upper), a[2] = half<1>((S)sum.lower), a[3] = half<1>((S)sum.upper);
    } else {
      a[0] = (I)_mm512_cvtepi16_epi32((__m256i)sum.lower), a[1] = (I)_mm512_cvtepi16_epi32((__m256i)sum.upper);
    }
#elif defined(RHEOBASE_AVX2)
    a[0] = half<0>((S)sum.lower), a[1] = half<1>((S)sum.lower), a[2] = half<0>((S)sum.upper), a[3] = half<1>((S)sum.upper);
#else
    typedef int16_t Some __attribute__((vector_size(2 * W)));
    for (int k = 0; k < REALS; k++) {
      Some some;
      memcpy(&some, reinterpret_cast<const int16_t*>(k < N / W ? &sum.lower : &sum.upper) + k * W % N, sizeof(some));
      a[k] = __builtin_convertvector(some, I);
    }
#endif
  }

  // Takes the sums over into `wide` before 16 bits are too few.
  ALWAYS void carry(Vector& sum, int32_t* wide) {
    I more[REALS];
    whole(sum, more);
    for (int k = 0; k < REALS; k++) store(wide + k * W, load(wide + k * W) + more[k]);
    sum = Vector{};
  }

  // As real numbers; wide: what was carried, or null.
  ALWAYS void reals(const Vector& sum, const int32_t* wide, F* a) {
    I all[REALS];
    whole(sum, all);
    for (int k = 0; k < REALS; k++) a[k] = real(wide ? all[k] + load(wide + k * W) : all[k]);
  }
};

struct Real {
  typedef float Weight;
  typedef F Vector;
  static constexpr int REALS = 1, WIDTH = W;
  ALWAYS F weights(const float* w) { return load(w); }
  ALWAYS F letters(const int8_t* x) { return real(widened(x)); }
  ALWAYS void reals(F sum, F* a) { a[0] = sum; }

  // Of the events, one by one.
  typedef F Letters;
  static constexpr int TOGETHER = 1;
  template <int SPELLED>
  ALWAYS F letters(const int32_t* values) {
    if constexpr (SPELLED == ONES) return F{};
    else return all(static_cast<float>(values[0]));
  }
  template <int SPELLED>
  ALWAYS void add(F& sum, const float* weights, const float*, F letters) {
    sum += SPELLED == ONES ? load(weights) : load(weights) * letters;
  }
  ALWAYS void carry(F&, int32_t*) {}
  ALWAYS void reals(F sum, const int32_t*, F* a) { a[0] = sum; }
};

// y = scale * sums + bias, for WIDTH outputs, or the first n of them. Real weights have a scale of 1.
template <class Number>
ALWAYS void write(float* y, const F* sums, const float* scale, const float* bias) {
  each<Number::REALS>(EACH(k) {
    if constexpr (std::is_same_v<Number, Real>) store(y + k * W, sums[k] + load(bias + k * W));
    else store(y + k * W, sums[k] * load(scale + k * W) + load(bias + k * W));
  });
}
template <class Number>
ALWAYS void write(float* y, const F* sums, const float* scale, const float* bias, int n) {
  if (n >= Number::WIDTH) return write<Number>(y, sums, scale, bias);
  float all[Number::WIDTH];
  write<Number>(all, sums, scale, bias);
  if (n > 0) memcpy(y, all, n * sizeof(float));
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
