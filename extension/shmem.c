/*
 * shmem.c: the extension's shared memory: set-up, the command queue and the ring of command states.
 *
 * The memory starts as zeroes, at boot and after every crash restart, and zero is the safe state (guard.h). Commands go round: queued by a backend (PENDING), taken by the
 * worker (PROCESSING), ended by the worker (COMPLETED, FAILED), read by the backend; each has a slot of the ring of states, found by its id. All of it is
 * under pgraft_shared->lock.
 */
#include "pgraft.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

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
		pgraft_shared->next_command_id = 1;
	}
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

/* ---- commands ---- */

static PgraftCommandStatus *
status_of(uint64 id)
{
	return &pgraft_shared->statuses[id % PGRAFT_STATUS_SIZE];
}

static bool
unfinished(const PgraftCommandStatus *status)
{
	return status->id != 0 &&
		(status->state == PGRAFT_COMMAND_PENDING || status->state == PGRAFT_COMMAND_PROCESSING);
}

uint64
pgraft_command_enqueue(PgraftCommandType type, uint64 node_id, const char *address, int port)
{
	PgraftCommand command;

	memset(&command, 0, sizeof(command));
	command.type = type;
	command.node_id = node_id;
	command.port = port;
	if (address != NULL)
	{
		if (strlen(address) >= PGRAFT_ADDRESS_SIZE)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("address is longer than %d bytes", PGRAFT_ADDRESS_SIZE - 1)));
		strlcpy(command.address, address, PGRAFT_ADDRESS_SIZE);
	}
	return pgraft_command_queue(&command);
}

uint64
pgraft_command_queue(const PgraftCommand *command)
{
	PgraftQueued queued;
	PgraftCommandStatus *status;
	bool		full;

	memset(&queued, 0, sizeof(queued));
	queued.command = *command;
	queued.queued_at = GetCurrentTimestamp();

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	status = status_of(pgraft_shared->next_command_id);
	full = pgraft_shared->queue_tail - pgraft_shared->queue_head >= PGRAFT_QUEUE_SIZE || unfinished(status);
	if (!full)
	{
		queued.command.id = pgraft_shared->next_command_id++;
		pgraft_shared->queue[pgraft_shared->queue_tail++ % PGRAFT_QUEUE_SIZE] = queued;
		memset(status, 0, sizeof(*status));
		status->id = queued.command.id;
		status->state = PGRAFT_COMMAND_PENDING;
		status->type = command->type;
		status->queued_at = queued.queued_at;
	}
	LWLockRelease(pgraft_shared->lock);

	if (full)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the command queue of pgraft is full"),
				 errdetail("At most %d commands can wait.", PGRAFT_QUEUE_SIZE),
				 errhint("Try again when the commands shown by pgraft_get_queue_status() have ended.")));
	pgraft_wake_worker();
	return queued.command.id;
}

bool
pgraft_command_state(uint64 id, PgraftCommandStatus *status)
{
	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	*status = *status_of(id);
	LWLockRelease(pgraft_shared->lock);
	return status->id == id;
}

static void
end_locked(PgraftCommandStatus *status, const PgraftError *error, uint64 value, uint32 timeline)
{
	status->state = error->code == PGRAFT_OK ? PGRAFT_COMMAND_COMPLETED : PGRAFT_COMMAND_FAILED;
	status->error = *error;
	status->value = value;
	status->timeline = timeline;
	status->completed_at = GetCurrentTimestamp();
}

bool
pgraft_command_withdraw(uint64 id)
{
	PgraftCommandStatus *status = status_of(id);
	PgraftError error;
	bool		withdrawn;

	memset(&error, 0, sizeof(error));
	error.code = PGRAFT_ABORTED;
	strlcpy(error.message, "withdrawn before it was begun", sizeof(error.message));

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	withdrawn = status->id == id && status->state == PGRAFT_COMMAND_PENDING;
	if (withdrawn)
		end_locked(status, &error, 0, 0);
	LWLockRelease(pgraft_shared->lock);
	return withdrawn;
}

/* The next one that has not been withdrawn. */
bool
pgraft_command_take(PgraftCommand *command)
{
	bool		taken = false;

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	while (!taken && pgraft_shared->queue_head != pgraft_shared->queue_tail)
	{
		PgraftCommandStatus *status;

		*command = pgraft_shared->queue[pgraft_shared->queue_head++ % PGRAFT_QUEUE_SIZE].command;
		status = status_of(command->id);
		if (status->id == command->id && status->state == PGRAFT_COMMAND_PENDING)
		{
			status->state = PGRAFT_COMMAND_PROCESSING;
			taken = true;
		}
	}
	LWLockRelease(pgraft_shared->lock);
	return taken;
}

void
pgraft_command_finish(const PgraftCompletion *completion)
{
	PgraftCommandStatus *status = status_of(completion->id);

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	if (status->id == completion->id && unfinished(status))
		end_locked(status, &completion->error, completion->value, completion->timeline);
	LWLockRelease(pgraft_shared->lock);
	ConditionVariableBroadcast(&pgraft_shared->changed);
}

/* Those that a former worker had begun, and with `queued_too` all that wait: nobody will end them otherwise. */
void
pgraft_command_fail_all(bool queued_too, PgraftCode code, const char *message)
{
	PgraftError error;

	memset(&error, 0, sizeof(error));
	error.code = code;
	strlcpy(error.message, message, sizeof(error.message));

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PGRAFT_STATUS_SIZE; i++)
	{
		PgraftCommandStatus *status = &pgraft_shared->statuses[i];

		if (unfinished(status) && (queued_too || status->state == PGRAFT_COMMAND_PROCESSING))
			end_locked(status, &error, 0, 0);
	}
	LWLockRelease(pgraft_shared->lock);
	ConditionVariableBroadcast(&pgraft_shared->changed);
}

bool
pgraft_command_in_progress(void)
{
	bool		found = false;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < PGRAFT_STATUS_SIZE && !found; i++)
		found = pgraft_shared->statuses[i].id != 0 && pgraft_shared->statuses[i].state == PGRAFT_COMMAND_PROCESSING;
	LWLockRelease(pgraft_shared->lock);
	return found;
}
