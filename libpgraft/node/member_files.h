// The small text files beside the Raft log that bind it to one data directory (rule 10) and carry a
// rejoin across restarts (rules 3, 9).
//
// They are `key = value` lines, written to a temporary name, synced, renamed, and the directory
// synced. Read by the postmaster's start-up hook, by the worker and by `pgraft prepare`, so they
// hold nothing that needs the Raft log. Unknown keys are kept out: an unknown format version is
// kMismatch.
//
// In <data_dir>:
//   identity   cluster_name, cluster_id, node_id, incarnation, system_identifier, binding
//   rejoin     state, mode, source_node, source_host, source_port, target_timeline, target_lsn,
//              binding, reason
//   timelines  max, current, history (of the newest completed promotion)
//   wal_end    binding, timeline, lsn
//   members    one line a member: id incarnation name address port pg_host pg_port
// In <PGDATA>:
//   pgraft.binding  node_id, incarnation, binding
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libpgraft/base/status.h"
#include "libpgraft/failover/types.h"
#include "libpgraft/state/state_machine.h"

namespace pgraft::node {

struct IdentityFile {
  std::string cluster_name;
  std::uint64_t cluster_id = 0;  // 0 until the node is part of a cluster
  raft::NodeId node_id = 0;
  raft::Incarnation incarnation = 0;
  std::uint64_t system_identifier = 0;
  std::uint64_t binding = 0;  // also in the data directory; renewed by every clone and rewind
  bool operator==(const IdentityFile&) const = default;
};

struct BindingFile {
  raft::NodeId node_id = 0;
  raft::Incarnation incarnation = 0;
  std::uint64_t binding = 0;
  bool operator==(const BindingFile&) const = default;
};

// requested: the worker asks for a rejoin, no byte has been touched, the node is what it was.
// working: `prepare` may have touched the data directory; the server must not start until it has
// finished. catching_up: the directory is whole again but lacks what the node once acknowledged; it
// abstains until its WAL is past the target (rule 3).
enum class RejoinState : std::uint8_t { kRequested, kWorking, kCatchingUp };
enum class RejoinMode : std::uint8_t { kRewind, kClone };

struct RejoinFile {
  RejoinState state = RejoinState::kRequested;
  RejoinMode mode = RejoinMode::kRewind;
  raft::NodeId source_node = 0;
  std::string source_host;
  std::uint16_t source_port = 0;
  failover::Position target;
  std::uint64_t binding = 0;  // of the data directory from kWorking on
  std::string reason;
  bool operator==(const RejoinFile&) const = default;
};

struct TimelinesFile {
  failover::Timeline max = 0;      // greatest id of any promotion in the log
  failover::Timeline current = 0;  // of the newest completed promotion
  failover::History history;       // of `current`
  bool operator==(const TimelinesFile&) const = default;
};

// How far the WAL of the data directory with that binding reaches, on disk and made of whole
// records. A data directory that ends before it was put back from a copy (rule 3).
struct WalEndFile {
  std::uint64_t binding = 0;
  failover::Position end;
  bool operator==(const WalEndFile&) const = default;
};

// Each read gives kNotFound when the file is absent, kCorruption (with the file's name and line)
// when it is damaged.
Result<IdentityFile> read_identity(const std::string& data_dir);
Status write_identity(const std::string& data_dir, const IdentityFile& file);
Result<BindingFile> read_binding(const std::string& pgdata);
Status write_binding(const std::string& pgdata, const BindingFile& file);
Result<RejoinFile> read_rejoin(const std::string& data_dir);
Status write_rejoin(const std::string& data_dir, const RejoinFile& file);
Status remove_rejoin(const std::string& data_dir);

// Writes that a rejoin is wanted: `wanted` as kRequested. While an earlier one is still catching up
// the node lacks what it once acknowledged and must not start as one that does not abstain (rule
// 3): then it is written as kWorking, which keeps the server from starting before `prepare` has
// made the copy again; under a new binding, so that the present directory does not count as that
// copy; as a clone, since what has not caught up may not be consistent; and abstaining at least as
// far as before.
Status request_rejoin(const std::string& data_dir, RejoinFile wanted);
Result<TimelinesFile> read_timelines(const std::string& data_dir);
Status write_timelines(const std::string& data_dir, const TimelinesFile& file);
Result<WalEndFile> read_wal_end(const std::string& data_dir);
// Writes it for the data directory's binding unless as much, or more, is written already.
Status keep_wal_end(const std::string& data_dir, const std::string& pgdata, failover::Position end);
Result<std::vector<state::Member>> read_members(const std::string& data_dir);
Status write_members(const std::string& data_dir, const std::vector<state::Member>& members);

// The same without the files: what they hold, and its text. For tests.
class TextReader;
Result<IdentityFile> parse_identity(TextReader* in);
Result<BindingFile> parse_binding(TextReader* in);
Result<RejoinFile> parse_rejoin(TextReader* in);
Result<TimelinesFile> parse_timelines(TextReader* in);
Result<WalEndFile> parse_wal_end(TextReader* in);
Result<std::vector<state::Member>> parse_members(TextReader* in);
std::string to_text(const IdentityFile& file);
std::string to_text(const BindingFile& file);
std::string to_text(const RejoinFile& file);
std::string to_text(const TimelinesFile& file);
std::string to_text(const WalEndFile& file);
std::string to_text(const std::vector<state::Member>& members);

// Writes `content` so that after a crash either the old or the new file is there, whole.
Status write_file_atomically(const std::string& path, const std::string& content);

// Rule 10, asked at every start before anything is written. Both halves new: they are made and
// bound (identity first). Bound to each other: they are returned. Anything else (copied, swapped,
// missing half, another node id or system identifier than configured, unfinished rejoin) is refused
// with a message that says what to do.
struct Binding {
  IdentityFile identity;
  bool created = false;
  std::optional<RejoinFile> rejoin;  // kCatchingUp or kRequested
};
struct BindingRequest {
  std::string data_dir;
  std::string pgdata;  // empty: a node without a database
  raft::NodeId node_id = 0;
  std::string cluster_name;
  std::uint64_t system_identifier = 0;
};
Result<Binding> bind(const BindingRequest& request);
// The Raft half alone, while `prepare` rewinds or clones the other: only with a rejoin that is
// asked for or under way (kFailedPrecondition). pgdata is empty; nothing is made or written.
Result<Binding> bind_without_data(const BindingRequest& request);

// A random non-zero 64-bit number from the operating system (ids, incarnations, bindings).
std::uint64_t random_id();

}  // namespace pgraft::node
