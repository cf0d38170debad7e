// ByteWriter and ByteReader: archives of cereal that write and read its portable binary form, in
// little-endian order, in memory. The same bytes as cereal's own archives give, without a stream
// between: to make one costs more than what most records take.
#pragma once

#include <cereal/cereal.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace pgraft::state {

inline constexpr char kLittleEndian = 1;  // first byte of the form

class ByteWriter : public cereal::OutputArchive<ByteWriter, cereal::AllowEmptyClassElision> {
 public:
  // Appends to *out, which must outlive it.
  explicit ByteWriter(std::string* out)
      : cereal::OutputArchive<ByteWriter, cereal::AllowEmptyClassElision>(this), out_(out) {
    out_->push_back(kLittleEndian);
  }
  void write(const char* bytes, std::size_t size) { out_->append(bytes, size); }

 private:
  std::string* out_;
};

class ByteReader : public cereal::InputArchive<ByteReader, cereal::AllowEmptyClassElision> {
 public:
  // `bytes` must outlive it. Throws cereal::Exception when they are not of this form.
  explicit ByteReader(std::string_view bytes)
      : cereal::InputArchive<ByteReader, cereal::AllowEmptyClassElision>(this), bytes_(bytes) {
    char order = 0;
    read(&order, 1);
    if (order != kLittleEndian) throw cereal::Exception("it does not begin as it should");
  }
  std::size_t remaining() const { return bytes_.size(); }
  void read(char* to, std::size_t size) {
    if (size > bytes_.size()) throw cereal::Exception("it ends too early");
    if (size == 0) return;
    std::memcpy(to, bytes_.data(), size);
    bytes_.remove_prefix(size);
  }

 private:
  std::string_view bytes_;
};

template <class T>
requires std::is_integral_v<T>
void CEREAL_SAVE_FUNCTION_NAME(ByteWriter& archive, const T& value) {
  char bytes[sizeof(T)];
  for (std::size_t i = 0; i < sizeof(T); ++i)
    bytes[i] = static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i));
  archive.write(bytes, sizeof(T));
}

template <class T>
requires std::is_integral_v<T>
void CEREAL_LOAD_FUNCTION_NAME(ByteReader& archive, T& value) {
  char bytes[sizeof(T)];
  archive.read(bytes, sizeof(T));
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    sum |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  value = static_cast<T>(sum);
}

template <class T>
void CEREAL_SAVE_FUNCTION_NAME(ByteWriter& archive, const cereal::BinaryData<T>& data) {
  archive.write(static_cast<const char*>(data.data), data.size);
}

template <class T>
void CEREAL_LOAD_FUNCTION_NAME(ByteReader& archive, cereal::BinaryData<T>& data) {
  archive.read(static_cast<char*>(data.data), data.size);
}

}  // namespace pgraft::state
