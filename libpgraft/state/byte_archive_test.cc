#include "libpgraft/state/byte_archive.h"

#include <gtest/gtest.h>

#include <cereal/archives/portable_binary.hpp>
#include <sstream>
#include <string>

namespace pgraft::state {
namespace {

template <class Archive>
void write_some(Archive& archive) {
  const std::string text = "text";
  archive(std::uint8_t{200}, std::uint16_t{0x1234}, std::uint32_t{0x12345678},
          std::uint64_t{0x123456789abcdef0}, std::int32_t{-2});
  archive(cereal::binary_data(text.data(), text.size()));
}

TEST(ByteArchive, WritesWhatCerealsPortableBinaryArchiveWrites) {
  std::string bytes;
  ByteWriter writer(&bytes);
  write_some(writer);
  std::ostringstream stream;
  {
    cereal::PortableBinaryOutputArchive archive(
        stream, cereal::PortableBinaryOutputArchive::Options::LittleEndian());
    write_some(archive);
  }
  EXPECT_EQ(bytes, stream.str());
}

TEST(ByteArchive, ReadsWhatWasWritten) {
  std::string bytes;
  ByteWriter writer(&bytes);
  write_some(writer);
  ByteReader reader(bytes);
  std::uint8_t a = 0;
  std::uint16_t b = 0;
  std::uint32_t c = 0;
  std::uint64_t d = 0;
  std::int32_t e = 0;
  std::string text(4, ' ');
  reader(a, b, c, d, e);
  reader(cereal::binary_data(text.data(), text.size()));
  EXPECT_EQ(a, 200);
  EXPECT_EQ(b, 0x1234);
  EXPECT_EQ(c, 0x12345678u);
  EXPECT_EQ(d, 0x123456789abcdef0u);
  EXPECT_EQ(e, -2);
  EXPECT_EQ(text, "text");
  EXPECT_EQ(reader.remaining(), 0u);
}

TEST(ByteArchive, ReadsNothingBeyondTheEnd) {
  EXPECT_THROW(ByteReader(""), cereal::Exception);
  EXPECT_THROW(ByteReader(std::string_view("\0", 1)), cereal::Exception);  // big-endian
  ByteReader reader(std::string_view("\1abc", 4));
  std::uint32_t number = 0;
  EXPECT_THROW(reader(number), cereal::Exception);
}

}  // namespace
}  // namespace pgraft::state
