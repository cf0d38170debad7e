#include "libpgraft/raft/payload.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "libpgraft/raft/types.h"

namespace pgraft::raft {
namespace {

TEST(Payload, ReadsLikeAString) {
  const Payload payload = "abc";
  EXPECT_EQ(payload.size(), 3u);
  EXPECT_FALSE(payload.empty());
  EXPECT_EQ(std::string_view(payload.data(), payload.size()), "abc");
  EXPECT_EQ(payload, "abc");
  EXPECT_EQ(payload, std::string("abc"));
  EXPECT_EQ(payload, std::string_view("abc"));
  EXPECT_NE(payload, "abd");
  EXPECT_EQ("x" + payload, "xabc");
  const std::string& text = payload;
  EXPECT_EQ(text, "abc");
  std::string longer = "x";
  longer += payload;
  EXPECT_EQ(longer, "xabc");
}

TEST(Payload, IsEmptyWhenNothingWasAssigned) {
  const Payload payload;
  EXPECT_TRUE(payload.empty());
  EXPECT_EQ(payload.size(), 0u);
  EXPECT_EQ(payload.str(), "");
  EXPECT_EQ(payload, Payload(std::string()));
  EXPECT_NE(payload, Payload("a"));
}

TEST(Payload, CopiesShareTheBytesAndWhatIsMovedInIsNotCopied) {
  std::string bytes(100, 'x');
  const char* const where = bytes.data();
  const Payload payload = std::move(bytes);
  const Payload copy = payload;
  EXPECT_EQ(payload.data(), where);
  EXPECT_EQ(copy.data(), where);
}

TEST(Payload, AssigningToOneCopyLeavesTheOther) {
  Entry entry{1, 1, EntryType::kNormal, "old"};
  const Entry copy = entry;
  entry.data = "new";
  EXPECT_EQ(copy.data, "old");
  EXPECT_EQ(entry.data, "new");
  EXPECT_NE(entry, copy);
  EXPECT_EQ(copy, (Entry{1, 1, EntryType::kNormal, std::string("old")}));
}

}  // namespace
}  // namespace pgraft::raft
