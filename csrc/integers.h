// Whole numbers of 8, 16 and 32 bits in the width of `lanes.h`, included behind it, once for each instruction set.

typedef int8_t B __attribute__((vector_size(4 * LANES)));
typedef int16_t S __attribute__((vector_size(4 * LANES)));
typedef int8_t Bunaligned __attribute__((vector_size(4 * LANES), aligned(1)));

static inline B load(const int8_t* p) { return *reinterpret_cast<const Bunaligned*>(p); }
static inline F real(I a) { return __builtin_convertvector(a, F); }
static inline S all(int16_t a) { return S{} + a; }

// Four letters, the same in every 32 bits.
static inline B four(const uint8_t* p) {
  int32_t a;
  memcpy(&a, p, 4);
  return (B)(I{} + a);
}

// The lower or upper half of 16-bit numbers, in 32 bits.
template <int HALF>
static inline I half(S a) {
#if defined(RHEOBASE_AVX512)
  return (I)_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64((__m512i)a, HALF));
#elif defined(RHEOBASE_AVX2)
  return (I)_mm256_cvtepi16_epi32(_mm256_extracti128_si256((__m256i)a, HALF));
#else
  I b;
  for (int k = 0; k < W; k++) b[k] = a[HALF * W + k];
  return b;
#endif
}

// Sums of 4 products each of unsigned letters and weights. VNNI adds them up in 32 bits; without it pairs are added up
// in 16 bits, exact as long as whoever calls takes the whole sum before they can overflow.
#if defined(RHEOBASE_VNNI)
typedef I Sum;
static inline Sum add(Sum sum, B letters, B weights) {
  return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)letters, (__m512i)weights);
}
static inline I whole(Sum sum) { return sum; }
#else
typedef S Sum;
static inline Sum add(Sum sum, B letters, B weights) {
#if defined(RHEOBASE_AVX512)
  return sum + (S)_mm512_maddubs_epi16((__m512i)letters, (__m512i)weights);
#elif defined(RHEOBASE_AVX2)
  return sum + (S)_mm256_maddubs_epi16((__m256i)letters, (__m256i)weights);
#else
  for (int k = 0; k < 2 * W; k++) {
    const uint8_t first = static_cast<uint8_t>(letters[2 * k]), second = static_cast<uint8_t>(letters[2 * k + 1]);
    sum[k] = static_cast<int16_t>(sum[k] + first * weights[2 * k] + second * weights[2 * k + 1]);
  }
  return sum;
#endif
}
static inline I whole(Sum sum) {
#if defined(RHEOBASE_AVX512)
  return (I)_mm512_madd_epi16((__m512i)sum, (__m512i)all(int16_t{1}));
#elif defined(RHEOBASE_AVX2)
  return (I)_mm256_madd_epi16((__m256i)sum, (__m256i)all(int16_t{1}));
#else
  I b;
  for (int k = 0; k < W; k++) b[k] = sum[2 * k] + sum[2 * k + 1];
  return b;
#endif
}
#endif

// 2 W weights, in 16 bits.
static inline S doubled(const int8_t* p) {
#if defined(RHEOBASE_AVX512)
  return (S)_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(RHEOBASE_AVX2)
  return (S)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  S a;
  for (int k = 0; k < 2 * W; k++) a[k] = p[k];
  return a;
#endif
}

// W letters, in 32 bits.
static inline I widened(const int8_t* p) {
#if defined(RHEOBASE_AVX512)
  return (I)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(RHEOBASE_AVX2)
  return (I)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  I a;
  for (int k = 0; k < W; k++) a[k] = p[k];
  return a;
#endif
}

// W letters as bytes, without their fractions.
static inline void narrow(int8_t* p, F a) {
#if defined(RHEOBASE_AVX512)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32((__m512)a)));
#elif defined(RHEOBASE_AVX2)
  const __m256i whole = _mm256_cvttps_epi32((__m256)a);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
#else
  for (int k = 0; k < W; k++) p[k] = static_cast<int8_t>(static_cast<int32_t>(a[k]));
#endif
}

// The first n of W.
static inline void narrow(int8_t* p, F a, int n) {
  if (n >= W) return narrow(p, a);
  int8_t buffer[W];
  narrow(buffer, a);
  memcpy(p, buffer, n);
}

#if defined(RHEOBASE_AVX2)
// The bytes of four vectors of whole numbers.
static inline __m256i packed(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));  // packing goes by halves of 128 bits
}
#endif

// The letters of N vectors, times `unit`.
template <int N>
static inline void narrow(int8_t* p, const F* a, F unit) {
#if defined(RHEOBASE_AVX2)
  if constexpr (N == 4) {
    const auto whole = [&](int k) { return _mm256_cvttps_epi32((__m256)(a[k] * unit)); };
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed(whole(0), whole(1), whole(2), whole(3)));
    return;
  }
#endif
  for (int k = 0; k < N; k++) narrow(p + k * W, a[k] * unit);
}

// `letter` in the lanes of N vectors that are marked.
template <int N>
static inline void narrow(int8_t* p, const I* marked, int8_t letter) {
#if defined(RHEOBASE_AVX512)
  for (int k = 0; k < N; k++)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + k * W), _mm_and_si128(_mm512_cvtepi32_epi8((__m512i)marked[k]), _mm_set1_epi8(letter)));
#else
#if defined(RHEOBASE_AVX2)
  if constexpr (N == 4) {
    const __m256i bytes = packed((__m256i)marked[0], (__m256i)marked[1], (__m256i)marked[2], (__m256i)marked[3]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_and_si256(bytes, _mm256_set1_epi8(letter)));
    return;
  }
#endif
  for (int k = 0; k < N; k++)
    for (int lane = 0; lane < W; lane++) p[k * W + lane] = static_cast<int8_t>(marked[k][lane] & letter);
#endif
}

// Which of 16 letters are not 0, a bit each.
static inline uint32_t nonzero(const int8_t* x) {
#if defined(RHEOBASE_AVX512)
  const __m128i letters = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm_test_epi8_mask(letters, letters);
#elif defined(RHEOBASE_AVX2)
  const __m128i letters = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return 0xffff ^ static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(letters, _mm_setzero_si128())));
#else
  uint32_t bits = 0;
  for (int k = 0; k < 16; k++) bits |= static_cast<uint32_t>(x[k] != 0) << k;
  return bits;
#endif
}

// Of W letters those in the lanes of `mask`, packed to the left if VALUES, with their entries of `at`. Writes W of each.
template <bool VALUES>
static inline void compress(uint32_t mask, const int8_t* x, I at, int32_t* values, int32_t* places) {
#if defined(RHEOBASE_AVX512)
  if constexpr (VALUES) store(values, (I)_mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), (__m512i)widened(x)));
  store(places, (I)_mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), (__m512i)at));
#elif defined(RHEOBASE_AVX2)
  const __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(&packing.order[mask])));
  if constexpr (VALUES) store(values, (I)_mm256_permutevar8x32_epi32((__m256i)widened(x), order));
  store(places, (I)_mm256_permutevar8x32_epi32((__m256i)at, order));
#else
  for (int k = 0, n = 0; k < W; k++) {
    if (VALUES) values[n] = x[k];
    places[n] = at[k];
    n += mask >> k & 1;
  }
#endif
}
