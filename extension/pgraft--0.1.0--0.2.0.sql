/* pgraft--0.1.0--0.2.0.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION UPDATE
\echo Use "ALTER EXTENSION pgraft UPDATE" to load this file. \quit

-- Views that keep their columns are only given more, so that what users have built on them stays. Until their functions are there again they show nothing.

CREATE OR REPLACE VIEW pgraft_members AS
    SELECT NULL::integer AS node_id, NULL::text AS name, NULL::text AS role, NULL::boolean AS is_leader, NULL::text AS address, NULL::integer AS port,
           NULL::text AS pg_host, NULL::integer AS pg_port, NULL::boolean AS answering, NULL::timestamp with time zone AS last_contact,
           NULL::text AS progress, NULL::bigint AS timeline, NULL::pg_lsn AS flush_lsn, NULL::pg_lsn AS replayed_lsn, NULL::bigint AS lag_bytes,
           NULL::double precision AS lag_seconds, NULL::text AS waits_for;
CREATE OR REPLACE VIEW pgraft_messages AS
    SELECT NULL::integer AS node_id, NULL::text AS type, NULL::bigint AS sent, NULL::bigint AS received, NULL::bigint AS bytes_sent_all_types,
           NULL::bigint AS dropped_all_types;

DROP FUNCTION pgraft_get_nodes();
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
    OUT waits_for text,
    OUT state text,
    OUT last_contact timestamp with time zone,
    OUT timeline bigint,
    OUT wal_lsn pg_lsn,
    OUT failover_priority integer,
    OUT nosync boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_get_nodes'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_nodes() IS
'the members: Raft address and port, role (voter, learner), address of the PostgreSQL server, end of its WAL and failover_priority as it tells all once a second, whether it was added with nosync; on the leader also whether they answer, when they last did, how far their log and WAL are, their state (leader, streaming, catching up: acknowledges nothing yet, no answer), and why a learner has no vote yet (null elsewhere)';

DROP FUNCTION pgraft_get_messages();
CREATE FUNCTION pgraft_get_messages(
    OUT node_id integer,
    OUT type text,
    OUT sent bigint,
    OUT received bigint,
    OUT bytes_sent_all_types bigint,
    OUT dropped_all_types bigint,
    OUT bytes_sent bigint,
    OUT bytes_received bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_get_messages'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_get_messages() IS
'messages and bytes to and from each member by type, since the worker started or the member was added: Raft''s, position reports and what members tell of their WAL. Bytes are those on the wire, handshakes not counted; dropped messages are counted for all types together';

CREATE OR REPLACE VIEW pgraft_members AS
    SELECT n.node_id, n.name, n.role, n.is_leader, n.address, n.port, n.pg_host, n.pg_port, n.answering,
           r.last_contact, r.progress, r.timeline, r.flush_lsn, r.replayed_lsn, r.lag_bytes, r.lag_seconds, n.waits_for,
           n.state, n.wal_lsn, n.failover_priority, n.nosync
    FROM pgraft_get_nodes() n LEFT JOIN pgraft_log_get_replication_status() r ON r.node_id = n.node_id;
COMMENT ON VIEW pgraft_members IS 'the members, where their WAL ends and, on the leader, whether they are alive and how far they are';

CREATE OR REPLACE VIEW pgraft_messages AS SELECT * FROM pgraft_get_messages();
COMMENT ON VIEW pgraft_messages IS 'messages and bytes to and from each member by type';

-- Members, or nodes that are to become some, on their way to a copy of this leader's data.

CREATE FUNCTION pgraft_get_rejoins(
    OUT node_id integer,
    OUT name text,
    OUT phase text,
    OUT bytes_done bigint,
    OUT bytes_total bigint,
    OUT bytes_behind bigint,
    OUT started_at timestamp with time zone,
    OUT pid integer,
    OUT waits_for text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_get_rejoins'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_rejoins() IS
'on the leader (no rows elsewhere): nodes that join, are rewound or cloned from it, and members that do not acknowledge WAL yet. phase: replaying local WAL, rewinding, copying, finishing (the node''s server is down; pid is its session here, bytes of the copy where they are known), catching up (its server runs; bytes_behind, and why a learner has no vote yet). Up to a second old';
REVOKE EXECUTE ON FUNCTION pgraft_get_messages(), pgraft_get_rejoins() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgraft_get_messages(), pgraft_get_rejoins() TO pgraft_admin, pg_monitor;

CREATE VIEW pgraft_stat_progress_rejoin AS SELECT * FROM pgraft_get_rejoins();
COMMENT ON VIEW pgraft_stat_progress_rejoin IS 'who joins, is rewound or cloned from this leader, or catches up, and how far that is';
GRANT SELECT ON pgraft_stat_progress_rejoin TO pgraft_admin, pg_monitor;

COMMENT ON FUNCTION pgraft_get_performance() IS
'what this node''s worker measured since it started: durations of commands (changes of keys and log, from the call to the answer), reads, disk writes and those of them that ended with an fsync, delay of ticks; lease time left, memory, elections; percentiles are right to an eighth';
