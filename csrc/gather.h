// Convolution of letters that are mostly 0, as in `events.h`: each event adds its weights to the outputs that see it,
// sums in registers while a row is walked from left to right. In a row where an output sees more than `flush` events, sums of
// 16 bits are carried over into 32 after as many.

constexpr int AHEAD = 12;                // events
constexpr int64_t FAR_FROM = 256 << 10;  // bytes of the weights of a block

// Events, and where those of each place begin. All are worth 1 where the term is spelled in ONES: no values then. crowd: of
// the columns of a row, how many at most one output sees.
struct Lists {
  Scratch<int32_t> values, weights, first;
  int64_t crowd;

  void make(const Term& term, int64_t most, int64_t places) {
    values.reserve(term.spelled != ONES ? most + 2 * W : 0), weights.reserve(most + 2 * W + AHEAD), first.reserve(places + 1);
  }
};

struct Reached {
  int32_t weights, first;  // as `Column`
};

// The columns of the letters.
static std::vector<Reached> reached(const Term& term) {
  std::vector<Reached> columns(term.width);
  for (int64_t column = 0; column < term.width; column++) {
    const int64_t right = column + term.pad_w, phase = right % term.stride_w;
    columns[column] = {phase < term.kernel_w ? static_cast<int32_t>(phase * term.phase_step) : -1,
                       static_cast<int32_t>(right / term.stride_w - (term.most - 1))};
  }
  return columns;
}

// The taps of a kernel along one axis that lie on the map: the first, how many, and where the first lies.
struct Tap {
  int64_t first, count, at;

  Tap(int64_t from, int64_t pad, int64_t kernel, int64_t dilation, int64_t size) {
    const int64_t begin = from - pad;
    first = begin < 0 ? (dilation - 1 - begin) / dilation : 0;
    at = begin + first * dilation;
    count = std::max<int64_t>(0, std::min(kernel - first, (size - at + dilation - 1) / dilation));
  }
};

// The events of one image and step, pixel after pixel; x: the first channel of the window.
template <bool WEIGHTED>
static void decode(const Term& term, const std::vector<Reached>& columns, const int8_t* x, Lists& out) {
  out.make(term, term.height * term.width * term.taken, term.height * term.width);
  const int32_t step = static_cast<int32_t>(term.most * term.block);
  int32_t lane[W];
  for (int k = 0; k < W; k++) lane[k] = k * step;
  const I lanes = load(lane);
  const int taken = static_cast<int>(term.taken);
  int8_t rest[16] = {};
  int32_t *first = out.first.data(), n = 0;
  for (int64_t row = 0; row < term.height; row++)
    for (int64_t w = 0; w < term.width; w++, x += term.channels) {
      *first++ = n;
      if (columns[w].weights < 0) continue;
      I at = lanes + columns[w].weights;
      for (int c = 0; c < taken; c += 16) {
        const int8_t* letters = x + c;
        if (c + 16 > taken) letters = static_cast<const int8_t*>(memcpy(rest, letters, taken - c));
        const uint32_t bits = nonzero(letters);
        each<16 / W>(EACH(k) {
          const uint32_t mask = bits >> k * W & ((1u << W) - 1);
          compress<WEIGHTED>(mask, letters + k * W, at, out.values.data() + n, out.weights.data() + n);
          n += __builtin_popcount(mask), at += W * step;
        });
      }
    }
  *first = n;
}

// For an output row and each input column the events of all kernel rows in one list; an odd one more, whose weights are 0.
template <bool WEIGHTED>
static void merge(const Term& term, const Lists& events, int64_t row, Lists& out) {
  out.make(term, (term.kernel_h * term.taken + 1) * term.width, term.width);
  const Tap taps(row * term.stride_h, term.pad_h, term.kernel_h, term.dilation_h, term.height);
  int32_t n = 0;
  for (int64_t column = 0; column < term.width; column++) {
    out.first[column] = n;
    for (int64_t k = 0; k < taps.count; k++) {
      const int32_t* pixel = &events.first[(taps.at + k * term.dilation_h) * term.width + column];
      const int32_t from = pixel[0], count = pixel[1] - from, shift = static_cast<int32_t>((taps.first + k) * term.kernel_step);
      for (int32_t e = 0; e < count; e += W) {
        if constexpr (WEIGHTED) store(&out.values[n + e], load(&events.values[from + e]));
        store(&out.weights[n + e], load(&events.weights[from + e]) + shift);
      }
      n += count;
    }
    if (term.kind == EVENTS && n & 1) {
      if constexpr (WEIGHTED) out.values[n] = 0;
      out.weights[n++] = static_cast<int32_t>(term.nothing);
    }
  }
  out.first[term.width] = n;
  out.crowd = 0;
  for (int64_t column = 0; column < term.width; column++)
    out.crowd = std::max<int64_t>(out.crowd, out.first[std::min(column + term.kernel_w, term.width)] - out.first[column]);
}

// One output row of one block of a window, from its merged events. FAR: the weights of a block are more than the second
// cache holds well, so those of later events are asked for early.
template <class Number, int MOST, int VECTORS, int SPELLED, bool FAR>
static void gather(const Term& term, const Stage& stage, const Reached* columns, const Lists& events, int64_t window, int64_t block,
                   Scratch<int32_t>& carried, float* y) {
  typedef typename Number::Vector V;
  constexpr int WIDTH = Number::WIDTH, OUTPUTS = VECTORS * WIDTH;
  const Block<typename Number::Weight> own(term, stage, window, block);
  const int32_t *values = events.values.data(), *places = events.weights.data(), *first = events.first.data();
  V sum[MOST * VECTORS] = {};
  int64_t at = std::min(0, columns[0].first), column = 0, left = INT32_MAX;
  int32_t* wide = nullptr;  // of the output `at`
  if (events.crowd > term.flush) {
    left = term.flush;
    const int64_t size = (stage.out_w + MOST - at) * OUTPUTS;
    carried.reserve(size), wide = carried.data();
    std::fill_n(wide, size, 0);
  }
  y += at * stage.outputs + own.first;
  for (;; at++, y += stage.outputs) {
    for (; column < term.width && columns[column].first == at; column++)
      for (int32_t e = first[column]; e < first[column + 1];) {
        const int32_t end = static_cast<int32_t>(std::min<int64_t>(first[column + 1], e + left));
        left -= end - e;
        for (; e < end; e += Number::TOGETHER) {
          const auto letters = Number::template letters<SPELLED>(values + e);
          if constexpr (FAR) {
            const char* ahead = reinterpret_cast<const char*>(own.weights + places[e + AHEAD]);
#pragma GCC unroll 16
            for (int byte = 0; byte < MOST * OUTPUTS * static_cast<int>(sizeof(*own.weights)); byte += 64) __builtin_prefetch(ahead + byte);
          }
          const auto *one = own.weights + places[e], *other = own.weights + places[e + Number::TOGETHER - 1];
          each<MOST * VECTORS>(EACH(k) { Number::template add<SPELLED>(sum[k], one + k * WIDTH, other + k * WIDTH, letters); });
        }
        if (left) continue;
        each<MOST * VECTORS>(EACH(k) { Number::carry(sum[k], wide + k * WIDTH); });
        left = term.flush;
      }
    if (at >= 0) {
      if (at >= stage.out_w) return;
      const auto leave = [&](auto v, auto... outputs) __attribute__((always_inline)) {
        F sums[Number::REALS];
        Number::reals(sum[v], wide ? wide + v * WIDTH : nullptr, sums);
        write<Number>(y + v * WIDTH, sums, own.scale + v * WIDTH, own.bias + v * WIDTH, outputs...);
      };
      if (own.outputs == OUTPUTS) each<VECTORS>(EACH(v) { leave(v); });
      else each<VECTORS>(EACH(v) { leave(v, own.outputs - v * WIDTH); });
    }
    if (wide) wide += OUTPUTS;
    each<(MOST - 1) * VECTORS>(EACH(k) { sum[k] = sum[k + VECTORS]; });
    each<VECTORS>(EACH(v) { sum[(MOST - 1) * VECTORS + v] = V{}; });
  }
}

typedef void (*Gather)(const Term&, const Stage&, const Reached*, const Lists&, int64_t, int64_t, Scratch<int32_t>&, float*);

template <class Number, int MOST, int VECTORS, bool FAR>
static Gather spelled(const Term& term) {
  if (term.spelled == ONES) return gather<Number, MOST, VECTORS, ONES, FAR>;
  return term.spelled == COUNTS ? gather<Number, MOST, VECTORS, COUNTS, FAR> : gather<Number, MOST, VECTORS, SIGNED, FAR>;
}

template <class Number, int OUTPUTS, int MOST = 1>
static Gather gather_of(const Term& term) {
  constexpr int VECTORS = OUTPUTS / Number::WIDTH;
  if constexpr (MOST <= 7) {
    if (term.most != MOST) return gather_of<Number, OUTPUTS, MOST + 1>(term);
    if constexpr (MOST <= 3)
      if (static_cast<int64_t>(term.taken * term.kernel_h * MOST * OUTPUTS * sizeof(typename Number::Weight)) > FAR_FROM)
        return spelled<Number, MOST, VECTORS, true>(term);
    return spelled<Number, MOST, VECTORS, false>(term);
  }
  return nullptr;
}

static Gather gather_of(const Term& term) {
  if (term.kind == REAL_EVENTS) return term.block == 16 ? gather_of<Real, 16>(term) : gather_of<Real, 32>(term);
  return term.block == 32 ? gather_of<Couples<16>, 32>(term) : gather_of<Couples<W == 16 ? 32 : 16>, 64>(term);
}

// The events of an image for every window and step, and of the output rows at hand.
struct Gathered {
  std::vector<Reached> columns;
  std::vector<Lists> pixels, lines;
  Scratch<int32_t> carried;

  void fill(const Term& term, const Stage& stage, const int8_t* x) {
    columns = reached(term);
    pixels.resize(term.windows * stage.steps);
    const int64_t image = term.height * term.width * term.channels, between = term.channels / term.windows;
    const auto list = term.spelled != ONES ? decode<true> : decode<false>;
    for (int64_t window = 0; window < term.windows; window++)
      for (int64_t t = 0; t < stage.steps; t++)
        list(term, columns, x + t * image + window * between, pixels[window * stage.steps + t]);
  }

  // The drives of the output rows from `first` on, as `dense` writes them.
  void drive(const Term& term, const Stage& stage, int64_t first, int64_t rows, float* y) {
    const Gather run = gather_of(term);
    const auto join = term.spelled != ONES ? merge<true> : merge<false>;
    const int64_t count = stage.steps * rows;
    if (static_cast<int64_t>(lines.size()) < count) lines.resize(count);
    for (int64_t window = 0; window < term.windows; window++) {
      for (int64_t k = 0; k < count; k++) join(term, pixels[window * stage.steps + k / rows], first + k % rows, lines[k]);
      for (int64_t block = 0; block < term.blocks; block++)  // its weights stay in the cache
        for (int64_t k = 0; k < count; k++)
          run(term, stage, columns.data(), lines[k], window, block, carried, y + k * stage.out_w * stage.outputs);
    }
  }
};
