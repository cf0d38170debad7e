#include "libpgraft/base/histogram.h"

#include <gtest/gtest.h>

namespace pgraft {
namespace {

TEST(Histogram, IsEmptyAtFirst) {
  const Histogram none;
  EXPECT_EQ(none.count(), 0u);
  EXPECT_EQ(none.percentile(0.5), 0u);
  EXPECT_EQ(none.mean(), 0u);
}

TEST(Histogram, TellsPercentilesToAnEighth) {
  for (const std::uint64_t scale : {1ull, 7ull, 1000ull, 12345678ull}) {
    Histogram h;
    for (std::uint64_t i = 1; i <= 1000; ++i) h.add(i * scale);
    EXPECT_EQ(h.count(), 1000u);
    EXPECT_EQ(h.max(), 1000 * scale);
    EXPECT_EQ(h.mean(), 1000 * 1001 / 2 * scale / 1000);
    for (const double share : {0.01, 0.5, 0.9, 0.99, 1.0}) {
      const double exact = share * 1000 * static_cast<double>(scale);
      EXPECT_GE(static_cast<double>(h.percentile(share)), exact * 0.999) << share << " " << scale;
      EXPECT_LE(static_cast<double>(h.percentile(share)), exact * 1.13 + 1)
          << share << " " << scale;
    }
  }
}

TEST(Histogram, SmallValuesAreExactAndHugeOnesAreCounted) {
  Histogram h;
  for (const std::uint64_t value : {0ull, 3ull, 3ull, 15ull}) h.add(value);
  EXPECT_EQ(h.percentile(0.25), 0u);
  EXPECT_EQ(h.percentile(0.5), 3u);
  EXPECT_EQ(h.percentile(1), 15u);
  h.add(~0ull);
  EXPECT_EQ(h.max(), ~0ull);
  EXPECT_EQ(h.count(), 5u);
}

}  // namespace
}  // namespace pgraft
