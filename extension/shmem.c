/*
 * shmem.c: the extension's shared memory: set-up, and waking the worker.
 *
 * The memory starts as zeroes, at boot and after every crash restart, and zero is the safe state (guard.h).
 */
#include "pgraft.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"

PgraftShared *pgraft_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(PgraftShared)));
	RequestNamedLWLockTranche("pgraft", 1);
	pgraft_commands_request_memory();
}

/* In the postmaster, before the startup process exists: also the moment for what must come before recovery (rules 1, 5, 10). */
static void
shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	pgraft_shared = ShmemInitStruct("pgraft", sizeof(PgraftShared), &found);
	if (!found)
	{
		memset(pgraft_shared, 0, sizeof(PgraftShared));
		pgraft_shared->lock = &(GetNamedLWLockTranche("pgraft"))->lock;
		ConditionVariableInit(&pgraft_shared->changed);
		SpinLockInit(&pgraft_shared->receiver.mutex);
	}
	pgraft_commands_set_up(!found);
	LWLockRelease(AddinShmemInitLock);

	if (!found)
		pgraft_boot();
}

void
pgraft_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

/* The latch belongs to a PGPROC, which stays in shared memory: setting it late, after the worker has gone, is harmless. */
void
pgraft_wake_worker(void)
{
	struct Latch *latch;

	if (pgraft_shared == NULL)
		return;
	latch = *(struct Latch *volatile *) &pgraft_shared->worker_latch;
	if (latch != NULL)
		SetLatch(latch);
}
