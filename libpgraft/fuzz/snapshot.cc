// Snapshots of the state machine: StateMachine::restore().
#include "libpgraft/fuzz/checks.h"
#include "libpgraft/fuzz/targets.h"
#include "libpgraft/state/state_machine.h"

namespace pgraft::fuzz {
namespace {

constexpr std::uint64_t kClusterId = 42;

// A node of a cluster, with a state to lose.
state::StateMachine node() {
  state::StateMachine machine;
  machine.set_cluster_id(kClusterId);
  machine.put_member({1, 2, "n1", "10.0.0.1", 8001, "db1", 5432});
  const state::Operation operations[] = {state::KvPut{"key", "value"},
                                         failover::Promotion{1, 1, 2}};
  for (const state::Operation& operation : operations) {
    const Status applied = machine.apply({machine.applied_index() + 1, 1, raft::EntryType::kNormal,
                                          state::encode_command({1, 1, operation})});
    PGRAFT_CHECK(applied.is_ok(), applied.to_string());
  }
  return machine;
}

// Restores and checks what must hold either way.
Status restore(state::StateMachine* machine, const std::string& bytes) {
  const std::string before = machine->snapshot();
  const PeakMemory memory;
  Status restored = machine->restore(bytes);
  check_memory(memory, bytes.size());
  PGRAFT_CHECK(machine->snapshot() == (restored.is_ok() ? bytes : before),
               "the state is neither the old nor that of the snapshot: " + restored.to_string());
  return restored;
}

}  // namespace

int fuzz_snapshot(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(Input(data, size).rest());
  state::StateMachine blank;
  const Status restored = restore(&blank, bytes);
  if (!restored) check_refused(restored);

  state::StateMachine member = node();
  const Status status = restore(&member, bytes);
  const bool foreign = restored.is_ok() && blank.cluster_id() != kClusterId;  // rule 10
  PGRAFT_CHECK(status.code() == (foreign ? Code::kMismatch : restored.code()),
               "a member of a cluster says " + status.to_string() + ", a blank node " +
                   restored.to_string());
  return restored.is_ok() ? 1 : 0;
}

}  // namespace pgraft::fuzz
