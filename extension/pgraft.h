/*
 * pgraft.h: what the C files of the extension share: shared memory, settings, and the functions by which the worker acts on PostgreSQL.
 *
 * Who writes what is said at each field; everything of the guard is atomic (guard.h), the rest is under the lock named there.
 */
#ifndef PGRAFT_H
#define PGRAFT_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/s_lock.h"
#include "storage/spin.h"
#include "utils/dsa.h"

#include "engine.h"
#include "guard.h"

/* ---- settings (settings.c) ---- */
extern int	pgraft_node_id;				/* 0: not configured, pgraft rests */
extern char *pgraft_node_name;
extern char *pgraft_cluster_name;
extern char *pgraft_listen_address;
extern int	pgraft_listen_port;
extern char *pgraft_advertise_address;
extern char *pgraft_data_dir_setting;	/* "": <data directory>.pgraft */
extern int	pgraft_heartbeat_interval;	/* ms */
extern int	pgraft_election_timeout;	/* ms */
extern int	pgraft_peer_timeout;		/* ms */
extern int	pgraft_max_log_entries;
extern int	pgraft_health_period_ms;
extern bool pgraft_debug_enabled;
extern bool pgraft_allow_weak_commit;
extern bool pgraft_minority_reads;
extern int	pgraft_rules_off;			/* PGRAFT_OFF_...: for tests only */
extern char *pgraft_replication_conninfo;
extern int	pgraft_command_timeout;		/* ms */
extern int	pgraft_switchover_timeout;	/* ms */
extern bool pgraft_switchover_end_writers;
extern int	pgraft_failover_priority;
extern bool pgraft_nosync;

/* Parts of the rules that pgraft.debug_rules_off can leave out, so that tests can show what each of them is for. */
#define PGRAFT_OFF_COMMIT_WAIT 0x01		/* the wait for the quorum can be cancelled */
#define PGRAFT_OFF_COMMIT_LEVEL 0x02	/* a weaker synchronous_commit counts */
#define PGRAFT_OFF_COMMIT_BACKSTOP 0x04 /* a commit is answered without a look at the quorum's LSN */
#define PGRAFT_OFF_COMMIT_QUORUM 0x08	/* synchronous_standby_names can be set by anybody */
#define PGRAFT_OFF_WRITE_FENCE 0x10		/* nothing is refused */
#define PGRAFT_OFF_STANDBY_START 0x20	/* rule 1: a server starts as whatever it was */
#define PGRAFT_OFF_HEALTH 0x40			/* rule 11: a leader's database and worker may stand still */
#define PGRAFT_OFF_TIMELINE_IDS 0x80	/* rule 5: one more than the own timeline, whatever others were promoted to */
#define PGRAFT_OFF_ONE_STREAM 0x100		/* rule 6: a member may have several walsenders */
#define PGRAFT_OFF_DIVERGENCE 0x200		/* rule 9: nobody is found diverged */
#define PGRAFT_OFF_WAL_END 0x400		/* rule 3: a data directory that was put back reports what it has */

extern void pgraft_define_settings(void);
extern void pgraft_stop_points_define_setting(void); /* stop_points.c: for tests */
extern void pgraft_stop_points_arm(void);	/* the worker, after it has loaded its configuration */
extern const char *pgraft_data_dir(void);	/* absolute; outside the data directory */

/* ---- walreceiver (receiver.c): term gate, following the leader ---- */
typedef enum PgraftReceiverPhase
{
	PGRAFT_RECEIVER_NONE = 0,			/* none was ever started */
	PGRAFT_RECEIVER_WAITING,			/* asks for a stream (all valid local WAL is replayed), has no leader to connect to */
	PGRAFT_RECEIVER_CONNECTING,
	PGRAFT_RECEIVER_STREAMING
} PgraftReceiverPhase;

typedef struct PgraftReceiverShared		/* under `mutex` but for what the guard holds */
{
	slock_t		mutex;
	pid_t		pid;
	PgraftReceiverPhase phase;
	uint64		epoch;					/* target_epoch that the walreceiver acts on; 0 none */
	uint64		waits;					/* times a walreceiver has begun to wait since the server started */
	/* target, written by the worker */
	uint64		target_epoch;			/* grows with every change */
	uint64		target_node;			/* 0: none, wait */
	uint64		target_term;
	char		target_host[PGRAFT_ADDRESS_SIZE];
	int			target_port;
	/* timelines known to the cluster, for histories the leader's disk lacks; written by the worker */
	int			promotions_count;
	PgraftPromotion promotions[PGRAFT_KEPT_PROMOTIONS];
} PgraftReceiverShared;

/* ---- walsenders (sender.c): admission, freeze, one per member ---- */
#define PGRAFT_MAX_SENDERS 128
typedef struct PgraftSenderShared		/* under pgraft_shared->lock */
{
	struct
	{
		pid_t		pid;				/* 0: free */
		uint64		node;				/* member whose stream this is; 0: not a member's */
		uint64		term;
		uint64		quorum_generation;	/* that this process has loaded */
	}			senders[PGRAFT_MAX_SENDERS];
} PgraftSenderShared;

/* ---- commit quorum setting (quorum.c) ---- */
typedef struct PgraftQuorumShared		/* atomic words, stamped by the assign hook in each process */
{
	uint64		postmaster_generation;
	uint64		checkpointer_generation;
	uint64		worker_generation;
	/* what may be in synchronous_standby_names, as digests; written by the worker, 0: not set yet */
	uint64		names_digest;
	uint64		former_names_digest;
} PgraftQuorumShared;

/* ---- settings that the leader's WAL needs (parity.c) ---- */
#define PGRAFT_PARITY_SETTINGS 5

/* ---- commands and status (shmem.c) ---- */
#define PGRAFT_COMMAND_SLOTS 256		/* commands whose callers wait, at once */
#define PGRAFT_COMMANDS_KEPT 256		/* that have ended, of either kind */

typedef enum PgraftWorkerState
{
	PGRAFT_WORKER_IDLE = 0,
	PGRAFT_WORKER_INIT,
	PGRAFT_WORKER_RUNNING,
	PGRAFT_WORKER_STOPPING,
	PGRAFT_WORKER_STOPPED,
	PGRAFT_WORKER_ERROR
} PgraftWorkerState;

typedef enum PgraftCommandState
{
	PGRAFT_COMMAND_PENDING = 0,
	PGRAFT_COMMAND_PROCESSING,
	PGRAFT_COMMAND_COMPLETED,
	PGRAFT_COMMAND_FAILED
} PgraftCommandState;

typedef struct PgraftCommandStatus
{
	uint64		id;						/* 0: none */
	PgraftCommandType type;
	PgraftCommandState state;
	TimestampTz queued_at;
	PgraftError error;
	uint64		value;
	uint32		timeline;
	TimestampTz completed_at;
} PgraftCommandStatus;

/* One command from the call to the answer. */
typedef struct PgraftCommandSlot
{
	PgraftCommandStatus status;			/* id 0: the slot is free */
	PgraftCommand command;				/* but for `data` */
	dsa_pointer texts;					/* of the command; given back by the worker */
	dsa_pointer answer;					/* given back by who takes it */
	size_t		answer_size;
	struct Latch *waiter;				/* of the caller; NULL: it does not wait any more */
} PgraftCommandSlot;

/* The newest that have ended, a circle. */
typedef struct PgraftCommandsKept
{
	uint64		next;
	PgraftCommandStatus ended[PGRAFT_COMMANDS_KEPT];
} PgraftCommandsKept;

typedef struct PgraftShared
{
	PgraftGuard guard;
	LWLock	   *lock;					/* everything below that names no lock of its own */
	ConditionVariable changed;			/* the status has changed */

	PgraftWorkerState worker_state;
	pid_t		worker_pid;
	struct Latch *worker_latch;			/* set by backends that queue a command and by the seams when something happened */
	PgraftError worker_error;			/* why the state is ERROR, or what is wrong with the server's settings */
	uint64		worker_failures;		/* starts of the worker that failed, since the last good one */

	uint64		next_command_id;
	uint64		queue_head;				/* next to take */
	uint64		queue_tail;				/* next free; never more than the slots ahead of head */
	int			queue[PGRAFT_COMMAND_SLOTS];	/* slots that wait for the worker, a circle */
	PgraftCommandSlot slots[PGRAFT_COMMAND_SLOTS];
	PgraftCommandsKept recent;			/* changes, whoever heard of their end */
	PgraftCommandsKept unanswered;		/* changes whose caller had left, or could not be told what came of it */
	ConditionVariable kv_changed;		/* guard.kv_revision has grown, for those that watch */

	PgraftEngineStatus status;			/* newest, written by the worker */
	PgraftDatabaseView view;			/* newest, written by the worker */
	PgraftOrders orders;				/* newest carried out, written by the worker */
	int			rejoins_count;			/* on a primary, written by the upkeep worker */
	PgraftRejoin rejoins[PGRAFT_MAX_MEMBERS];

	PgraftReceiverShared receiver;
	PgraftSenderShared sender;
	PgraftQuorumShared quorum;
	uint64		needed_settings[PGRAFT_PARITY_SETTINGS];	/* atomic words, written by the upkeep worker; 0: ours is enough */
	uint64		promote_timeline;		/* atomic: the promotion that was signalled since the server started; 0 none (promote.c) */
} PgraftShared;

extern PgraftShared *pgraft_shared;		/* NULL unless loaded by shared_preload_libraries */

extern void pgraft_shmem_init(void);	/* from _PG_init: hooks that request and set up the memory */
extern void pgraft_wake_worker(void);	/* any process, also a signal-unsafe place; no-op without a worker */

/* commands: given by backends, taken and finished by the worker (commands.c) */
extern void pgraft_commands_request_memory(void);
extern void pgraft_commands_set_up(bool first);	/* from the start-up hook */
extern uint64 pgraft_command_enqueue(const PgraftCommand *command);	/* its id; the latch of this process is set when it has ended */
extern void pgraft_command_post(const PgraftCommand *command);	/* nobody waits for its end */
extern bool pgraft_command_ended(uint64 id, PgraftCommandStatus *status, char **answer, Size *size);	/* true: it has; the slot is given back, the answer is palloc'd */
extern bool pgraft_command_leave(uint64 id);	/* the caller does not wait any more; true: it had not been begun, and will not be */
extern bool pgraft_command_find(uint64 id, PgraftCommandStatus *status);	/* a waiting or an ended one; false: not known */
extern int	pgraft_command_list(PgraftCommandStatus **statuses);	/* all that are known, by id; palloc'd */
extern bool pgraft_command_take(PgraftCommand *command);	/* `data` is palloc'd */
extern void pgraft_command_finish(const PgraftCompletion *completion);
extern void pgraft_command_fail_all(bool queued_too, PgraftCode code, const char *message);	/* a worker that starts, or can't */
extern bool pgraft_command_in_progress(void);	/* one that changes the members */

/* the extension's own names for what a session waits for (waits.c) */
typedef enum PgraftWait
{
	PGRAFT_WAIT_COMMAND,
	PGRAFT_WAIT_LEADERSHIP,
	PGRAFT_WAIT_KV_CHANGE,
	PGRAFT_WAIT_SWITCHOVER,				/* a session that is held, or waits for its checkpoint, in a planned switchover */
	PGRAFT_WAIT_ADMISSION,				/* a walsender, for the end of the member's stale one */
	PGRAFT_WAIT_RECEIVER,				/* the walreceiver, for a leader to stream from */
	PGRAFT_WAIT_WORKER,
	PGRAFT_WAIT_UPKEEP
} PgraftWait;

extern uint32 pgraft_wait_event(PgraftWait wait);

/* what is wrong with the server's settings (settings.c); NULL: nothing. `fatal`: no cluster may be made with it. palloc'd */
extern char *pgraft_check_server(bool *fatal);

extern PGDLLEXPORT void pgraft_worker_main(Datum arg);	/* worker.c */
extern PGDLLEXPORT void pgraft_upkeep_main(Datum arg);	/* upkeep.c */
extern PGDLLEXPORT void pgraft_probe_main(Datum arg);	/* health.c */
extern bool pgraft_server_is_stopping(void);	/* worker.c: for a worker that is told to end */

/* ---- start-up, in the postmaster (boot.c): rules 1, 5, 10 ---- */
extern void pgraft_boot(void);			/* called by the shmem start-up hook after the memory is set up */

/* ---- installed by _PG_init ---- */
extern void pgraft_fence_install(void);		/* fence.c: executor and utility hooks */
extern void pgraft_reads_install(void);		/* reads.c: hook of functions that read large objects */
extern void pgraft_commit_install(void);	/* commit.c: transaction callback, SIGINT handler, backstop */
extern void pgraft_receiver_install(void);	/* receiver.c: WalReceiverFunctions */
extern void pgraft_sender_install(void);	/* sender.c: ClientAuthentication_hook */
extern void pgraft_quorum_define_setting(void);	/* quorum.c: pgraft.quorum_generation */

/* ---- used by the worker's main thread (all idempotent, none blocks for long) ---- */
/* receiver.c */
extern void pgraft_receiver_follow(uint64 term, uint64 node, const char *host, int port);	/* node 0: stop and wait */
extern void pgraft_receiver_set_promotions(const PgraftPromotion *promotions, int count);
extern bool pgraft_receiver_waiting(void);	/* it asks for a stream and has nobody to follow: all valid local WAL is replayed */
extern bool pgraft_receiver_has_waited(void);	/* once since the server started */
extern bool pgraft_receiver_stopped(void);	/* no stream, and the last receiver's final flush is done */
/* sender.c */
extern void pgraft_sender_freeze(void);		/* admit none (guard.admit_term = 0) and terminate those there are */
extern void pgraft_sender_admit(uint64 term);
extern bool pgraft_sender_frozen(void);
extern int	pgraft_sender_streams(PgraftStream *streams, int max);	/* flush position of each member's live walsender */
extern bool pgraft_sender_all_loaded(uint64 generation, uint64 *node);	/* every live walsender has loaded this quorum generation */
/* quorum.c */
extern void pgraft_quorum_set(uint64 generation, const uint64 *voters, int count);	/* writes the setting, signals the postmaster */
extern uint64 pgraft_quorum_in_force(void);	/* newest generation that the postmaster, the checkpointer and all walsenders have loaded, and that no other setting overrides; 0 none */
extern uint64 pgraft_quorum_waits_for(void);	/* a member whose walsender has not loaded it yet; 0 none is known */
extern const char *pgraft_quorum_problem(void);	/* why the setting is not in force and what to do; NULL: nothing is wrong. palloc'd */
/* promote.c */
extern void pgraft_promote_start(uint32 timeline);	/* reserves ids in between, signals the startup process; once */
extern bool pgraft_promote_pending(void);
/* drain.c */
extern void pgraft_drain_set(int drain);
extern void pgraft_drain_observe(PgraftDatabaseView *view);
extern void pgraft_drain_spare(int pid);	/* backend that waits for the switchover; 0 none */
extern bool pgraft_drain_answered(void);
/* observe.c */
extern void pgraft_observe(uint64 orders_seen, PgraftDatabaseView *view);
/* restart.c */
extern void pgraft_restart(int kind, const char *reason);	/* 1 standby, 2 rewind: stops this server */

/* ---- used by the upkeep worker ---- */
extern void pgraft_end_stranded_waits(void);	/* restart.c: of a fenced primary whose consensus worker can't run, which nobody else would end (rules 6, 11) */
extern void pgraft_slots_keep(void);	/* slots.c */
extern void pgraft_rejoins_observe(void);	/* rejoins.c */
extern void pgraft_parity_check(void);	/* parity.c */
extern char *pgraft_parity_problem(void);	/* which settings are lower than the leader's WAL needs; NULL: none. palloc'd */
extern void pgraft_health_probe(void);	/* health.c; rule 11 */
extern void pgraft_health_forget(void);
extern const char *pgraft_health_problem(void);	/* NULL: none is known */

/* switchover.c */
extern TimestampTz pgraft_paused_until(const PgraftEngineStatus *status);
extern bool pgraft_is_paused(const PgraftEngineStatus *status);

/* functions.c, for other files of SQL functions */
extern int32 pgraft_node_id_argument(int32 id);
extern uint64 pgraft_run_command(const PgraftCommand *command, TimestampTz deadline);	/* its value; raises its failure */

/* functions.c / fence.c */
extern const char *pgraft_leader_hint(void);	/* "Node 2 (10.0.0.2:5432) is the leader." or "No leader is known at the moment."; palloc'd */

#endif
