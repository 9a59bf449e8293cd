// The operators of `rheobase.kernels.cpu` on PyTorch's stable ABI: one build serves every PyTorch from 2.10 on.
// Shapes and dtypes are checked in Python; here every tensor is dense float32 on the CPU.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>

#include "kernels.h"
#include "stages.h"

using torch::stable::Tensor;

namespace {

InstructionSet detect() {
#ifdef RHEOBASE_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return __builtin_cpu_supports("avx512vnni") ? VNNI : AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
  return PLAIN;
}

const InstructionSet best = detect();
InstructionSet used = best;

const float* read(const Tensor& tensor) { return static_cast<const float*>(tensor.const_data_ptr()); }
float* written(const Tensor& tensor) { return static_cast<float*>(tensor.mutable_data_ptr()); }
float* written(const std::optional<Tensor>& tensor) { return tensor ? written(*tensor) : nullptr; }

std::vector<float> floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }

void neuron(Tensor xs, Tensor v, std::optional<Tensor> total, std::optional<Tensor> sent, Tensor letters, std::optional<Tensor> amplitude,
            Tensor theta0, int64_t t, int64_t rule, std::vector<double> constants, bool normalised, int64_t alphabet,
            std::vector<double> levels, std::vector<double> heights, bool with_sign, bool floored, double leak, bool hard,
            double value) {
  const std::vector<float> c = floats(constants), l = floats(levels), h = floats(heights);
  NeuronRun run{};
  run.xs = read(xs), run.letters = written(letters), run.amplitude = written(amplitude);
  run.v = written(v), run.total = written(total), run.sent = written(sent), run.theta0 = read(theta0);
  run.shared = theta0.numel() == 1;
  run.steps = xs.size(0), run.stride = xs.stride(0), run.size = xs.size(1), run.period = theta0.numel(), run.t = t;
  run.rule = static_cast<int>(rule), run.alphabet = static_cast<int>(alphabet), run.rungs = static_cast<int>(l.size());
  run.normalised = normalised, run.hard = hard, run.with_sign = with_sign, run.floored = floored;
  run.leak = static_cast<float>(leak), run.value = static_cast<float>(value);
  run.constants = c.data(), run.levels = l.data(), run.heights = h.data();
  torch::stable::parallel_for(0, run.size, 16384, [&](int64_t begin, int64_t end) { run_neurons(run, begin, end); });
}

int lanes() { return used >= AVX512 ? 16 : used == AVX2 ? 8 : 4; }

// The weights [outputs, channels, kernel_h, kernel_w] as `EventConv` wants them.
struct Packed {
  Aligned weights, bias;

  Packed(EventConv& conv, const float* weight, const float* from_bias) {
    conv.most = (conv.kernel_w + conv.stride_w - 1) / conv.stride_w;
    const int64_t needed = (conv.outputs + lanes() - 1) / lanes();
    int64_t cheapest = INT64_MAX;  // loads: the weights of an event, its value and place
    for (int64_t vectors = 1; conv.most * vectors <= MOST_SUMS; vectors++) {
      const int64_t blocks = (needed + vectors - 1) / vectors, loads = blocks * (conv.most * vectors + 2);
      if (loads < cheapest) cheapest = loads, conv.vectors = vectors, conv.blocks = blocks;
    }
    const int64_t block = conv.vectors * lanes(), span = conv.most * block;
    conv.phase_step = conv.channels * span, conv.kernel_step = conv.stride_w * conv.phase_step;
    conv.block_step = conv.kernel_h * conv.kernel_step;
    weights = Aligned(conv.blocks * conv.block_step), bias = Aligned(conv.blocks * block);
    if (from_bias) std::copy(from_bias, from_bias + conv.outputs, bias.data());
    float* packed = weights.data();
    for (int64_t o = 0; o < conv.outputs; o++)
      for (int64_t c = 0; c < conv.channels; c++)
        for (int64_t row = 0; row < conv.kernel_h; row++)
          for (int64_t column = 0; column < conv.kernel_w; column++) {
            const int64_t phase = column % conv.stride_w, j = conv.most - 1 - column / conv.stride_w;
            packed[o / block * conv.block_step + row * conv.kernel_step + phase * conv.phase_step + c * span + j * block +
                   o % block] = *weight++;
          }
    conv.weights = packed, conv.bias = bias.data();
  }
};

// x [B, H, W, C] and y [B, OH, OW, O] dense, weight [O, C, kernel_h, kernel_w] dense.
void event_conv(Tensor x, Tensor weight, std::optional<Tensor> bias, std::vector<int64_t> stride,
                std::vector<int64_t> padding, int64_t dilation_h, Tensor y) {
  EventConv conv{};
  conv.x = read(x), conv.y = written(y);
  conv.height = x.size(1), conv.width = x.size(2), conv.channels = x.size(3);
  conv.out_h = y.size(1), conv.out_w = y.size(2), conv.outputs = y.size(3);
  conv.kernel_h = weight.size(2), conv.kernel_w = weight.size(3);
  conv.stride_h = stride[0], conv.stride_w = stride[1], conv.pad_h = padding[0], conv.pad_w = padding[1];
  conv.dilation_h = dilation_h;
  const Packed packed(conv, read(weight), bias ? read(*bias) : nullptr);
  torch::stable::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
#ifdef RHEOBASE_X86
    if (used >= AVX512) return avx512::run_events<>(conv, begin, end);
    if (used == AVX2) return avx2::run_events<>(conv, begin, end);
#endif
    plain::run_events<>(conv, begin, end);
  });
}

// Use an instruction set up to `set` (0 plain, 1 AVX2, 2 AVX-512, 3 with VNNI), -1 for the best there is; answers the one in use.
int64_t instruction_set(int64_t set) {
  used = set < 0 || set > best ? best : static_cast<InstructionSet>(set);
  return used;
}

}  // namespace

InstructionSet instructions() { return used; }

void run_neurons(const NeuronRun& run, int64_t begin, int64_t end) {
#ifdef RHEOBASE_X86
  if (used >= AVX512) return avx512::run_neurons(run, begin, end);
  if (used == AVX2) return avx2::run_neurons(run, begin, end);
#endif
  plain::run_neurons(run, begin, end);
}

STABLE_TORCH_LIBRARY(rheobase, m) {
  m.def(
      "neuron(Tensor xs, Tensor(a!) v, Tensor(b!)? total, Tensor(c!)? sent, Tensor(d!) letters, Tensor(e!)? amplitude, "
      "Tensor theta0, "
      "int t, int rule, float[] constants, bool normalised, int alphabet, float[] levels, float[] heights, "
      "bool with_sign, bool floored, float leak, bool hard, float value) -> ()");
  m.def(
      "event_conv(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding, int dilation_h, Tensor(a!) y) "
      "-> ()");
  m.def("instruction_set(int set) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(rheobase, CPU, m) {
  m.impl("neuron", TORCH_BOX(&neuron));
  m.impl("event_conv", TORCH_BOX(&event_conv));
}

STABLE_TORCH_LIBRARY_IMPL(rheobase, CompositeExplicitAutograd, m) {
  m.impl("instruction_set", TORCH_BOX(&instruction_set));
}
