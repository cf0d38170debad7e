// Histogram: counts of durations, for percentiles that are right to an eighth.
//
// A value is a class in groups of eight to each power of two; nothing is allocated and nothing
// grows. Not synchronized.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace pgraft {

class Histogram {
 public:
  void add(std::uint64_t value) {
    ++counts_[class_of(value)];
    ++count_;
    sum_ += value;
    max_ = std::max(max_, value);
  }
  std::uint64_t count() const { return count_; }
  std::uint64_t sum() const { return sum_; }
  std::uint64_t max() const { return max_; }
  std::uint64_t mean() const { return count_ == 0 ? 0 : sum_ / count_; }

  // A value that at least `share` (0 to 1) of all are not above; 0 when there are none.
  std::uint64_t percentile(double share) const {
    const auto wanted =
        static_cast<std::uint64_t>(std::llround(static_cast<double>(count_) * share));
    std::uint64_t seen = 0;
    for (std::size_t c = 0; c < counts_.size(); ++c) {
      seen += counts_[c];
      if (counts_[c] != 0 && seen >= wanted) return std::min(greatest_of(c), max_);
    }
    return max_;
  }

 private:
  static constexpr std::size_t kClasses = std::size_t{8} * 38;  // up to 2^40

  static std::size_t class_of(std::uint64_t value) {
    if (value < 8) return value;
    const std::size_t shift = static_cast<std::size_t>(std::bit_width(value)) - 4;  // leaves 8..15
    const std::size_t c = 8 * shift + (value >> shift);
    return std::min(c, kClasses - 1);
  }
  static std::uint64_t greatest_of(std::size_t c) {
    if (c < 16) return c;
    const std::size_t shift = c / 8 - 1;
    return ((c % 8 + 9) << shift) - 1;
  }

  std::array<std::uint64_t, kClasses> counts_{};
  std::uint64_t count_ = 0, sum_ = 0, max_ = 0;
};

}  // namespace pgraft
