/*
 * upkeep.c: the second worker, for what may take its time or wait for a disk: the members' slots (slots.c), the probes of the database (health.c), a look at the control file
 * (parity.c), who rejoins (rejoins.c) and the memory of how far the WAL reached (observe.c). No failover waits for it.
 *
 * An error ends the process, which leaves no slot acquired; the postmaster starts it again some seconds later.
 */
#include "pgraft.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"

#include "seams.h"

#define PASS_MS 1000

/* Without this process nothing is known of the database, and nothing is held against it. */
static void
at_exit(int code, Datum arg)
{
	pgraft_health_forget();
}

void
pgraft_upkeep_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(at_exit, (Datum) 0);

	while (!ShutdownRequestPending)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (!pgraft_load(&pgraft_shared->guard.standalone))
		{
			pgraft_end_stranded_waits();
			pgraft_health_probe();
			pgraft_parity_check();
			pgraft_slots_keep();
			pgraft_rejoins_observe();
			pgraft_keep_wal_end();
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PASS_MS, pgraft_wait_event(PGRAFT_WAIT_UPKEEP));
		ResetLatch(MyLatch);
	}
	proc_exit(pgraft_server_is_stopping() ? 0 : 1);
}
