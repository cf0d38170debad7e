/*
 * engine.h: the boundary between PostgreSQL (C, longjmp) and libpgraft (C++, exceptions, threads).
 *
 * Includes no PostgreSQL header. Every function is called from the worker's main thread (pgraft_boot_* from the postmaster), never throws, and returns an
 * error code with its message. Everything is passed by value in plain structs; strings are copied and are never cut (what does not fit was refused earlier).
 */
#ifndef PGRAFT_ENGINE_H
#define PGRAFT_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guard.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PGRAFT_MAX_MEMBERS 32      /* state::kMaxMembers */
#define PGRAFT_ADDRESS_SIZE 256    /* with the terminating zero */
#define PGRAFT_NAME_SIZE 64
#define PGRAFT_MESSAGE_SIZE 512
#define PGRAFT_WAITS_FOR_SIZE 256
#define PGRAFT_HISTORY_MAX 1024    /* lines of a timeline history */
#define PGRAFT_MAX_KEY_BYTES 1024  /* state::kMaxKeyBytes */
#define PGRAFT_MAX_VALUE_BYTES (1 << 20) /* state::kMaxValueBytes; of an appended text too */
#define PGRAFT_MAX_KV_BYTES (32 << 20)   /* state::kMaxKvBytes */
#define PGRAFT_MESSAGE_TYPES 16    /* transport::Traffic::kTypes */
#define PGRAFT_PHASE_SIZE 16       /* of a rejoin */
#define PGRAFT_KEPT_LEADER_CHANGES 64 /* state::kKeptLeaderChanges */

/* Same values as pgraft::Code (libpgraft/base/status.h). */
typedef enum PgraftCode
{
	PGRAFT_OK = 0,
	PGRAFT_INVALID_ARGUMENT,
	PGRAFT_NOT_LEADER,
	PGRAFT_NO_QUORUM,
	PGRAFT_TIMEOUT,
	PGRAFT_NOT_FOUND,
	PGRAFT_ALREADY_EXISTS,
	PGRAFT_FAILED_PRECONDITION,
	PGRAFT_MISMATCH,
	PGRAFT_RESOURCE_EXHAUSTED,
	PGRAFT_CORRUPTION,
	PGRAFT_IO,
	PGRAFT_UNAVAILABLE,
	PGRAFT_ABORTED,
	PGRAFT_NO_SPACE
} PgraftCode;

typedef struct PgraftError
{
	PgraftCode code;
	char message[PGRAFT_MESSAGE_SIZE];
} PgraftError;

typedef struct PgraftEngineConfig
{
	const char *data_dir;
	const char *pgdata;
	uint64_t node_id;
	const char *node_name;
	const char *cluster_name;
	const char *listen_address;
	int listen_port;
	const char *advertise_address; /* "" : derived from listen_address */
	int pg_port;
	uint64_t system_identifier;
	int heartbeat_interval_ms;
	int election_timeout_ms;
	int max_log_entries;
	int health_period_ms;          /* 0: rule 11 is left out, a negative control's */
	int failover_priority;
	bool nosync;
	int request_timeout_ms;        /* how long a request for a change waits for the other members */
	bool timeline_ids_off;         /* for tests: rules 5, 9 and 3 left out (failover::Switches) */
	bool divergence_off;
	bool wal_end_off;
	PgraftGuard *guard;            /* in shared memory */
	const uint64_t *acknowledged;  /* the quorum's LSN, written by walsenders; accessed as the guard's words are */
} PgraftEngineConfig;

typedef struct PgraftHistoryLine
{
	uint32_t timeline;
	uint64_t end;
} PgraftHistoryLine;

/* failover::Orders, with the addresses looked up. */
typedef struct PgraftOrders
{
	uint64_t seq;
	uint64_t term;
	bool member;                   /* false: this node is in no cluster yet, PostgreSQL is left alone */
	bool gate_open;
	uint32_t gate_timeline;
	uint64_t gate_switch;
	uint64_t follow;               /* node id; 0 none */
	char follow_host[PGRAFT_ADDRESS_SIZE];
	int follow_port;
	bool admit_walsenders;
	bool lift_fence;
	uint64_t quorum_generation;
	int quorum_voters_count;
	uint64_t quorum_voters[PGRAFT_MAX_MEMBERS];
	uint32_t promote;
	int drain;                     /* PGRAFT_DRAIN_... */
	int restart;                   /* 0 none, 1 standby, 2 rewind, 3 clone (for these two the rejoin marker is already durable) */
	char reason[PGRAFT_MESSAGE_SIZE];
} PgraftOrders;

/* failover::DatabaseView */
typedef struct PgraftStream
{
	uint64_t node;
	uint64_t flush_lsn;
} PgraftStream;

typedef struct PgraftDatabaseView
{
	uint64_t orders_seen;
	bool in_recovery;
	bool receiver_stopped;
	bool replay_exhausted;
	bool end_known;
	bool frozen;
	bool promote_pending;
	uint32_t end_timeline;
	uint64_t end_lsn;
	uint32_t replayed_timeline;
	uint64_t replayed_lsn;
	uint64_t needed_lsn;           /* the oldest WAL that this server may ask another one for */
	uint64_t oldest_lsn;           /* the oldest WAL that it still has itself */
	uint32_t highest_history;
	uint64_t quorum_in_force;
	uint64_t quorum_waits_for;     /* not in force: a member whose walsender counts by an older setting; 0 none is known */
	int history_count;             /* of the current timeline, when a primary */
	PgraftHistoryLine history[PGRAFT_HISTORY_MAX];
	int writers;                   /* these only while there is a drain: sessions whose transaction has begun to write */
	int sessions;                  /* sessions that are to be ended */
	bool settled;                  /* all WAL was flushed when end_lsn was read */
	char writers_text[PGRAFT_NAME_SIZE * 4];
	int streams_count;
	PgraftStream streams[PGRAFT_MAX_MEMBERS];
} PgraftDatabaseView;

typedef enum PgraftCommandType
{
	PGRAFT_CMD_INIT = 1,
	PGRAFT_CMD_ADD_NODE,           /* node_id (0: any), address, port: of the Raft port */
	PGRAFT_CMD_REMOVE_NODE,        /* node_id */
	PGRAFT_CMD_TRANSFER,           /* node_id (0: the best one), limit_ms, end_writers, pid */
	PGRAFT_CMD_CHECK_TRANSFER,     /* node_id: whether it would be begun; value: the node that was chosen */
	PGRAFT_CMD_CANCEL_TRANSFER,
	PGRAFT_CMD_PAUSE,              /* until_ms, address: who asks */

	/* entries of the log, proposed through any node; texts as said, value: the index, 0: no effect */
	PGRAFT_CMD_KV_PUT = 32,        /* key, value; number: time to live in ms, 0: none */
	PGRAFT_CMD_KV_DELETE,          /* key */
	PGRAFT_CMD_KV_COMPARE_AND_SET, /* key, value, expected value (with PGRAFT_BY_VALUE) or revision (0: no such key); number as above */
	PGRAFT_CMD_LOG_APPEND,         /* data */

	/* those that only look; the answer comes as data */
	PGRAFT_CMD_KV_GET = 64,        /* key; one PgraftRow: revision, created at, time to live, milliseconds left + 1 (0: not known); key, value; none: no such key */
	PGRAFT_CMD_KV_LIST,            /* prefix, after; number: at most; rows: key */
	PGRAFT_CMD_KV_CHANGES,         /* prefix; revision: after, number: at most; rows: revision, kind (KvChange::Kind); key, value. value: changes up to there were looked at */
	PGRAFT_CMD_LOG_ENTRY,          /* number: index; one row: index, term, request, proposer, bytes; kind, text for people */
	PGRAFT_CMD_READ_BARRIER,       /* one row: LSN at which the acknowledged WAL ends, its timeline */
	PGRAFT_CMD_METRICS             /* PgraftMetrics */
} PgraftCommandType;

#define PGRAFT_FIRST_ENTRY_COMMAND PGRAFT_CMD_KV_PUT
#define PGRAFT_FIRST_LOOK PGRAFT_CMD_KV_GET

#define PGRAFT_STALE 0x01          /* of this node as it is, without asking the leader */
#define PGRAFT_BY_VALUE 0x02

typedef struct PgraftCommand
{
	uint64_t id;                   /* chosen by the caller, echoed in the completion */
	PgraftCommandType type;
	uint64_t node_id;
	char address[PGRAFT_ADDRESS_SIZE];
	int port;
	int pid;                       /* backend that waits and is not to be ended; 0 none */
	int limit_ms;
	bool end_writers;
	uint64_t until_ms;             /* since 1970; 0: not paused */
	uint64_t queued_ns;            /* pgraft_clock_ns() when it was given; 0: not measured */
	uint64_t number;
	uint64_t revision;
	uint32_t flags;
	uint32_t sizes[3];             /* of the texts, which follow each other in `data` */
	const char *data;              /* copied by pgraft_engine_submit(); NULL when there are none */
} PgraftCommand;

typedef struct PgraftCompletion
{
	uint64_t id;
	PgraftError error;             /* PGRAFT_OK: done */
	uint64_t value;
	char *data;                    /* NULL: none; given back by pgraft_engine_free() */
	size_t size;
} PgraftCompletion;

/* What an answer consists of: rows, each followed by its two texts; nothing is aligned. */
typedef struct PgraftRow
{
	uint64_t numbers[5];
	uint32_t sizes[2];
} PgraftRow;

/* node::Metrics */
typedef struct PgraftLatency
{
	uint64_t count, mean, p50, p90, p99, max; /* microseconds */
} PgraftLatency;

typedef struct PgraftTraffic
{
	uint64_t messages, bytes;
} PgraftTraffic;

typedef struct PgraftPeerMetrics
{
	uint64_t id;
	bool tracked;                  /* this node leads; the next five mean something */
	char state[16];                /* "probe", "replicate", "snapshot" */
	uint64_t match_index;
	uint64_t next_index;
	uint64_t idle_ms;
	bool connected;
	uint64_t messages_sent, bytes_sent, messages_dropped;
	uint64_t snapshot_bytes_sent, snapshot_bytes_total;
	PgraftTraffic sent[PGRAFT_MESSAGE_TYPES];
	PgraftTraffic received[PGRAFT_MESSAGE_TYPES];
} PgraftPeerMetrics;

typedef struct PgraftLeaderChange
{
	uint64_t term, node, previous, at_ms;
	uint32_t timeline, election_ms, agreement_ms, promotion_ms, opening_ms;
} PgraftLeaderChange;

typedef struct PgraftMetrics
{
	uint64_t first_index, last_index, commit_index, applied_index, snapshot_index, log_appends;
	uint64_t kv_keys, kv_bytes, kv_with_ttl, kv_revision, kv_changes_kept_after;
	uint64_t kv_puts, kv_deletes, kv_expirations, kv_conflicts, kv_refused;
	PgraftLatency disk_write;
	PgraftLatency disk_sync;       /* of those writes that ended with an fsync */
	uint64_t disk_entries, disk_syncs;
	PgraftLatency tick_delay;
	PgraftLatency entries;         /* commands that are entries of the log, from the call to the answer */
	PgraftLatency looks;           /* commands that only look */
	uint64_t lease_ms, queued, resident_bytes;
	uint64_t messages_processed, heartbeats_sent, elections_triggered;
	int peers_count;
	PgraftPeerMetrics peers[PGRAFT_MAX_MEMBERS];
	int leader_changes_count;      /* newest last */
	PgraftLeaderChange leader_changes[PGRAFT_KEPT_LEADER_CHANGES];
} PgraftMetrics;

const char *pgraft_message_type_name(int type); /* below PGRAFT_MESSAGE_TYPES */

typedef struct PgraftMemberStatus
{
	uint64_t id;
	uint64_t incarnation;
	char name[PGRAFT_NAME_SIZE];
	char address[PGRAFT_ADDRESS_SIZE];
	int port;
	char pg_host[PGRAFT_ADDRESS_SIZE];
	int pg_port;
	bool voter;
	bool learner;
	bool answering;                /* leader's view */
	uint64_t match_index;          /* leader's view */
	uint64_t flush_lsn;            /* leader's view; 0 none */
	uint32_t wal_timeline;         /* the last four as the member told them last, once a second; 0: not heard of */
	uint64_t wal_lsn;              /* where its WAL ends */
	uint64_t replayed_lsn;
	uint64_t needed_lsn;           /* the oldest WAL that it may ask for */
	int priority;                  /* as it told last; -1: not heard of */
	bool nosync;
	uint64_t contact_ns;           /* leader's view: pgraft_clock_ns() of its last answer in this term; 0 none */
	char waits_for[PGRAFT_WAITS_FOR_SIZE]; /* leader's view: why it has no vote yet */
} PgraftMemberStatus;

/* One promotion as the log has it, for supplying history files (rule 5). */
typedef struct PgraftPromotion
{
	uint32_t timeline;
	uint32_t parent;               /* 0: not known (not completed) */
	uint64_t switch_lsn;
	bool done;
} PgraftPromotion;
#define PGRAFT_KEPT_PROMOTIONS 256

typedef struct PgraftEngineStatus
{
	uint64_t node_id;
	uint64_t incarnation;
	uint64_t cluster_id;
	bool member;
	char state[32];                /* "uninitialized", "follower", ..., "leader", "failed" */
	uint64_t term;
	uint64_t leader_id;
	bool writable;
	bool abstaining;
	uint64_t commit_index;
	uint64_t applied_index;
	uint64_t last_index;
	uint64_t messages_processed;
	uint64_t heartbeats_sent;
	uint64_t elections_triggered;
	uint64_t paused_until_ms;      /* since 1970; it may be over; 0: not paused */
	char paused_by[PGRAFT_ADDRESS_SIZE];
	char phase[PGRAFT_MESSAGE_SIZE];
	char change_waits_for[PGRAFT_MESSAGE_SIZE]; /* leader: why no change of the members could begin now */
	char failure[PGRAFT_MESSAGE_SIZE]; /* not empty: the node has failed and says why */
	int raft_port;                 /* the one it listens on */
	int members_count;
	PgraftMemberStatus members[PGRAFT_MAX_MEMBERS];
	int promotions_count;          /* newest last */
	PgraftPromotion promotions[PGRAFT_KEPT_PROMOTIONS];
} PgraftEngineStatus;

/* Who copies from this server in order to join or rejoin: transport::RejoinStatus. */
typedef struct PgraftRejoin
{
	uint64_t node;
	char phase[PGRAFT_PHASE_SIZE];
	uint64_t bytes_done, bytes_total; /* 0 and 0: not known */
	int pid;                       /* of its session here */
	int64_t since;                 /* TimestampTz */
	uint64_t seconds;
} PgraftRejoin;

typedef struct PgraftEngine PgraftEngine;

/* Starts the node: binds (rule 10), opens the log, listens, starts the threads (all signals blocked in them). NULL and `error` on failure. */
PgraftEngine *pgraft_engine_start(const PgraftEngineConfig *config, PgraftError *error);
void pgraft_engine_stop(PgraftEngine *engine);

/* Becomes readable when there are new orders, completions or status. Drained by pgraft_engine_drain(). */
int pgraft_engine_event_fd(const PgraftEngine *engine);
void pgraft_engine_drain(PgraftEngine *engine);

/* Newest orders into *orders; false when they are the same as at the last call. */
bool pgraft_engine_orders(PgraftEngine *engine, PgraftOrders *orders);

/* Loosening, done here so that it excludes the closing for a newer term, which the engine's own thread does (rule 2): false, and nothing is changed, when a
 * newer term than `term` is known. Closing needs no such care and is done by plain stores. */
bool pgraft_engine_open_gate(PgraftEngine *engine, uint64_t term, uint32_t timeline, uint64_t switch_lsn);
bool pgraft_engine_lift_fence(PgraftEngine *engine, uint64_t term);

void pgraft_engine_observe(PgraftEngine *engine, const PgraftDatabaseView *view);
void pgraft_engine_rejoins(PgraftEngine *engine, const PgraftRejoin *rejoins, int count); /* the newest */
void pgraft_engine_submit(PgraftEngine *engine, const PgraftCommand *command);
bool pgraft_engine_completion(PgraftEngine *engine, PgraftCompletion *completion);
void pgraft_engine_free(PgraftCompletion *completion);
void pgraft_engine_status(PgraftEngine *engine, PgraftEngineStatus *status);

/* --- in the postmaster, before the startup process exists; file I/O only, no thread ---------------------------------------- */

typedef struct PgraftBoot
{
	bool member;                   /* this data directory belongs to a member: standby by default (rule 1) */
	uint32_t max_timeline;         /* greatest id of any promotion known here; 0 none */
	uint32_t current_timeline;     /* of the newest completed promotion */
	int history_count;             /* of current_timeline */
	PgraftHistoryLine history[PGRAFT_HISTORY_MAX];
} PgraftBoot;

/* Checks the two halves against each other (rule 10) and reads what the clean-up of history files needs (rule 5). An error must stop the server:
 * its message says what to do. A server without any Raft state and binding is not a member: PGRAFT_OK, member = false. */
PgraftCode pgraft_boot_check(const char *data_dir, const char *pgdata, uint64_t node_id, const char *cluster_name,
							 uint64_t system_identifier, PgraftBoot *boot, PgraftError *error);

/* In the upkeep worker: remembers outside the data directory that its WAL reaches this far, on disk and whole (rule 3). Never goes back. */
PgraftCode pgraft_wal_end_keep(const char *data_dir, const char *pgdata, uint32_t timeline, uint64_t lsn, PgraftError *error);

/* Durable, atomic replacement of a small file (commit quorum setting). */
PgraftCode pgraft_write_file(const char *path, const char *content, PgraftError *error);

#ifdef __cplusplus
}
#endif

#endif
