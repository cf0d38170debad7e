// The parts that commands, members and snapshots have in common. Internal to this layer and to the
// wire.
#pragma once

#include "libpgraft/state/codec.h"
#include "libpgraft/state/state_machine.h"

namespace pgraft::state {

void write_member(Writer& out, const Member& member);
Member read_member(Reader& in);
void write_promotion(Writer& out, const failover::Promotion& promotion);
failover::Promotion read_promotion(Reader& in);
void write_history(Writer& out, const failover::History& history);
failover::History read_history(Reader& in);
void write_leader_change(Writer& out, const LeaderChange& change);
LeaderChange read_leader_change(Reader& in);

}  // namespace pgraft::state
