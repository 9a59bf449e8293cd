// What the kernels are asked, and what they share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define RHEOBASE_X86 1
#include <immintrin.h>
#ifdef RHEOBASE_EMULATED
#include "emulated.h"
#endif
#endif

#define ALWAYS static inline __attribute__((always_inline))
#define EACH(k) [&](auto k) __attribute__((always_inline))

enum Rule { FIXED, MSAT, RECIPROCAL, EXPONENTIAL, RAMP };
enum Letters { BINARY, UNIFORM, TABLE, CASCADE };
enum Charge { LEAK, DECAY, LEARNED };
enum Surrogate { RECTANGULAR, POLYNOMIAL, GAUSSIAN, ATAN, SIGMOID, TILED };
constexpr int MOST_SUMS = 12;  // vectors of sums that stay in the 16 registers of AVX2

// T steps of `size` neurons of one kind. Drives at xs + step * stride (stride 0: constant); letters and amplitude
// [steps, size]; v and total [size] are read and written. theta0 has `period` values that repeat, or one if `shared`.
// Letters leave as floats, or as bytes: whole multiples of 1 / per_letter, at bytes + step * bytes_stride.
struct NeuronRun {
  const float* xs;
  float* letters;
  int8_t* bytes;  // null: letters leave as floats
  int64_t bytes_stride;
  float per_letter;
  float* amplitude;  // null: not wanted
  float* v;
  const float* start;  // the potential at birth, with v only written: of all neurons, or of each if `starts`; null: v is read
  bool starts;
  bool past;           // letters are more than the caches hold, so they are written past them
  float* total;        // MSAT: the sum of v so far; null: not wanted
  float* sent;         // SentCharge: the sum of what left; null: every letter leaves
  const float* theta0;
  bool shared;
  int64_t steps, stride, size, period, t;
  int rule, alphabet, rungs;
  bool normalised, hard, with_sign, floored;
  int charge;
  float leak, rest;  // the leak's beta, tau or share of the way
  float value, at;   // hard reset: what it leaves, and from which |u / theta| on (0: wherever a letter left)
  const float* constants;
  int64_t per_step;  // of a fixed threshold: 1 if there is a gain for each step, 0 if there is one
  const float* levels;
  const float* heights;
};

// The gradient of such a run with a fixed threshold and open gate. The drives, the potential at birth and the law stand
// in `run`, which writes nothing; gradients that come in may be null. The neurons are `rows` of as many columns.
struct NeuronBackward {
  NeuronRun run;
  const float* letters;  // [steps, size]
  const float* potential;
  int64_t stride;  // of `letters` in time
  float* xs;       // [steps, size]
  float* v;        // null: not wanted
  float* theta;    // one for each neuron of a row, that is added to; null: not wanted, or summed up
  bool to_theta, one, detached;  // whether the gradient by theta is wanted; whether theta is 1 everywhere
  bool past;                     // gradients by drives are more than the caches hold, so they are written past them
  int64_t rows;
  int alphabet, surrogate, rungs;  // rungs: of `parts`
  float hit;                       // hard reset, attached: the level whose surrogate lets the gradient through
  const float* widths;             // the constants of the surrogate
  const float* parts;              // of a cascade, ascending
};

// What is summed over neurons and steps: the gradients of a shared threshold, and of a learned share of the way.
struct Shared {
  double theta, leak;
};

// y = conv(x) + bias, both channels last. An input column at distance `right` from the padded edge belongs to the phase
// `right % stride_w`, which shares its kernel columns: those that an event in that column meets, `most` of them, each
// with its own output column, side by side. Weights are packed [block][kernel_h][phase][channels][most][block of
// outputs], kernel columns from the furthest to the nearest, a block being `vectors` vectors of outputs.
struct EventConv {
  const float* x;
  float* y;
  const float* weights;
  const float* bias;  // filled up to whole blocks
  int64_t height, width, channels, out_h, out_w, outputs;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h;
  int64_t most, vectors, blocks;
  int64_t phase_step, kernel_step, block_step;  // from one phase, kernel row, block to the next
};

constexpr int MOST_COLUMNS_OF_EVENTS = 7;
constexpr int64_t NEAR = 24 << 10;  // bytes that stay in the first cache beside what is read once

// The gradient by the weights of y = conv(x), stride 1; x and the gradient of y lie with channels last, or as planes.
// Weights at the steps of [outputs, channels, kernel_h, kernel_w]. So many images at once are `together`.
struct EventWeights {
  const float* x;
  const float* grad;
  float* weights;
  int64_t images, height, width, channels, out_h, out_w, outputs;
  int64_t kernel_h, kernel_w, pad_h, pad_w, dilation_h, together;
  int64_t steps[4];
  bool x_last, grad_last;
};

// Memory that begins on a cache line and is used again; not zeroed, so pages that nothing is written to cost nothing.
template <class T>
class Scratch {
 public:
  explicit Scratch(size_t size = 0) { reserve(size); }
  // Room for so many; what was held is lost where there was less.
  void reserve(size_t size) {
    if (size <= size_) return;
    held_.reset(static_cast<T*>(::operator new(size * sizeof(T), LINE)));
    size_ = size;
  }
  T* data() { return held_.get(); }
  const T* data() const { return held_.get(); }
  T& operator[](size_t k) { return held_.get()[k]; }
  const T& operator[](size_t k) const { return held_.get()[k]; }

 private:
  static constexpr std::align_val_t LINE{64};
  struct Free {
    void operator()(T* held) const { ::operator delete(held, LINE); }
  };
  std::unique_ptr<T, Free> held_;
  size_t size_ = 0;
};

// For each mask of 8 lanes the lanes it holds, a byte each.
struct Packing {
  uint64_t order[256];
  Packing() {
    for (int mask = 0; mask < 256; mask++) {
      order[mask] = 0;
      for (int lane = 0, at = 0; lane < 8; lane++)
        if (mask >> lane & 1) order[mask] |= static_cast<uint64_t>(lane) << 8 * at++;
    }
  }
};
static const Packing packing;
