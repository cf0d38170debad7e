#include "libpgraft/transport/frame.h"

#include <algorithm>

#include "libpgraft/base/crc32c.h"

namespace pgraft::transport {
namespace {

constexpr std::string_view kMagic = "PGRF";
constexpr std::size_t kCrcOffset = 12;

static_assert(kProtocolVersion <= 0xffff, "two bytes in the header");
static_assert(kMaxFrameBytes <= 0xffffffff, "four bytes in the header");

void put(std::string* out, std::uint32_t number, int bytes) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(number >> (8 * i)));
}

std::uint32_t get(std::string_view bytes, std::size_t offset, int size) {
  std::uint32_t result = 0;
  for (int i = size - 1; i >= 0; --i) {
    result = result << 8 | static_cast<unsigned char>(bytes[offset + static_cast<std::size_t>(i)]);
  }
  return result;
}

// Moves up to `want` bytes from the front of `input` to the end of `out`.
void take(std::string* out, std::string_view* input, std::size_t want) {
  const std::size_t n = std::min(want, input->size());
  out->append(input->substr(0, n));
  input->remove_prefix(n);
}

}  // namespace

std::string encode_frame(FrameType type, std::string_view payload) {
  std::string frame;
  frame.reserve(kFrameHeaderBytes + payload.size());
  frame.append(kMagic);
  put(&frame, kProtocolVersion, 2);
  put(&frame, static_cast<std::uint8_t>(type), 1);
  put(&frame, 0, 1);
  put(&frame, static_cast<std::uint32_t>(payload.size()), 4);
  put(&frame, crc32c(payload, crc32c(frame)), 4);
  frame.append(payload);
  return frame;
}

Result<std::optional<Frame>> FrameReader::read(std::string_view* input) {
  if (!error_.is_ok()) return error_;
  if (header_.size() < kFrameHeaderBytes) {
    take(&header_, input, kFrameHeaderBytes - header_.size());
    // Garbage is told from a slow sender by its first bytes.
    const std::size_t known = std::min(header_.size(), kMagic.size());
    if (header_.substr(0, known) != kMagic.substr(0, known)) {
      return fail(Code::kCorruption, "received bytes that are not pgraft's protocol");
    }
    if (header_.size() < kFrameHeaderBytes) return std::optional<Frame>();
    if (Status s = check_header(); !s.is_ok()) return s;
  }
  take(&payload_, input, length_ - payload_.size());
  if (payload_.size() < length_) return std::optional<Frame>();

  const std::uint32_t crc =
      crc32c(payload_, crc32c(std::string_view(header_).substr(0, kCrcOffset)));
  if (crc != get(header_, kCrcOffset, 4)) {
    return fail(Code::kCorruption, "received a frame that fails its checksum");
  }
  std::optional<Frame> frame(
      {static_cast<FrameType>(static_cast<unsigned char>(header_[6])), std::move(payload_)});
  header_.clear();
  payload_ = std::string();
  return frame;
}

Status FrameReader::check_header() {
  const std::uint32_t version = get(header_, 4, 2);
  const std::uint32_t type = get(header_, 6, 1);
  length_ = get(header_, 8, 4);
  const bool refusal = type == static_cast<std::uint32_t>(FrameType::kRefused);
  if (version != kProtocolVersion && !refusal) {
    return fail(Code::kMismatch, "the other side speaks protocol version " +
                                     std::to_string(version) + ", this one speaks " +
                                     std::to_string(kProtocolVersion) +
                                     ": install the same version of pgraft on both");
  }
  if (type == 0 || type > kLastFrameType || header_[7] != 0) {
    return fail(Code::kCorruption, "received a frame of unknown type " + std::to_string(type));
  }
  const std::size_t limit = refusal ? kMaxReasonBytes : max_payload_;
  if (length_ > limit) {
    return fail(Code::kResourceExhausted, "received a frame of " + std::to_string(length_) +
                                              " bytes, the limit is " + std::to_string(limit));
  }
  return Status::ok();
}

Status FrameReader::fail(Code code, std::string message) {
  error_ = Status(code, std::move(message));
  header_.clear();
  payload_ = std::string();
  return error_;
}

}  // namespace pgraft::transport
