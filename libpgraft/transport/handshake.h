// Who may talk to whom. Pure functions; a refusal's text is read on both sides, so it names both
// nodes.
#pragma once

#include <optional>

#include "libpgraft/transport/codec.h"
#include "libpgraft/transport/transport.h"

namespace pgraft::transport {

// The acceptor's judgement. `known_incarnation`: what the acceptor expects of that node id; 0 when
// it knows none (a node that joins has no members yet).
Status check_hello(const Identity& self, const Hello& hello, raft::Incarnation known_incarnation);

// The initiator's judgement of the answer to `hello`.
Status check_welcome(const Hello& hello, const Identity& acceptor);

// A reason as received: cut and without control characters, since it goes into logs.
std::string clean_reason(std::string_view reason);

}  // namespace pgraft::transport
