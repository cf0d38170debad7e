// The byte stream between two nodes: FrameReader, fed in pieces.
//
// The first byte says how many bytes after it choose the pieces (each one more than its byte says),
// over and over; without any the stream comes at once. The rest is read twice: as the stream
// itself, and as the payloads of sound frames, since few inputs pass the checksum.
#include "libpgraft/transport/frame.h"

#include <vector>

#include "libpgraft/fuzz/checks.h"
#include "libpgraft/fuzz/targets.h"

namespace pgraft::fuzz {
namespace {

using transport::Frame;
using transport::FrameReader;
using transport::FrameType;

constexpr std::size_t kLengthOffset = 8, kLengthBytes = 4;  // in a frame's header

struct Outcome {
  std::vector<Frame> frames;
  Status error;
  bool in_frame = false;
};

// `cuts` empty: in one piece.
Outcome read(std::string_view stream, std::string_view cuts, std::size_t max_payload) {
  Outcome outcome;
  FrameReader reader(max_payload);
  for (std::size_t i = 0; !stream.empty(); ++i) {
    const std::size_t length =
        cuts.empty() ? stream.size() : 1u + static_cast<unsigned char>(cuts[i % cuts.size()]);
    std::string_view piece = stream.substr(0, length);
    stream.remove_prefix(piece.size());
    while (!piece.empty()) {
      Result<std::optional<Frame>> frame = reader.read(&piece);
      if (!frame) {
        outcome.error = frame.status();
        std::string_view sound = "PGRF";
        PGRAFT_CHECK(reader.read(&sound).status().code() == outcome.error.code(),
                     "the reader goes on after " + outcome.error.to_string());
        return outcome;
      }
      PGRAFT_CHECK(frame->has_value() || piece.empty(), "input is left and there is no frame");
      if (frame->has_value()) outcome.frames.push_back(std::move(**frame));
    }
  }
  outcome.in_frame = reader.in_frame();
  return outcome;
}

bool same(const std::vector<Frame>& a, const std::vector<Frame>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Frame& x, const Frame& y) {
    return x.type == y.type && x.payload == y.payload;
  });
}

Outcome read_whole_and_in_pieces(std::string_view stream, std::string_view cuts,
                                 std::size_t max_payload) {
  const PeakMemory memory;
  Outcome whole = read(stream, {}, max_payload);
  check_memory(memory, stream.size());
  const Outcome pieces = read(stream, cuts, max_payload);
  PGRAFT_CHECK(same(whole.frames, pieces.frames) &&
                   whole.error.to_string() == pieces.error.to_string() &&
                   whole.in_frame == pieces.in_frame,
               "in pieces it is another stream: " + whole.error.to_string() + " but " +
                   pieces.error.to_string());
  return whole;
}

int check_stream(std::string_view stream, std::string_view cuts) {
  // A length up to this limit is believed by the reader; memory must not follow it.
  const Outcome outcome = read_whole_and_in_pieces(stream, cuts, transport::kMaxFrameBytes);
  std::size_t at = 0;
  for (const Frame& frame : outcome.frames) {
    std::string encoded = transport::encode_frame(frame.type, frame.payload);
    const std::string_view was = stream.substr(at, encoded.size());
    at += encoded.size();
    // A refusal may be of another protocol version; that is another header and checksum.
    if (frame.type == FrameType::kRefused) continue;
    PGRAFT_CHECK(encoded == was, "a frame is not the encoding of what it gave");
  }
  const Code code = outcome.error.code();
  PGRAFT_CHECK(code == Code::kOk || code == Code::kCorruption || code == Code::kMismatch ||
                   code == Code::kResourceExhausted,
               "refused with " + outcome.error.to_string());

  for (const Frame& frame : read(stream, cuts, cuts.size()).frames) {  // some small limit
    const bool refusal = frame.type == FrameType::kRefused;
    PGRAFT_CHECK(frame.payload.size() <= (refusal ? transport::kMaxReasonBytes : cuts.size()),
                 "a frame is over the limit");
  }
  return outcome.error.is_ok() && !outcome.frames.empty() ? 1 : 0;
}

// Frames whose types and lengths the cuts choose, too.
std::vector<Frame> frames_of(std::string_view payloads, std::string_view cuts) {
  std::vector<Frame> frames;
  for (const char cut : cuts) {
    const std::size_t number = static_cast<unsigned char>(cut);
    Frame frame;
    frame.type = static_cast<FrameType>(1 + number % transport::kLastFrameType);
    frame.payload = payloads.substr(0, 2 * number);
    payloads.remove_prefix(frame.payload.size());
    frames.push_back(std::move(frame));
  }
  frames.push_back({FrameType::kMessages, std::string(payloads)});
  return frames;
}

void check_sound_frames(std::string_view payloads, std::string_view cuts) {
  const std::vector<Frame> frames = frames_of(payloads, cuts);
  std::string stream;
  std::size_t last = 0;  // where the last frame begins
  for (const Frame& frame : frames) {
    last = stream.size();
    stream += transport::encode_frame(frame.type, frame.payload);
  }
  Outcome outcome = read_whole_and_in_pieces(stream, cuts, transport::kMaxFrameBytes);
  PGRAFT_CHECK(outcome.error.is_ok() && !outcome.in_frame && same(outcome.frames, frames),
               "sound frames are not read as they were: " + outcome.error.to_string());

  // Whichever byte of the last frame is damaged, its checksum notices; but a length that is damaged
  // makes it another frame, which might have that checksum.
  const std::size_t at = payloads.size() % (stream.size() - last);
  if (at >= kLengthOffset && at < kLengthOffset + kLengthBytes) return;
  stream[last + at] = static_cast<char>(stream[last + at] ^ (1 << payloads.size() % 8));
  outcome = read_whole_and_in_pieces(stream, cuts, transport::kMaxFrameBytes);
  PGRAFT_CHECK(!outcome.error.is_ok() && outcome.frames.size() == frames.size() - 1,
               "a damaged frame is taken for a sound one");
}

}  // namespace

int fuzz_frame(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const std::string_view cuts = input.take(input.byte() % 16);
  check_sound_frames(input.rest(), cuts);
  return check_stream(input.rest(), cuts);
}

}  // namespace pgraft::fuzz
