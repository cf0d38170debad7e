#include "libpgraft/transport/handshake.h"

#include "libpgraft/transport/frame.h"

namespace pgraft::transport {
namespace {

Status mismatch(std::string reason) { return {Code::kMismatch, std::move(reason)}; }

std::string node(raft::NodeId id) { return "node " + std::to_string(id); }

// Cluster name and id, and that the initiator found the node it was looking for.
Status check_pair(const Hello& hello, const Identity& acceptor) {
  const Identity& initiator = hello.identity;
  if (initiator.cluster_name != acceptor.cluster_name) {
    return mismatch(node(initiator.node_id) + " is of cluster \"" + initiator.cluster_name +
                    "\", " + node(acceptor.node_id) + " is of cluster \"" + acceptor.cluster_name +
                    "\"");
  }
  if (initiator.node_id == 0) return mismatch("the connecting node has no node id");
  if (initiator.node_id == acceptor.node_id) {
    return mismatch(node(initiator.node_id) + " connected to " + node(acceptor.node_id) +
                    ": either an address is wrong, or two nodes have the same id");
  }
  if (hello.expected_node != acceptor.node_id) {
    return mismatch(node(initiator.node_id) + " looks for " + node(hello.expected_node) +
                    " at the address of " + node(acceptor.node_id));
  }
  // rule 10: a wiped node is a new one, and comes back through membership only
  if (hello.expected_incarnation != 0 && hello.expected_incarnation != acceptor.incarnation) {
    return mismatch(node(initiator.node_id) + " knows " + node(acceptor.node_id) +
                    " with incarnation " + std::to_string(hello.expected_incarnation) +
                    ", it has " + std::to_string(acceptor.incarnation) +
                    ": it was created anew and must be removed from the cluster and added again");
  }
  if (initiator.cluster_id == acceptor.cluster_id) return Status::ok();
  if (acceptor.cluster_id != 0) {
    return mismatch(node(initiator.node_id) + " has cluster id " +
                    std::to_string(initiator.cluster_id) + ", " + node(acceptor.node_id) +
                    " has cluster id " + std::to_string(acceptor.cluster_id) +
                    ": two clusters were created with the name \"" + acceptor.cluster_name + "\"");
  }
  // A node without a cluster is added by one that asked for its incarnation, not by whoever has the
  // address.
  if (hello.expected_incarnation == 0) {
    return mismatch(node(acceptor.node_id) + " is not part of a cluster yet and " +
                    node(initiator.node_id) + " did not name its incarnation");
  }
  return Status::ok();
}

}  // namespace

Status check_hello(const Identity& self, const Hello& hello, raft::Incarnation known_incarnation) {
  if (Status s = check_pair(hello, self); !s.is_ok()) return s;
  if (known_incarnation != 0 && known_incarnation != hello.identity.incarnation) {
    return mismatch(node(self.node_id) + " knows " + node(hello.identity.node_id) +
                    " with incarnation " + std::to_string(known_incarnation) + ", it has " +
                    std::to_string(hello.identity.incarnation) +
                    ": it was created anew and must be removed from the cluster and added again");
  }
  return Status::ok();
}

Status check_welcome(const Hello& hello, const Identity& acceptor) {
  return check_pair(hello, acceptor);
}

std::string clean_reason(std::string_view reason) {
  std::string text(reason.substr(0, kMaxReasonBytes));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

}  // namespace pgraft::transport
