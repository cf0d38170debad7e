#include "libpgraft/node/member_files.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <sstream>

#include "libpgraft/node/text_file.h"

namespace pgraft::node {

namespace {

constexpr const char* kStateNames[] = {"requested", "working", "catching_up"};
constexpr const char* kModeNames[] = {"rewind", "clone"};

Status io_error(const std::string& what, const std::string& path) {
  return {Code::kIo, "could not " + what + " \"" + path + "\": " + std::strerror(errno)};
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return io_error("open directory", path);
  const bool synced = ::fsync(fd) == 0;
  Status status = synced ? Status::ok() : io_error("sync directory", path);
  ::close(fd);
  return status;
}

// Makes the directory and those above it; what is there is left as it is.
Status make_directories(const std::string& path) {
  struct stat found;
  if (::stat(path.c_str(), &found) == 0) {
    if (S_ISDIR(found.st_mode)) return Status::ok();
    return {Code::kIo, "\"" + path + "\" is not a directory"};
  }
  const std::string above = directory_of(path);
  if (above != path) {
    if (Status s = make_directories(above); !s) return s;
  }
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return io_error("create directory", path);
  return sync_directory(above);
}

Status write_all(int fd, const std::string& content, const std::string& path) {
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t n = ::write(fd, content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return io_error("write file", path);
    done += static_cast<std::size_t>(n);
  }
  if (::fsync(fd) != 0) return io_error("sync file", path);
  return Status::ok();
}

template <class Enum, std::size_t N>
Enum named(TextReader& in, const char* key, const char* const (&names)[N]) {
  const std::string value = in.text(key);
  for (std::size_t i = 0; i < N; ++i) {
    if (value == names[i]) return static_cast<Enum>(i);
  }
  in.fail(key, "has the unknown value \"" + value + "\"");
  return Enum{};
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }
std::string from_dash(const std::string& text) { return text == "-" ? "" : text; }

std::string format_member(const state::Member& m) {
  return std::to_string(m.id) + " " + std::to_string(m.incarnation) + " " + m.name + " " +
         m.address + " " + std::to_string(m.port) + " " + or_dash(m.pg_host) + " " +
         std::to_string(m.pg_port);
}

// One more than `most` when there are more than that.
std::vector<std::string> words(const std::string& line, std::size_t most) {
  std::vector<std::string> found;
  std::istringstream in(line);
  for (std::string word; found.size() <= most && std::getline(in, word, ' ');) {
    found.push_back(word);
  }
  return found;
}

bool parse_member(const std::string& line, state::Member* m) {
  const std::vector<std::string> w = words(line, 7);
  std::uint64_t port = 0, pg_port = 0;
  if (w.size() != 7 || !parse_number(w[0], ~0ull, &m->id) ||
      !parse_number(w[1], ~0ull, &m->incarnation) || !parse_number(w[4], 65535, &port) ||
      !parse_number(w[6], 65535, &pg_port)) {
    return false;
  }
  m->name = w[2];
  m->address = w[3];
  m->port = static_cast<std::uint16_t>(port);
  m->pg_host = from_dash(w[5]);
  m->pg_port = static_cast<std::uint16_t>(pg_port);
  return state::validate(*m).is_ok() && format_member(*m) == line;  // no stray blanks
}

// "1@0/3000000 2@0/5000000"; empty: no ancestors.
std::string format_history(const failover::History& history) {
  std::string text;
  for (const failover::HistoryLine& line : history) {
    if (!text.empty()) text += ' ';
    text += std::to_string(line.timeline) + "@" + format_lsn(line.end);
  }
  return text;
}

bool parse_history(const std::string& text, failover::History* history) {
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ' ');) {
    if (history->size() == state::kMaxHistoryLines) return false;
    const std::size_t at = word.find('@');
    std::uint64_t timeline = 0;
    failover::HistoryLine line;
    if (at == std::string::npos || !parse_number(word.substr(0, at), ~0u, &timeline) ||
        !parse_lsn(word.substr(at + 1), &line.end)) {
      return false;
    }
    line.timeline = static_cast<failover::Timeline>(timeline);
    history->push_back(line);
  }
  return format_history(*history) == text;  // no stray blanks
}

template <class T>
Result<T> read_as(const std::string& path, Result<T> (*parse)(TextReader*)) {
  Result<TextReader> in = TextReader::open(path);
  if (!in) return in.status();
  return parse(&*in);
}

}  // namespace

Status write_file_atomically(const std::string& path, const std::string& content) {
  const std::string temporary = path + ".tmp";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return io_error("create file", temporary);
  Status status = write_all(fd, content, temporary);
  if (::close(fd) != 0 && status) status = io_error("close file", temporary);
  if (status && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = io_error("rename file to", path);
  }
  if (!status) {
    ::unlink(temporary.c_str());
    return status;
  }
  return sync_directory(directory_of(path));
}

Result<IdentityFile> read_identity(const std::string& data_dir) {
  return read_as(data_dir + "/identity", parse_identity);
}

Result<IdentityFile> parse_identity(TextReader* in) {
  IdentityFile file;
  file.cluster_name = in->text("cluster_name");
  file.cluster_id = in->number<std::uint64_t>("cluster_id");
  file.node_id = in->number<raft::NodeId>("node_id");
  file.incarnation = in->number<raft::Incarnation>("incarnation");
  file.system_identifier = in->number<std::uint64_t>("system_identifier");
  file.binding = in->number<std::uint64_t>("binding");
  if (file.node_id == 0) in->fail("node_id", "must not be 0");
  if (file.incarnation == 0) in->fail("incarnation", "must not be 0");
  if (Status s = in->finish(); !s) return s;
  return file;
}

Status write_identity(const std::string& data_dir, const IdentityFile& file) {
  if (Status s = make_directories(data_dir); !s) return s;
  return write_file_atomically(data_dir + "/identity", to_text(file));
}

std::string to_text(const IdentityFile& file) {
  TextWriter out;
  out.field("cluster_name", file.cluster_name);
  out.field("cluster_id", file.cluster_id);
  out.field("node_id", file.node_id);
  out.field("incarnation", file.incarnation);
  out.field("system_identifier", file.system_identifier);
  out.field("binding", file.binding);
  return out.content();
}

Result<BindingFile> read_binding(const std::string& pgdata) {
  return read_as(pgdata + "/pgraft.binding", parse_binding);
}

Result<BindingFile> parse_binding(TextReader* in) {
  BindingFile file;
  file.node_id = in->number<raft::NodeId>("node_id");
  file.incarnation = in->number<raft::Incarnation>("incarnation");
  file.binding = in->number<std::uint64_t>("binding");
  if (Status s = in->finish(); !s) return s;
  return file;
}

Status write_binding(const std::string& pgdata, const BindingFile& file) {
  return write_file_atomically(pgdata + "/pgraft.binding", to_text(file));
}

std::string to_text(const BindingFile& file) {
  TextWriter out;
  out.field("node_id", file.node_id);
  out.field("incarnation", file.incarnation);
  out.field("binding", file.binding);
  return out.content();
}

Result<RejoinFile> read_rejoin(const std::string& data_dir) {
  return read_as(data_dir + "/rejoin", parse_rejoin);
}

Result<RejoinFile> parse_rejoin(TextReader* in) {
  RejoinFile file;
  file.state = named<RejoinState>(*in, "state", kStateNames);
  file.mode = named<RejoinMode>(*in, "mode", kModeNames);
  file.source_node = in->number<raft::NodeId>("source_node");
  file.source_host = in->text("source_host");
  file.source_port = in->number<std::uint16_t>("source_port");
  file.target.timeline = in->number<failover::Timeline>("target_timeline");
  file.target.lsn = in->lsn("target_lsn");
  file.binding = in->number<std::uint64_t>("binding");
  file.reason = in->text("reason");
  if (Status s = in->finish(); !s) return s;
  return file;
}

Status write_rejoin(const std::string& data_dir, const RejoinFile& file) {
  if (Status s = make_directories(data_dir); !s) return s;
  return write_file_atomically(data_dir + "/rejoin", to_text(file));
}

std::string to_text(const RejoinFile& file) {
  TextWriter out;
  out.field("state", kStateNames[static_cast<std::size_t>(file.state)]);
  out.field("mode", kModeNames[static_cast<std::size_t>(file.mode)]);
  out.field("source_node", file.source_node);
  out.field("source_host", file.source_host);
  out.field("source_port", file.source_port);
  out.field("target_timeline", file.target.timeline);
  out.field("target_lsn", format_lsn(file.target.lsn));
  out.field("binding", file.binding);
  out.field("reason", file.reason);
  return out.content();
}

Status request_rejoin(const std::string& data_dir, RejoinFile wanted) {
  const Result<RejoinFile> old = read_rejoin(data_dir);
  if (!old && old.status().code() != Code::kNotFound) return old.status();
  wanted.state = RejoinState::kRequested;
  if (old && old->state != RejoinState::kRequested) {
    wanted.state = RejoinState::kWorking;
    wanted.mode = RejoinMode::kClone;
    wanted.binding = random_id();
    wanted.target = std::max(wanted.target, old->target);
  }
  return write_rejoin(data_dir, wanted);
}

Status remove_rejoin(const std::string& data_dir) {
  const std::string path = data_dir + "/rejoin";
  if (::unlink(path.c_str()) != 0) {
    return errno == ENOENT ? Status::ok() : io_error("remove file", path);
  }
  return sync_directory(data_dir);
}

Result<TimelinesFile> read_timelines(const std::string& data_dir) {
  return read_as(data_dir + "/timelines", parse_timelines);
}

Result<TimelinesFile> parse_timelines(TextReader* in) {
  TimelinesFile file;
  file.max = in->number<failover::Timeline>("max");
  file.current = in->number<failover::Timeline>("current");
  if (!parse_history(in->text("history"), &file.history)) {
    in->fail("history", "is not a list of timeline@lsn");
  }
  if (Status s = in->finish(); !s) return s;
  return file;
}

Status write_timelines(const std::string& data_dir, const TimelinesFile& file) {
  if (Status s = make_directories(data_dir); !s) return s;
  return write_file_atomically(data_dir + "/timelines", to_text(file));
}

std::string to_text(const TimelinesFile& file) {
  TextWriter out;
  out.field("max", file.max);
  out.field("current", file.current);
  out.field("history", format_history(file.history));
  return out.content();
}

Result<WalEndFile> read_wal_end(const std::string& data_dir) {
  return read_as(data_dir + "/wal_end", parse_wal_end);
}

Result<WalEndFile> parse_wal_end(TextReader* in) {
  WalEndFile file;
  file.binding = in->number<std::uint64_t>("binding");
  file.end.timeline = in->number<failover::Timeline>("timeline");
  file.end.lsn = in->lsn("lsn");
  if (Status s = in->finish(); !s) return s;
  return file;
}

Status keep_wal_end(const std::string& data_dir, const std::string& pgdata,
                    failover::Position end) {
  const Result<BindingFile> half = read_binding(pgdata);
  if (!half) return half.status();
  const Result<WalEndFile> old = read_wal_end(data_dir);
  if (!old && old.status().code() != Code::kNotFound) return old.status();
  if (old && old->binding == half->binding && end <= old->end) return Status::ok();
  return write_file_atomically(data_dir + "/wal_end", to_text(WalEndFile{half->binding, end}));
}

std::string to_text(const WalEndFile& file) {
  TextWriter out;
  out.field("binding", file.binding);
  out.field("timeline", file.end.timeline);
  out.field("lsn", format_lsn(file.end.lsn));
  return out.content();
}

Result<std::vector<state::Member>> read_members(const std::string& data_dir) {
  return read_as(data_dir + "/members", parse_members);
}

Result<std::vector<state::Member>> parse_members(TextReader* in) {
  std::vector<state::Member> members;
  const std::vector<std::string> lines = in->list("member");
  if (lines.size() > state::kMaxMembers) {
    in->fail("member", "is there " + std::to_string(lines.size()) + " times, the limit is " +
                           std::to_string(state::kMaxMembers));
  }
  for (const std::string& line : lines) {
    state::Member member;
    if (!parse_member(line, &member)) in->fail("member", "is malformed: " + line);
    members.push_back(std::move(member));
  }
  if (Status s = in->finish(); !s) return s;
  return members;
}

Status write_members(const std::string& data_dir, const std::vector<state::Member>& members) {
  if (Status s = make_directories(data_dir); !s) return s;
  for (const state::Member& member : members) {
    if (Status s = state::validate(member); !s) return s;  // blanks would shift the columns
  }
  return write_file_atomically(data_dir + "/members", to_text(members));
}

std::string to_text(const std::vector<state::Member>& members) {
  TextWriter out;
  for (const state::Member& member : members) out.field("member", format_member(member));
  return out.content();
}

std::uint64_t random_id() {
  for (;;) {
    std::uint64_t id = 0;
    const ssize_t n = ::getrandom(&id, sizeof(id), 0);
    if (n < 0 && errno != EINTR) std::abort();  // an id that is not random would break rule 10
    if (n == static_cast<ssize_t>(sizeof(id)) && id != 0) return id;
  }
}

}  // namespace pgraft::node
