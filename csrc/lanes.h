// W floats at a time, once for each instruction set: this file is included again inside every namespace of `sets.h`,
// with LANES and one of RHEOBASE_AVX512, RHEOBASE_AVX2 or neither defined. No include guard, on purpose.

constexpr int W = LANES;
typedef float F __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef float Funaligned __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Iunaligned __attribute__((vector_size(4 * LANES), aligned(4)));

static inline F load(const float* p) { return *reinterpret_cast<const Funaligned*>(p); }
static inline void store(float* p, F a) { *reinterpret_cast<Funaligned*>(p) = a; }
static inline I load(const int32_t* p) { return *reinterpret_cast<const Iunaligned*>(p); }
static inline void store(int32_t* p, I a) { *reinterpret_cast<Iunaligned*>(p) = a; }
// Past the caches: `p` is aligned to a vector; `streamed` orders such stores before what follows.
#if defined(RHEOBASE_AVX512)
static inline void stream(float* p, F a) { _mm512_stream_ps(p, a); }
static inline void streamed() { _mm_sfence(); }
#elif defined(RHEOBASE_AVX2)
static inline void stream(float* p, F a) { _mm256_stream_ps(p, a); }
static inline void streamed() { _mm_sfence(); }
#else
static inline void stream(float* p, F a) { store(p, a); }
static inline void streamed() {}
#endif
static inline F choose(I mask, F a, F b) { return mask ? a : b; }

// body(k) for k from 0 to N - 1, each of which is known when this is compiled, a body being EACH(k) {...}: arrays that
// are indexed so stay in registers.
template <class Body, int... K>
ALWAYS void each_of(const Body& body, std::integer_sequence<int, K...>) {
  (body(std::integral_constant<int, K>{}), ...);
}
template <int N, class Body>
ALWAYS void each(const Body& body) {
  each_of(body, std::make_integer_sequence<int, N>{});
}

// The first n of W floats, the rest filled.
static inline F load(const float* p, int n, float fill) {
  if (n >= W) return load(p);
  float buffer[W];
  for (int k = 0; k < W; k++) buffer[k] = k < n ? p[k] : fill;
  return load(buffer);
}

static inline void store(float* p, F a, int n) {
  if (n >= W) return store(p, a);
  if (n <= 0) return;
  float buffer[W];
  store(buffer, a);
  memcpy(p, buffer, sizeof(float) * n);
}

#if defined(RHEOBASE_AVX512)
static inline F all(float a) { return _mm512_set1_ps(a); }
static inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
static inline F least(F a, F b) { return _mm512_min_ps(a, b); }
static inline F greatest(F a, F b) { return _mm512_max_ps(a, b); }
#elif defined(RHEOBASE_AVX2)
static inline F all(float a) { return _mm256_set1_ps(a); }
static inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
static inline F least(F a, F b) { return _mm256_min_ps(a, b); }
static inline F greatest(F a, F b) { return _mm256_max_ps(a, b); }
#else
static inline F all(float a) { return F{} + a; }
static inline F fma(F a, F b, F c) { return a * b + c; }
static inline F least(F a, F b) { return choose(a < b, a, b); }
static inline F greatest(F a, F b) { return choose(a > b, a, b); }
#endif

#if defined(RHEOBASE_AVX512)
static inline F trunc(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
static inline F floor(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
#elif defined(RHEOBASE_AVX2)
static inline F trunc(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
static inline F floor(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
#else
static inline F trunc(F a) { return __builtin_convertvector(__builtin_convertvector(a, I), F); }
static inline F floor(F a) {
  F t = trunc(a);
  return t - choose(a < t, all(1.0f), all(0.0f));
}
#endif
static inline F limit(F a, float low, float high) { return least(greatest(a, all(low)), all(high)); }

// The lanes of `a` that are not 0, packed to the left, with their entries of `at`. Writes W of each, returns how many count.
static inline int compress(F a, I at, float* values, int32_t* places) {
#if defined(RHEOBASE_AVX512)
  __mmask16 mask = _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  store(values, (F)_mm512_maskz_compress_ps(mask, a));
  store(places, (I)_mm512_maskz_compress_epi32(mask, (__m512i)at));
  return __builtin_popcount(mask);
#elif defined(RHEOBASE_AVX2)
  int mask = _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ));
  __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(packing.order[mask])));
  store(values, (F)_mm256_permutevar8x32_ps(a, order));
  store(places, (I)_mm256_permutevar8x32_epi32((__m256i)at, order));
  return __builtin_popcount(mask);
#else
  int n = 0;
  for (int k = 0; k < W; k++) {
    values[n] = a[k];
    places[n] = at[k];
    n += a[k] != 0;
  }
  return n;
#endif
}

// Which lanes of `a` are not 0, a bit each.
static inline uint32_t nonzero(F a) {
#if defined(RHEOBASE_AVX512)
  return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif defined(RHEOBASE_AVX2)
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
#else
  uint32_t bits = 0;
  for (int k = 0; k < W; k++) bits |= static_cast<uint32_t>(a[k] != 0) << k;
  return bits;
#endif
}

// exp(a) to 2 units in the last place, a polynomial on [-ln 2 / 2, ln 2 / 2]; 0 below -87.3, capped above 88.
static inline F exp(F a) {
  const F shift = all(12582912.0f);  // adding it rounds to a whole number and leaves that in the lowest bits
  F x = least(greatest(a, all(-87.33654f)), all(88.0f));
  F shifted = fma(x, all(1.44269504f), shift), n = shifted - shift;
  F r = fma(n, all(2.12194440e-4f), fma(n, all(-0.693359375f), x));
  F p = all(1.9875691500e-4f);
  p = fma(p, r, all(1.3981999507e-3f));
  p = fma(p, r, all(8.3334519073e-3f));
  p = fma(p, r, all(4.1665795894e-2f));
  p = fma(p, r, all(1.6666665459e-1f));
  p = fma(p, r, all(5.0000001201e-1f));
  p = fma(p, r * r, r) + 1.0f;
  I power = ((I)shifted << 23) + (127 << 23);
  return choose(a < -87.33654f, all(0.0f), p * (F)power);
}

// ln(1 + a) for a in [0, 1], within 1e-7.
static inline F log1p(F a) {
  F m = a + 1.0f;
  F lost = a - (m - 1.0f);  // what the addition rounded away, added to first order below
  I high = m > 1.41421356f;
  F x = choose(high, m * 0.5f, m) - 1.0f;
  F p = all(7.0376836292e-2f);
  p = fma(p, x, all(-1.1514610310e-1f));
  p = fma(p, x, all(1.1676998740e-1f));
  p = fma(p, x, all(-1.2420140846e-1f));
  p = fma(p, x, all(1.4249322787e-1f));
  p = fma(p, x, all(-1.6668057665e-1f));
  p = fma(p, x, all(2.0000714765e-1f));
  p = fma(p, x, all(-2.4999993993e-1f));
  p = fma(p, x, all(3.3333331174e-1f));
  F z = x * x, y = fma(p * x - 0.5f, z, x);
  return y + choose(high, 0.5f * lost + 0.693147180559945f, lost);
}

static inline F softplus(F a) { return greatest(a, all(0.0f)) + log1p(exp(-choose(a < 0.0f, -a, a))); }
static inline F sigmoid(F a) { return 1.0f / (1.0f + exp(-a)); }
