/*
 * restart.c: a server can't restart itself: it stops, and whoever supervises it starts it again, as a standby (rule 1) and, if so ordered, rewound first (rule 9).
 *
 * A primary stops at once, without a shutdown checkpoint: that record would lie past the fork and make the node diverge (POSTGRES.md, M13). A standby writes no WAL; it stops
 * cleanly, so that a rewind finds its data directory shut down.
 */
#include "pgraft.h"

#include <signal.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#define RESTART_REWIND 2
#define RESTART_CLONE 3

#define POSTMASTER_MS 2000		/* it signals its children at once, if it does anything */
#define GONE_NS UINT64CONST(30000000000)	/* a worker that was not seen for so long won't end a session's wait */

/*
 * A postmaster that stands still ends nobody, and sessions that wait for a quorum would wait on, with clients that could have gone elsewhere. Their wait ends without an answer
 * (rule 6).
 */
static void
end_sessions(bool only_waiting)
{
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		const PGPROC *proc = &ProcGlobal->allProcs[i];
		int			pid = proc->pid;

		if (pid != 0 && proc->databaseId != InvalidOid && (!only_waiting || proc->syncRepState == SYNC_REP_WAITING))
			kill(pid, SIGTERM);
	}
}

/*
 * A primary whose worker can't run (its Raft disk has failed, say; rule 11) is fenced, and is not even stopped for another leader: what waits for a quorum there would wait for ever, with
 * clients that could have gone elsewhere.
 */
void
pgraft_end_stranded_waits(void)
{
	const PgraftGuard *guard = &pgraft_shared->guard;
	uint64		seen = pgraft_load(&guard->worker_tick_ns);
	uint64		now = pgraft_clock_ns();
	bool		failed = *(volatile PgraftWorkerState *) &pgraft_shared->worker_state == PGRAFT_WORKER_ERROR;

	if (RecoveryInProgress() || pgraft_writes_allowed(guard))
		return;
	if (failed || (now > seen && now - seen > GONE_NS))
		end_sessions(true);
}

void
pgraft_restart(int kind, const char *reason)
{
	static bool stopping = false;
	static TimestampTz asked;
	bool		at_once;

	if (stopping)
	{
		if (TimestampDifferenceExceeds(asked, GetCurrentTimestamp(), POSTMASTER_MS))
			end_sessions(false);
		return;
	}
	stopping = true;
	asked = GetCurrentTimestamp();

	/* A promotion that is under way may begin to write at any moment. */
	at_once = !RecoveryInProgress() || pgraft_promote_pending();
	ereport(LOG,
			(errmsg("stopping this server, to be started again as a standby: %s", reason),
			 kind == RESTART_REWIND ?
			 errdetail("Its WAL has left the leader's; it is rewound before the start.") :
			 kind == RESTART_CLONE ?
			 errdetail("It is cloned from the leader before the start.") : 0,
			 errhint("The supervisor (\"pgraft run\", or the service manager with \"pgraft prepare\" before the start) starts it again.")));
	if (kill(PostmasterPid, at_once ? SIGQUIT : SIGINT) != 0)
	{
		stopping = false;
		ereport(LOG,
				(errmsg("failed to send signal to postmaster: %m")));
	}
}
