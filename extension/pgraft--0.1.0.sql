/* pgraft--0.1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pgraft" to load this file. \quit

-- Lifecycle. These take effect at once and for the whole cluster, whether the calling transaction commits or not; they are not for PUBLIC.

CREATE FUNCTION pgraft_init()
RETURNS void
AS 'MODULE_PATHNAME', 'pgraft_init'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_init() IS
'makes this primary the first member and leader of a new cluster; returns when it accepts writes as such. Errors: 55000 (a standby, already in a cluster, unfit settings), 57014 (not the leader within pgraft.command_timeout)';

CREATE FUNCTION pgraft_add_node(node_id integer, address text, port integer)
RETURNS void
AS 'MODULE_PATHNAME', 'pgraft_add_node'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_add_node(integer, text, integer) IS
'adds the node that listens at address and port (its Raft port); run on the leader. It becomes a voter when it has caught up. Errors: 55000 (not the leader, other cluster or database, a change is under way), 08001 (unreachable), 42710 (number in use), 57P03 (no quorum), 40003 (outcome unknown)';

CREATE FUNCTION pgraft_add_node(address text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgraft_add_node_server'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_add_node(text) IS
'adds the node whose PostgreSQL server is at ''host:port''; the server is asked for its number and Raft port over a replication connection (pgraft.replication_conninfo). Errors: those of pgraft_add_node(integer, text, integer)';

CREATE FUNCTION pgraft_remove_node(node_id integer)
RETURNS void
AS 'MODULE_PATHNAME', 'pgraft_remove_node'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_remove_node(integer) IS
'removes a member; run on the leader. Errors: 55000 (not the leader, a change is under way), 42704 (no such member), 57P03 (no quorum), 40003 (outcome unknown)';

CREATE FUNCTION pgraft_transfer_leadership(node_id integer DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'pgraft_transfer_leadership'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_transfer_leadership(integer) IS
'planned switchover to a member, null: to the best one; run on the leader. Writes wait until the member has all WAL and leads, or until it is given up after pgraft.switchover_timeout. Errors: 55000 (not the leader, the member can''t take over, or given up: the reason is said), 42704 (no such member), 25001 (the calling transaction has written), 40003 (outcome unknown)';

REVOKE EXECUTE ON FUNCTION pgraft_init() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION pgraft_add_node(integer, text, integer) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION pgraft_add_node(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION pgraft_remove_node(integer) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION pgraft_transfer_leadership(integer) FROM PUBLIC;

-- Status. All answer from this server's memory, on any node, also without a quorum.

CREATE FUNCTION pgraft_get_cluster_status(
    OUT node_id integer,
    OUT current_term bigint,
    OUT leader_id integer,
    OUT state text,
    OUT num_nodes integer,
    OUT messages_processed bigint,
    OUT heartbeats_sent bigint,
    OUT elections_triggered bigint,
    OUT writable boolean,
    OUT phase text,
    OUT commit_index bigint,
    OUT applied_index bigint,
    OUT timeline bigint,
    OUT lsn pg_lsn,
    OUT in_recovery boolean,
    OUT abstaining boolean,
    OUT paused_until timestamp with time zone,
    OUT paused_by text,
    OUT change_waits_for text)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_get_cluster_status'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_cluster_status() IS
'the cluster as this node sees it: term, leader (null: none known), this node''s state, whether it accepts writes, what its failover controller does or waits for, where its WAL ends, until when failover is paused (null: it is not), and, on the leader, why no member could be added or removed now (null: one could)';

CREATE FUNCTION pgraft_get_nodes(
    OUT node_id integer,
    OUT address text,
    OUT port integer,
    OUT is_leader boolean,
    OUT name text,
    OUT role text,
    OUT pg_host text,
    OUT pg_port integer,
    OUT answering boolean,
    OUT match_index bigint,
    OUT flush_lsn pg_lsn,
    OUT lag_bytes bigint,
    OUT waits_for text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_get_nodes'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_nodes() IS
'the members: Raft address and port, role (voter, learner), address of the PostgreSQL server; on the leader also whether they answer and how far their log and WAL are, and why a learner has no vote yet (null elsewhere)';

CREATE FUNCTION pgraft_is_leader()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_is_leader'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_is_leader() IS
'true if this server is the leader, promoted, and its lease to accept writes is alive';

CREATE FUNCTION pgraft_in_contact()
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_in_contact_sql'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_in_contact() IS
'true if this server is in contact with a majority: the leader with a live lease, or a follower that streams from it and has heard it within the election timeout. Elsewhere reads are refused if pgraft.minority_reads is off';

CREATE FUNCTION pgraft_read_barrier()
RETURNS void
AS 'MODULE_PATHNAME', 'pgraft_read_barrier'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_read_barrier() IS
'returns when statements that begin after it, on this server, see everything that was acknowledged anywhere before it was called; a statement of its own, before the snapshot of a transaction. Errors: 57P03 (no majority, no promoted leader, or not replayed within pgraft.command_timeout)';

CREATE FUNCTION pgraft_get_leader()
RETURNS integer
AS 'MODULE_PATHNAME', 'pgraft_get_leader'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_leader() IS
'number of the leader that this node knows of; null: none';

CREATE FUNCTION pgraft_get_term()
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_get_term'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_term() IS
'the Raft term that this node is in; 0 before it is part of a cluster';

CREATE FUNCTION pgraft_get_worker_state(
    OUT state text,
    OUT pid integer,
    OUT node_id integer,
    OUT address text,
    OUT port integer,
    OUT cluster_name text,
    OUT initialized boolean,
    OUT error text)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_get_worker_state'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_worker_state() IS
'the background worker of this server: IDLE, INIT, RUNNING, STOPPING, STOPPED or ERROR, and why it failed or which settings do not suit it';

CREATE FUNCTION pgraft_get_queue_status(
    OUT command_id bigint,
    OUT type text,
    OUT state text,
    OUT error text,
    OUT queued_at timestamp with time zone,
    OUT completed_at timestamp with time zone)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_get_queue_status'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_queue_status() IS
'the newest commands given on this server, oldest first: PENDING, PROCESSING, COMPLETED or FAILED';

CREATE FUNCTION pgraft_get_version()
RETURNS text
AS 'MODULE_PATHNAME', 'pgraft_get_version'
LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_version() IS
'version of the loaded pgraft';

-- Maintenance.

CREATE FUNCTION pgraft_pause(duration interval DEFAULT '1 hour')
RETURNS timestamp with time zone
AS 'MODULE_PATHNAME', 'pgraft_pause'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_pause(interval) IS
'no failover by itself for that long, returns until when: if the leader fails, nobody but the same node takes over, so writes stop until it is back; run on any member. Planned switchovers work. Ends by itself, or by pgraft_resume(). Errors: 22023 (not positive, or over 30 days), 57P03 (no quorum), 40003 (outcome unknown)';

CREATE FUNCTION pgraft_resume()
RETURNS void
AS 'MODULE_PATHNAME', 'pgraft_resume'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_resume() IS
'ends a pause, if there is one; run on any member. Errors: 57P03 (no quorum), 40003 (outcome unknown)';

REVOKE EXECUTE ON FUNCTION pgraft_pause(interval) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION pgraft_resume() FROM PUBLIC;
