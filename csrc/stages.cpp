// The operator of `rheobase.kernels.stage`. Shapes and dtypes are checked in Python; every tensor is on the CPU.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>

#include "stages.h"
#define KERNELS "stage_kernels.h"
#define KERNELS_OF_BYTES
#include "sets.h"

using torch::stable::Tensor;

namespace {

constexpr int64_t NUMBERS = 21;  // of a term, in the order of its members

// The terms by their numbers, with the tensors that each has four of: what it reads, weights, scale, bias.
Term term(const int64_t* numbers, const Tensor* tensors) {
  Term a{};
  a.kind = static_cast<int>(numbers[0]);
  int64_t* const members[] = {&a.height,   &a.width, &a.channels, &a.windows,    &a.taken,      &a.kernel_h, &a.kernel_w,
                              &a.stride_h, &a.stride_w, &a.pad_h, &a.pad_w,      &a.dilation_h, &a.dilation_w,
                              &a.block,    &a.flush, &a.zero,     &a.shift,      &a.spelled,    &a.image_step, &a.time_step};
  for (int64_t* member : members) *member = *++numbers;
  if (a.kind == CURRENT) a.current = static_cast<const float*>(tensors[0].const_data_ptr());
  else a.x = static_cast<const int8_t*>(tensors[0].const_data_ptr());
  a.weights = tensors[1].const_data_ptr();
  a.scale = static_cast<const float*>(tensors[2].const_data_ptr());
  a.bias = static_cast<const float*>(tensors[3].const_data_ptr());
  return a;
}

void steps(Term& a, int64_t outputs) {
  if (!a.windows) return;
  a.blocks = (outputs / a.windows + a.block - 1) / a.block;
  if (a.kind == DENSE) {
    a.groups = (a.kernel_w * a.taken + 3) / 4, a.block_step = 4 * a.block * a.kernel_h * a.groups;
  } else if (a.kind == EVENTS || a.kind == REAL_EVENTS) {
    a.most = (a.kernel_w + a.stride_w - 1) / a.stride_w;
    a.phase_step = a.taken * a.most * a.block, a.kernel_step = a.stride_w * a.phase_step;
    a.nothing = a.kernel_h * a.kernel_step, a.block_step = a.nothing + a.most * a.block;
  } else {
    a.block_step = a.kernel_h * a.kernel_w * a.block;
  }
}

void stage(std::vector<Tensor> tensors, std::vector<int64_t> numbers, std::optional<Tensor> correction, Tensor letters, double per_letter,
           Tensor v, std::optional<Tensor> total, std::optional<Tensor> sent, Tensor theta0, std::optional<Tensor> start,
           std::optional<Tensor> share, int64_t t, int64_t rule, std::vector<double> constants, bool normalised, int64_t charge,
           double leak, double rest, int64_t alphabet, std::vector<double> levels, std::vector<double> heights, bool with_sign,
           bool floored, bool hard, double value, double at) {
  const auto written = [](const std::optional<Tensor>& a) { return a ? static_cast<float*>(a->mutable_data_ptr()) : nullptr; };
  const std::vector<float> c(constants.begin(), constants.end()), l(levels.begin(), levels.end()), h(heights.begin(), heights.end());
  Stage stage{};
  stage.images = letters.size(0), stage.steps = letters.size(1);
  stage.out_h = letters.size(2), stage.out_w = letters.size(3), stage.outputs = letters.size(4);
  for (size_t k = 0; k < tensors.size() / 4; k++) {
    stage.terms.push_back(term(&numbers[k * NUMBERS], &tensors[4 * k]));
    steps(stage.terms.back(), stage.outputs);
  }
  if (correction) stage.correction = static_cast<const float*>(correction->const_data_ptr()), stage.corrected = correction->size(0);
  stage.letters = static_cast<int8_t*>(letters.mutable_data_ptr());
  NeuronRun& run = stage.neurons;
  run.per_letter = static_cast<float>(per_letter);  // 1 / unit
  run.v = static_cast<float*>(v.mutable_data_ptr()), run.total = written(total), run.sent = written(sent);
  stage.theta0 = {static_cast<const float*>(theta0.const_data_ptr()), static_cast<int64_t>(theta0.numel())};
  if (start) stage.start = {static_cast<const float*>(start->const_data_ptr()), static_cast<int64_t>(start->numel())};
  run.steps = stage.steps, run.t = t, run.rule = static_cast<int>(rule), run.alphabet = static_cast<int>(alphabet);
  run.rungs = static_cast<int>(l.size()), run.normalised = normalised, run.hard = hard, run.with_sign = with_sign;
  run.floored = floored, run.value = static_cast<float>(value), run.at = static_cast<float>(at);
  run.charge = static_cast<int>(charge), run.rest = static_cast<float>(rest);
  run.leak = share ? *static_cast<const float*>(share->const_data_ptr()) : static_cast<float>(leak);
  run.constants = c.data(), run.levels = l.data(), run.heights = h.data();
  torch::stable::parallel_for(0, stage.images, 1, [&](int64_t begin, int64_t end) {
#ifdef RHEOBASE_X86
    switch (instructions()) {
      case VNNI: return vnni::run_stage(stage, begin, end);
      case AVX512: return avx512::run_stage(stage, begin, end);
      case AVX2: return avx2::run_stage(stage, begin, end);
      default: break;
    }
#endif
    plain::run_stage(stage, begin, end);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(rheobase, m) {
  m.def(
      "stage(Tensor[] tensors, int[] numbers, Tensor? correction, Tensor(a!) letters, float per_letter, Tensor(b!) v, "
      "Tensor(c!)? total, Tensor(d!)? sent, Tensor theta0, Tensor? start, Tensor? share, int t, int rule, float[] constants, "
      "bool normalised, int charge, float leak, float rest, int alphabet, float[] levels, float[] heights, bool with_sign, "
      "bool floored, bool hard, float value, float at) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(rheobase, CPU, m) { m.impl("stage", TORCH_BOX(&stage)); }
