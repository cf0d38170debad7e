#include "libpgraft/raft/conf_change_codec.h"

#include <gtest/gtest.h>

#include "libpgraft/raft/raw_node.h"

namespace pgraft::raft {
namespace {

ConfChange example() {
  ConfChange change;
  change.transition = ConfChangeTransition::kExplicit;
  change.changes = {{ConfChangeType::kAddVoter, 1, 0xfedcba9876543210u},
                    {ConfChangeType::kUpdate, 0xffffffffffffffffu, 0}};
  change.context = std::string("a\0b", 3);
  return change;
}

TEST(ConfChangeCodec, IsReadAsItWasWritten) {
  for (const ConfChange& change : {example(), ConfChange{}}) {
    const Result<ConfChange> read = decode_conf_change(encode_conf_change(change));
    ASSERT_TRUE(read.is_ok()) << read.status().to_string();
    EXPECT_EQ(*read, change);
  }
}

TEST(ConfChangeCodec, BytesAreFixed) {
  ConfChange change;
  change.transition = ConfChangeTransition::kImplicit;
  change.changes = {{ConfChangeType::kRemove, 0x0102, 3}};
  change.context = "z";
  const std::string expected(
      "\x01\x01\x01\0\0\0\x02\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0z", 28);
  EXPECT_EQ(encode_conf_change(change), expected);
}

TEST(ConfChangeCodec, CutOrLengthenedDataIsRefused) {
  const std::string data = encode_conf_change(example());
  for (std::size_t size = 0; size < data.size(); ++size)
    EXPECT_FALSE(decode_conf_change(data.substr(0, size)).is_ok()) << size;
  EXPECT_FALSE(decode_conf_change(data + "x").is_ok());
}

TEST(ConfChangeCodec, UnknownValuesAndHugeCountsAreRefused) {
  for (const auto& [at, value] : {std::pair<std::size_t, char>{0, 0}, {1, 3}, {5, 1}, {6, 4}}) {
    std::string data = encode_conf_change(example());
    data[at] = value;
    const Result<ConfChange> read = decode_conf_change(data);
    ASSERT_FALSE(read.is_ok()) << at;
    EXPECT_EQ(read.status().code(), Code::kCorruption);
  }
}

TEST(ConfChangeCodec, WhatANewerVersionHasWrittenIsRefusedAsThat) {
  std::string data = encode_conf_change(example());
  data[0] = 2;
  const Status status = decode_conf_change(data).status();
  EXPECT_EQ(status.code(), Code::kMismatch);
  EXPECT_NE(status.message().find("a newer version has written it"), std::string::npos);
}

TEST(ConfChangeCodec, WhatIsBeyondTheBoundsIsRefusedBeforeItIsWritten) {
  ConfChange change;
  change.changes.resize(kConfChangesMax + 1);
  EXPECT_EQ(validate_conf_change(change).code(), Code::kResourceExhausted);
  change.changes.clear();
  change.context.resize(kConfChangeContextMax + 1);
  EXPECT_EQ(validate_conf_change(change).code(), Code::kResourceExhausted);
}

}  // namespace
}  // namespace pgraft::raft
