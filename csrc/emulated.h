// AVX-512 and VNNI by SIMDe, on machines without them, so that their kernels can be tested anywhere; slow. Built by
// RHEOBASE_EMULATED=1, with the headers of SIMDe (apt install libsimde-dev).
#pragma once

#include <simde/x86/avx512.h>

#define __mmask16 uint16_t
#define _mm512_abs_epi8 simde_mm512_abs_epi8
#define _mm512_cmp_ps_mask simde_mm512_cmp_ps_mask
#define _mm512_cvtepi8_epi16 simde_mm512_cvtepi8_epi16
#define _mm512_dpbusd_epi32 simde_mm512_dpbusd_epi32
#define _mm512_extracti64x4_epi64 simde_mm512_extracti64x4_epi64
#define _mm512_fmadd_ps simde_mm512_fmadd_ps
#define _mm512_loadu_si512 simde_mm512_loadu_si512
#define _mm512_madd_epi16 simde_mm512_madd_epi16
#define _mm512_maddubs_epi16 simde_mm512_maddubs_epi16
#define _mm512_mask_sub_epi8 simde_mm512_mask_sub_epi8
#define _mm512_maskz_compress_epi32 simde_mm512_maskz_compress_epi32
#define _mm512_maskz_compress_ps simde_mm512_maskz_compress_ps
#define _mm512_max_ps simde_mm512_max_ps
#define _mm512_min_ps simde_mm512_min_ps
#define _mm512_movepi8_mask simde_mm512_movepi8_mask
#define _mm512_roundscale_ps(a, how) simde_mm512_roundscale_ps((a), (how))  // SIMDe forgets these parentheses
#define _mm512_set1_ps simde_mm512_set1_ps
#define _mm512_setzero_ps simde_mm512_setzero_ps
#define _mm512_setzero_si512 simde_mm512_setzero_si512
#define _mm512_unpackhi_epi8 simde_mm512_unpackhi_epi8
#define _mm512_unpacklo_epi8 simde_mm512_unpacklo_epi8

// What SIMDe does not have.
#define _mm512_cvtepi16_epi32 emulated_cvtepi16_epi32
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
#define _mm512_cvtepi32_epi8 emulated_cvtepi32_epi8
#define _mm512_cvttps_epi32 emulated_cvttps_epi32
#define _mm512_stream_ps emulated_stream_ps
#define _mm_test_epi8_mask emulated_test_epi8_mask

template <class To, class From, class A>
static inline simde__m512i converted(A a) {
  To to[64 / sizeof(To)];
  From from[64 / sizeof(To)];
  memcpy(from, &a, sizeof(from));
  for (size_t k = 0; k < 64 / sizeof(To); k++) to[k] = static_cast<To>(from[k]);
  return simde_mm512_loadu_si512(to);
}
static inline simde__m512i emulated_cvtepi16_epi32(__m256i a) { return converted<int32_t, int16_t>(a); }
static inline simde__m512i emulated_cvtepi8_epi32(__m128i a) { return converted<int32_t, int8_t>(a); }
static inline simde__m512i emulated_cvttps_epi32(simde__m512 a) { return converted<int32_t, float>(a); }
static inline __m128i emulated_cvtepi32_epi8(simde__m512i a) {
  int32_t from[16];
  int8_t to[16];
  memcpy(from, &a, sizeof(from));
  for (int k = 0; k < 16; k++) to[k] = static_cast<int8_t>(from[k]);
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(to));
}
static inline void emulated_stream_ps(float* p, simde__m512 a) { memcpy(p, &a, sizeof(a)); }
static inline uint16_t emulated_test_epi8_mask(__m128i a, __m128i b) {
  return static_cast<uint16_t>(~_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(a, b), _mm_setzero_si128())));
}
