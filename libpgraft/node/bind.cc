// bind(): the two halves of a node, Raft state and data directory, belong to each other or the node
// doesn't start (rule 10).
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "libpgraft/node/member_files.h"

namespace pgraft::node {

namespace {

bool exists(const std::string& path) {
  struct stat found;
  return ::stat(path.c_str(), &found) == 0;
}

Status mismatch(std::string message) { return {Code::kMismatch, std::move(message)}; }

std::string number(std::uint64_t n) { return std::to_string(n); }

constexpr const char* kAddAgain =
    "remove this node from the cluster and add it again (pgraft join)";

// What a file holds, nothing when it is absent; any other failure ends the start.
template <class T>
Status optional(Result<T> read, std::optional<T>* file) {
  if (read) {
    *file = std::move(read).value();
    return Status::ok();
  }
  return read.status().code() == Code::kNotFound ? Status::ok() : read.status();
}

class Binder {
 public:
  explicit Binder(const BindingRequest& request) : request_(request) {}

  Result<Binding> run() {
    if (Status s = read(); !s) return s;
    if (Status s = check_rejoin(); !s) return s;
    if (!identity_) return create();
    if (Status s = check_configuration(); !s) return s;
    if (request_.pgdata.empty()) {
      if (identity_->binding != 0) {
        return mismatch(in_data_dir() + " belongs to a node with a data directory");
      }
      return bound(false);
    }
    if (!half_) return complete();
    if (Status s = compare(); !s) return s;
    return bound(false);
  }

  Result<Binding> run_without_data() {
    if (Status s = read(); !s) return s;
    if (!rejoin_ || rejoin_->state == RejoinState::kCatchingUp) {
      return Status(Code::kFailedPrecondition,
                    in_data_dir() +
                        " holds no rejoin that is asked for or under way: the server "
                        "itself has to vote");
    }
    if (!identity_ || identity_->cluster_id == 0) {
      return mismatch(in_data_dir() + " belongs to no member of a cluster");
    }
    if (Status s = check_configuration(); !s) return s;
    return bound(false);
  }

 private:
  Status read() {
    if (request_.node_id == 0) return {Code::kInvalidArgument, "node_id must not be 0"};
    if (request_.data_dir.empty()) return {Code::kInvalidArgument, "data_dir must be set"};
    if (Status s = optional(read_rejoin(request_.data_dir), &rejoin_); !s) return s;
    if (Status s = optional(read_identity(request_.data_dir), &identity_); !s) return s;
    has_log_ = exists(request_.data_dir + "/raft/CURRENT");
    if (request_.pgdata.empty()) return Status::ok();
    if (!exists(request_.pgdata)) {
      return {Code::kNotFound, "data directory \"" + request_.pgdata + "\" does not exist"};
    }
    return optional(read_binding(request_.pgdata), &half_);
  }

  // rule 9: a directory that may be half of one server and half of another never starts.
  Status check_rejoin() const {
    if (!rejoin_) return Status::ok();
    if (!identity_)
      return mismatch(in_data_dir() + " holds a rejoin file but no identity file; " + kAddAgain);
    if (rejoin_->state == RejoinState::kWorking) {
      return {Code::kFailedPrecondition,
              "a rewind or clone of this data directory was interrupted; run pgraft prepare"};
    }
    return Status::ok();
  }

  Status check_configuration() const {
    if (identity_->node_id != request_.node_id) {
      return mismatch("the configuration says node_id = " + number(request_.node_id) + ", but " +
                      in_data_dir() + " belongs to node " + number(identity_->node_id));
    }
    if (identity_->cluster_name != request_.cluster_name) {
      return mismatch("the configuration says cluster_name = " + request_.cluster_name + ", but " +
                      in_data_dir() + " belongs to cluster " + identity_->cluster_name);
    }
    if (identity_->system_identifier != request_.system_identifier) {
      return mismatch("the database system identifier is " + number(request_.system_identifier) +
                      ", but " + in_data_dir() + " belongs to database system " +
                      number(identity_->system_identifier));
    }
    if (identity_->cluster_id != 0 && !has_log_) {
      return mismatch(
          "the Raft directory \"" + request_.data_dir +
          "/raft\" is missing while the node is bound to a cluster: its Raft state is lost; " +
          kAddAgain);
    }
    return Status::ok();
  }

  Result<Binding> create() {
    if (has_log_) {
      return mismatch("\"" + request_.data_dir +
                      "/raft\" holds a Raft log, but the identity file beside it is missing; " +
                      kAddAgain);
    }
    if (half_ && half_->node_id != request_.node_id) {
      return mismatch(data_directory() + " belongs to node " + number(half_->node_id) +
                      ", and this is node " + number(request_.node_id) +
                      ": it was copied here; run pgraft join to make a copy of its own");
    }
    if (half_) {
      return mismatch(data_directory() + " is bound to a Raft directory, and " + in_data_dir() +
                      " holds none: the Raft state is lost; " + kAddAgain);
    }
    IdentityFile identity;
    identity.cluster_name = request_.cluster_name;
    identity.node_id = request_.node_id;
    identity.incarnation = random_id();
    identity.system_identifier = request_.system_identifier;
    identity.binding = request_.pgdata.empty() ? 0 : random_id();
    // The identity first: a crash before the other half leaves what complete() recognizes.
    if (Status s = write_identity(request_.data_dir, identity); !s) return s;
    identity_ = identity;
    if (!request_.pgdata.empty()) {
      if (Status s = write_half(); !s) return s;
    }
    return bound(true);
  }

  // The identity is there, the other half is not: either the first start crashed between the two,
  // or the data directory was replaced.
  Result<Binding> complete() {
    if (identity_->cluster_id != 0 || has_log_ || identity_->binding == 0) {
      return mismatch(data_directory() + " is not bound to a node, but " + in_data_dir() +
                      " holds the state of node " + number(identity_->node_id) +
                      ": the data directory was replaced; " + kAddAgain);
    }
    if (Status s = write_half(); !s) return s;
    return bound(true);
  }

  Status compare() {
    if (half_->node_id != identity_->node_id) {
      return mismatch(data_directory() + " belongs to node " + number(half_->node_id) + ", and " +
                      in_data_dir() + " to node " + number(identity_->node_id) +
                      ": it was copied or swapped");
    }
    if (half_->incarnation != identity_->incarnation) {
      return mismatch(data_directory() + " and " + in_data_dir() +
                      " belong to different incarnations of node " + number(identity_->node_id) +
                      ": one of them was put back from a copy; " + kAddAgain);
    }
    const bool catching_up = rejoin_ && rejoin_->state == RejoinState::kCatchingUp;
    if (catching_up && rejoin_->binding != half_->binding) {
      return mismatch(data_directory() + " is not the one that the last rewind or clone made; " +
                      kAddAgain);
    }
    if (half_->binding == identity_->binding) return Status::ok();
    if (!catching_up) {
      return mismatch(data_directory() + " is not the one that " + in_data_dir() +
                      " is bound to: it is a copy, or was rewound or cloned by hand; " + kAddAgain);
    }
    // rule 10: every clone or rewind renews the binding; from here on the old directory doesn't
    // match any more.
    identity_->binding = half_->binding;
    return write_identity(request_.data_dir, *identity_);
  }

  Status write_half() const {
    return write_binding(request_.pgdata,
                         {identity_->node_id, identity_->incarnation, identity_->binding});
  }

  Result<Binding> bound(bool created) const { return Binding{*identity_, created, rejoin_}; }

  std::string in_data_dir() const { return "\"" + request_.data_dir + "\""; }
  std::string data_directory() const { return "data directory \"" + request_.pgdata + "\""; }

  const BindingRequest& request_;
  std::optional<RejoinFile> rejoin_;
  std::optional<IdentityFile> identity_;
  std::optional<BindingFile> half_;  // the data directory's
  bool has_log_ = false;
};

}  // namespace

Result<Binding> bind(const BindingRequest& request) { return Binder(request).run(); }

Result<Binding> bind_without_data(const BindingRequest& request) {
  return Binder(request).run_without_data();
}

}  // namespace pgraft::node
