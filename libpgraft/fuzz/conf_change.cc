// Configuration changes: raft/conf_change_codec.h.
#include "libpgraft/fuzz/checks.h"
#include "libpgraft/fuzz/targets.h"
#include "libpgraft/raft/conf_change_codec.h"
#include "libpgraft/raft/raw_node.h"

namespace pgraft::fuzz {

int fuzz_conf_change(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(Input(data, size).rest());
  if (check_codec(bytes, raft::decode_conf_change, raft::encode_conf_change) == 0) return 0;
  // What a log may hold may be proposed, too.
  const Status valid = raft::validate_conf_change(*raft::decode_conf_change(bytes));
  PGRAFT_CHECK(valid.is_ok(), "accepted what can't be proposed: " + valid.to_string());
  return 1;
}

}  // namespace pgraft::fuzz
