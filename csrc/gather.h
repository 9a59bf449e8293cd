// Convolution of letters that are mostly 0, as in `events.h`: each event adds its weights to the outputs that see it,
// sums in registers while a row is walked from left to right.

// Events, and where those of each place begin. All are worth 1 where the term is not `weighted`: no values then.
struct Lists {
  Scratch<int32_t> values, weights, first;

  void make(const Term& term, int64_t most, int64_t places) {
    values.reserve(term.weighted ? most + 2 * W : 0), weights.reserve(most + 2 * W), first.reserve(places + 1);
  }
};

struct Reached {
  int32_t weights, first;  // as `Column`
};

// The events of one image and step, pixel after pixel; x: the first channel taken.
template <bool WEIGHTED>
static void decode(const Term& term, const std::vector<Reached>& columns, const int8_t* x, Lists& out) {
  out.make(term, term.height * term.width * term.taken, term.height * term.width);
  const int32_t step = static_cast<int32_t>(term.most * term.block);
  int32_t lane[W];
  for (int k = 0; k < W; k++) lane[k] = k * step;
  const I lanes = load(lane);
  const int taken = static_cast<int>(term.taken);
  int32_t *first = out.first.data(), n = 0;
  for (int64_t row = 0; row < term.height; row++)
    for (int64_t w = 0; w < term.width; w++, x += term.channels) {
      *first++ = n;
      if (columns[w].weights < 0) continue;
      for (int c = 0; c < taken; c += W) {
        I letters;
        if (c + W <= taken) letters = widened(x + c);
        else {
          int8_t rest[16] = {};
          memcpy(rest, x + c, taken - c);
          letters = widened(rest);
        }
        n += compress<WEIGHTED>(letters, lanes + (c * step + columns[w].weights), out.values.data() + n, out.weights.data() + n);
      }
    }
  *first = n;
}

// For an output row and each input column the events of all kernel rows in one list.
template <bool WEIGHTED>
static void merge(const Term& term, const Lists& events, int64_t row, Lists& out) {
  out.make(term, term.kernel_h * term.width * term.taken, term.width);
  const int64_t top = row * term.stride_h - term.pad_h, above = std::max<int64_t>(0, -top);
  const int64_t begin = (above + term.dilation_h - 1) / term.dilation_h;
  const int64_t end = std::min(term.kernel_h, (term.height - top + term.dilation_h - 1) / term.dilation_h);
  int32_t n = 0;
  for (int64_t column = 0; column < term.width; column++) {
    out.first[column] = n;
    for (int64_t k = begin; k < end; k++) {
      const int32_t* pixel = &events.first[(top + k * term.dilation_h) * term.width + column];
      const int32_t from = pixel[0], count = pixel[1] - from, shift = static_cast<int32_t>(k * term.kernel_step);
      for (int32_t e = 0; e < count; e += W) {
        if constexpr (WEIGHTED) store(&out.values[n + e], load(&events.values[from + e]));
        store(&out.weights[n + e], load(&events.weights[from + e]) + shift);
      }
      n += count;
    }
  }
  out.first[term.width] = n;
}

// One output row of one block of a window, from its merged events.
template <class Number, int MOST, int VECTORS, bool WEIGHTED>
static void gather(const Term& term, const Stage& stage, const Reached* columns, const Lists& events, int64_t window, int64_t block,
                   float* y) {
  typedef typename Number::Vector V;
  constexpr int WIDTH = Number::WIDTH;
  const Block<typename Number::Weight> own(term, stage, window, block);
  const int32_t *values = events.values.data(), *places = events.weights.data(), *first = events.first.data();
  V sum[MOST][VECTORS] = {};
  int64_t at = std::min(0, columns[0].first), column = 0;
  y += at * stage.outputs + own.first;
  for (;; at++, y += stage.outputs) {
    for (; column < term.width && columns[column].first == at; column++)
      for (int32_t e = first[column]; e < first[column + 1]; e++) {
        const auto* w = own.weights + places[e];
#pragma GCC unroll 16
        for (int j = 0; j < MOST; j++)
#pragma GCC unroll 16
          for (int v = 0; v < VECTORS; v++)
            Number::template add<WEIGHTED>(sum[j][v], w + (j * VECTORS + v) * WIDTH, WEIGHTED ? values[e] : 1);
      }
    if (at >= 0) {
      if (at >= stage.out_w) return;
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; v++) {
        F sums[Number::REALS];
        Number::reals(sum[0][v], sums);
        write<Number>(y + v * WIDTH, sums, own.scale + v * WIDTH, own.bias + v * WIDTH, own.outputs - v * WIDTH);
      }
    }
#pragma GCC unroll 16
    for (int j = 0; j + 1 < MOST; j++)
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; v++) sum[j][v] = sum[j + 1][v];
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) sum[MOST - 1][v] = V{};
  }
}

typedef void (*Gather)(const Term&, const Stage&, const Reached*, const Lists&, int64_t, int64_t, float*);

template <class Number, int OUTPUTS, int MOST = 1>
static Gather gather_of(const Term& term) {
  constexpr int VECTORS = OUTPUTS / Number::WIDTH;
  if constexpr (MOST <= 7) {
    if (term.most != MOST) return gather_of<Number, OUTPUTS, MOST + 1>(term);
    return term.weighted ? gather<Number, MOST, VECTORS, true> : gather<Number, MOST, VECTORS, false>;
  }
  return nullptr;
}

static Gather gather_of(const Term& term) {
  if (term.kind == REAL_EVENTS) return gather_of<Real, 32>(term);
  return term.block == 32 ? gather_of<Pairs<16>, 32>(term) : gather_of<Pairs<W == 16 ? 32 : 16>, 64>(term);
}

// The events of an image for every window and step, and of the output rows at hand.
struct Gathered {
  std::vector<Reached> columns;
  std::vector<Lists> pixels, lines;

  void fill(const Term& term, const Stage& stage, const int8_t* x) {
    columns.resize(term.width);
    for (int64_t column = 0; column < term.width; column++) {
      const int64_t right = column + term.pad_w, phase = right % term.stride_w;
      columns[column] = {phase < term.kernel_w ? static_cast<int32_t>(phase * term.phase_step) : -1,
                         static_cast<int32_t>(right / term.stride_w - (term.most - 1))};
    }
    pixels.resize(term.windows * stage.steps);
    const int64_t image = term.height * term.width * term.channels, between = term.channels / term.windows;
    const auto list = term.weighted ? decode<true> : decode<false>;
    for (int64_t window = 0; window < term.windows; window++)
      for (int64_t t = 0; t < stage.steps; t++)
        list(term, columns, x + t * image + window * between + term.first, pixels[window * stage.steps + t]);
  }

  // The drives of the output rows from `first` on, as `dense` writes them.
  void drive(const Term& term, const Stage& stage, int64_t first, int64_t rows, float* y) {
    const Gather run = gather_of(term);
    const auto join = term.weighted ? merge<true> : merge<false>;
    const int64_t count = stage.steps * rows;
    if (static_cast<int64_t>(lines.size()) < count) lines.resize(count);
    for (int64_t window = 0; window < term.windows; window++) {
      for (int64_t k = 0; k < count; k++) join(term, pixels[window * stage.steps + k / rows], first + k % rows, lines[k]);
      for (int64_t block = 0; block < term.blocks; block++)  // its weights stay in the cache
        for (int64_t k = 0; k < count; k++)
          run(term, stage, columns.data(), lines[k], window, block, y + k * stage.out_w * stage.outputs);
    }
  }
};
