/* pgraft--0.1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pgraft" to load this file. \quit

-- Who may do what: pgraft_admin changes the cluster and its keys, pg_monitor reads all, everybody may ask who leads. Roles belong to all databases of the server,
-- so this one may be there already, and stays when the extension is dropped.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pgraft_admin') THEN
        CREATE ROLE pgraft_admin NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- another database was faster
END
$$;

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

-- Commands. Each change that is asked for on this server is a command with a number, which an error of unknown outcome names.

CREATE FUNCTION pgraft_get_command(
    id bigint,
    OUT command_id bigint,
    OUT type text,
    OUT state text,
    OUT error text,
    OUT queued_at timestamp with time zone,
    OUT completed_at timestamp with time zone,
    OUT result bigint,
    OUT sqlstate text)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_get_command'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_command(bigint) IS
'what became of a command given on this server: PENDING, PROCESSING, COMPLETED (with the result that its function would have returned, as a number), FAILED (with error and SQLSTATE) or UNKNOWN (nobody confirmed it in time). Errors: 42704 (not known, or forgotten)';

-- Key-value store: small data that all members agree on, in every database of the server the same. Keys are up to 1024 bytes of UTF-8, values up to 1 MiB, all
-- of it together 32 MiB, counting 32 bytes for each key. A change takes effect when a majority has it, whether the calling transaction commits or not; it
-- may be asked for on any node. A revision is the index of the change in the Raft log. Reads are linearizable unless they are stale: they
-- show every change that was confirmed before they began; a stale one shows what this node has, without asking another.

CREATE FUNCTION pgraft_kv_put(key text, value text, ttl interval DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_kv_put'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_put(text, text, interval) IS
'sets a key and returns the revision. With ttl the key is deleted that long after it was last put; a change of leader begins the time anew, it never ends early. Errors: 54000 (too long), 53000 (store is full), 57P03 (no quorum), 40003 (outcome unknown)';

CREATE FUNCTION pgraft_kv_put_bytes(key text, value bytea, ttl interval DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_kv_put_bytes'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_put_bytes(text, bytea, interval) IS
'as pgraft_kv_put(), with any bytes as the value';

CREATE FUNCTION pgraft_kv_get(key text, stale boolean DEFAULT false)
RETURNS text
AS 'MODULE_PATHNAME', 'pgraft_kv_get'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_get(text, boolean) IS
'the value of a key; null: there is no such key. Errors: 57P03 (no quorum), 22021 (the value is no text)';

CREATE FUNCTION pgraft_kv_get_bytes(key text, stale boolean DEFAULT false)
RETURNS bytea
AS 'MODULE_PATHNAME', 'pgraft_kv_get_bytes'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_get_bytes(text, boolean) IS
'as pgraft_kv_get(), the value as it is stored';

CREATE FUNCTION pgraft_kv_get_entry(
    key text,
    stale boolean DEFAULT false,
    OUT value text,
    OUT revision bigint,
    OUT created_revision bigint,
    OUT ttl interval,
    OUT expires_at timestamp with time zone)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_kv_get_entry'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 1;
COMMENT ON FUNCTION pgraft_kv_get_entry(text, boolean) IS
'a key with the revisions of its last change and of its creation, its time to live and, on the leader, when that ends at the earliest (null elsewhere); no row: there is no such key';

CREATE FUNCTION pgraft_kv_exists(key text, stale boolean DEFAULT false)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_kv_exists'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_exists(text, boolean) IS
'is there such a key?';

CREATE FUNCTION pgraft_kv_delete(key text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'pgraft_kv_delete'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_delete(text) IS
'deletes a key; false: there was none. Errors: those of pgraft_kv_put()';

CREATE FUNCTION pgraft_kv_compare_and_set(key text, expected_revision bigint, value text, ttl interval DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_kv_compare_and_set'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_compare_and_set(text, bigint, text, interval) IS
'sets a key if it was last changed at the expected revision (0: if there is no such key) and returns the new revision; null: it was not, nothing was changed';

CREATE FUNCTION pgraft_kv_compare_and_set(key text, expected_value text, value text, ttl interval DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_kv_compare_and_set_value'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_compare_and_set(text, text, text, interval) IS
'sets a key if it has the expected value (null: if there is no such key) and returns the new revision; null: it has not, nothing was changed';

CREATE FUNCTION pgraft_kv_list_keys(prefix text DEFAULT '', after text DEFAULT NULL, max integer DEFAULT 1000, stale boolean DEFAULT false)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'pgraft_kv_list_keys'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_list_keys(text, text, integer, boolean) IS
'the first max keys (10000 at most) with the prefix that come after a key, in the order of their bytes; for the next page give the last one as after';

CREATE FUNCTION pgraft_kv_watch(
    prefix text DEFAULT '',
    after_revision bigint DEFAULT NULL,
    timeout interval DEFAULT '30 s',
    OUT revision bigint,
    OUT operation text,
    OUT key text,
    OUT value bytea)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_kv_watch'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_watch(text, bigint, interval) IS
'waits for changes (put, delete, expire) of keys with the prefix after a revision (null: from now on) on this node and returns them, oldest first, 1000 at most; for the next ones give the last revision. A value that is text is convert_from(value, ''UTF8''). No row: none came in time. Errors: 55000 (changes that old are not kept: list the keys anew)';

CREATE FUNCTION pgraft_kv_get_stats(
    OUT keys bigint,
    OUT bytes bigint,
    OUT max_bytes bigint,
    OUT keys_with_ttl bigint,
    OUT revision bigint,
    OUT watchable_after bigint,
    OUT puts bigint,
    OUT deletes bigint,
    OUT expirations bigint,
    OUT conflicts bigint,
    OUT refused bigint,
    OUT watchers integer)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_kv_get_stats'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_kv_get_stats() IS
'the key-value store as this node has it: size and limit, newest revision, after which revision changes can still be watched; what was applied here since the worker started, and the sessions that watch on this server';

-- Log: texts of up to 1 MiB in one order that all members agree on. The log is kept in part only: what all have applied is dropped, the newest thousands of entries stay.

CREATE FUNCTION pgraft_log_append(data text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgraft_log_append'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_log_append(text) IS
'appends to the Raft log, on any node, and returns the index once a majority has it. Errors: 54000 (too long), 57P03 (no quorum), 40003 (outcome unknown)';

CREATE FUNCTION pgraft_log_get_entry(
    index bigint,
    OUT entry_index bigint,
    OUT term bigint,
    OUT type text,
    OUT data text,
    OUT proposer integer,
    OUT bytes bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_log_get_entry'
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_log_get_entry(bigint) IS
'a committed entry of the log as this node has it: data is the text that was appended, the key of a change of a key, or what the entry says. Errors: 42704 (not committed yet, or not kept any more)';

CREATE FUNCTION pgraft_log_get_stats(
    OUT first_index bigint,
    OUT last_index bigint,
    OUT commit_index bigint,
    OUT applied_index bigint,
    OUT snapshot_index bigint,
    OUT entries bigint,
    OUT appends bigint,
    OUT disk_writes bigint,
    OUT entries_written bigint,
    OUT disk_syncs bigint,
    OUT disk_write_p50_ms double precision,
    OUT disk_write_p99_ms double precision)
RETURNS record
AS 'MODULE_PATHNAME', 'pgraft_log_get_stats'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_log_get_stats() IS
'the Raft log of this node: what it keeps, how far it is committed and applied, texts ever appended to the cluster''s log, and what the disk did since the worker started';

CREATE FUNCTION pgraft_log_get_replication_status(
    OUT node_id integer,
    OUT match_index bigint,
    OUT next_index bigint,
    OUT progress text,
    OUT last_contact timestamp with time zone,
    OUT flush_lsn pg_lsn,
    OUT timeline bigint,
    OUT wal_lsn pg_lsn,
    OUT replayed_lsn pg_lsn,
    OUT lag_bytes bigint,
    OUT lag_seconds double precision,
    OUT connected boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_log_get_replication_status'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_log_get_replication_status() IS
'how far each member is: Raft log (match_index is stored there, next_index is sent next, progress is probe, replicate or snapshot) and last answer, WAL flushed by its stream, lag behind this primary (all this on the leader, null elsewhere); timeline and end of its WAL as it tells all once a second';

-- What happens inside.

CREATE FUNCTION pgraft_get_performance(OUT name text, OUT value double precision, OUT unit text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_get_performance'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_get_performance() IS
'what this node''s worker measured since it started: durations of commands (changes of keys and log, from the call to the answer), reads, disk writes, delay of ticks; lease time left, memory, elections; percentiles are right to an eighth';

CREATE FUNCTION pgraft_get_messages(
    OUT node_id integer,
    OUT type text,
    OUT sent bigint,
    OUT received bigint,
    OUT bytes_sent_all_types bigint,
    OUT dropped_all_types bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_get_messages'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_get_messages() IS
'Raft messages to and from each member by type, since the worker started; bytes and dropped messages are counted for all types together';

CREATE FUNCTION pgraft_get_failovers(
    OUT term bigint,
    OUT timeline bigint,
    OUT old_leader integer,
    OUT new_leader integer,
    OUT writable_at timestamp with time zone,
    OUT election_ms integer,
    OUT agreement_ms integer,
    OUT promotion_ms integer,
    OUT opening_ms integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_get_failovers'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pgraft_get_failovers() IS
'the newest 64 changes of leadership, oldest first, the same on all members, by the clock of the new leader: from the loss of the old one to the election, to the agreement on who has most, to a promoted server, to the first write allowed';

CREATE FUNCTION pgraft_get_commit_quorum(
    OUT node_id integer,
    OUT is_leader boolean,
    OUT present boolean,
    OUT flush_lsn pg_lsn,
    OUT needed integer,
    OUT in_force boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pgraft_get_commit_quorum'
LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION pgraft_get_commit_quorum() IS
'who counts towards a commit, on the leader (no rows elsewhere): whether the member is there, how far it has flushed, how many of them a commit needs, and whether the setting is in force in all processes';

CREATE VIEW pgraft_members AS
    SELECT n.node_id, n.name, n.role, n.is_leader, n.address, n.port, n.pg_host, n.pg_port, n.answering,
           r.last_contact, r.progress, r.timeline, r.flush_lsn, r.replayed_lsn, r.lag_bytes, r.lag_seconds, n.waits_for
    FROM pgraft_get_nodes() n LEFT JOIN pgraft_log_get_replication_status() r ON r.node_id = n.node_id;
COMMENT ON VIEW pgraft_members IS 'the members and, on the leader, whether they are alive and how far they are';

CREATE VIEW pgraft_commit_quorum AS SELECT * FROM pgraft_get_commit_quorum();
COMMENT ON VIEW pgraft_commit_quorum IS 'who counts towards a commit and who is missing (on the leader)';

CREATE VIEW pgraft_failovers AS SELECT * FROM pgraft_get_failovers();
COMMENT ON VIEW pgraft_failovers IS 'changes of leadership and how long each of their steps took';

CREATE VIEW pgraft_commands AS SELECT * FROM pgraft_get_queue_status();
COMMENT ON VIEW pgraft_commands IS 'changes that were asked for on this server: those that wait and the newest that have ended';

CREATE VIEW pgraft_performance AS SELECT * FROM pgraft_get_performance();
COMMENT ON VIEW pgraft_performance IS 'what this node''s worker measured since it started';

CREATE VIEW pgraft_messages AS SELECT * FROM pgraft_get_messages();
COMMENT ON VIEW pgraft_messages IS 'Raft messages to and from each member by type';

-- Privileges, for all that was made above.

DO $$
DECLARE
    function record;
    for_everybody CONSTANT text[] := ARRAY['pgraft_is_leader', 'pgraft_get_leader', 'pgraft_get_term', 'pgraft_get_version',
                                           'pgraft_get_cluster_status', 'pgraft_get_nodes', 'pgraft_in_contact', 'pgraft_read_barrier'];
    shows CONSTANT text := '^pgraft_(get|kv_get|kv_exists|kv_list|kv_watch|log_get)_?'; -- whatever else there is may change something
BEGIN
    FOR function IN
        SELECT p.oid::pg_catalog.regprocedure AS name, p.proname
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
        WHERE e.extname = 'pgraft' AND NOT p.proname = ANY (for_everybody)
    LOOP
        EXECUTE pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function.name);
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO pgraft_admin', function.name);
        IF function.proname ~ shows THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO pg_monitor', function.name);
        END IF;
    END LOOP;
END
$$;
GRANT SELECT ON pgraft_members, pgraft_commit_quorum, pgraft_failovers, pgraft_commands, pgraft_performance, pgraft_messages
    TO pgraft_admin, pg_monitor;
