/*
 * receiver.c: the walreceiver (rules 2, 3, 5): whom it follows, what it acknowledges, which histories it is given.
 *
 * libpqwalreceiver's table of functions is replaced by a copy with five entries of ours. They act only in the walreceiver process of a member; logical replication, slot
 * synchronisation and servers of no cluster pass through.
 *
 * walrcv_connect waits inside while there is nobody to follow: its being called says that all valid local WAL has been replayed, and that is published as
 * PGRAFT_RECEIVER_WAITING. Replies are rewritten, never dropped: flush and apply zero means 'not acknowledged' to the walsender, and keeps the connection and a clean stop
 * of the other side working (POSTGRES.md, M5).
 */
#include "pgraft.h"

#include <signal.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "postmaster/interrupt.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "history.h"
#include "seams.h"

#define WAIT_SLICE_MS 1000
#define RETRY_MS_MIN 50
#define RETRY_MS_MAX 500
#define WAKE_MS_MIN 50
#define WAKE_MS_MAX 1000

/* Standby status update: 'r', then write, flush and apply as 64-bit big-endian words, the time, and a byte. */
#define REPLY_FLUSH_OFFSET 9
#define REPLY_APPLY_OFFSET 17
#define REPLY_POSITIONS_END 25
#define REPLY_BYTES_MAX 64

typedef struct Target
{
	uint64		epoch;
	uint64		node;
	uint64		term;
	char		host[PGRAFT_ADDRESS_SIZE];
	int			port;
} Target;

static const WalReceiverFunctionsType *original = NULL;
static WalReceiverFunctionsType wrapped;

/* Of this walreceiver's connection. */
static uint64 connection_term = 0;
static TimeLineID stream_timeline = 0;	/* 0: no stream */

static bool
concerned(void)
{
	return AmWalReceiverProcess() && pgraft_shared != NULL && !pgraft_load(&pgraft_shared->guard.standalone);
}

/* ---- whom to follow ---- */

static void
set_phase(PgraftReceiverPhase phase, uint64 epoch)
{
	PgraftReceiverShared *shared = &pgraft_shared->receiver;

	SpinLockAcquire(&shared->mutex);
	if (phase == PGRAFT_RECEIVER_WAITING && (shared->phase != phase || shared->pid != MyProcPid))
		shared->waits++;
	shared->pid = MyProcPid;
	shared->phase = phase;
	shared->epoch = epoch;
	SpinLockRelease(&shared->mutex);
	pgraft_wake_worker();
}

static Target
read_target(void)
{
	PgraftReceiverShared *shared = &pgraft_shared->receiver;
	Target		target;

	SpinLockAcquire(&shared->mutex);
	target.epoch = shared->target_epoch;
	target.node = shared->target_node;
	target.term = shared->target_term;
	memcpy(target.host, shared->target_host, sizeof(target.host));
	target.port = shared->target_port;
	SpinLockRelease(&shared->mutex);
	return target;
}

/* Sleeps until the target may have changed. SIGTERM ends the process here; promotion waits for that (POSTGRES.md, S2). */
static void
nap(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, pgraft_wait_event(PGRAFT_WAIT_RECEIVER));
	ResetLatch(MyLatch);
	PGRAFT_RECEIVER_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

static void
append_quoted(StringInfo conninfo, const char *keyword, const char *value)
{
	appendStringInfo(conninfo, " %s='", keyword);
	for (; *value != '\0'; value++)
	{
		if (*value == '\'' || *value == '\\')
			appendStringInfoChar(conninfo, '\\');
		appendStringInfoChar(conninfo, *value);
	}
	appendStringInfoChar(conninfo, '\'');
}

/* A keyword that comes later wins, so what is ours follows what the user has set. */
static char *
connection_string(const Target *target)
{
	StringInfoData conninfo;
	uint64		cluster,
				incarnation;
	char	   *value;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	cluster = pgraft_shared->status.cluster_id;
	incarnation = pgraft_shared->status.incarnation;
	LWLockRelease(pgraft_shared->lock);

	initStringInfo(&conninfo);
	appendStringInfoString(&conninfo, pgraft_replication_conninfo ? pgraft_replication_conninfo : "");
	append_quoted(&conninfo, "host", target->host);
	value = psprintf("%d", target->port);
	append_quoted(&conninfo, "port", value);
	pfree(value);
	value = psprintf(PGRAFT_STREAM_NAME_PREFIX "%d", pgraft_node_id);
	append_quoted(&conninfo, "application_name", value);
	pfree(value);
	value = psprintf("-c " PGRAFT_MEMBER_STREAM "=" PGRAFT_MEMBER_STREAM_FORMAT,
					 (unsigned long long) cluster, (unsigned long long) pgraft_node_id,
					 (unsigned long long) incarnation, (unsigned long long) target->term);
	append_quoted(&conninfo, "options", value);
	pfree(value);
	append_quoted(&conninfo, "connect_timeout", "5");
	return conninfo.data;
}

/* After WalRcvDie() has flushed: the worker must not wait for its next tick to see it. */
static void
receiver_gone(int code, Datum arg)
{
	PgraftReceiverShared *shared = &pgraft_shared->receiver;
	bool		mine;

	SpinLockAcquire(&shared->mutex);
	mine = shared->pid == MyProcPid;
	if (mine)
	{
		shared->pid = 0;
		shared->phase = PGRAFT_RECEIVER_NONE;
	}
	SpinLockRelease(&shared->mutex);
	/* A FATAL in the middle of sending skips PG_FINALLY; nobody shall wait for a process that is gone. */
	if (mine && pgraft_load(&pgraft_shared->guard.receiver_pid) == (uint64) MyProcPid)
	{
		pgraft_store(&pgraft_shared->guard.gate_sending, 0);
		pgraft_store(&pgraft_shared->guard.receiver_pid, 0);
	}
	pgraft_wake_worker();
}

static void
log_failure(const Target *target, const char *reason)
{
	static char *last = NULL;

	if (last != NULL && strcmp(last, reason) == 0)
		return;					/* a down leader would fill the log */
	if (last != NULL)
		pfree(last);
	last = MemoryContextStrdup(TopMemoryContext, reason);
	ereport(LOG,
			(errmsg("could not connect to node " UINT64_FORMAT " (%s:%d) for streaming: %s",
					target->node, target->host, target->port, reason)));
}

static WalReceiverConn *
receiver_connect(PGRAFT_CONNECT_PARAMS)
{
	long		retry_ms = RETRY_MS_MIN;

	if (!concerned())
		return (original->walrcv_connect) (PGRAFT_CONNECT_ARGS(conninfo));

	on_proc_exit(receiver_gone, (Datum) 0);
	set_phase(PGRAFT_RECEIVER_WAITING, 0);
	for (;;)
	{
		Target		target = read_target();
		WalReceiverConn *connection;
		char	   *info;

		if (target.node == 0)
		{
			set_phase(PGRAFT_RECEIVER_WAITING, 0);
			retry_ms = RETRY_MS_MIN;
			nap(WAIT_SLICE_MS);
			continue;
		}

		/* Rule 2: the connection belongs to the term that the target was named for, even if it takes long to come about. */
		connection_term = target.term;
		stream_timeline = 0;
		set_phase(PGRAFT_RECEIVER_CONNECTING, target.epoch);
		info = connection_string(&target);
		*err = NULL;
		connection = (original->walrcv_connect) (PGRAFT_CONNECT_ARGS(info));
		pfree(info);

		if (connection != NULL)
		{
			if (read_target().epoch == target.epoch)
				return connection;
			(original->walrcv_disconnect) (connection);
			continue;
		}
		log_failure(&target, *err ? *err : "out of memory");
		if (*err != NULL)
			pfree(*err);
		if (read_target().epoch == target.epoch)
		{
			nap(retry_ms);
			retry_ms = Min(retry_ms * 2, RETRY_MS_MAX);
		}
		else
			retry_ms = RETRY_MS_MIN;
	}
}

/* ---- the term gate ---- */

static bool
receiver_start(WalReceiverConn *connection, const WalRcvStreamOptions *options)
{
	bool		started;

	if (concerned() && !options->logical)
	{
		/* Connected before this server became a member, in no term, to whoever primary_conninfo names: it has to ask again. */
		if (connection_term == 0)
			ereport(FATAL,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("terminating walreceiver process because this server has joined a cluster")));
		stream_timeline = options->proto.physical.startpointTLI;
		set_phase(PGRAFT_RECEIVER_STREAMING, pgraft_shared->receiver.epoch);	/* written by this process only */
	}
	started = (original->walrcv_startstreaming) (connection, options);
	if (!started)
		stream_timeline = 0;
	return started;
}

static void
receiver_end(WalReceiverConn *connection, TimeLineID *next)
{
	stream_timeline = 0;		/* one connection serves several timelines (POSTGRES.md, M7) */
	(original->walrcv_endstreaming) (connection, next);
}

/* Rule 2: connection of this term, stream on exactly the promotion's timeline, past the switch. The history was judged before the gate was opened. */
static bool
may_acknowledge(const char *reply)
{
	const PgraftGuard *guard = &pgraft_shared->guard;
	uint64		term = pgraft_load(&guard->gate_term);
	uint64		flush;

	memcpy(&flush, reply + REPLY_FLUSH_OFFSET, sizeof(flush));
	flush = pg_ntoh64(flush);
	return term != 0 && term == connection_term &&
		stream_timeline != 0 && stream_timeline == pgraft_load(&guard->gate_timeline) &&
		flush > pgraft_load(&guard->gate_switch) &&
		pgraft_load(&guard->gate_term) == term; /* the three words belong together */
}

/*
 * The word gate_sending and the check are ordered (sequentially consistent): whoever closes the gate either is seen here, or sees that a reply is on its way and waits for it.
 * No lock, which a full socket would keep (POSTGRES.md, S4).
 */
static void
receiver_send(WalReceiverConn *connection, const char *buffer, int length)
{
	PgraftGuard *guard;

	if (!concerned() || length < REPLY_POSITIONS_END || length > REPLY_BYTES_MAX || buffer[0] != 'r')
	{
		(original->walrcv_send) (connection, buffer, length);
		return;
	}

	guard = &pgraft_shared->guard;
	pgraft_store(&guard->receiver_pid, MyProcPid);
	pgraft_store(&guard->gate_sending, 1);
	PG_TRY();
	{
		char		reply[REPLY_BYTES_MAX];

		memcpy(reply, buffer, length);
		if (!may_acknowledge(reply))
			memset(reply + REPLY_FLUSH_OFFSET, 0, REPLY_POSITIONS_END - REPLY_FLUSH_OFFSET);
		(original->walrcv_send) (connection, reply, length);
	}
	PG_FINALLY();
	{
		pgraft_store(&guard->gate_sending, 0);
	}
	PG_END_TRY();
}

/* ---- histories ---- */

/*
 * Rule 5: a follower asks for the file of every id up to the leader's; a leader that is a clone does not have the older ones (POSTGRES.md, M3). What the log knows is
 * supplied from there: the history of a completed promotion, and for an id that was reserved, but not completed, the mark.
 */
static void
receiver_read_history(WalReceiverConn *connection, TimeLineID timeline, char **filename, char **content, int *size)
{
	StringInfoData text;

	initStringInfo(&text);
	if (!concerned() || !pgraft_history_from_log(timeline, &text))
	{
		(original->walrcv_readtimelinehistoryfile) (connection, timeline, filename, content, size);
		return;
	}

	*filename = palloc(MAXFNAMELEN);
	TLHistoryFileName(*filename, timeline);
	*content = text.data;
	*size = text.len;
}

/* ---- the worker's side ---- */

static WalRcvState
walreceiver_state(pid_t *pid)
{
	WalRcvState state;

	SpinLockAcquire(&WalRcv->mutex);
	state = WalRcv->walRcvState;
	*pid = WalRcv->pid;
	SpinLockRelease(&WalRcv->mutex);
	return state;
}

static void
set_walreceiver_latch(void)
{
	Latch	   *latch;

	SpinLockAcquire(&WalRcv->mutex);
	latch = pgraft_walreceiver_latch();
	SpinLockRelease(&WalRcv->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

/*
 * The startup process sleeps wal_retrieve_retry_interval (5 s) before it starts the next walreceiver; this cuts that short (POSTGRES.md, S3). Also wanted without a target: the
 * next one's waiting proves that the local WAL is exhausted. Not more often than a walreceiver that fails at once should be tried.
 */
static void
hurry_startup_process(bool target_changed)
{
	static TimestampTz last = 0;
	static long interval_ms = WAKE_MS_MIN;
	TimestampTz now = GetCurrentTimestamp();

	if (target_changed)
		interval_ms = WAKE_MS_MIN;
	else if (last != 0 && !TimestampDifferenceExceeds(last, now, interval_ms))
		return;
	else
		interval_ms = Min(interval_ms * 2, WAKE_MS_MAX);
	last = now;
	WakeupRecovery();
}

void
pgraft_receiver_follow(uint64 term, uint64 node, const char *host, int port)
{
	static uint64 hurried_epoch = 0;
	PgraftReceiverShared *shared = &pgraft_shared->receiver;
	bool		changed;
	uint64		epoch,
				acts_on;
	pid_t		pid,
				walreceiver;
	PgraftReceiverPhase phase;

	SpinLockAcquire(&shared->mutex);
	changed = shared->target_node != node ||
		(node != 0 && (shared->target_term != term || shared->target_port != port || strcmp(shared->target_host, host) != 0));
	if (changed)
	{
		shared->target_epoch++;
		shared->target_node = node;
		shared->target_term = node != 0 ? term : 0;
		shared->target_port = port;
		strlcpy(shared->target_host, node != 0 ? host : "", sizeof(shared->target_host));
	}
	epoch = shared->target_epoch;
	acts_on = shared->epoch;
	phase = shared->phase;
	pid = shared->pid;
	SpinLockRelease(&shared->mutex);

	switch (walreceiver_state(&walreceiver))
	{
		case WALRCV_STOPPED:
			if (RecoveryInProgress())
			{
				hurry_startup_process(hurried_epoch != epoch);
				hurried_epoch = epoch;
			}
			break;
		case WALRCV_STARTING:
			break;				/* it will read the target */
		default:
			if (pid != walreceiver)
				break;			/* as before */
			if (phase == PGRAFT_RECEIVER_WAITING)
			{
				if (changed)
					set_walreceiver_latch();
			}
			else if (acts_on != epoch)
				kill(walreceiver, SIGTERM);
			break;
	}
}

void
pgraft_receiver_set_promotions(const PgraftPromotion *promotions, int count)
{
	PgraftReceiverShared *shared = &pgraft_shared->receiver;

	if (count > PGRAFT_KEPT_PROMOTIONS)
	{
		promotions += count - PGRAFT_KEPT_PROMOTIONS;	/* the newest are last */
		count = PGRAFT_KEPT_PROMOTIONS;
	}
	/* The worker is the only writer, so it may compare without the lock. */
	if (count == shared->promotions_count && memcmp(promotions, shared->promotions, count * sizeof(*promotions)) == 0)
		return;
	SpinLockAcquire(&shared->mutex);
	memcpy(shared->promotions, promotions, count * sizeof(*promotions));
	shared->promotions_count = count;
	SpinLockRelease(&shared->mutex);
}

/* WALRCV_STOPPED is set after the last flush. A process that waits for a target has received nothing yet. */
bool
pgraft_receiver_stopped(void)
{
	pid_t		pid;

	return walreceiver_state(&pid) == WALRCV_STOPPED || pgraft_receiver_waiting();
}

bool
pgraft_receiver_waiting(void)
{
	PgraftReceiverShared *shared = &pgraft_shared->receiver;
	pid_t		walreceiver;
	bool		waiting;

	(void) walreceiver_state(&walreceiver);
	SpinLockAcquire(&shared->mutex);
	waiting = walreceiver != 0 && shared->pid == walreceiver && shared->phase == PGRAFT_RECEIVER_WAITING;
	SpinLockRelease(&shared->mutex);
	return waiting;
}

bool
pgraft_receiver_has_waited(void)
{
	PgraftReceiverShared *shared = &pgraft_shared->receiver;
	uint64		waits;

	SpinLockAcquire(&shared->mutex);
	waits = shared->waits;
	SpinLockRelease(&shared->mutex);
	return waits > 0;
}

void
pgraft_receiver_install(void)
{
	load_file("libpqwalreceiver", false);
	if (WalReceiverFunctions == NULL)
		elog(ERROR, "libpqwalreceiver didn't initialize correctly");
	original = WalReceiverFunctions;
	wrapped = *original;		/* whatever this version has besides */
	wrapped.walrcv_connect = receiver_connect;
	wrapped.walrcv_startstreaming = receiver_start;
	wrapped.walrcv_endstreaming = receiver_end;
	wrapped.walrcv_send = receiver_send;
	wrapped.walrcv_readtimelinehistoryfile = receiver_read_history;
	WalReceiverFunctions = &wrapped;
}
