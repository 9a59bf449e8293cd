// What a stage is asked: all that leads into one spiking layer, then its neurons, for T steps of one image after the other.
#pragma once

#include "kernels.h"

enum Kind { DENSE, LOOKUP, EVENTS, REAL_EVENTS, DEPTHWISE, REAL_DEPTHWISE, IDENTITY, CURRENT };

// Something that drives the neurons [out_h, out_w, outputs] of a stage at every step. All maps are channels last.
//
// All but the last two kinds convolve letters: drive = scale * (sum of weights * letters) + bias. The letters are x [images,
// steps, height, width, channels]. Outputs and channels fall into as many `windows`, each of which reads only its own `taken`
// channels. The outputs of a window are computed in blocks, `block` at a time; weights, scales and biases are filled up to
// whole blocks. What lies beyond the map, as far as the kernel reaches, is 0. The weights:
//
//   DENSE           int8 [window][block][kernel_h][group][16 outputs][4]: a group is 4 letters of the kernel_w * taken ones of a
//                   kernel row, the last filled up with 0
//   EVENTS          int8 [window][block][kernel_h][phase][taken][most][outputs], packed as in `EventConv`, the outputs in the
//                   order of `Couples`; behind each block [most][outputs] zeros
//   REAL_EVENTS     floats, the same in plain order, with scales of 1
//   LOOKUP          int16 [window][block][kernel_h][phase][group][16 choices][most][16 outputs]: a group is 4 channels, of which
//                   any may be 1, the others 0: the sums of their weights
//   DEPTHWISE       int8 [block][kernel_h][kernel_w][outputs], one channel for each output
//   REAL_DEPTHWISE  floats, the same
//
// IDENTITY passes the letters on, scaled: channel o of place (h, w) hears channel o - shift of place (h, w) * stride. CURRENT is
// given as it is, floats [steps, images, ...] with strides of their own for both.
struct Term {
  int kind;
  const int8_t* x;
  const float* current;
  const void* weights;
  const float *scale, *bias;  // one for each output
  int64_t height, width, channels;  // of the letters
  int64_t windows, taken;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int64_t block, flush, zero, shift;  // flush: groups, kernel places or events until sums of 16 bits are taken; zero: added to
                                      // letters, no sign left
  int64_t spelled;                    // which letters there are, see `Spelled`
  int64_t image_step, time_step;      // of a current
  // Made of the above.
  int64_t most, blocks, groups, phase_step, kernel_step, block_step, nothing;
};

// One number for all neurons, one for each output, or one for each neuron [out_h, out_w, outputs].
struct Spread {
  const float* values;
  int64_t count;
};

struct Stage {
  std::vector<Term> terms;
  int64_t images, steps, out_h, out_w, outputs;
  const float* correction;  // added at step t, [corrected, outputs]
  int64_t corrected;
  int8_t* letters;
  Spread theta0, start;  // start: of neurons at birth, whose memory is not read but made; null: they go on
  NeuronRun neurons;     // of all images, where each image is a run of its own
};

// Pooling of letters, map after map: the largest of each window, or their sum. What lies beyond the map is not there.
struct Pool {
  const int8_t* x;
  int8_t* y;
  int64_t height, width, channels, out_h, out_w;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  bool largest;
};

// The sets of instructions in use, and the neurons in it: defined in ops.cpp.
enum InstructionSet { PLAIN, AVX2, AVX512, VNNI };
InstructionSet instructions();
void run_neurons(const NeuronRun& run, int64_t begin, int64_t end);
