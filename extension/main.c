/*
 * main.c: loading of the module.
 *
 * Loaded by shared_preload_libraries it defines the settings, asks for shared memory, puts its seams in place and registers the workers. Loaded in any other
 * way it does nothing at all: the SQL functions then say what is missing (functions.c), and the server behaves as if pgraft were not there.
 */
#include "pgraft.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static void register_workers(void);

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	pgraft_define_settings();
	pgraft_quorum_define_setting();

	/* A check hook sees one value only, so what two of them must obey together is checked here. */
	if (pgraft_election_timeout < 5 * pgraft_heartbeat_interval)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("pgraft.election_timeout (%d ms) must be at least five times pgraft.heartbeat_interval (%d ms)",
						pgraft_election_timeout, pgraft_heartbeat_interval),
				 errdetail("With less, a few delayed heartbeats would depose a healthy leader.")));

	pgraft_shmem_init();
	pgraft_fence_install();
	pgraft_reads_install();
	pgraft_commit_install();
	pgraft_receiver_install();
	pgraft_sender_install();
	MarkGUCPrefixReserved("pgraft");	/* after the last setting: a misspelt one is an error from here on */

	if (pgraft_node_id != 0)
		register_workers();
}

static void
register_worker(const char *name, const char *function, BgWorkerStartTime start, int restart_s)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = start;
	worker.bgw_restart_time = restart_s;
	strlcpy(worker.bgw_library_name, "pgraft", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, name, BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/*
 * Neither needs a database. Consensus must run before the server is consistent, hence the start at PostmasterStart; it is started again at once, and itself waits longer after
 * each failure (worker.c), which keeps the log readable. Slots can't be touched before the server has read them, which it has when it is consistent.
 */
static void
register_workers(void)
{
	register_worker("pgraft consensus", "pgraft_worker_main", BgWorkerStart_PostmasterStart, 0);
	register_worker("pgraft upkeep", "pgraft_upkeep_main", BgWorkerStart_ConsistentState, 10);
}
