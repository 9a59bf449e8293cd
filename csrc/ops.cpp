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
#include <tuple>

#include "kernels.h"
#include "stages.h"
#define KERNELS "neuron_kernels.h"
#include "sets.h"

using torch::stable::Tensor;

namespace {

InstructionSet detect() {
#if defined(RHEOBASE_EMULATED)
  return VNNI;
#elif defined(RHEOBASE_X86)
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

// Whether one number stands for all.
bool constant(const Tensor& x) {
  for (int64_t axis = 0; axis < x.dim(); axis++)
    if (x.size(axis) > 1 && x.stride(axis)) return false;
  return true;
}

std::vector<float> floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }

// A run by everything that is a number, and the tables it points to.
struct Law {
  std::vector<float> constants, levels, heights;
  NeuronRun run{};

  Law(const Tensor& xs, const Tensor& theta, int64_t rule, const std::vector<double>& constants, int64_t charge, double leak,
      double rest, const std::optional<Tensor>& share, int64_t alphabet, const std::vector<double>& levels,
      const std::vector<double>& heights, bool with_sign, bool floored, bool hard, double value, double at)
      : constants(floats(constants)), levels(floats(levels)), heights(floats(heights)) {
    run.xs = read(xs), run.theta0 = read(theta), run.shared = theta.numel() == 1, run.period = theta.numel();
    run.steps = xs.size(0), run.size = xs.numel() / xs.size(0), run.stride = run.steps > 1 ? xs.stride(0) : run.size;
    run.rule = static_cast<int>(rule), run.constants = this->constants.data();
    run.per_step = rule == FIXED && constants.size() > 1;
    run.charge = static_cast<int>(charge), run.rest = static_cast<float>(rest);
    run.leak = share ? *read(*share) : static_cast<float>(leak);
    run.alphabet = static_cast<int>(alphabet), run.rungs = static_cast<int>(levels.size());
    run.levels = this->levels.data(), run.heights = this->heights.data();
    run.with_sign = with_sign, run.floored = floored;
    run.hard = hard, run.value = static_cast<float>(value), run.at = static_cast<float>(at);
  }
};

constexpr int64_t CACHED = 8 << 20;  // bytes from which on letters are not found in the caches anyway

void run_all(const NeuronRun& run) {
  torch::stable::parallel_for(0, run.size, 16384, [&](int64_t begin, int64_t end) { run_neurons(run, begin, end); });
}

// The potentials `born` with which a run begins: one for each neuron, or one number for all.
void begin(NeuronRun& run, const Tensor& born) {
  if (constant(born)) run.start = read(born);
  else memcpy(run.v, read(born), sizeof(float) * run.size);
}

void neuron(Tensor xs, Tensor born, Tensor v, std::optional<Tensor> total, std::optional<Tensor> sent, Tensor letters,
            std::optional<Tensor> amplitude, Tensor theta0, std::optional<Tensor> share, int64_t t, int64_t rule,
            std::vector<double> constants, bool normalised, int64_t charge, double leak, double rest, int64_t alphabet,
            std::vector<double> levels, std::vector<double> heights, bool with_sign, bool floored, bool hard, double value,
            double at) {
  Law law(xs, theta0, rule, constants, charge, leak, rest, share, alphabet, levels, heights, with_sign, floored, hard, value, at);
  NeuronRun& run = law.run;
  run.letters = written(letters), run.amplitude = written(amplitude), run.t = t, run.normalised = normalised;
  run.v = written(v), run.total = written(total), run.sent = written(sent), run.past = letters.numel() * 4 > CACHED;
  begin(run, born);
  run_all(run);
}

// Memory like that of `x`, dense in its order.
Tensor empty(const Tensor& x, bool in_time) {
  std::vector<int64_t> sizes, strides;
  for (int64_t axis = in_time ? 0 : 1; axis < x.dim(); axis++) sizes.push_back(x.size(axis)), strides.push_back(x.stride(axis));
  if (in_time) strides[0] = x.numel() / x.size(0);
  AtenTensorHandle made;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.data(), strides.data(), aoti_torch_dtype_float32(),
                                                  aoti_torch_device_type_cpu(), 0, &made));
  return Tensor(made);
}

std::tuple<Tensor, Tensor> neuron_forward(Tensor xs, Tensor v, Tensor theta, std::optional<Tensor> share, int64_t charge,
                                          double leak, double rest, int64_t alphabet, std::vector<double> levels,
                                          std::vector<double> heights, bool with_sign, bool floored, bool hard, double value,
                                          double at, std::vector<double> parts, bool detached, double hit, int64_t surrogate,
                                          std::vector<double> widths) {
  Law law(xs, theta, FIXED, {1.0}, charge, leak, rest, share, alphabet, levels, heights, with_sign, floored, hard, value, at);
  Tensor letters = empty(xs, true), after = empty(xs, false);
  law.run.letters = written(letters), law.run.v = written(after);
  begin(law.run, v);
  run_all(law.run);
  return {letters, after};
}

// The gradient of a run, into the tensors given for it; theta and share only where they are.
void neuron_back(std::optional<Tensor> grad_letters, std::optional<Tensor> grad_after, Tensor xs, Tensor v, Tensor theta,
                 std::optional<Tensor> share, Tensor to_xs, std::optional<Tensor> to_v, std::optional<Tensor> to_theta,
                 std::optional<Tensor> to_share, int64_t charge, double leak, double rest, int64_t alphabet,
                 std::vector<double> levels, std::vector<double> heights, bool with_sign, bool floored, bool hard, double value,
                 double at, std::vector<double> parts, bool detached, double hit, int64_t surrogate, std::vector<double> widths) {
  Law law(xs, theta, FIXED, {1.0}, charge, leak, rest, share, alphabet, levels, heights, with_sign, floored, hard, value, at);
  const std::vector<float> c = floats(widths), steps = floats(parts);
  NeuronBackward back{};
  back.run = law.run, back.run.v = const_cast<float*>(read(v)), back.run.start = constant(v) ? read(v) : nullptr;
  back.letters = grad_letters ? read(*grad_letters) : nullptr;
  back.stride = grad_letters && law.run.steps > 1 ? grad_letters->stride(0) : law.run.size;
  back.potential = grad_after ? read(*grad_after) : nullptr;
  back.xs = written(to_xs), back.v = written(to_v), back.past = to_xs.numel() * 4 > CACHED;
  back.alphabet = static_cast<int>(parts.empty() ? alphabet : CASCADE), back.rungs = static_cast<int>(parts.size());
  back.surrogate = static_cast<int>(surrogate), back.widths = c.data(), back.parts = steps.data();
  back.detached = detached, back.hit = static_cast<float>(hit), back.rows = 1;
  back.to_theta = to_theta.has_value(), back.one = law.run.shared && *law.run.theta0 == 1.0f;
  if (to_theta && !law.run.shared) {
    back.theta = written(to_theta), back.rows = law.run.size / law.run.period;
    std::fill_n(back.theta, law.run.period, 0.0f);
  }
  const int64_t columns = law.run.size / back.rows, piece = 4096, pieces = (columns + piece - 1) / piece;
  std::vector<Shared> sums(pieces);  // of fixed pieces, so that they do not depend on the number of threads
  torch::stable::parallel_for(0, pieces, 2, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      const int64_t first = k * piece, last = std::min(columns, first + piece);
#ifdef RHEOBASE_X86
      if (used >= AVX512) sums[k] = avx512::walk_back(back, first, last);
      else if (used == AVX2) sums[k] = avx2::walk_back(back, first, last);
      else
#endif
        sums[k] = plain::walk_back(back, first, last);
    }
  });
  Shared sum{};
  for (const Shared& part : sums) sum.theta += part.theta, sum.leak += part.leak;
  if (to_theta && law.run.shared) *written(*to_theta) = static_cast<float>(sum.theta);
  if (to_share) *written(*to_share) = static_cast<float>(sum.leak);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> neuron_backward(
    std::optional<Tensor> grad_letters, std::optional<Tensor> grad_after, bool grad_v, bool grad_theta, Tensor xs, Tensor v,
    Tensor theta, std::optional<Tensor> share, int64_t charge, double leak, double rest, int64_t alphabet, std::vector<double> levels,
    std::vector<double> heights, bool with_sign, bool floored, bool hard, double value, double at, std::vector<double> parts,
    bool detached, double hit, int64_t surrogate, std::vector<double> widths) {
  const std::vector<int64_t> none{0}, one{share ? 1 : 0};
  Tensor to_xs = empty(xs, true), to_v = grad_v ? empty(xs, false) : torch::stable::new_empty(theta, none);
  Tensor to_theta = grad_theta ? torch::stable::empty_like(theta) : torch::stable::new_empty(theta, none);
  Tensor to_share = torch::stable::new_empty(theta, one);
  neuron_back(grad_letters, grad_after, xs, v, theta, share, to_xs, grad_v ? std::optional(to_v) : std::nullopt,
              grad_theta ? std::optional(to_theta) : std::nullopt, share ? std::optional(to_share) : std::nullopt, charge, leak,
              rest, alphabet, levels, heights, with_sign, floored, hard, value, at, parts, detached, hit, surrogate, widths);
  return {to_xs, to_v, to_theta, to_share};
}

int lanes() { return used >= AVX512 ? 16 : used == AVX2 ? 8 : 4; }

void zeroed(Scratch<float>& a, int64_t size) {
  a.reserve(size);
  std::fill_n(a.data(), size, 0.0f);
}

// The weights [outputs, channels, kernel_h, kernel_w], of any strides, as `EventConv` wants them.
struct Packed {
  Scratch<float> weights, bias;

  Packed(EventConv& conv, const Tensor& weight, const float* from_bias) {
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
    if (conv.outputs % block || conv.kernel_w % conv.stride_w) zeroed(weights, conv.blocks * conv.block_step);
    weights.reserve(conv.blocks * conv.block_step), zeroed(bias, conv.blocks * block);
    if (from_bias) std::copy(from_bias, from_bias + conv.outputs, bias.data());
    const int64_t steps[] = {weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3)};
    for (int64_t first = 0; first < conv.outputs; first += block)  // so that few lines are written at once
      for (int64_t c = 0; c < conv.channels; c++)
        for (int64_t row = 0; row < conv.kernel_h; row++)
          for (int64_t column = 0; column < conv.kernel_w; column++) {
            const int64_t phase = column % conv.stride_w, j = conv.most - 1 - column / conv.stride_w;
            const float* from = read(weight) + first * steps[0] + c * steps[1] + row * steps[2] + column * steps[3];
            float* packed = weights.data() + first / block * conv.block_step + row * conv.kernel_step + phase * conv.phase_step +
                            c * span + j * block;
            const int64_t here = std::min(block, conv.outputs - first);
            for (int64_t o = 0; o < here; o++) packed[o] = from[o * steps[0]];
          }
    conv.weights = weights.data(), conv.bias = bias.data();
  }
};

// x [B, H, W, C] and y [B, OH, OW, O] dense, weight [O, C, kernel_h, kernel_w].
void event_conv(Tensor x, Tensor weight, std::optional<Tensor> bias, std::vector<int64_t> stride,
                std::vector<int64_t> padding, int64_t dilation_h, Tensor y) {
  EventConv conv{};
  conv.x = read(x), conv.y = written(y);
  conv.height = x.size(1), conv.width = x.size(2), conv.channels = x.size(3);
  conv.out_h = y.size(1), conv.out_w = y.size(2), conv.outputs = y.size(3);
  conv.kernel_h = weight.size(2), conv.kernel_w = weight.size(3);
  conv.stride_h = stride[0], conv.stride_w = stride[1], conv.pad_h = padding[0], conv.pad_w = padding[1];
  conv.dilation_h = dilation_h;
  const Packed packed(conv, weight, bias ? read(*bias) : nullptr);
  torch::stable::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
#ifdef RHEOBASE_X86
    if (used >= AVX512) return avx512::run_events<>(conv, begin, end);
    if (used == AVX2) return avx2::run_events<>(conv, begin, end);
#endif
    plain::run_events<>(conv, begin, end);
  });
}

// The gradient by the weight [O, C, kernel_h, kernel_w], of any strides, of a convolution with stride 1. x [B, C, H, W] and
// grad [B, O, OH, OW], whose memory lies channels last, or dense.
void event_conv_weight(Tensor x, bool x_last, Tensor grad, bool grad_last, std::vector<int64_t> padding, int64_t dilation_h,
                       Tensor weight) {
  EventWeights conv{};
  conv.x = read(x), conv.grad = read(grad), conv.weights = written(weight);
  conv.images = x.size(0), conv.channels = x.size(1), conv.height = x.size(2), conv.width = x.size(3);
  conv.outputs = grad.size(1), conv.out_h = grad.size(2), conv.out_w = grad.size(3);
  conv.kernel_h = weight.size(2), conv.kernel_w = weight.size(3);
  conv.pad_h = padding[0], conv.pad_w = padding[1], conv.dilation_h = dilation_h;
  conv.x_last = x_last, conv.grad_last = grad_last;
  for (int axis = 0; axis < 4; axis++) conv.steps[axis] = weight.stride(axis);
  const auto parallel = [](int64_t begin, int64_t end, int64_t grain, const auto& work) {
    torch::stable::parallel_for(begin, end, grain, work);
  };
#ifdef RHEOBASE_X86
  if (used >= AVX512) return avx512::weigh_all(conv, parallel);
  if (used == AVX2) return avx2::weigh_all(conv, parallel);
#endif
  plain::weigh_all(conv, parallel);
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
#define LAW                                                                                                       \
  "int charge, float leak, float rest, int alphabet, float[] levels, float[] heights, bool with_sign, bool floored, bool hard, float value, float at"
#define SLOPE "float[] parts, bool detached, float hit, int surrogate, float[] widths"
  m.def(
      "neuron(Tensor xs, Tensor born, Tensor(a!) v, Tensor(b!)? total, Tensor(c!)? sent, Tensor(d!) letters, Tensor(e!)? amplitude, "
      "Tensor theta0, Tensor? share, int t, int rule, float[] constants, bool normalised, " LAW ") -> ()");
  m.def(
      "neuron_forward(Tensor xs, Tensor v, Tensor theta, Tensor? share, " LAW ", " SLOPE ") -> (Tensor, Tensor)");
  m.def(
      "neuron_backward(Tensor? grad_letters, Tensor? grad_after, bool grad_v, bool grad_theta, Tensor xs, Tensor v, Tensor theta, "
      "Tensor? share, " LAW ", " SLOPE ") -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "neuron_back(Tensor? grad_letters, Tensor? grad_after, Tensor xs, Tensor v, Tensor theta, Tensor? share, "
      "Tensor(a!) to_xs, Tensor(b!)? to_v, Tensor(c!)? to_theta, Tensor(d!)? to_share, " LAW ", " SLOPE ") -> ()");
  m.def(
      "event_conv(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding, int dilation_h, Tensor(a!) y) "
      "-> ()");
  m.def("event_conv_weight(Tensor x, bool x_last, Tensor grad, bool grad_last, int[] padding, int dilation_h, Tensor(a!) weight) -> ()");
  m.def("instruction_set(int set) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(rheobase, CPU, m) {
  m.impl("neuron", TORCH_BOX(&neuron));
  m.impl("neuron_forward", TORCH_BOX(&neuron_forward));
  m.impl("neuron_backward", TORCH_BOX(&neuron_backward));
  m.impl("neuron_back", TORCH_BOX(&neuron_back));
  m.impl("event_conv", TORCH_BOX(&event_conv));
  m.impl("event_conv_weight", TORCH_BOX(&event_conv_weight));
}

STABLE_TORCH_LIBRARY_IMPL(rheobase, CompositeExplicitAutograd, m) {
  m.impl("instruction_set", TORCH_BOX(&instruction_set));
}
