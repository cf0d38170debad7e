// Commands and members of the replicated state machine, and their application.
#include "libpgraft/fuzz/checks.h"
#include "libpgraft/fuzz/targets.h"
#include "libpgraft/state/state_machine.h"

namespace pgraft::fuzz {
namespace {

// A state that can be reached must survive a snapshot.
void check_snapshot(const state::StateMachine& machine) {
  const std::string snapshot = machine.snapshot();
  state::StateMachine other;
  const Status restored = other.restore(snapshot);
  PGRAFT_CHECK(restored.is_ok(), "a snapshot is refused: " + restored.to_string());
  PGRAFT_CHECK(other.snapshot() == snapshot, "a snapshot is restored to another state");
}

int check_command(const std::string& bytes) {
  const int accepted = check_codec(bytes, state::decode_command, state::encode_command);
  if (bytes.empty()) return 0;  // as an entry: a new leader's first
  state::StateMachine machine;
  const Status applied = machine.apply({1, 1, raft::EntryType::kNormal, bytes});
  PGRAFT_CHECK(applied.is_ok() == (accepted == 1),
               "decoded but not applied, or the reverse: " + applied.to_string());
  check_snapshot(machine);
  return accepted;
}

int check_member(const std::string& bytes) {
  const int accepted = check_codec(bytes, state::decode_member, state::encode_member);
  if (bytes.empty()) return 0;  // as a context: a change without a member
  const Result<state::Member> member = state::decode_member(bytes);
  const raft::NodeId id = member ? member->id : 1;
  raft::ConfChange change;
  change.changes = {{raft::ConfChangeType::kAddLearner, id, 0}};
  change.context = bytes;
  raft::ConfState conf;
  conf.learners = {id};
  state::StateMachine machine;
  const Status applied = machine.apply_conf_change(change, conf);
  PGRAFT_CHECK(applied.is_ok() == (accepted == 1),
               "decoded but not applied, or the reverse: " + applied.to_string());
  PGRAFT_CHECK(machine.members().size() == static_cast<std::size_t>(accepted),
               "a member is lost or made up");
  check_snapshot(machine);
  return accepted;
}

}  // namespace

int fuzz_command(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  switch (input.byte() % 2) {
    case 0: return check_command(std::string(input.rest()));
    default: return check_member(std::string(input.rest()));
  }
}

}  // namespace pgraft::fuzz
