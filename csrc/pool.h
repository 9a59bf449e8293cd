// Pooling of letters, as `Pool` says.

template <int SIZE>
struct Bytes {
  typedef int8_t Vector __attribute__((vector_size(SIZE)));
};
template <>
struct Bytes<1> {
  typedef int8_t Vector;
};

// SIZE channels of one window at a time, as many as there are from c on; answers the first that is left.
template <bool LARGEST, int SIZE>
static inline int64_t window(const Pool& pool, const int8_t* x, const Tap& rows, const Tap& columns, int8_t* y, int64_t c) {
  typedef typename Bytes<SIZE>::Vector V;
  const int64_t down = pool.dilation_h * pool.width * pool.channels, right = pool.dilation_w * pool.channels;
  for (; c + SIZE <= pool.channels; c += SIZE) {
    V all;
    memset(&all, LARGEST ? -128 : 0, SIZE);
    for (int64_t k = 0; k < rows.count; k++)
      for (int64_t j = 0; j < columns.count; j++) {
        V a;
        memcpy(&a, x + k * down + j * right + c, SIZE);
        if constexpr (LARGEST) all = a > all ? a : all;
        else all = static_cast<V>(all + a);
      }
    memcpy(y + c, &all, SIZE);
  }
  return c;
}

template <bool LARGEST>
static void pooled(const Pool& pool, const int8_t* x, int8_t* y) {
  for (int64_t h = 0; h < pool.out_h; h++) {
    const Tap rows(h * pool.stride_h, pool.pad_h, pool.kernel_h, pool.dilation_h, pool.height);
    for (int64_t w = 0; w < pool.out_w; w++, y += pool.channels) {
      const Tap columns(w * pool.stride_w, pool.pad_w, pool.kernel_w, pool.dilation_w, pool.width);
      const int8_t* from = x + (rows.at * pool.width + columns.at) * pool.channels;
      int64_t c = window<LARGEST, 4 * W>(pool, from, rows, columns, y, 0);
      c = window<LARGEST, 16>(pool, from, rows, columns, y, c);
      window<LARGEST, 1>(pool, from, rows, columns, y, c);
    }
  }
}

// The maps from `begin` to `end`.
static void run_pool(const Pool& pool, int64_t begin, int64_t end) {
  const auto run = pool.largest ? pooled<true> : pooled<false>;
  const int64_t size = pool.height * pool.width * pool.channels, out = pool.out_h * pool.out_w * pool.channels;
  for (int64_t map = begin; map < end; map++) run(pool, pool.x + map * size, pool.y + map * out);
}
