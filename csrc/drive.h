// A stage for some images: the drives of a few output rows at all steps, while they are in the cache, then their neurons.

// y = scale * x, or y += scale * x
template <bool MORE>
static inline void scaled(const int8_t* x, const float* scale, float* y, int64_t n) {
  int64_t k = 0;
  for (; k + W <= n; k += W) {
    const F a = real(widened(x + k)) * load(scale + k);
    store(y + k, MORE ? load(y + k) + a : a);
  }
  for (; k < n; k++) y[k] = (MORE ? y[k] : 0.0f) + static_cast<float>(x[k]) * scale[k];
}

// y += x
static inline void add(float* __restrict y, const float* __restrict x, int64_t n) {
  for (int64_t k = 0; k < n; k++) y[k] += x[k];
}

// n values, again and again for `places`.
static Scratch<float> tiled(const float* values, int64_t n, int64_t places) {
  Scratch<float> row(n * places + W);
  for (int64_t k = 0; k < places; k++) std::copy(values, values + n, row.data() + k * n);
  std::fill_n(row.data() + n * places, W, 0.0f);  // read with the last, never used
  return row;
}

template <bool MORE>
static void identity(const Term& term, const Stage& stage, const int8_t* x, const float* scale, int64_t row, int64_t rows, float* y) {
  const int64_t line = stage.out_w * stage.outputs, image = term.height * term.width * term.channels;
  if (term.stride_w == 1 && term.channels == stage.outputs) {
    for (int64_t t = 0; t < stage.steps; t++, x += image, y += rows * line)
      for (int64_t h = 0; h < rows; h++) scaled<MORE>(x + (row + h) * line, scale, y + h * line, line);
    return;
  }
  for (int64_t t = 0; t < stage.steps; t++, x += image)
    for (int64_t h = row; h < row + rows; h++)
      for (int64_t w = 0; w < stage.out_w; w++, y += stage.outputs) {
        const int8_t* from = x + (h * term.stride_h * term.width + w * term.stride_w) * term.channels;
        const int64_t end = term.shift + term.channels;
        if (!MORE) std::fill(y, y + term.shift, 0.0f), std::fill(y + end, y + stage.outputs, 0.0f);
        scaled<MORE>(from, scale + term.shift, y + term.shift, term.channels);
      }
}

static void current(const Term& term, const Stage& stage, int64_t image, int64_t row, int64_t rows, float* y) {
  const int64_t line = stage.out_w * stage.outputs;
  const float* from = term.current + image * term.image_step + row * line;
  for (int64_t t = 0; t < stage.steps; t++, y += rows * line) memcpy(y, from + t * term.time_step, rows * line * sizeof(float));
}

// A Spread for each neuron of some rows, which all are alike unless it is of every neuron.
struct Rows {
  Scratch<float> held;
  const float* whole = nullptr;

  Rows(const Spread& spread, int64_t rows, int64_t out_w, int64_t outputs) {
    if (spread.count == 1) held = tiled(spread.values, 1, rows * out_w * outputs);
    else if (spread.count == outputs) held = tiled(spread.values, outputs, rows * out_w);
    else whole = spread.values;
  }
  const float* from(int64_t begin) { return whole ? whole + begin : held.data(); }
};

struct Worker {
  const Stage& stage;
  int64_t together;  // output rows
  std::vector<Padded> padded;
  std::vector<Coded> coded;
  std::vector<Gathered> gathered;
  std::vector<Scratch<float>> scales, corrections;
  Rows theta0, start;
  Scratch<float> drives, more;

  explicit Worker(const Stage& stage)
      : stage(stage), together(rows_of(stage)), padded(stage.terms.size()), coded(stage.terms.size()), gathered(stage.terms.size()),
        theta0(stage.theta0, together, stage.out_w, stage.outputs), start(stage.start, together, stage.out_w, stage.outputs) {
    const int64_t size = together * stage.steps * stage.out_w * stage.outputs + W;
    drives.reserve(size), more.reserve(stage.terms.size() > 1 ? size : 0);
    for (const Term& term : stage.terms)
      scales.push_back(term.kind == IDENTITY ? tiled(term.scale, stage.outputs, stage.out_w) : Scratch<float>());
    for (int64_t t = 0; t < std::min(stage.steps, stage.corrected); t++)
      corrections.push_back(tiled(stage.correction + t * stage.outputs, stage.outputs, stage.out_w));
  }

  // How many output rows are driven before their neurons fire: few, but where weights are many, rows that share them.
  static int64_t rows_of(const Stage& stage) {
    int64_t weights = 0;
    for (const Term& term : stage.terms) weights += term.windows * term.blocks * term.block_step;
    const int64_t room = weights > 131072 ? 65536 : 6144, line = stage.steps * stage.out_w * stage.outputs;  // floats
    return std::max<int64_t>(1, std::min<int64_t>(stage.out_h, room / line));
  }

  const int8_t* letters(const Term& term, int64_t image) const {
    return term.x + image * stage.steps * term.height * term.width * term.channels;
  }

  void term(size_t k, int64_t image, int64_t row, int64_t rows, float* y) {
    const Term& term = stage.terms[k];
    switch (term.kind) {
      case DENSE: return dense(term, stage, padded[k], row, rows, y);
      case LOOKUP: return coded[k].drive(term, stage, row, rows, y);
      case DEPTHWISE: return depthwise<Whole>(term, stage, padded[k], row, rows, y);
      case REAL_DEPTHWISE: return depthwise<Real>(term, stage, padded[k], row, rows, y);
      case IDENTITY: return identity<false>(term, stage, letters(term, image), scales[k].data(), row, rows, y);
      case CURRENT: return current(term, stage, image, row, rows, y);
      default: return gathered[k].drive(term, stage, row, rows, y);
    }
  }

  // xs: the drives of these rows, at each step `stride` further.
  void fire(int64_t image, int64_t row, int64_t rows, const float* xs, int64_t stride) {
    const int64_t line = stage.out_w * stage.outputs, size = rows * line, begin = row * line, whole = stage.out_h * line;
    NeuronRun run = stage.neurons;
    run.xs = xs, run.stride = stride, run.size = size;
    run.bytes = stage.letters + image * stage.steps * whole + begin, run.bytes_stride = whole;
    run.v += image * whole + begin;
    if (run.total) run.total += image * whole + begin;
    if (run.sent) run.sent += image * whole + begin;
    run.theta0 = theta0.from(begin), run.shared = stage.theta0.count == 1, run.period = size;
    if (stage.start.values) {
      run.start = start.from(begin), run.starts = true;
      if (run.total) memset(run.total, 0, size * sizeof(float));
      if (run.sent) memset(run.sent, 0, size * sizeof(float));
    }
    run_neurons(run, 0, size);
  }

  void image(int64_t image) {
    for (size_t k = 0; k < stage.terms.size(); k++) {
      const Term& term = stage.terms[k];
      if (term.kind == DENSE || term.kind == DEPTHWISE || term.kind == REAL_DEPTHWISE)
        padded[k].fill(term, stage, letters(term, image));
      if (term.kind == LOOKUP) coded[k].fill(term, stage, letters(term, image));
      if (term.kind == EVENTS || term.kind == REAL_EVENTS) gathered[k].fill(term, stage, letters(term, image));
    }
    const Term& only = stage.terms[0];
    const bool given = stage.terms.size() == 1 && only.kind == CURRENT && corrections.empty();
    const int64_t line = stage.out_w * stage.outputs;
    for (int64_t row = 0; row < stage.out_h; row += together) {
      const int64_t rows = std::min(together, stage.out_h - row), count = rows * line;
      if (given) {
        fire(image, row, rows, only.current + image * only.image_step + row * line, only.time_step);
        continue;
      }
      for (size_t k = 0; k < stage.terms.size(); k++) {
        const Term& own = stage.terms[k];
        if (k && own.kind == IDENTITY)
          identity<true>(own, stage, letters(own, image), scales[k].data(), row, rows, drives.data());
        else
          term(k, image, row, rows, k ? more.data() : drives.data());
        if (k && own.kind != IDENTITY) add(drives.data(), more.data(), stage.steps * count);
      }
      correct(rows);
      fire(image, row, rows, drives.data(), count);
    }
  }

  void correct(int64_t rows) {
    const int64_t line = stage.out_w * stage.outputs;
    for (size_t t = 0; t < corrections.size(); t++)
      for (int64_t h = 0; h < rows; h++) add(drives.data() + (t * rows + h) * line, corrections[t].data(), line);
  }
};

static void run_stage(const Stage& stage, int64_t begin, int64_t end) {
  Worker worker(stage);
  for (int64_t image = begin; image < end; image++) worker.image(image);
}
