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
#include "storage/procarray.h"
#include "utils/timestamp.h"

#define RESTART_REWIND 2
#define RESTART_CLONE 3

#define POSTMASTER_MS 2000		/* it signals its children at once, if it does anything */
#define STRANDED_ELECTIONS 10	/* election timeouts without a lease */
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

		/* A free entry may keep what it held last: its pid may be anybody's by now. */
		if (pid != 0 && OidIsValid(proc->databaseId) && BackendPidGetProc(pid) == proc &&
			(!only_waiting || proc->syncRepState == SYNC_REP_WAITING))
			kill(pid, SIGTERM);
	}
}

/*
 * A primary whose worker can't run (its Raft disk has failed, say; rule 11) is fenced, and is not even stopped for another leader: what waits for a quorum there would wait for ever, with
 * clients that could have gone elsewhere. So it would on one that is cut off, for as long as that lasts: a short loss of contact is waited out, since a renewal lets the waits go on, but not
 * a longer one than those who can have needed to go on without this server.
 */
void
pgraft_end_stranded_waits(void)
{
	const PgraftGuard *guard = &pgraft_shared->guard;
	uint64		seen = pgraft_load(&guard->worker_tick_ns);
	uint64		leased = pgraft_load(&guard->leased_ns);
	uint64		now = pgraft_clock_ns();
	uint64		patience = STRANDED_ELECTIONS * (uint64) pgraft_election_timeout * 1000000;
	bool		cut_off = leased != 0 && seen > leased + patience && !(pgraft_rules_off & PGRAFT_OFF_WRITE_FENCE);
	bool		failed = *(volatile PgraftWorkerState *) &pgraft_shared->worker_state == PGRAFT_WORKER_ERROR;

	if (RecoveryInProgress() || pgraft_writes_allowed(guard))
		return;
	/* A worker that stands still might have the lease again as soon as it runs. */
	if (failed || cut_off || (now > seen && now - seen > GONE_NS))
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
