// Bounds of a configuration change; encode_conf_change() and decode_conf_change() are in
// raw_node.h.
#pragma once

#include <cstddef>

#include "libpgraft/base/status.h"
#include "libpgraft/raft/types.h"

namespace pgraft::raft {

inline constexpr std::size_t kConfChangesMax = 256;             // single changes in one
inline constexpr std::size_t kConfChangeContextMax = 1u << 20;  // bytes

// Refuses what decode_conf_change() would refuse.
Status validate_conf_change(const ConfChange& change);

}  // namespace pgraft::raft
