/*
 * drain.c: what becomes of the sessions in a planned switchover (failover/switchover.h). Nothing here is needed for safety.
 *
 * Held: a statement that may write waits, unless its transaction has begun to write; it goes on when the switchover is given up, and ends with its session otherwise. So a
 * client sees one broken connection, or none, and not a row of refusals until there is a new leader. Reads go on. Ended: all sessions are terminated and no new one is let
 * in, because reading, too, writes WAL (pruning, hints), and WAL that the target does not have would make a rewind necessary.
 *
 * The session that has asked for the switchover is spared, so that it hears of the outcome.
 */
#include "pgraft.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "seams.h"

#define END_AGAIN_MS 200
#define ANSWER_MS 50			/* from the end of a transaction to its answer in the socket */
#define ANSWER_MS_MAX 2000
#define NAMED_MAX 8				/* pids in a message */

static pid_t spared = 0;		/* the worker's: backend that waits for the switchover; 0 none */

/* ---- in a session ---- */

static bool
must_wait(void)
{
	return pgraft_load(&pgraft_shared->guard.drain) != PGRAFT_DRAIN_NONE && !TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		!RecoveryInProgress() && !PGRAFT_IS_AUTOVACUUM();
}

/* A waiting session can be cancelled; it holds what its transaction holds, so a transaction that waits for it may cost the switchover its time. */
void
pgraft_drain_wait(void)
{
	if (!must_wait())
		return;
	ConditionVariablePrepareToSleep(&pgraft_shared->changed);
	while (must_wait())
	{
		/* A second at most: the memory may be shut by a worker that can't tell any more. */
		(void) ConditionVariableTimedSleep(&pgraft_shared->changed, 1000, pgraft_wait_event(PGRAFT_WAIT_SWITCHOVER));
	}
	ConditionVariableCancelSleep();
}

bool
pgraft_drain_may_write(PlannedStmt *statement)
{
	if (statement->commandType == CMD_UTILITY)
		return GetCommandLogLevel(statement->utilityStmt) < LOGSTMT_ALL;
	return !CommandIsReadOnly(statement);
}

/* libpq goes on to the next host after this error, whatever target_session_attrs says. */
void
pgraft_drain_refuse_session(void)
{
	if (pgraft_load(&pgraft_shared->guard.drain) == PGRAFT_DRAIN_END)
		ereport(FATAL,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW),
				 errmsg("leadership is being handed over to another node"),
				 errhint("Connect again in a moment.")));
}

/* ---- the worker's side ---- */

/* An entry that is free keeps what it held last, in some versions. */
static bool
is_session(const PGPROC *proc)
{
	return proc->pid != 0 && proc->pid != spared && OidIsValid(proc->databaseId) && BackendPidGetProc(proc->pid) == proc;
}

/* Level-triggered, as all orders. */
void
pgraft_drain_set(int drain)
{
	static TimestampTz ended = 0;
	uint64		before = pgraft_load(&pgraft_shared->guard.drain);
	TimestampTz now;

	if (before != (uint64) drain)
	{
		pgraft_store(&pgraft_shared->guard.drain, (uint64) drain);
		ended = 0;
		if (drain == PGRAFT_DRAIN_NONE)
			ConditionVariableBroadcast(&pgraft_shared->changed);
	}
	if (drain != PGRAFT_DRAIN_END)
		return;
	now = GetCurrentTimestamp();
	if (ended != 0 && !TimestampDifferenceExceeds(ended, now, END_AGAIN_MS))
		return;
	ended = now;
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		const PGPROC *proc = &ProcGlobal->allProcs[i];

		if (is_session(proc))
			kill(proc->pid, SIGTERM);
	}
}

/* An autovacuum worker may write for hours, and begins again elsewhere: it is not waited for. */
static void
end_autovacuum(const PGPROC *proc)
{
	if (proc->statusFlags & PROC_IS_AUTOVACUUM)
		kill(proc->pid, SIGTERM);
}

/* Without locks: a transaction that is missed because it begins now is held, or ended before the fence closes. A prepared one has no process; it ends under the next leader. */
void
pgraft_drain_observe(PgraftDatabaseView *view)
{
	XLogRecPtr	inserted;
	uint64		rest;

	if (pgraft_load(&pgraft_shared->guard.drain) == PGRAFT_DRAIN_NONE)
		return;
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		const PGPROC *proc = &ProcGlobal->allProcs[i];
		size_t		length = strlen(view->writers_text);

		if (!is_session(proc))
			continue;
		view->sessions++;
		end_autovacuum(proc);
		if (!TransactionIdIsValid(proc->xid))
			continue;
		view->writers++;
		if (view->writers <= NAMED_MAX)
			snprintf(view->writers_text + length, sizeof(view->writers_text) - length, "%spid %d", length > 0 ? ", " : "", proc->pid);
		else if (view->writers == NAMED_MAX + 1)
			strlcat(view->writers_text, ", ...", sizeof(view->writers_text));
	}

	/* The insert position may lie past the header of a page that has not been begun. */
	inserted = GetXLogInsertRecPtr();
	rest = inserted % XLOG_BLCKSZ;
	if (rest == SizeOfXLogShortPHD || (rest == SizeOfXLogLongPHD && inserted % wal_segment_size == rest))
		inserted -= rest;
	if (inserted > view->end_lsn && view->writers == 0)
		XLogFlush(GetLastImportantRecPtr() + 1);	/* nobody commits any more, so nobody would */
	view->settled = inserted <= view->end_lsn;
}

void
pgraft_drain_spare(int pid)
{
	spared = (pid_t) pid;
}

/* The session that has asked has its answer, as far as that can be told, or takes too long. Its server is about to stop. */
bool
pgraft_drain_answered(void)
{
	static TimestampTz asked = 0;
	static TimestampTz ended = 0;
	TimestampTz now = GetCurrentTimestamp();
	const PGPROC *proc;

	if (asked == 0)
		asked = now;
	if (spared == 0 || TimestampDifferenceExceeds(asked, now, ANSWER_MS_MAX))
		return true;
	proc = BackendPidGetProc(spared);
	if (proc == NULL)
		return true;
	if (LocalTransactionIdIsValid(PGRAFT_PROC_LXID(proc)))
		ended = 0;
	else if (ended == 0)
		ended = now;
	return ended != 0 && TimestampDifferenceExceeds(ended, now, ANSWER_MS);
}
