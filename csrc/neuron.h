// The law of `rheobase.neuron`, T steps in one pass: the potential stays in registers, each operation in the order and
// rounding of the reference. Included once for each instruction set, like `lanes.h`.

constexpr int BLOCK = 4;  // chains side by side hide the latency of each

static inline F charge(const NeuronRun& run, F v, F x) {
  if (run.charge == LEAK) return run.leak * v + x;
  const F way = x - (v - run.rest);
  return v + (run.charge == DECAY ? way / run.leak : way * run.leak);
}

template <int RULE>
static inline F threshold(const NeuronRun& run, F theta0, F x, F v, F total, int64_t t) {
  const float* c = run.constants;
  if constexpr (RULE == FIXED) return theta0 * c[t * run.per_step];
  if constexpr (RULE == MSAT) {
    if (t == 0) return theta0;
    const float alpha = c[0], k_a = c[1], k_i = c[2], C = c[3], tau_mp = c[4], tau_rd = c[5], guard = c[6];
    F base = theta0, stages = all(0.0f), d = v - total * (1.0f / static_cast<float>(t));
    if (run.normalised) base = all(1.0f), d = d / theta0, x = x / theta0;
    if (tau_mp != 0) stages = tau_mp * (fma(all(alpha), d, k_a * softplus(d * (1.0f / k_i))) - base);
    if (tau_rd != 0) stages = stages + tau_rd * exp(x * (-1.0f / C));
    return theta0 * greatest(sigmoid(stages), all(guard));
  }
  const float beta = c[0], rho = c[1];
  F q = greatest(x, all(0.0f)) / theta0, g;
  if constexpr (RULE == RECIPROCAL) g = 1.0f / (1.0f + beta * q);
  if constexpr (RULE == EXPONENTIAL) g = exp(-beta * q);
  if constexpr (RULE == RAMP) g = greatest(1.0f - beta * q, all(0.0f));
  return theta0 * greatest(g, all(rho));
}

template <int LETTERS>
static inline F fire(const NeuronRun& run, F u, F theta) {
  const F one = all(1.0f), none = all(0.0f);
  if constexpr (LETTERS == BINARY) return choose(u >= theta, one, none);
  F r = u / theta;
  if constexpr (LETTERS == UNIFORM || LETTERS == CASCADE) {
    const float top = static_cast<float>(run.rungs);
    r = limit(r, run.with_sign ? -top : 0.0f, top);
    return run.floored ? floor(r) : trunc(r);
  }
  F s = none;
  float back = 0;
  for (int k = 0; k < run.rungs; k++) {
    const F height = all(run.heights[k]);
    s = s + choose(r >= run.levels[k], height, none);
    if (run.with_sign) s = s - (run.floored ? choose(-r > back, height, none) : choose(-r >= run.levels[k], height, none));
    back += run.heights[k];
  }
  return s;
}

// Where a hard reset acts.
static inline I emptied(const NeuronRun& run, F u, F theta, F removed) {
  I hit = removed != 0.0f;
  if (run.at > 0) {
    const F r = u / theta;
    hit &= greatest(r, -r) >= run.at;
  }
  return hit;
}

static inline F reset(const NeuronRun& run, F u, F theta, F s) {
  const F removed = s * theta;
  return run.hard ? choose(emptied(run, u, theta, removed), all(run.value), u) : u - removed;
}

// The most negative letter that charge already sent allows, in letters.
static inline F covered(F s, F sent) { return greatest(s, -floor(limit(sent, 0.0f, 1048576.0f))); }

// Letters of one step: as floats, or as bytes.
template <int VECTORS, bool FULL>
static inline void leave(const NeuronRun& run, const F* s, int64_t step, int64_t i, int width) {
  if (run.bytes) {
    int8_t* to = run.bytes + step * run.bytes_stride + i;
    if constexpr (FULL) narrow<VECTORS>(to, s, all(run.per_letter));
    else narrow(to, s[0] * run.per_letter, width);
    return;
  }
  float* to = run.letters + step * run.size + i;
  for (int b = 0; b < VECTORS; b++) store(to + b * W, s[b], width);
}

// Whether a letter is subtracted from a potential that only leaks.
static inline bool simple(const NeuronRun& run) { return run.charge == LEAK && !run.hard; }

// Whether nothing happens but the charge of a drive, a letter at a fixed threshold, a byte, and its subtraction.
static inline bool bare(const NeuronRun& run) {
  const bool fixed = run.rule == FIXED && !run.per_step && run.constants[0] == 1.0f && !run.amplitude;
  return fixed && simple(run) && run.leak == 1.0f && run.bytes && !run.sent;
}

// Elements [i, i + n) of the flat step, all T steps: n is VECTORS * W, or less than W if not FULL. BARE: see `bare`.
template <int RULE, int LETTERS, int VECTORS, bool FULL, bool BARE>
static void neurons(const NeuronRun& run, int64_t i, const float* theta0, int n) {
  const bool sums = RULE == MSAT && run.total, graded = !BARE && run.amplitude, gated = !BARE && run.sent;
  const int width = FULL ? W : n;
  constexpr bool MARKED = BARE && LETTERS == BINARY && FULL;  // which neurons fire says all
  F v[VECTORS], total[VECTORS], base[VECTORS], sent[VECTORS], s[VECTORS];
  I fires[VECTORS];
  for (int b = 0; b < VECTORS; b++) {
    if (run.starts) v[b] = load(run.start + i + b * W, width, 0.0f);
    else v[b] = run.start ? all(*run.start) : load(run.v + i + b * W, width, 0.0f);
    base[b] = run.shared ? all(*theta0) : load(theta0 + b * W, width, 1.0f);
    total[b] = sums ? load(run.total + i + b * W, width, 0.0f) : all(0.0f);
    sent[b] = gated ? load(run.sent + i + b * W, width, 0.0f) : all(0.0f);
  }
  for (int64_t step = 0; step < run.steps; step++) {
    const float* xs = run.xs + step * run.stride + i;
    for (int b = 0; b < VECTORS; b++) {
      F x = load(xs + b * W, width, 0.0f);
      F u = BARE ? v[b] + x : charge(run, v[b], x);
      F theta = BARE ? base[b] : threshold<RULE>(run, base[b], x, v[b], total[b], run.t + step);
      if constexpr (MARKED) {
        fires[b] = u >= theta;
        v[b] = u - (F)(fires[b] & (I)theta);
        continue;
      }
      s[b] = fire<LETTERS>(run, u, theta);
      if (gated) {
        F unit = graded ? theta : all(1.0f);
        s[b] = covered(s[b], graded ? sent[b] / unit : sent[b]);
        sent[b] = sent[b] + s[b] * unit;
      }
      v[b] = BARE ? u - s[b] * theta : reset(run, u, theta, s[b]);
      if (sums) total[b] = total[b] + v[b];
      if (graded) store(run.amplitude + step * run.size + i + b * W, theta, width);
    }
    if constexpr (MARKED) narrow<VECTORS>(run.bytes + step * run.bytes_stride + i, fires, static_cast<int8_t>(run.per_letter));
    else leave<VECTORS, FULL>(run, s, step, i, width);
  }
  for (int b = 0; b < VECTORS; b++) {
    store(run.v + i + b * W, v[b], width);
    if (sums) store(run.total + i + b * W, total[b], width);
    if (gated) store(run.sent + i + b * W, sent[b], width);
  }
}

constexpr int64_t ROW = 8192;  // neurons whose potentials stay in the second-level cache while the steps go by

// One step of `width` neurons that stand at `v`, or begin at `first`. SIMPLE: see `simple`.
template <int LETTERS, bool SIMPLE>
static inline F row_step(const NeuronRun& run, const float* xs, float* v, F theta, const F* first, int width) {
  const F x = load(xs, width, 0.0f), m = first ? *first : load(v, width, 0.0f);
  const F u = SIMPLE ? run.leak * m + x : charge(run, m, x);
  const F s = fire<LETTERS>(run, u, theta);
  store(v, SIMPLE ? u - s * theta : reset(run, u, theta, s), width);
  return s;
}

// What `neurons` does for a fixed threshold and letters that leave as floats, a step at a time over [i, i + n): long rows
// of drives and letters, of which the caches know what comes next. `run` is a copy, which nothing that is written can be.
template <int LETTERS, bool SIMPLE>
static void rows(NeuronRun run, int64_t i, const float* theta0, int64_t n) {
  const int64_t whole = n / W * W;
  const bool past = run.past && reinterpret_cast<uintptr_t>(run.letters + i) % (4 * W) == 0 && run.size % W == 0;
  for (int64_t step = 0; step < run.steps; step++) {
    const float* xs = run.xs + step * run.stride + i;
    float *to = run.letters + step * run.size + i, *v = run.v + i;
    const F start = all(run.start ? *run.start : 0.0f), *const first = run.start && step == 0 ? &start : nullptr;
    const float gain = run.constants[step * run.per_step];
    const F one = all(*theta0) * gain;
    auto theta = [&](int64_t j, int width) { return run.shared ? one : load(theta0 + j, width, 1.0f) * gain; };
    for (int64_t j = 0; j < whole; j += W) {
      const F s = row_step<LETTERS, SIMPLE>(run, xs + j, v + j, theta(j, W), first, W);
      if (past) stream(to + j, s);
      else store(to + j, s);
    }
    if (const int width = static_cast<int>(n - whole))
      store(to + whole, row_step<LETTERS, SIMPLE>(run, xs + whole, v + whole, theta(whole, width), first, width), width);
  }
}

template <int LETTERS, bool SIMPLE>
static void run_rows(const NeuronRun& run, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end;) {
    const int64_t at = run.shared ? 0 : i % run.period;
    const int64_t n = std::min(run.shared ? end - i : std::min(end - i, run.period - at), ROW);
    rows<LETTERS, SIMPLE>(run, i, run.theta0 + at, n);
    i += n;
  }
  if (run.past) streamed();
}

template <int RULE, int LETTERS, bool BARE = false>
static void run_range(const NeuronRun& run, int64_t begin, int64_t end) {
  if constexpr (RULE == FIXED && !BARE) {
    if (!run.bytes && !run.amplitude && !run.sent) {
      return simple(run) ? run_rows<LETTERS, true>(run, begin, end) : run_rows<LETTERS, false>(run, begin, end);
    }
    if (bare(run)) return run_range<RULE, LETTERS, true>(run, begin, end);
  }
  for (int64_t i = begin; i < end;) {
    const int64_t at = run.shared ? 0 : i % run.period;
    const int64_t left = run.shared ? end - i : std::min(end - i, run.period - at);
    const int n = left >= BLOCK * W ? BLOCK * W : left >= W ? W : static_cast<int>(left);
    if (n == BLOCK * W) neurons<RULE, LETTERS, BLOCK, true, BARE>(run, i, run.theta0 + at, n);
    else if (n == W) neurons<RULE, LETTERS, 1, true, BARE>(run, i, run.theta0 + at, n);
    else neurons<RULE, LETTERS, 1, false, BARE>(run, i, run.theta0 + at, n);
    i += n;
  }
}

template <int RULE>
static void run_letters(const NeuronRun& run, int64_t begin, int64_t end) {
  if (run.alphabet == BINARY) return run_range<RULE, BINARY>(run, begin, end);
  if (run.alphabet == UNIFORM) return run_range<RULE, UNIFORM>(run, begin, end);
  return run_range<RULE, TABLE>(run, begin, end);
}

static void run_neurons(const NeuronRun& run, int64_t begin, int64_t end) {
  switch (run.rule) {
    case FIXED: return run_letters<FIXED>(run, begin, end);
    case MSAT: return run_letters<MSAT>(run, begin, end);
    case RECIPROCAL: return run_letters<RECIPROCAL>(run, begin, end);
    case EXPONENTIAL: return run_letters<EXPONENTIAL>(run, begin, end);
    default: return run_letters<RAMP>(run, begin, end);
  }
}
