// Includes the file KERNELS once for each instruction set, in a namespace of its own; with VNNI too if KERNELS_OF_BYTES is
// defined. Emulated ones have those of AVX2 on the command line. No include guard, on purpose.

namespace plain {
#define LANES 4
#include KERNELS
#undef LANES
}  // namespace plain

#ifdef RHEOBASE_X86
#define RHEOBASE_AVX2
#define LANES 8
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,popcnt")
#endif
namespace avx2 {
#include KERNELS
}  // namespace avx2
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef RHEOBASE_AVX2
#undef LANES

#define RHEOBASE_AVX512
#define LANES 16
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,bmi,bmi2,popcnt"))), apply_to = function)
#elif !defined(RHEOBASE_EMULATED)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,bmi,bmi2,popcnt")
#endif
namespace avx512 {
#include KERNELS
}  // namespace avx512
#ifdef __clang__
#pragma clang attribute pop
#elif !defined(RHEOBASE_EMULATED)
#pragma GCC pop_options
#endif

#ifdef KERNELS_OF_BYTES
#define RHEOBASE_VNNI
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,bmi,bmi2,popcnt"))), apply_to = function)
#elif !defined(RHEOBASE_EMULATED)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,bmi,bmi2,popcnt")
#endif
namespace vnni {
#include KERNELS
}  // namespace vnni
#ifdef __clang__
#pragma clang attribute pop
#elif !defined(RHEOBASE_EMULATED)
#pragma GCC pop_options
#endif
#undef RHEOBASE_VNNI
#endif
#undef RHEOBASE_AVX512
#undef LANES
#endif
#undef KERNELS
