/*
 * commands.c: the way of a command from a session to the worker and back.
 *
 * A command has a slot from the call to the answer: given by a backend (PENDING), taken by the worker (PROCESSING), ended by the worker (COMPLETED, FAILED), taken back by the
 * backend. Texts and answers are in dynamic shared memory, so that nothing is cut and nothing is reserved. A backend that leaves early leaves its slot to the worker. What came
 * of changes is kept for pgraft_get_command(): the newest, and, longer, the newest that nobody was told of. All of it is under pgraft_shared->lock.
 */
#include "pgraft.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/dsa.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define TRANCHE "pgraft_texts"
#define TEXTS_FIXED_BYTES (256 * 1024)	/* more is taken when it is needed, and given back */
#define TEXTS_MAX_BYTES (128 * 1024 * 1024)

static void *texts_place = NULL;
static dsa_area *texts_area = NULL;	/* of this process */
static int	member_commands = 0;	/* worker: taken and not finished, of those that change the members */

/* ---- memory ---- */

void
pgraft_commands_request_memory(void)
{
	RequestAddinShmemSpace(MAXALIGN(TEXTS_FIXED_BYTES));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

/* Under AddinShmemInitLock. */
void
pgraft_commands_set_up(bool first)
{
	bool		found;
	dsa_area   *area;

	texts_place = ShmemInitStruct("pgraft texts", TEXTS_FIXED_BYTES, &found);
	if (!first)
		return;
	ConditionVariableInit(&pgraft_shared->kv_changed);
	/* Numbers of an earlier start of the server never come again: whoever asks for one must not hear of another command. */
	pgraft_shared->next_command_id = (uint64) (GetCurrentTimestamp() / USECS_PER_SEC) << 20;

	area = dsa_create_in_place(texts_place, TEXTS_FIXED_BYTES, GetNamedLWLockTranche(TRANCHE)->lock.tranche, NULL);
	dsa_pin(area);
	dsa_set_size_limit(area, TEXTS_MAX_BYTES);
	dsa_detach(area);
}

static dsa_area *
texts(void)
{
	MemoryContext before;

	if (texts_area != NULL)
		return texts_area;
	before = MemoryContextSwitchTo(TopMemoryContext);
	texts_area = dsa_attach_in_place(texts_place, NULL);
	dsa_pin_mapping(texts_area);
	MemoryContextSwitchTo(before);
	return texts_area;
}

static dsa_pointer
copy_in(const char *data, Size size)
{
	dsa_pointer copy = dsa_allocate_extended(texts(), size, DSA_ALLOC_NO_OOM | (size > 1024 * 1024 * 1024 ? DSA_ALLOC_HUGE : 0));

	if (DsaPointerIsValid(copy))
		memcpy(dsa_get_address(texts(), copy), data, size);
	return copy;
}

/* ---- the kept ones ---- */

static void
keep(PgraftCommandsKept *kept, const PgraftCommandStatus *status)
{
	kept->ended[kept->next++ % PGRAFT_COMMANDS_KEPT] = *status;
}

static bool
find_kept(const PgraftCommandsKept *kept, uint64 id, PgraftCommandStatus *status)
{
	for (int i = 0; i < PGRAFT_COMMANDS_KEPT; i++)
	{
		if (kept->ended[i].id != id)
			continue;
		*status = kept->ended[i];
		return true;
	}
	return false;
}

static bool
is_change(const PgraftCommandStatus *status)
{
	return status->type < PGRAFT_FIRST_LOOK;
}

/* ---- slots, with the lock held ---- */

static PgraftCommandSlot *
find_slot(uint64 id)
{
	/* Also the slot that a new command would take first: callers mostly meet their own at once. */
	for (int i = 0; i < PGRAFT_COMMAND_SLOTS; i++)
	{
		PgraftCommandSlot *slot = &pgraft_shared->slots[(id + i) % PGRAFT_COMMAND_SLOTS];

		if (slot->status.id == id)
			return slot;
	}
	return NULL;
}

static PgraftCommandSlot *
free_slot(uint64 id)
{
	for (int i = 0; i < PGRAFT_COMMAND_SLOTS; i++)
	{
		PgraftCommandSlot *slot = &pgraft_shared->slots[(id + i) % PGRAFT_COMMAND_SLOTS];

		if (slot->status.id == 0)
			return slot;
	}
	return NULL;
}

static bool
has_ended(const PgraftCommandStatus *status)
{
	return status->state == PGRAFT_COMMAND_COMPLETED || status->state == PGRAFT_COMMAND_FAILED;
}

static void
end_command(PgraftCommandSlot *slot, const PgraftError *error, uint64 value)
{
	slot->status.state = error->code == PGRAFT_OK ? PGRAFT_COMMAND_COMPLETED : PGRAFT_COMMAND_FAILED;
	slot->status.error = *error;
	slot->status.value = value;
	slot->status.completed_at = GetCurrentTimestamp();
	if (is_change(&slot->status))
	{
		keep(&pgraft_shared->recent, &slot->status);
		if (slot->waiter == NULL || error->code == PGRAFT_TIMEOUT)
			keep(&pgraft_shared->unanswered, &slot->status);
	}
}

static void
give_back(PgraftCommandSlot *slot)
{
	if (DsaPointerIsValid(slot->texts))
		dsa_free(texts(), slot->texts);
	if (DsaPointerIsValid(slot->answer))
		dsa_free(texts(), slot->answer);
	memset(slot, 0, sizeof(*slot));
}

/* ---- the backend's side ---- */

static uint64
enqueue(const PgraftCommand *command, Latch *waiter)
{
	Size		size = (Size) command->sizes[0] + command->sizes[1] + command->sizes[2];
	dsa_pointer copy = InvalidDsaPointer;
	PgraftCommandSlot *slot;
	uint64		id = 0;

	if (size > 0)
	{
		copy = copy_in(command->data, size);
		if (!DsaPointerIsValid(copy))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("the memory for texts of pgraft commands is full"),
					 errdetail("All commands that wait may have %d bytes together.", TEXTS_MAX_BYTES),
					 errhint("Try again when some of them have ended.")));
	}

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	slot = free_slot(pgraft_shared->next_command_id);
	if (slot != NULL)
	{
		id = pgraft_shared->next_command_id++;
		memset(slot, 0, sizeof(*slot));
		slot->command = *command;
		slot->command.id = id;
		slot->command.queued_ns = pgraft_clock_ns();
		slot->command.data = NULL;
		slot->texts = copy;
		slot->waiter = waiter;
		slot->status.id = id;
		slot->status.type = command->type;
		slot->status.state = PGRAFT_COMMAND_PENDING;
		slot->status.queued_at = GetCurrentTimestamp();
		pgraft_shared->queue[pgraft_shared->queue_tail++ % PGRAFT_COMMAND_SLOTS] = slot - pgraft_shared->slots;
	}
	LWLockRelease(pgraft_shared->lock);

	if (slot == NULL)
	{
		if (DsaPointerIsValid(copy))
			dsa_free(texts(), copy);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the command queue of pgraft is full"),
				 errdetail("At most %d commands can wait.", PGRAFT_COMMAND_SLOTS),
				 errhint("Try again when the commands shown by pgraft_get_queue_status() have ended.")));
	}
	pgraft_wake_worker();
	return id;
}

uint64
pgraft_command_enqueue(const PgraftCommand *command)
{
	return enqueue(command, MyLatch);
}

void
pgraft_command_post(const PgraftCommand *command)
{
	(void) enqueue(command, NULL);
}

bool
pgraft_command_ended(uint64 id, PgraftCommandStatus *status, char **answer, Size *size)
{
	PgraftCommandSlot *slot;
	dsa_pointer data;

	*answer = NULL;
	*size = 0;
	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	slot = find_slot(id);
	if (slot == NULL || !has_ended(&slot->status))
	{
		LWLockRelease(pgraft_shared->lock);
		if (slot == NULL)
			elog(ERROR, "pgraft command " UINT64_FORMAT " is gone", id);
		return false;
	}
	*status = slot->status;
	data = slot->answer;
	*size = slot->answer_size;
	slot->answer = InvalidDsaPointer;
	give_back(slot);
	LWLockRelease(pgraft_shared->lock);

	if (DsaPointerIsValid(data))
	{
		*answer = MemoryContextAllocExtended(CurrentMemoryContext, *size, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
		if (*answer != NULL)
			memcpy(*answer, dsa_get_address(texts(), data), *size);
		dsa_free(texts(), data);
		if (*answer == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	return true;
}

/* Also called when a backend ends: raises nothing. */
bool
pgraft_command_leave(uint64 id)
{
	PgraftCommandSlot *slot;
	PgraftError error;
	bool		withdrawn = false;

	memset(&error, 0, sizeof(error));
	error.code = PGRAFT_ABORTED;
	strlcpy(error.message, "withdrawn before it was begun", sizeof(error.message));

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	slot = find_slot(id);
	if (slot != NULL)
	{
		slot->waiter = NULL;
		withdrawn = slot->status.state == PGRAFT_COMMAND_PENDING;
		if (withdrawn)
			end_command(slot, &error, 0);	/* its place in the queue is passed over */
		else if (has_ended(&slot->status))
		{
			if (is_change(&slot->status))
				keep(&pgraft_shared->unanswered, &slot->status);
			give_back(slot);
		}
	}
	LWLockRelease(pgraft_shared->lock);
	return withdrawn;
}

bool
pgraft_command_find(uint64 id, PgraftCommandStatus *status)
{
	const PgraftCommandSlot *slot;
	bool		found = true;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	slot = id == 0 ? NULL : find_slot(id);
	if (slot != NULL)
		*status = slot->status;
	else
		found = id != 0 && (find_kept(&pgraft_shared->recent, id, status) ||
							find_kept(&pgraft_shared->unanswered, id, status));
	LWLockRelease(pgraft_shared->lock);
	return found;
}

static int
by_id(const void *a, const void *b)
{
	const PgraftCommandStatus *x = a;
	const PgraftCommandStatus *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* Changes only; the same one may be kept twice. */
int
pgraft_command_list(PgraftCommandStatus **statuses)
{
	PgraftCommandStatus *all = palloc(sizeof(PgraftCommandStatus) * (PGRAFT_COMMAND_SLOTS + 2 * PGRAFT_COMMANDS_KEPT));
	int			count = 0;
	int			distinct = 0;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < PGRAFT_COMMAND_SLOTS; i++)
		if (pgraft_shared->slots[i].status.id != 0 && is_change(&pgraft_shared->slots[i].status))
			all[count++] = pgraft_shared->slots[i].status;
	for (int i = 0; i < PGRAFT_COMMANDS_KEPT; i++)
	{
		if (pgraft_shared->recent.ended[i].id != 0)
			all[count++] = pgraft_shared->recent.ended[i];
		if (pgraft_shared->unanswered.ended[i].id != 0)
			all[count++] = pgraft_shared->unanswered.ended[i];
	}
	LWLockRelease(pgraft_shared->lock);

	qsort(all, count, sizeof(all[0]), by_id);
	for (int i = 0; i < count; i++)
		if (distinct == 0 || all[distinct - 1].id != all[i].id)
			all[distinct++] = all[i];
	*statuses = all;
	return distinct;
}

/* ---- the worker's side ---- */

/* The next one that has not been withdrawn. */
bool
pgraft_command_take(PgraftCommand *command)
{
	dsa_pointer copy = InvalidDsaPointer;
	bool		taken = false;

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	while (!taken && pgraft_shared->queue_head != pgraft_shared->queue_tail)
	{
		PgraftCommandSlot *slot = &pgraft_shared->slots[pgraft_shared->queue[pgraft_shared->queue_head++ % PGRAFT_COMMAND_SLOTS]];

		if (slot->status.state != PGRAFT_COMMAND_PENDING)
		{
			give_back(slot);
			continue;
		}
		slot->status.state = PGRAFT_COMMAND_PROCESSING;
		*command = slot->command;
		copy = slot->texts;
		slot->texts = InvalidDsaPointer;
		taken = true;
	}
	LWLockRelease(pgraft_shared->lock);

	if (taken && command->type < PGRAFT_FIRST_ENTRY_COMMAND)
		member_commands++;
	if (taken && DsaPointerIsValid(copy))
	{
		Size		size = (Size) command->sizes[0] + command->sizes[1] + command->sizes[2];
		char	   *data = palloc(size);

		memcpy(data, dsa_get_address(texts(), copy), size);
		dsa_free(texts(), copy);
		command->data = data;
	}
	return taken;
}

void
pgraft_command_finish(const PgraftCompletion *completion)
{
	PgraftError error = completion->error;
	dsa_pointer answer = InvalidDsaPointer;
	PgraftCommandSlot *slot;

	if (completion->size > 0)
	{
		answer = copy_in(completion->data, completion->size);
		if (!DsaPointerIsValid(answer))
		{
			error.code = PGRAFT_RESOURCE_EXHAUSTED;
			strlcpy(error.message, "the memory for answers of pgraft commands is full: try again", sizeof(error.message));
		}
	}

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	slot = find_slot(completion->id);
	if (slot != NULL && slot->status.state == PGRAFT_COMMAND_PROCESSING)
	{
		if (slot->status.type < PGRAFT_FIRST_ENTRY_COMMAND)
			member_commands--;
		end_command(slot, &error, completion->value);
		if (slot->waiter != NULL)
		{
			slot->answer = answer;
			slot->answer_size = completion->size;
			answer = InvalidDsaPointer;
			/* A latch is in shared memory and is never gone: set too late, it wakes somebody for nothing. */
			SetLatch(slot->waiter);
		}
		else
			give_back(slot);
	}
	LWLockRelease(pgraft_shared->lock);
	if (DsaPointerIsValid(answer))
		dsa_free(texts(), answer);
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
	for (int i = 0; i < PGRAFT_COMMAND_SLOTS; i++)
	{
		PgraftCommandSlot *slot = &pgraft_shared->slots[i];
		bool		queued = slot->status.state == PGRAFT_COMMAND_PENDING;

		if (slot->status.id == 0 || (queued && !queued_too))
			continue;
		if (!has_ended(&slot->status))
		{
			end_command(slot, &error, 0);
			if (slot->waiter != NULL)
				SetLatch(slot->waiter);
			else
				give_back(slot);
		}
		else if (queued_too && slot->waiter == NULL)
			give_back(slot);		/* withdrawn, and not passed over yet */
	}
	if (queued_too)
		pgraft_shared->queue_head = pgraft_shared->queue_tail;
	LWLockRelease(pgraft_shared->lock);
}

bool
pgraft_command_in_progress(void)
{
	return member_commands > 0;
}
