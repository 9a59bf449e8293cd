// The letters of an image, all steps, with a rim as wide as the kernel reaches; every letter with `zero` added. A place of the
// output is an address in it. Each window of channels lies by itself.
struct Padded {
  Scratch<uint8_t> held;
  int64_t row, step, window;  // from one row, step, window to the next

  void fill(const Term& term, const Stage& stage, const int8_t* x) {
    const int64_t below = rim(term.pad_h, term.height, stage.out_h, term.stride_h, term.kernel_h, term.dilation_h);
    const int64_t right = rim(term.pad_w, term.width, stage.out_w, term.stride_w, term.kernel_w, term.dilation_w);
    row = (term.pad_w + term.width + right) * term.taken, step = row * (term.pad_h + term.height + below);
    window = step * stage.steps;
    held.reserve(term.windows * window + 64);
    const uint8_t zero = static_cast<uint8_t>(term.zero);
    uint8_t* to = held.data();
    const auto rest = [&](int64_t bytes) { memset(to, zero, bytes), to += bytes; };
    for (int64_t own = 0; own < term.windows; own++) {
      const int8_t* from = x + own * (term.channels / term.windows);
      for (int64_t t = 0; t < stage.steps; t++) {
        rest(term.pad_h * row);
        for (int64_t h = 0; h < term.height; h++, from += term.width * term.channels) {
          rest(term.pad_w * term.taken);
          copy(term, from, to, zero), to += term.width * term.taken;
          rest(right * term.taken);
        }
        rest(below * row);
      }
    }
    memset(to, 0, 64);
  }

  // Where the places of the output rows from `first` on begin, at all steps, filled up to whole groups of `together`.
  std::vector<int64_t> places(const Term& term, const Stage& stage, int64_t first, int64_t rows, int64_t together) const {
    std::vector<int64_t> found;
    found.reserve(stage.steps * rows * stage.out_w + together);
    for (int64_t t = 0; t < stage.steps; t++)
      for (int64_t h = first; h < first + rows; h++)
        for (int64_t w = 0; w < stage.out_w; w++) found.push_back(t * step + h * term.stride_h * row + w * term.stride_w * term.taken);
    found.insert(found.end(), together, found.back());
    return found;
  }

 private:
  // How far beyond the end of a map the kernel reaches.
  static int64_t rim(int64_t pad, int64_t size, int64_t out, int64_t stride, int64_t kernel, int64_t dilation) {
    return std::max<int64_t>(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - pad - size);
  }

  static void copy(const Term& term, const int8_t* x, uint8_t* to, uint8_t zero) {
    if (term.taken == term.channels) return shifted(x, to, term.width * term.channels, zero);
    for (int64_t w = 0; w < term.width; w++, x += term.channels, to += term.taken) shifted(x, to, term.taken, zero);
  }

  static void shifted(const int8_t* __restrict x, uint8_t* __restrict to, int64_t n, uint8_t zero) {
    for (int64_t k = 0; k < n; k++) to[k] = static_cast<uint8_t>(x[k]) + zero;
  }
};
