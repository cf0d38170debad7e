// What callers of a node ask for.
#include <algorithm>

#include "libpgraft/node/node_impl.h"

namespace pgraft::node {

namespace {

constexpr std::chrono::seconds kProbeTimeout{3};

std::string node(raft::NodeId id) { return "node " + std::to_string(id); }

}  // namespace

void NodeImpl::init(Completion done) {
  post_request(std::move(done), [this](Completion done) {
    if (Status made = make_cluster(); !made) return done(made, 0);
    inits_.push_back(std::move(done));
  });
}

Status NodeImpl::make_cluster() {
  if (identity_.cluster_id != 0 || greeted_cluster_id_ != 0 || !store_->is_blank()) {
    return {Code::kFailedPrecondition, "this node is part of a cluster already"};
  }
  if (replica_->is_writing()) {
    return {Code::kUnavailable, "another node talks to this one: is it being added to a cluster?"};
  }
  // The file first: what the log says must never be unknown to what reads files
  // (settle_cluster_id() mends a crash in between).
  identity_.cluster_id = random_id();
  Status s = write_identity(config_.data_dir, identity_);
  if (s) s = Replica::bootstrap(store_.get(), self(), identity_.cluster_id);
  if (s) s = create_replica();
  if (!s) {
    write_failed_ = s;  // the store's state is not known any more
    return s;
  }
  transport_->set_identity(identity());
  return replica_->raft().campaign();  // nobody else could
}

void NodeImpl::add_node(raft::NodeId expected_id, std::string host, std::uint16_t port,
                        Completion done) {
  post_request(std::move(done), [this, expected_id, host = std::move(host), port](Completion done) {
    if (Status s = replica_->check_leads(); !s) return done(s, 0);
    if (expected_id != 0 && replica_->machine().members().count(expected_id) != 0) {
      return done(Status(Code::kAlreadyExists, node(expected_id) + " is a member already"), 0);
    }
    const auto shared = std::make_shared<Completion>(std::move(done));
    const bool taken = prober_.post([this, expected_id, host, port, shared] {
      const Result<transport::Identity> probed =
          transport::query_identity(host, port, kProbeTimeout);
      post_request(std::move(*shared), [this, expected_id, host, port, probed](Completion done) {
        add_probed(expected_id, host, port, probed, std::move(done));
      });
    });
    if (!taken) {
      (*shared)(Status(Code::kResourceExhausted, "too many nodes are being added at once"), 0);
    }
  });
}

void NodeImpl::add_probed(raft::NodeId expected_id, const std::string& host, std::uint16_t port,
                          const Result<transport::Identity>& probed, Completion done) {
  if (!probed) return done(probed.status(), 0);
  const transport::Identity& who = *probed;
  const std::string name = node(who.node_id) + " at " + host + ":" + std::to_string(port);
  Status refused;
  if (expected_id != 0 && who.node_id != expected_id) {
    refused = Status(Code::kMismatch, "expected " + node(expected_id) + ", found " + name);
  } else if (who.cluster_name != config_.cluster_name) {
    refused = Status(Code::kMismatch, name + " is configured for cluster " + who.cluster_name +
                                          ", this is cluster " + config_.cluster_name);
  } else if (replica_->machine().members().count(who.node_id) != 0) {
    refused = Status(Code::kAlreadyExists, node(who.node_id) + " is a member already");
  } else if (who.system_identifier != identity_.system_identifier) {
    refused =
        Status(Code::kMismatch, name + " has the database system identifier " +
                                    std::to_string(who.system_identifier) + ", this node has " +
                                    std::to_string(identity_.system_identifier) +
                                    ": make its data directory from this database (pgraft join)");
  } else if (who.cluster_id != 0 && who.cluster_id == identity_.cluster_id) {
    refused = Status(Code::kFailedPrecondition,
                     name +
                         " was removed from this cluster and still has its old state: make it "
                         "anew (pgraft join)");
  } else if (who.cluster_id != 0) {
    refused = Status(Code::kFailedPrecondition, name + " is part of another cluster already");
  }
  if (!refused) return done(refused, 0);
  state::Member member = who.member;
  member.id = who.node_id;
  member.incarnation = who.incarnation;
  // The address that was just shown to lead to it. Its database is on the same host, unless it says
  // otherwise.
  if (member.pg_host.empty() || member.pg_host == member.address) member.pg_host = host;
  member.address = host;
  member.port = port;
  replica_->add_member(member, std::move(done));
}

void NodeImpl::remove_node(raft::NodeId id, Completion done) {
  post_request(std::move(done),
               [this, id](Completion done) { replica_->remove_member(id, std::move(done)); });
}

void NodeImpl::transfer_leadership(const Transfer& transfer, Completion done) {
  const Replica::Transfer inner{transfer.to, static_cast<int>(transfer.limit / tick_),
                                transfer.end_writers};
  post_request(std::move(done), [this, inner](Completion done) {
    replica_->transfer_leadership(inner, std::move(done));
  });
}

void NodeImpl::check_transfer(raft::NodeId to, Completion done) {
  post_request(std::move(done),
               [this, to](Completion done) { replica_->check_transfer(to, std::move(done)); });
}

void NodeImpl::cancel_transfer(Completion done) {
  post_request(std::move(done),
               [this](Completion done) { replica_->cancel_transfer(std::move(done)); });
}

state::Pause NodeImpl::pause() const {
  const std::shared_lock lock(machine_mutex_);
  return replica_->machine().pause();
}

void NodeImpl::read_barrier(Completion done) {
  post_request(std::move(done),
               [this](Completion done) { replica_->read_barrier(std::move(done)); });
}

void NodeImpl::database_barrier(PositionCompletion done) {
  const auto position = std::make_shared<failover::Position>();
  auto with_position = [position, done = std::move(done)](const Status& status, std::uint64_t) {
    done(status, *position);
  };
  post_request(std::move(with_position), [this, position](Completion done) {
    replica_->read_barrier(std::move(done), position);
  });
}

Result<std::string> NodeImpl::kv_get(const std::string& key) const {
  const std::shared_lock lock(machine_mutex_);
  const state::KvItem* item = replica_->machine().kv().find(key);
  if (item == nullptr) return Status(Code::kNotFound, "there is no key \"" + key + "\"");
  return item->value;
}

void NodeImpl::read(bool barrier, Reader reader) {
  post_request(
      [this, reader = std::move(reader)](const Status& status, std::uint64_t) {
        reader(status, status ? replica_.get() : nullptr);
      },
      [this, barrier](Completion done) {
        if (barrier) return replica_->read_barrier(std::move(done));
        done(Status::ok(), 0);
      });
}

void NodeImpl::metrics(MetricsReader reader) {
  post_request(
      [this, reader = std::move(reader)](const Status& status, std::uint64_t) {
        reader(status, status ? make_metrics() : Metrics());
      },
      [](Completion done) { done(Status::ok(), 0); });
}

std::vector<state::StateMachine::PromotionRecord> NodeImpl::promotions() const {
  const std::shared_lock lock(machine_mutex_);
  return replica_->machine().promotions();
}

}  // namespace pgraft::node
