// Convolution of letters 0 and 1, four channels at a time: which of the four are 1 says where the sums of their weights stand.
// A row is walked from left to right as in `gather.h`, the sums of 16 outputs, of 16 bits, in registers.

typedef int16_t Sixteen __attribute__((vector_size(32)));

// Those sums as the numbers that `write` writes.
struct Looked {
  static constexpr int REALS = 16 / W, WIDTH = 16;

  static inline void reals(const Sixteen& sum, F* a) {
    typedef int16_t Some __attribute__((vector_size(2 * W)));
    int16_t held[16];
    memcpy(held, &sum, sizeof(held));
    for (int k = 0; k < REALS; k++) {
      Some some;
      memcpy(&some, held + k * W, sizeof(some));
      a[k] = real(__builtin_convertvector(some, I));
    }
  }
};

// One output row of one block of a window; codes: of the pixels of a step, `groups` of each.
template <int MOST>
static void look(const Term& term, const Stage& stage, const Reached* columns, const uint16_t* codes, int64_t row, int64_t window,
                 int64_t block, float* y) {
  const Block<int16_t> own(term, stage, window, block);
  const Tap taps(row * term.stride_h, term.pad_h, term.kernel_h, term.dilation_h, term.height);
  const int64_t groups = term.taken / 4, line = term.dilation_h * term.width * groups;
  const uint16_t* above = codes + taps.at * term.width * groups;
  const int16_t* tables = own.weights + taps.first * term.kernel_step;
  Sixteen sum[MOST] = {};
  int64_t at = std::min(0, columns[0].first), column = 0;
  for (y += at * stage.outputs + own.first;; at++, y += stage.outputs) {
    for (; column < term.width && columns[column].first == at; column++) {
      if (columns[column].weights < 0) continue;
      const uint16_t* x = above + column * groups;
      const int16_t* table = tables + columns[column].weights;
      for (int64_t k = 0; k < taps.count; k++, x += line, table += term.kernel_step) {
        const char* of_group = reinterpret_cast<const char*>(table);
#pragma GCC unroll 4
        for (int64_t g = 0; g < groups; g++, of_group += 16 * MOST * sizeof(Sixteen)) {
          const char* chosen = of_group + x[g];
#pragma GCC unroll 8
          for (int j = 0; j < MOST; j++) {
            Sixteen a;
            memcpy(&a, chosen + j * sizeof(a), sizeof(a));
            sum[j] += a;
          }
        }
      }
    }
    if (at >= stage.out_w) return;
    if (at >= 0) {
      F sums[Looked::REALS];
      Looked::reals(sum[0], sums);
      write<Looked>(y, sums, own.scale, own.bias, own.outputs);
    }
#pragma GCC unroll 8
    for (int j = 0; j + 1 < MOST; j++) sum[j] = sum[j + 1];
    sum[MOST - 1] = Sixteen{};
  }
}

typedef void (*Look)(const Term&, const Stage&, const Reached*, const uint16_t*, int64_t, int64_t, int64_t, float*);

template <int MOST = 1>
static Look look_of(const Term& term) {
  if constexpr (MOST <= 7) return term.most == MOST ? look<MOST> : look_of<MOST + 1>(term);
  return nullptr;
}

// The letters of an image, four in one number for every window and step: how far into a table they lead, in bytes.
struct Coded {
  std::vector<Reached> columns;
  Scratch<uint16_t> codes;

  void fill(const Term& term, const Stage& stage, const int8_t* x) {
    columns = reached(term);
    const int64_t pixels = stage.steps * term.height * term.width, groups = term.taken / 4;
    const uint32_t step = static_cast<uint32_t>(term.most * sizeof(Sixteen));
    codes.reserve(term.windows * pixels * groups);
    uint16_t* to = codes.data();
    for (int64_t window = 0; window < term.windows; window++) {
      const int8_t* from = x + window * (term.channels / term.windows);
      if (term.taken == term.channels) to = code(from, pixels * groups, step, to);
      else
        for (int64_t k = 0; k < pixels; k++) to = code(from + k * term.channels, groups, step, to);
    }
  }

  // The drives of the output rows from `first` on, as `dense` writes them.
  void drive(const Term& term, const Stage& stage, int64_t first, int64_t rows, float* y) {
    const Look run = look_of(term);
    const int64_t size = term.height * term.width * (term.taken / 4);
    for (int64_t window = 0; window < term.windows; window++)
      for (int64_t block = 0; block < term.blocks; block++)
        for (int64_t k = 0; k < stage.steps * rows; k++)
          run(term, stage, columns.data(), codes.data() + (window * stage.steps + k / rows) * size, first + k % rows, window, block,
              y + k * stage.out_w * stage.outputs);
  }

 private:
  static uint16_t* code(const int8_t* x, int64_t groups, uint32_t step, uint16_t* __restrict to) {
    for (int64_t g = 0; g < groups; g++) {
      uint32_t four;
      memcpy(&four, x + 4 * g, 4);
      to[g] = static_cast<uint16_t>((four * 0x01020408u >> 24) * step);  // letters 0 to 3 meet in bits 24 to 27
    }
    return to + groups;
  }
};
