/*
 * worker.c: the background worker's main thread, the only place where consensus (engine.h, threads) and PostgreSQL meet.
 *
 * It sleeps on its latch, the postmaster's death and the engine's event descriptor, carries out the newest orders through the seams (pgraft.h), looks at the server and
 * tells the engine. It decides nothing. No other thread calls a function of PostgreSQL, and nothing here needs a database.
 *
 * Ways to end: 1 is restarted by the postmaster; 0 would unregister the worker for ever, any other code or a signal restarts the whole server.
 */
#include "pgraft.h"

#include <signal.h>
#include <unistd.h>

#include "access/xlog.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgwriter.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "replication/syncrep.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/pidfile.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "compat.h"

#define MAX_RETRY_DELAY_MS 5000
#define STUCK_MS 5000
#define STOP_MS 3000			/* how long a server's stop waits for a new leader */
#define STOP_COMMAND UINT64_MAX	/* no backend waits for it */
#define GOOD_START_MS 30000		/* a worker that has run this long starts without delay the next time */

static PgraftEngine *engine = NULL;
static PgraftOrders orders;				/* newest known */
static PgraftDatabaseView view;			/* newest */
static PgraftDatabaseView observed;		/* last one told to the engine */
static PgraftEngineStatus status;		/* newest */
static bool stop_refused = false;		/* the switchover of a server that stops */

/* ---- state shown to others ---- */

static void
set_state(PgraftWorkerState state, PgraftCode code, const char *message)
{
	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	pgraft_shared->worker_state = state;
	pgraft_shared->worker_error.code = code;
	strlcpy(pgraft_shared->worker_error.message, message, sizeof(pgraft_shared->worker_error.message));
	LWLockRelease(pgraft_shared->lock);
	ConditionVariableBroadcast(&pgraft_shared->changed);
}

/*
 * Everything that lets this server accept or acknowledge anything, shut. A member whose worker is not there is fenced; a server of no cluster is left alone, which
 * `standalone` says.
 */
static void
close_all(void)
{
	PgraftGuard *guard = &pgraft_shared->guard;

	pgraft_store(&guard->gate_term, 0);
	pgraft_store(&guard->fence_term, 0);
	pgraft_store(&guard->lease_until_ns, 0);
	pgraft_store(&guard->contact_until_ns, 0);
	pgraft_store(&guard->admit_term, 0);
	pgraft_store(&guard->drain, PGRAFT_DRAIN_NONE);
}

/*
 * Before shared memory goes and before proc_exit() runs the destructors of C++ statics: no thread may be left then. Also reached by ERROR and FATAL, so it must not
 * raise any itself.
 */
static void
at_exit(int code, Datum arg)
{
	PgraftEngine *ending = engine;

	engine = NULL;
	if (!pgraft_load(&pgraft_shared->guard.standalone))
		close_all();
	if (ending != NULL)
		pgraft_engine_stop(ending);

	LWLockReleaseAll();
	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	if (pgraft_shared->worker_pid == MyProcPid)
	{
		pgraft_shared->worker_pid = 0;
		pgraft_shared->worker_latch = NULL;
		pgraft_shared->status.writable = false;
		if (!ShutdownRequestPending)
		{
			pgraft_shared->worker_failures++;
			if (pgraft_shared->worker_state != PGRAFT_WORKER_ERROR)
				strlcpy(pgraft_shared->worker_error.message, "the worker ended with an error, see the server's log",
						sizeof(pgraft_shared->worker_error.message));
			pgraft_shared->worker_state = PGRAFT_WORKER_ERROR;
		}
		else
			pgraft_shared->worker_state = PGRAFT_WORKER_STOPPED;
	}
	LWLockRelease(pgraft_shared->lock);
	ConditionVariableBroadcast(&pgraft_shared->changed);
}

/* ---- ending ---- */

/* The postmaster writes it down before it tells its children; there is no other sign that a bare SIGTERM is the server's stop. */
bool
pgraft_server_is_stopping(void)
{
	FILE	   *file = fopen("postmaster.pid", "r");	/* in the data directory, where every server process is */
	char		line[MAXPGPATH];
	bool		stopping = false;

	if (file == NULL)
		return false;
	for (int number = 1; fgets(line, sizeof(line), file) != NULL; number++)
		if (number == LOCK_FILE_LINE_PM_STATUS)
			stopping = strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
	fclose(file);
	return stopping;
}

static void
end_worker(void)
{
	set_state(PGRAFT_WORKER_STOPPING, PGRAFT_OK, "");
	/* Code 1 is right in any case; 0 only spares the log a line when the server stops. */
	proc_exit(pgraft_server_is_stopping() ? 0 : 1);
}

/* A majority is left without this node, and somebody may lead it. */
static bool
others_can_go_on(void)
{
	int			voters = 0;
	int			answering = 0;

	for (int i = 0; i < status.members_count; i++)
	{
		const PgraftMemberStatus *member = &status.members[i];

		voters += member->voter;
		answering += member->voter && member->answering && member->id != status.node_id;
	}
	return answering > voters / 2;
}

/*
 * A leader whose server is being stopped hands over first, so that clients find a new leader at once. Then the stop is made an immediate one: the checkpoint of an orderly stop
 * would lie past the fork, and this node would have to be rewound. True: the worker has to stay for that, for a short time. While failover is paused nothing is handed over:
 * the server is to come back as the leader.
 */
static bool
handing_over_to_stop(void)
{
	static TimestampTz begun = 0;

	if (stop_refused || !pgraft_server_is_stopping())
		return false;
	if (begun == 0)
	{
		PgraftCommand command;

		if (!orders.lift_fence || pgraft_is_paused(&status) || !others_can_go_on())
			return false;
		begun = GetCurrentTimestamp();
		memset(&command, 0, sizeof(command));
		command.id = STOP_COMMAND;
		command.type = PGRAFT_CMD_TRANSFER;
		command.limit_ms = STOP_MS;
		command.end_writers = true;
		pgraft_drain_spare(0);
		pgraft_engine_submit(engine, &command);
		ereport(LOG,
				(errmsg("handing leadership over before the server stops")));
	}
	if (status.leader_id != 0 && status.leader_id != status.node_id)
	{
		ereport(LOG,
				(errmsg("node %llu leads now, stopping without a checkpoint", (unsigned long long) status.leader_id)));
		kill(PostmasterPid, SIGQUIT);
		return false;
	}
	return !TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), STOP_MS);
}

/* A postmaster that died without a word leaves no time for destructors: while this process lives, the data directory can't be started again. */
static void
end_with_postmaster(void)
{
	_exit(1);
}

/* Sleeps; returns early when asked to stop. */
static void
pause_ms(long ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);

	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		int			events;

		if (left <= 0 || ShutdownRequestPending)
			return;
		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH, left, pgraft_wait_event(PGRAFT_WAIT_WORKER));
		if (events & WL_POSTMASTER_DEATH)
			end_with_postmaster();
		if (events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static long
retry_delay_ms(uint64 failures)
{
	if (failures == 0)
		return 0;
	return failures > 6 ? MAX_RETRY_DELAY_MS : Min(MAX_RETRY_DELAY_MS, 100L << failures);
}

/* ---- starting ---- */

/* Tries until it succeeds or the worker is told to stop; each different reason is logged once. */
static void
start_engine(void)
{
	PgraftEngineConfig config = {
		.data_dir = pgraft_data_dir(),
		.pgdata = DataDir,
		.node_id = (uint64) pgraft_node_id,
		.node_name = pgraft_node_name,
		.cluster_name = pgraft_cluster_name,
		.listen_address = pgraft_listen_address,
		.listen_port = pgraft_listen_port,
		.advertise_address = pgraft_advertise_address,
		.pg_port = PostPortNumber,
		.system_identifier = GetSystemIdentifier(),
		.heartbeat_interval_ms = pgraft_heartbeat_interval,
		.election_timeout_ms = pgraft_election_timeout,
		.max_log_entries = pgraft_max_log_entries,
		.health_period_ms = (pgraft_rules_off & PGRAFT_OFF_HEALTH) ? 0 : pgraft_health_period_ms,
		.failover_priority = pgraft_failover_priority,
		.nosync = pgraft_nosync,
		.request_timeout_ms = pgraft_peer_timeout,
		.timeline_ids_off = (pgraft_rules_off & PGRAFT_OFF_TIMELINE_IDS) != 0,
		.divergence_off = (pgraft_rules_off & PGRAFT_OFF_DIVERGENCE) != 0,
		.wal_end_off = (pgraft_rules_off & PGRAFT_OFF_WAL_END) != 0,
		.guard = &pgraft_shared->guard,
		.acknowledged = (const uint64_t *) &WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH],
	};
	char		logged[PGRAFT_MESSAGE_SIZE] = "";

	for (uint64 failures = 1;; failures++)
	{
		PgraftError error;

		memset(&error, 0, sizeof(error));
		engine = pgraft_engine_start(&config, &error);
		if (engine != NULL)
			return;
		if (strcmp(logged, error.message) != 0)
			ereport(LOG,
					(errmsg("pgraft could not start: %s", error.message),
					 errdetail("It tries again every few seconds.")));
		strlcpy(logged, error.message, sizeof(logged));
		set_state(PGRAFT_WORKER_ERROR, error.code, error.message);
		pgraft_command_fail_all(true, PGRAFT_UNAVAILABLE, error.message);
		pause_ms(retry_delay_ms(failures));
		if (ShutdownRequestPending)
			end_worker();
	}
}

static void
register_worker_process(void)
{
	uint64		failures;

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	pgraft_shared->worker_pid = MyProcPid;
	pgraft_shared->worker_latch = MyLatch;
	if (pgraft_shared->worker_state != PGRAFT_WORKER_ERROR)
		pgraft_shared->worker_state = PGRAFT_WORKER_INIT;
	failures = pgraft_shared->worker_failures;
	LWLockRelease(pgraft_shared->lock);
	before_shmem_exit(at_exit, (Datum) 0);

	/* A former worker may have left in any state; Raft starts as a follower, so nothing may stay open (rule 1). */
	if (!pgraft_load(&pgraft_shared->guard.standalone))
		close_all();
	pgraft_command_fail_all(false, PGRAFT_TIMEOUT, "the worker was restarted, the outcome is unknown");

	pause_ms(retry_delay_ms(failures));
	if (ShutdownRequestPending)
		end_worker();
}

/* ---- carrying out orders ---- */

static bool
is_current(const PgraftOrders *o)
{
	return pgraft_load(&pgraft_shared->guard.current_term) <= o->term;
}

/* Idempotent; what a newer term makes wrong, the engine's own thread has shut already (rule 2). */
static void
tighten(const PgraftOrders *o)
{
	PgraftGuard *guard = &pgraft_shared->guard;

	if (!o->gate_open || pgraft_load(&guard->gate_term) != o->term)
		pgraft_store(&guard->gate_term, 0);
	if (!o->lift_fence || pgraft_load(&guard->fence_term) != o->term)
		pgraft_store(&guard->fence_term, 0);
	if ((!o->admit_walsenders || pgraft_load(&guard->admit_term) != o->term) &&
		(pgraft_load(&guard->admit_term) != 0 || !pgraft_sender_frozen()))
		pgraft_sender_freeze();
	if (o->follow == 0)
		pgraft_receiver_follow(o->term, 0, NULL, 0);
}

/*
 * The orders only ask for what the views have shown to be safe, so all of it may be done at once. Orders of a term that is over loosen nothing; the two words
 * that matter most are set under the engine's lock, and for the rest the term is looked at again afterwards.
 */
static void
loosen(const PgraftOrders *o)
{
	PgraftGuard *guard = &pgraft_shared->guard;

	if (!is_current(o))
		return;
	if (o->gate_open && pgraft_load(&guard->gate_term) != o->term &&
		pgraft_engine_open_gate(engine, o->term, o->gate_timeline, o->gate_switch))
		WalRcvForceReply();		/* else a stream that is there already would acknowledge only at its next change, up to 10 s later */
	if (o->follow != 0)
		pgraft_receiver_follow(o->term, o->follow, o->follow_host, o->follow_port);
	if (o->admit_walsenders && pgraft_load(&guard->admit_term) != o->term)
	{
		pgraft_sender_admit(o->term);
		if (!is_current(o))
			pgraft_sender_freeze();
	}
	if (o->lift_fence && pgraft_load(&guard->fence_term) != o->term)
	{
		pgraft_stop_at(&pgraft_shared->guard, PGRAFT_STOP_FENCE);
		pgraft_engine_lift_fence(engine, o->term);
	}
}

/*
 * The server itself spreads the first checkpoint of a new timeline over minutes. Until it is complete this server, should it die, recovers from before the promotion, and
 * pg_rewind (before 17) can't be used on it (POSTGRES.md, M15). Once a timeline, when clients have been let in.
 */
static void
checkpoint_new_timeline(void)
{
	static uint32 done = 0;

	if (!orders.lift_fence || view.in_recovery || view.end_timeline == 0 || view.end_timeline == done)
		return;
	done = view.end_timeline;
	RequestCheckpoint(CHECKPOINT_FORCE | CHECKPOINT_IMMEDIATE);
}

static bool
is_registered_sender(pid_t pid)
{
	for (int i = 0; i < PGRAFT_MAX_SENDERS; i++)
		if (pgraft_shared->sender.senders[i].pid == pid)
			return true;
	return false;
}

/*
 * Streams that began while the server was in no cluster went past the seams: they know no term, and freezing does not see them. A walsender is registered before it is in
 * PostgreSQL's array, so one that is only there is such a stream. A walreceiver is registered a moment after its start, hence the second look, but for the time of joining.
 */
static void
end_foreign_streams(bool joining)
{
	static pid_t suspected = 0;
	pid_t		receiver = 0;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < max_wal_senders; i++)
	{
		pid_t		pid;

		SpinLockAcquire(&WalSndCtl->walsnds[i].mutex);
		pid = WalSndCtl->walsnds[i].pid;
		SpinLockRelease(&WalSndCtl->walsnds[i].mutex);
		if (pid != 0 && !is_registered_sender(pid))
			kill(pid, SIGTERM);
	}
	LWLockRelease(pgraft_shared->lock);

	SpinLockAcquire(&WalRcv->mutex);
	if (WalRcv->walRcvState != WALRCV_STOPPED)
		receiver = WalRcv->pid;
	SpinLockRelease(&WalRcv->mutex);
	SpinLockAcquire(&pgraft_shared->receiver.mutex);
	if (receiver == pgraft_shared->receiver.pid)
		receiver = 0;
	SpinLockRelease(&pgraft_shared->receiver.mutex);
	if (receiver != 0 && (joining || receiver == suspected))
		kill(receiver, SIGTERM);
	suspected = receiver;
}

static void
carry_out(const PgraftOrders *o)
{
	static bool joined = false;
	static uint64 generation = 0;

	/* A server of no cluster is left alone. */
	if (!o->member)
		return;
	pgraft_store(&pgraft_shared->guard.standalone, 0);
	if (!joined)
		end_foreign_streams(true);
	joined = true;

	pgraft_drain_set(o->drain);
	tighten(o);
	if (o->quorum_generation > generation)
		pgraft_stop_at(&pgraft_shared->guard, PGRAFT_STOP_CONFIRMED);
	generation = o->quorum_generation;
	if (o->quorum_generation != 0)
		pgraft_quorum_set(o->quorum_generation, o->quorum_voters, o->quorum_voters_count);
	if (o->promote != 0 && is_current(o))
		pgraft_promote_start(o->promote);
	loosen(o);
	if (o->restart != 0 && pgraft_drain_answered())
		pgraft_restart(o->restart, o->reason);
}

static void
log_orders(const PgraftOrders *o)
{
	if (!pgraft_debug_enabled)
		return;
	ereport(LOG,
			(errmsg("pgraft orders %llu of term %llu: gate %s, follow %llu, walsenders %s, fence %s, quorum generation %llu (%d voters), promote to %u, restart %d",
					(unsigned long long) o->seq, (unsigned long long) o->term, o->gate_open ? "open" : "closed",
					(unsigned long long) o->follow, o->admit_walsenders ? "admitted" : "frozen",
					o->lift_fence ? "lifted" : "closed", (unsigned long long) o->quorum_generation,
					o->quorum_voters_count, o->promote, o->restart),
			 o->reason[0] != '\0' ? errdetail("%s", o->reason) : 0));
}

/* ---- looking and telling ---- */

/* Fields that are not in use were zeroed, so whole structs may be compared. */
static void
observe(bool always)
{
	memset(&view, 0, sizeof(view));
	pgraft_observe(orders.seq, &view);
	if (!always && memcmp(&view, &observed, sizeof(view)) == 0)
		return;
	if (observed.in_recovery && !view.in_recovery)
		pgraft_stop_at(&pgraft_shared->guard, PGRAFT_STOP_PROMOTED);
	observed = view;
	pgraft_engine_observe(engine, &view);
}

/* What is wrong, but not so wrong that the worker could not run; shown by pgraft_get_worker_state(), and logged when it changes. */
static void
report_problems(void)
{
	static char reported[PGRAFT_MESSAGE_SIZE];
	const char *settings = pgraft_check_server(NULL);
	const char *problems[] = {
		settings ? psprintf("unsuitable settings: %s", settings) : NULL,
		orders.member ? pgraft_quorum_problem() : NULL,
		orders.member ? pgraft_health_problem() : NULL,
		orders.member ? pgraft_parity_problem() : NULL,
	};
	char		message[PGRAFT_MESSAGE_SIZE] = "";

	for (int i = 0; i < lengthof(problems); i++)
	{
		if (problems[i] == NULL)
			continue;
		if (message[0] != '\0')
			strlcat(message, "; ", sizeof(message));
		strlcat(message, problems[i], sizeof(message));
	}
	if (strcmp(message, reported) != 0 && message[0] != '\0')
		ereport(WARNING,
				(errmsg("pgraft can't keep all of its promises: %s", message)));
	if (strcmp(message, reported) != 0 || pgraft_shared->worker_state != PGRAFT_WORKER_RUNNING)
		set_state(PGRAFT_WORKER_RUNNING, message[0] != '\0' ? PGRAFT_FAILED_PRECONDITION : PGRAFT_OK, message);
	strlcpy(reported, message, sizeof(reported));
}

static void
show_state(void)
{
	static char shown[64];
	char		text[64];

	snprintf(text, sizeof(text), "%s term %llu%s", status.state, (unsigned long long) status.term,
			 status.member && pgraft_writes_allowed(&pgraft_shared->guard) ? " writable" : "");
	if (strcmp(text, shown) == 0)
		return;
	strlcpy(shown, text, sizeof(shown));
	set_ps_display(text);
}

/* What sessions wait for: the status, and whether this server may be written to. */
static void
publish(void)
{
	static PgraftEngineStatus published;
	static uint64 fence_term;
	uint64		fence_now = pgraft_load(&pgraft_shared->guard.fence_term);
	bool		news;

	memset(&status, 0, sizeof(status));
	pgraft_engine_status(engine, &status);
	pgraft_store(&pgraft_shared->guard.leader_id, status.leader_id);
	news = memcmp(&status, &published, sizeof(status)) != 0 || fence_now != fence_term;

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	if (news)
		pgraft_shared->status = status;
	pgraft_shared->view = view;
	pgraft_shared->orders = orders;
	pgraft_engine_rejoins(engine, pgraft_shared->rejoins, pgraft_shared->rejoins_count);
	LWLockRelease(pgraft_shared->lock);

	if (news)
	{
		if (published.promotions_count != status.promotions_count ||
			memcmp(published.promotions, status.promotions, sizeof(status.promotions)) != 0)
			pgraft_receiver_set_promotions(status.promotions, status.promotions_count);
		published = status;
		fence_term = fence_now;
		ConditionVariableBroadcast(&pgraft_shared->changed);
		show_state();
	}
	if (status.failure[0] != '\0')
	{
		set_state(PGRAFT_WORKER_ERROR, PGRAFT_IO, status.failure);
		ereport(ERROR, (errmsg("pgraft has failed: %s", status.failure)));
	}
}

static void
pass_commands(void)
{
	static uint64 transfer = 0;	/* id of the one that is under way; a second one is refused */
	PgraftCommand command;
	PgraftCompletion completion;

	while (pgraft_command_take(&command))
	{
		if (command.type == PGRAFT_CMD_TRANSFER && transfer == 0)
		{
			transfer = command.id;
			pgraft_drain_spare(command.pid);
		}
		pgraft_engine_submit(engine, &command);
	}
	while (pgraft_engine_completion(engine, &completion))
	{
		if (completion.id == STOP_COMMAND)
			stop_refused = completion.error.code != PGRAFT_OK;
		if (completion.id == transfer)
		{
			transfer = 0;
			if (completion.error.code != PGRAFT_OK)
				pgraft_drain_spare(0);
		}
		pgraft_command_finish(&completion);
		pgraft_engine_free(&completion);
	}
}

static void
wake_watchers(void)
{
	static uint64 told = 0;
	uint64		revision = pgraft_load(&pgraft_shared->guard.kv_revision);

	if (revision == told)
		return;
	told = revision;
	ConditionVariableBroadcast(&pgraft_shared->kv_changed);
}

/*
 * Most changes come with an event: the engine's descriptor, or a latch set by a seam. A few have none, because PostgreSQL tells nobody: the startup process has
 * ended recovery or run out of WAL, a process has loaded the configuration, the last walsender has gone, replay has passed a point. Only while one of those is
 * waited for, the server is looked at in short steps; they are part of every failover's duration.
 */
static bool
in_flight(void)
{
	return view.promote_pending ||
		orders.promote != 0 ||
		orders.drain != PGRAFT_DRAIN_NONE ||
		orders.restart != 0 ||
		(!orders.admit_walsenders && !view.frozen) ||
		(orders.follow == 0 && view.in_recovery && !(view.receiver_stopped && view.replay_exhausted)) ||
		(orders.quorum_generation != 0 && view.quorum_in_force != orders.quorum_generation) ||
		(orders.admit_walsenders && pgraft_load(&pgraft_shared->guard.admit_term) != orders.term) ||
		(orders.follow != 0 && !orders.gate_open);
}

static long
wait_ms(void)
{
	static uint64 looked_for = 0;	/* orders */
	static TimestampTz since;

	if (!orders.member)
		return pgraft_health_period_ms;
	if (in_flight())
	{
		if (looked_for != orders.seq)
		{
			looked_for = orders.seq;
			since = GetCurrentTimestamp();
		}
		/* What takes this long is stuck on something that people must mend (a setting, a conflict with a query). */
		return TimestampDifferenceExceeds(since, GetCurrentTimestamp(), STUCK_MS) ?
			Min(50, pgraft_health_period_ms) : Min(3, pgraft_health_period_ms);
	}
	looked_for = 0;
	/* A change of members waits for WAL positions, which move without an event too, but slowly. */
	if (pgraft_command_in_progress())
		return Min(20, pgraft_health_period_ms);
	if (orders.lift_fence)
		for (int i = 0; i < status.members_count; i++)
			if (status.members[i].learner)
				return Min(100, pgraft_health_period_ms);
	return pgraft_health_period_ms;
}

static WaitEventSet *
create_wait_set(void)
{
	WaitEventSet *set = PGRAFT_CREATE_WAIT_EVENT_SET(3);

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_POSTMASTER_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, pgraft_engine_event_fd(engine), NULL, NULL);
	return set;
}

/* Returns true when a whole health period has passed since it last did. */
static bool
health_period_passed(void)
{
	static TimestampTz last;
	TimestampTz now = GetCurrentTimestamp();

	if (last != 0 && !TimestampDifferenceExceeds(last, now, pgraft_health_period_ms))
		return false;
	last = now;
	return true;
}

static void
forget_failures(TimestampTz started)
{
	if (pgraft_shared->worker_failures == 0 || !TimestampDifferenceExceeds(started, GetCurrentTimestamp(), GOOD_START_MS))
		return;
	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	pgraft_shared->worker_failures = 0;
	LWLockRelease(pgraft_shared->lock);
}

static void
run(WaitEventSet *set)
{
	MemoryContext pass = AllocSetContextCreate(TopMemoryContext, "pgraft pass", ALLOCSET_DEFAULT_SIZES);
	TimestampTz started = GetCurrentTimestamp();

	for (;;)
	{
		WaitEvent	occurred[3];
		bool		periodic;
		int			count;

		MemoryContextReset(pass);
		MemoryContextSwitchTo(pass);
		pgraft_store(&pgraft_shared->guard.worker_tick_ns, pgraft_clock_ns());	/* rule 11 */
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending && !handing_over_to_stop())
			end_worker();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		pgraft_stop_points_arm();

		pgraft_engine_drain(engine);
		pass_commands();
		wake_watchers();
		if (pgraft_engine_orders(engine, &orders))
			log_orders(&orders);
		carry_out(&orders);
		periodic = health_period_passed();
		observe(periodic);
		publish();
		checkpoint_new_timeline();
		if (periodic)
			report_problems();
		if (periodic && orders.member)
			end_foreign_streams(false);
		forget_failures(started);

		count = WaitEventSetWait(set, wait_ms(), occurred, lengthof(occurred), pgraft_wait_event(PGRAFT_WAIT_WORKER));
		for (int i = 0; i < count; i++)
		{
			if (occurred[i].events & WL_POSTMASTER_DEATH)
				end_with_postmaster();
			if (occurred[i].events & WL_LATCH_SET)
				ResetLatch(MyLatch);
		}
	}
}

void
pgraft_worker_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();

	register_worker_process();
	start_engine();
	run(create_wait_set());
}
