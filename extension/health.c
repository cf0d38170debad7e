/*
 * health.c: is this primary's database alive (rule 11)? Two probes, which need neither a database nor a connection:
 *
 * - the WAL is flushed as far as it has been written, as a commit would: stands still with the disk, or with a process that was stopped in the middle of that;
 * - the postmaster is asked to start a worker that ends at once: a stopped postmaster takes no connections, and machines short of processes start none.
 *
 * Each success leaves its time in guard.database_tick_ns; the consensus thread judges by its age, so a probe that hangs says all there is to say. A standby is not probed: it has
 * no WAL of its own, and nothing that it could give up.
 */
#include "pgraft.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "seams.h"

#define POSTMASTER_PROBE_MS 2000
#define SLOW_NS 3000000000		/* worth a line in the log; the leader steps down later (engine.cc) */
#define NAP_MS 100

/* GetXLogInsertRecPtr() may lie past the header of a page that has not been begun; a byte into the last record is surely there. */
static void
flush_wal(void)
{
	XLogRecPtr	wanted = GetLastImportantRecPtr() + 1;

	if (wanted > GetFlushRecPtr(NULL))
		XLogFlush(wanted);
}

void
pgraft_probe_main(Datum arg)
{
	proc_exit(0);
}

/* False: told to end meanwhile. */
static bool
postmaster_answers(void)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	pid_t		pid;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "pgraft", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pgraft_probe_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pgraft probe", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pgraft probe", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return true;			/* max_worker_processes are in use, which says nothing of the postmaster */

	while (GetBackgroundWorkerPid(handle, &pid) == BGWH_NOT_YET_STARTED)
	{
		if (ShutdownRequestPending)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, NAP_MS, pgraft_wait_event(PGRAFT_WAIT_UPKEEP));
		ResetLatch(MyLatch);
	}
	pfree(handle);
	return true;
}

static void
tick(void)
{
	pgraft_store(&pgraft_shared->guard.database_tick_ns, pgraft_clock_ns());
}

void
pgraft_health_forget(void)
{
	pgraft_store(&pgraft_shared->guard.database_tick_ns, 0);
}

void
pgraft_health_probe(void)
{
	static TimestampTz asked = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (RecoveryInProgress())
	{
		pgraft_health_forget();
		return;
	}
	if (pgraft_load(&pgraft_shared->guard.database_tick_ns) == 0)
		tick();					/* so that the first probe, too, may be the one that hangs */
	flush_wal();
	if (asked == 0 || TimestampDifferenceExceeds(asked, now, POSTMASTER_PROBE_MS))
	{
		if (!postmaster_answers())
			return;
		asked = GetCurrentTimestamp();
	}
	tick();
}

const char *
pgraft_health_problem(void)
{
	uint64		seen = pgraft_load(&pgraft_shared->guard.database_tick_ns);
	uint64		now = pgraft_clock_ns();

	if (seen == 0 || now < seen || now - seen < SLOW_NS)
		return NULL;
	return "the database stands still: its WAL can't be flushed, or its postmaster does not answer";
}
