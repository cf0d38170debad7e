/*
 * calls.c: how a session has the worker do something, and what it says when that fails.
 *
 * A call writes nothing itself, so neither the write fence nor the commit quorum concerns it, and a transaction that is rolled back takes nothing back. It returns when a
 * majority has the change, or raises an error that says what to do. No wait is without an end: pgraft.command_timeout, and every call can be cancelled.
 */
#include "pgraft.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "sql.h"

static bool
is_change(PgraftCommandType type)
{
	return type < PGRAFT_FIRST_LOOK;
}

/* ---- failures ---- */

int
pgraft_sqlstate(PgraftCode code, bool change)
{
	switch (code)
	{
		case PGRAFT_INVALID_ARGUMENT:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case PGRAFT_NO_QUORUM:
			return ERRCODE_CANNOT_CONNECT_NOW;
		case PGRAFT_UNAVAILABLE:
			return ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;
		case PGRAFT_TIMEOUT:
			return change ? ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN : ERRCODE_CANNOT_CONNECT_NOW;
		case PGRAFT_NOT_FOUND:
			return ERRCODE_UNDEFINED_OBJECT;
		case PGRAFT_ALREADY_EXISTS:
			return ERRCODE_DUPLICATE_OBJECT;
		case PGRAFT_RESOURCE_EXHAUSTED:
			return ERRCODE_INSUFFICIENT_RESOURCES;
		case PGRAFT_CORRUPTION:
			return ERRCODE_DATA_CORRUPTED;
		case PGRAFT_IO:
			return ERRCODE_IO_ERROR;
		case PGRAFT_ABORTED:
			return ERRCODE_QUERY_CANCELED;
		case PGRAFT_NO_SPACE:
			return ERRCODE_DISK_FULL;
		case PGRAFT_OK:
		case PGRAFT_NOT_LEADER:
		case PGRAFT_FAILED_PRECONDITION:
		case PGRAFT_MISMATCH:
			break;
	}
	return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

static char *
unknown_hint(uint64 id)
{
	return psprintf("The change may still be made. Ask pgraft_get_command(" UINT64_FORMAT ") on this server, or look at what it would have changed, before trying again.",
					id);
}

static const char *
hint_of(const PgraftCommandStatus *status)
{
	switch (status->error.code)
	{
		case PGRAFT_NOT_LEADER:
			return psprintf("%s Changes of the cluster are made on the leader.", pgraft_leader_hint());
		case PGRAFT_NO_QUORUM:
			return "Start the members that are down, or repair the network between them.";
		case PGRAFT_TIMEOUT:
			if (status->type == PGRAFT_CMD_READ_BARRIER)
				return pgraft_leader_hint();
			return is_change(status->type) ? unknown_hint(status->id) :
				"Nothing was read. Start the members that are down, or ask for what this node has: stale => true.";
		default:
			return NULL;
	}
}

static void
report_failure(const PgraftCommandStatus *status)
{
	const char *hint = hint_of(status);

	ereport(ERROR,
			(errcode(pgraft_sqlstate(status->error.code, is_change(status->type))),
			 errmsg("%s", status->error.message[0] != '\0' ? status->error.message : "the command failed"),
			 hint ? errhint("%s", hint) : 0));
}

/* The deadline has passed. */
static void
report_timeout(uint64 id, PgraftCommandType type)
{
	if (pgraft_command_leave(id))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the pgraft worker did not begin the command within %d ms", pgraft_command_timeout),
				 errdetail("The command has been withdrawn, nothing was changed."),
				 errhint("See pgraft_get_worker_state().")));
	if (!is_change(type))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("no answer within %d ms (pgraft.command_timeout)", pgraft_command_timeout)));
	ereport(ERROR,
			(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
			 errmsg("the change was not confirmed within %d ms, its outcome is unknown", pgraft_command_timeout),
			 errhint("%s", unknown_hint(id))));
}

/* Without a worker nobody would take the command; why there is none is more use than a timeout. */
void
pgraft_require_worker(void)
{
	PgraftWorkerState state;
	PgraftError error;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	state = pgraft_shared->worker_state;
	error = pgraft_shared->worker_error;
	LWLockRelease(pgraft_shared->lock);
	if (state == PGRAFT_WORKER_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the pgraft worker is not running: %s", error.message),
				 errhint("Remove the cause; the worker tries again by itself every few seconds.")));
}

/* ---- waiting ---- */

TimestampTz
pgraft_command_deadline(void)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pgraft_command_timeout);
}

bool
pgraft_sleep_until_change(TimestampTz deadline)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	if (left <= 0)
		return false;
	/* A second at most at a time: the lease of a leader begins without a broadcast. */
	ConditionVariableTimedSleep(&pgraft_shared->changed, Min(left, 1000), pgraft_wait_event(PGRAFT_WAIT_LEADERSHIP));
	return true;
}

typedef struct Call
{
	uint64		id;
	PgraftCommandType type;
	bool		ended;
} Call;

static void
wait_for_end(Call *call, TimestampTz deadline, PgraftCommandStatus *status, PgraftAnswer *answer)
{
	for (;;)
	{
		long		left;

		ResetLatch(MyLatch);
		if (pgraft_command_ended(call->id, status, &answer->data, &answer->size))
			break;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (left <= 0)
		{
			call->ended = true;
			report_timeout(call->id, call->type);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left, pgraft_wait_event(PGRAFT_WAIT_COMMAND));
		CHECK_FOR_INTERRUPTS();
	}
	call->ended = true;
	answer->value = status->value;
}

/* A switchover that has been begun is given up, if that is still possible. */
static void
withdraw_switchover(void)
{
	PgraftCommand command;

	pgraft_new_command(&command, PGRAFT_CMD_CANCEL_TRANSFER);
	pgraft_command_post(&command);
}

/* Cancelled (code 0), or the session ends. */
static void
leave_call(int code, Datum arg)
{
	Call	   *call = (Call *) DatumGetPointer(arg);
	uint64		id = call->id;

	if (call->ended)
		return;
	call->ended = true;
	if (!pgraft_command_leave(id) && code == 0 && is_change(call->type) && geterrcode() == ERRCODE_QUERY_CANCELED)
	{
		if (call->type == PGRAFT_CMD_TRANSFER)
			withdraw_switchover();
		ereport(WARNING,
				(errmsg("the change had been begun, its outcome is unknown"),
				 errhint("%s", unknown_hint(id))));
	}
}

void
pgraft_call(const PgraftCommand *command, TimestampTz deadline, PgraftAnswer *answer)
{
	PgraftCommandStatus status;
	Call		call = {.type = command->type};

	pgraft_require_worker();
	call.id = pgraft_command_enqueue(command);
	PG_ENSURE_ERROR_CLEANUP(leave_call, PointerGetDatum(&call));
	{
		wait_for_end(&call, deadline, &status, answer);
	}
	PG_END_ENSURE_ERROR_CLEANUP(leave_call, PointerGetDatum(&call));
	if (status.state == PGRAFT_COMMAND_FAILED)
		report_failure(&status);
}

/* ---- texts and rows ---- */

void
pgraft_new_command(PgraftCommand *command, PgraftCommandType type)
{
	memset(command, 0, sizeof(*command));
	command->type = type;
}

void
pgraft_set_texts(PgraftCommand *command, const char *first, Size first_size, const char *second, Size second_size,
				 const char *third, Size third_size)
{
	char	   *data = palloc(first_size + second_size + third_size + 1);

	if (first_size > 0)
		memcpy(data, first, first_size);
	if (second_size > 0)
		memcpy(data + first_size, second, second_size);
	if (third_size > 0)
		memcpy(data + first_size + second_size, third, third_size);
	command->sizes[0] = (uint32) first_size;
	command->sizes[1] = (uint32) second_size;
	command->sizes[2] = (uint32) third_size;
	command->data = data;
}

bool
pgraft_next_row(const PgraftAnswer *answer, Size *next, PgraftRow *row, const char **first, const char **second)
{
	Size		left = answer->size - *next;

	if (left == 0)
		return false;
	if (left < sizeof(*row))
		elog(ERROR, "an answer of the pgraft worker ends too early");
	memcpy(row, answer->data + *next, sizeof(*row));
	if (left - sizeof(*row) < (Size) row->sizes[0] + row->sizes[1])
		elog(ERROR, "an answer of the pgraft worker ends too early");
	*first = answer->data + *next + sizeof(*row);
	*second = *first + row->sizes[0];
	*next += sizeof(*row) + row->sizes[0] + row->sizes[1];
	return true;
}
