// The gradient of `neuron.h` for fixed thresholds: a block of neurons runs T steps again, keeping the charged potential of
// each, and walks back through them. In the order and rounding of autograd through `rheobase.neuron.fire`, but for the
// order of sums over neurons. Included once for each instruction set, like `lanes.h`.

// What a piece of the neurons adds to sums, lane by lane.
struct Sums {
  F theta, leak;
};

// h(r) of `rheobase.surrogate`.
template <int SURROGATE>
static inline F derivative(const float* c, F r) {
  if constexpr (SURROGATE == RECTANGULAR || SURROGATE == TILED)
    return choose((r >= -c[0]) & (r < c[0]), all(1.0f / c[1]), all(0.0f));
  if constexpr (SURROGATE == POLYNOMIAL) return greatest(c[0] - c[1] * greatest(r, -r), all(0.0f));
  if constexpr (SURROGATE == GAUSSIAN) return exp(r * r / c[0]) / c[1];
  if constexpr (SURROGATE == ATAN) {
    const F q = c[0] * r;
    return 1.0f / (1.0f + q * q) * c[1];
  }
  const F up = sigmoid(r / c[0]);
  return up * (1.0f - up) / c[0];
}

// `Alphabet.slope`: the derivative of the letter by r.
template <int LETTERS, int SURROGATE>
static inline F slope(const NeuronBackward& back, F r) {
  const NeuronRun& run = back.run;
  const float* c = back.widths;
  if constexpr (SURROGATE == TILED)  // the windows of neighbouring letters tile: the sum is one comparison
    return choose((r >= 0.5f) & (r < static_cast<float>(run.rungs) + 0.5f), all(1.0f), all(0.0f));
  if constexpr (LETTERS == BINARY) return derivative<SURROGATE>(c, r - 1.0f);
  F total = all(0.0f), left = r, chain = all(1.0f);
  float below = 0;
  if constexpr (LETTERS == CASCADE) {
    for (int k = back.rungs; k-- > 0;) {
      const float part = back.parts[k];
      const F rise = chain * derivative<SURROGATE>(c, (left - part) / part);
      total = total + rise;
      left = left - choose(left >= part, all(part), all(0.0f));
      if (!back.detached) chain = chain - rise;
    }
    return total;
  }
  for (int k = 0; k < run.rungs; k++) {
    const float level = run.levels[k], mirrored = run.floored ? below : level, height = run.heights[k];
    const bool even = LETTERS == UNIFORM;  // every height is 1
    total = total + derivative<SURROGATE>(c, even ? r - level : (r - level) / height);
    if (run.with_sign) total = total + derivative<SURROGATE>(c, even ? -r - mirrored : (-r - mirrored) / height);
    below += height;
  }
  return total;
}

// The gradient that arrives at a neuron after its reset, as it walks back.
struct Back {
  F v, theta, leak;
};

// One step back from the charged potential u: from dL/ds to dL/dx; `way` is that to the drive, where its share is learned.
// SIMPLE: see `simple`, and no gradient by the threshold is wanted.
template <int LETTERS, int SURROGATE, bool SIMPLE>
static inline F step_back(const NeuronBackward& back, F theta, F u, F way, F ds, Back& g) {
  const NeuronRun& run = back.run;
  const F r = back.one ? u : u / theta;
  F du = g.v, dr;
  if (SIMPLE || !run.hard) {
    if (!back.detached) {
      ds = ds - g.v * theta;
      if (!SIMPLE && back.to_theta) g.theta = g.theta - g.v * fire<LETTERS>(run, u, theta);
    }
    dr = ds * slope<LETTERS, SURROGATE>(back, r);
  } else {
    du = choose(emptied(run, u, theta, fire<LETTERS>(run, u, theta) * theta), all(0.0f), g.v);
    dr = ds * slope<LETTERS, SURROGATE>(back, r);
    if (!back.detached) {
      const F hit = g.v * run.value - g.v * u;
      F through = derivative<SURROGATE>(back.widths, r - back.hit);
      if (run.with_sign) through = through - derivative<SURROGATE>(back.widths, -r - back.hit);
      dr = dr + hit * through;
    }
  }
  du = du + (back.one ? dr : dr / theta);
  if (!SIMPLE && back.to_theta) g.theta = g.theta - dr * (r / theta);
  if (SIMPLE || run.charge == LEAK) {
    g.v = run.leak * du;
    return du;
  }
  if (run.charge == LEARNED) g.leak = g.leak + du * way;
  const F part = run.charge == DECAY ? du / run.leak : du * run.leak;
  g.v = du - part;
  return part;
}

constexpr int64_t MOST_COLUMNS = 2048;

// Of a piece of the neurons: the charged potential of each step, the potential, and the gradients that walk back.
struct Walk {
  Scratch<float> charged, v, to_v, to_theta, to_leak;
  int64_t columns;  // of a piece, so many that all of it stays in the second-level cache
  explicit Walk(int64_t steps) : columns(std::clamp<int64_t>(16384 / steps / W * W, W, MOST_COLUMNS)) {
    charged.reserve(steps * columns), v.reserve(columns), to_v.reserve(columns), to_theta.reserve(columns);
    to_leak.reserve(columns);
  }
};

// Neurons [i, i + n), theta and its gradient beginning at `at`. `back` is a copy, which nothing that is written can be.
template <int LETTERS, int SURROGATE, bool SIMPLE>
static void walk(NeuronBackward back, int64_t i, int64_t at, int64_t n, Walk& to, Sums& sums) {
  const NeuronRun& run = back.run;
  float *v = to.v.data(), *to_v = to.to_v.data(), *to_theta = to.to_theta.data(), *to_leak = to.to_leak.data();
  const F one = all(*run.theta0);
  const bool past = back.past && reinterpret_cast<uintptr_t>(back.xs + i) % (4 * W) == 0 && run.size % W == 0 && n % W == 0;
  auto left = [&](int64_t j) { return static_cast<int>(std::min<int64_t>(W, n - j)); };
  auto theta = [&](int64_t j) { return run.shared ? one : load(run.theta0 + at + j, left(j), 1.0f); };
  auto born = [&](int64_t j) { return run.start ? all(*run.start) : load(run.v + i + j, left(j), 0.0f); };
  for (int64_t j = 0; j < n; j += W) {
    store(v + j, born(j));
    store(to_v + j, back.potential ? load(back.potential + i + j, left(j), 0.0f) : all(0.0f));
    if (!SIMPLE) store(to_theta + j, all(0.0f)), store(to_leak + j, all(0.0f));
  }
  for (int64_t step = 0; step < run.steps; step++) {
    const float* xs = run.xs + step * run.stride + i;
    float* charged = to.charged.data() + step * to.columns;
    for (int64_t j = 0; j < n; j += W) {
      const F x = load(xs + j, left(j), 0.0f), m = load(v + j), at_j = theta(j);
      const F u = SIMPLE ? run.leak * m + x : charge(run, m, x), s = fire<LETTERS>(run, u, at_j);
      store(charged + j, u);
      store(v + j, SIMPLE ? u - s * at_j : reset(run, u, at_j, s));
    }
  }
  for (int64_t step = run.steps; step-- > 0;) {
    const float *xs = run.xs + step * run.stride + i, *letters = back.letters + step * back.stride + i;
    const float* charged = to.charged.data() + step * to.columns;
    float* to_xs = back.xs + step * run.size + i;
    // What the drives are ahead of the potentials before this step.
    auto way = [&](int64_t j) {
      const F u = step ? load(charged - to.columns + j) : all(0.0f);
      const F m = step ? reset(run, u, theta(j), fire<LETTERS>(run, u, theta(j))) : born(j);
      return load(xs + j, left(j), 0.0f) - (m - run.rest);
    };
    for (int64_t j = 0; j < n; j += W) {
      const int width = left(j);
      const F ds = back.letters ? load(letters + j, width, 0.0f) : all(0.0f);
      Back g{load(to_v + j), SIMPLE ? all(0.0f) : load(to_theta + j), SIMPLE ? all(0.0f) : load(to_leak + j)};
      const F ahead = !SIMPLE && run.charge == LEARNED ? way(j) : all(0.0f);
      const F dx = step_back<LETTERS, SURROGATE, SIMPLE>(back, theta(j), load(charged + j), ahead, ds, g);
      if (past) stream(to_xs + j, dx);
      else store(to_xs + j, dx, width);
      store(to_v + j, g.v);
      if (!SIMPLE) store(to_theta + j, g.theta), store(to_leak + j, g.leak);
    }
  }
  for (int64_t j = 0; j < n; j += W) {
    const int width = left(j);
    if (back.v) store(back.v + i + j, load(to_v + j), width);
    if (SIMPLE) continue;
    const F g = load(to_theta + j);
    sums.theta = sums.theta + g;  // of lanes past the end 0: nothing arrives there
    sums.leak = sums.leak + load(to_leak + j);
    if (back.theta) store(back.theta + at + j, load(back.theta + at + j, width, 0.0f) + g, width);
  }
}

static inline double lanes_of(F a) {
  double sum = 0;
  for (int k = 0; k < W; k++) sum += a[k];
  return sum;
}

// Columns [begin, end) of every row.
template <int LETTERS, int SURROGATE, bool SIMPLE = false>
static Shared walk_range(const NeuronBackward& back, int64_t begin, int64_t end) {
  if (!SIMPLE && simple(back.run) && !back.to_theta) return walk_range<LETTERS, SURROGATE, true>(back, begin, end);
  const NeuronRun& run = back.run;
  Walk to(run.steps);
  Sums sums{all(0.0f), all(0.0f)};
  for (int64_t row = 0; row < back.rows; row++)
    for (int64_t i = row * (run.size / back.rows) + begin, stop = i + end - begin; i < stop;) {
      const int64_t at = run.shared ? 0 : i % run.period;
      const int64_t left = run.shared ? stop - i : std::min(stop - i, run.period - at), n = std::min(left, to.columns);
      walk<LETTERS, SURROGATE, SIMPLE>(back, i, at, n, to, sums);
      i += n;
    }
  if (back.past) streamed();
  return {lanes_of(sums.theta), lanes_of(sums.leak)};
}

template <int LETTERS>
static Shared walk_surrogate(const NeuronBackward& back, int64_t begin, int64_t end) {
  switch (back.surrogate) {
    case RECTANGULAR: return walk_range<LETTERS, RECTANGULAR>(back, begin, end);
    case POLYNOMIAL: return walk_range<LETTERS, POLYNOMIAL>(back, begin, end);
    case GAUSSIAN: return walk_range<LETTERS, GAUSSIAN>(back, begin, end);
    case ATAN: return walk_range<LETTERS, ATAN>(back, begin, end);
    case SIGMOID: return walk_range<LETTERS, SIGMOID>(back, begin, end);
    default: return walk_range<LETTERS, TILED>(back, begin, end);
  }
}

static Shared walk_back(const NeuronBackward& back, int64_t begin, int64_t end) {
  switch (back.alphabet) {
    case BINARY: return walk_surrogate<BINARY>(back, begin, end);
    case UNIFORM: return walk_surrogate<UNIFORM>(back, begin, end);
    case CASCADE: return walk_surrogate<CASCADE>(back, begin, end);
    default: return walk_surrogate<TABLE>(back, begin, end);
  }
}
