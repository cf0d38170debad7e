// Names of the enumerations, for logs and status.
#include "libpgraft/raft/types.h"

#include "libpgraft/raft/raw_node.h"

namespace pgraft::raft {

const char* role_name(Role role) {
  switch (role) {
    case Role::kFollower: return "follower";
    case Role::kPreCandidate: return "pre_candidate";
    case Role::kCandidate: return "candidate";
    case Role::kLeader: return "leader";
  }
  return "unknown";
}

const char* message_type_name(MessageType type) {
  switch (type) {
    case MessageType::kAppend: return "append";
    case MessageType::kAppendResponse: return "append_response";
    case MessageType::kVote: return "vote";
    case MessageType::kVoteResponse: return "vote_response";
    case MessageType::kPreVote: return "pre_vote";
    case MessageType::kPreVoteResponse: return "pre_vote_response";
    case MessageType::kHeartbeat: return "heartbeat";
    case MessageType::kHeartbeatResponse: return "heartbeat_response";
    case MessageType::kSnapshot: return "snapshot";
    case MessageType::kTimeoutNow: return "timeout_now";
    case MessageType::kPropose: return "propose";
    case MessageType::kTransferLeader: return "transfer_leader";
    case MessageType::kReadIndex: return "read_index";
    case MessageType::kReadIndexResponse: return "read_index_response";
    case MessageType::kStorageAppend: return "storage_append";
    case MessageType::kStorageAppendResponse: return "storage_append_response";
    case MessageType::kStorageApply: return "storage_apply";
    case MessageType::kStorageApplyResponse: return "storage_apply_response";
  }
  return "unknown";
}

const char* progress_state_name(ProgressState state) {
  switch (state) {
    case ProgressState::kProbe: return "probe";
    case ProgressState::kReplicate: return "replicate";
    case ProgressState::kSnapshot: return "snapshot";
  }
  return "unknown";
}

}  // namespace pgraft::raft
