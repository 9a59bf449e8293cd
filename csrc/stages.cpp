// The operators of `rheobase.stages`. Shapes and dtypes are checked in Python; every tensor is on the CPU.

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

constexpr int64_t NUMBERS = 16, TENSORS = 3;  // of a term: its kind and its members in order; weights, scale, bias

Term term(const int64_t* numbers, const Tensor& read, const Tensor* tensors) {
  Term a{};
  a.kind = static_cast<int>(numbers[0]);
  int64_t* const members[] = {&a.windows, &a.taken, &a.kernel_h,   &a.kernel_w,   &a.stride_h, &a.stride_w, &a.pad_h,
                              &a.pad_w,   &a.dilation_h, &a.dilation_w, &a.block, &a.flush,    &a.zero,     &a.shift,
                              &a.spelled};
  for (int64_t* member : members) *member = *++numbers;
  if (a.kind == CURRENT) {
    a.current = static_cast<const float*>(read.const_data_ptr());
    a.time_step = read.stride(0), a.image_step = read.stride(1);
  } else {
    a.x = static_cast<const int8_t*>(read.const_data_ptr());
    a.height = read.size(2), a.width = read.size(3), a.channels = read.size(4);
  }
  a.weights = tensors[0].const_data_ptr();
  a.scale = static_cast<const float*>(tensors[1].const_data_ptr());
  a.bias = static_cast<const float*>(tensors[2].const_data_ptr());
  return a;
}

void steps(Term& a, int64_t outputs) {
  if (!a.windows) return;
  a.blocks = (outputs / a.windows + a.block - 1) / a.block;
  if (a.kind == DENSE) {
    a.groups = (a.kernel_w * a.taken + 3) / 4, a.block_step = 4 * a.block * a.kernel_h * a.groups;
  } else if (a.kind == EVENTS || a.kind == REAL_EVENTS || a.kind == LOOKUP) {
    a.most = (a.kernel_w + a.stride_w - 1) / a.stride_w;
    a.phase_step = a.taken * a.most * a.block * (a.kind == LOOKUP ? 4 : 1), a.kernel_step = a.stride_w * a.phase_step;
    a.nothing = a.kernel_h * a.kernel_step, a.block_step = a.nothing + (a.kind == LOOKUP ? 0 : a.most * a.block);
  } else {
    a.block_step = a.kernel_h * a.kernel_w * a.block;
  }
}

void stage(std::vector<Tensor> reads, Tensor letters, Tensor v, std::optional<Tensor> total, std::optional<Tensor> sent,
           std::optional<Tensor> start, std::optional<Tensor> correction, int64_t t, std::vector<Tensor> tensors,
           std::vector<int64_t> numbers, Tensor theta0, std::optional<Tensor> share, double per_letter, int64_t rule,
           std::vector<double> constants, bool normalised, int64_t charge, double leak, double rest, int64_t alphabet,
           std::vector<double> levels, std::vector<double> heights, bool with_sign, bool floored, bool hard, double value,
           double at) {
  const auto written = [](const std::optional<Tensor>& a) { return a ? static_cast<float*>(a->mutable_data_ptr()) : nullptr; };
  const std::vector<float> c(constants.begin(), constants.end()), l(levels.begin(), levels.end()), h(heights.begin(), heights.end());
  Stage stage{};
  stage.images = letters.size(0), stage.steps = letters.size(1);
  stage.out_h = letters.size(2), stage.out_w = letters.size(3), stage.outputs = letters.size(4);
  for (size_t k = 0; k < reads.size(); k++) {
    stage.terms.push_back(term(&numbers[k * NUMBERS], reads[k], &tensors[k * TENSORS]));
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

// x int8 [N, T, H, W, C], y the same with fewer places. numbers: kernel, stride, padding, dilation, each of height and width.
void pool(Tensor x, Tensor y, bool largest, std::vector<int64_t> numbers) {
  Pool pool{};
  pool.x = static_cast<const int8_t*>(x.const_data_ptr()), pool.y = static_cast<int8_t*>(y.mutable_data_ptr());
  pool.height = x.size(2), pool.width = x.size(3), pool.channels = x.size(4), pool.out_h = y.size(2), pool.out_w = y.size(3);
  pool.largest = largest;
  int64_t* const members[] = {&pool.kernel_h, &pool.kernel_w, &pool.stride_h,   &pool.stride_w,
                              &pool.pad_h,    &pool.pad_w,    &pool.dilation_h, &pool.dilation_w};
  for (size_t k = 0; k < numbers.size(); k++) *members[k] = numbers[k];
  torch::stable::parallel_for(0, x.size(0) * x.size(1), 1, [&](int64_t begin, int64_t end) {
#ifdef RHEOBASE_X86
    switch (instructions()) {
      case VNNI: return vnni::run_pool(pool, begin, end);
      case AVX512: return avx512::run_pool(pool, begin, end);
      case AVX2: return avx2::run_pool(pool, begin, end);
      default: break;
    }
#endif
    plain::run_pool(pool, begin, end);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(rheobase, m) {
  m.def(
      "stage(Tensor[] reads, Tensor(a!) letters, Tensor(b!) v, Tensor(c!)? total, Tensor(d!)? sent, Tensor? start, "
      "Tensor? correction, int t, Tensor[] tensors, int[] numbers, Tensor theta0, Tensor? share, float per_letter, int rule, "
      "float[] constants, bool normalised, int charge, float leak, float rest, int alphabet, float[] levels, float[] heights, "
      "bool with_sign, bool floored, bool hard, float value, float at) -> ()");
  m.def("pool(Tensor x, Tensor(a!) y, bool largest, int[] numbers) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(rheobase, CPU, m) {
  m.impl("stage", TORCH_BOX(&stage));
  m.impl("pool", TORCH_BOX(&pool));
}
