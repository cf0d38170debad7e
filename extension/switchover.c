/*
 * switchover.c: the SQL functions for planned work on a cluster: switchover, pause of the failover.
 */
#include "pgraft.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "sql.h"

PG_FUNCTION_INFO_V1(pgraft_transfer_leadership);
PG_FUNCTION_INFO_V1(pgraft_pause);
PG_FUNCTION_INFO_V1(pgraft_resume);

#define PAUSE_MAX_DAYS 30
#define CHECKPOINT_NAP_MS 20

/* Timestamps count from 2000, the cluster's log from 1970. */
#define EPOCH_SHIFT_MS ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

static TimestampTz
deadline_after(int ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) ms);
}

static XLogRecPtr
last_checkpoint(void)
{
	bool		intact;
	ControlFileData *control = get_controlfile(DataDir, &intact);
	XLogRecPtr	redo = intact ? control->checkPointCopy.redo : InvalidXLogRecPtr;

	pfree(control);
	return redo;
}

/*
 * While writes go on: this server will soon recover from its last checkpoint, and should not begin one in the middle. The checkpointer tells only those who wait for it without
 * a limit; a switchover may be the way out for a server whose checkpointer stands still.
 */
static void
checkpoint_first(void)
{
	XLogRecPtr	wanted = GetXLogInsertRecPtr();
	TimestampTz until = deadline_after(pgraft_switchover_timeout);

	RequestCheckpoint(CHECKPOINT_FORCE | CHECKPOINT_IMMEDIATE);
	while (last_checkpoint() < wanted && GetCurrentTimestamp() < until)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, CHECKPOINT_NAP_MS, pgraft_wait_event(PGRAFT_WAIT_SWITCHOVER));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

Datum
pgraft_transfer_leadership(PG_FUNCTION_ARGS)
{
	PgraftCommand command;

	require_node_id();
	memset(&command, 0, sizeof(command));
	command.node_id = PG_ARGISNULL(0) ? 0 : (uint64) pgraft_node_id_argument(PG_GETARG_INT32(0));
	command.pid = MyProcPid;
	command.limit_ms = pgraft_switchover_timeout;
	command.end_writers = pgraft_switchover_end_writers;
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("pgraft_transfer_leadership() cannot be used in a transaction that has written"),
				 errdetail("It waits for the end of all such transactions.")));

	/* What can be refused is refused before the checkpoint. */
	command.type = PGRAFT_CMD_CHECK_TRANSFER;
	if (pgraft_run_command(&command, deadline_after(pgraft_command_timeout)) == (uint64) pgraft_node_id)
		PG_RETURN_VOID();

	checkpoint_first();

	command.type = PGRAFT_CMD_TRANSFER;
	(void) pgraft_run_command(&command, deadline_after(pgraft_switchover_timeout + pgraft_command_timeout));
	PG_RETURN_VOID();
}

TimestampTz
pgraft_paused_until(const PgraftEngineStatus *status)
{
	return ((int64) status->paused_until_ms - EPOCH_SHIFT_MS) * 1000;
}

bool
pgraft_is_paused(const PgraftEngineStatus *status)
{
	return status->paused_until_ms != 0 && pgraft_paused_until(status) > GetCurrentTimestamp();
}

static void
set_pause(TimestampTz until)
{
	PgraftCommand command;

	memset(&command, 0, sizeof(command));
	command.type = PGRAFT_CMD_PAUSE;
	if (until != 0)
	{
		command.until_ms = (uint64) (until / 1000 + EPOCH_SHIFT_MS);
		snprintf(command.address, sizeof(command.address), "%s on node %d", GetUserNameFromId(GetSessionUserId(), false), pgraft_node_id);
	}
	(void) pgraft_run_command(&command, deadline_after(pgraft_command_timeout));
}

/* The expiry is a time of the wall clock, which each member compares with its own: advice, on which no rule rests. */
Datum
pgraft_pause(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;

	require_node_id();
	until = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), PG_GETARG_DATUM(0)));
	if (until <= now || until - now > PAUSE_MAX_DAYS * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("duration must be positive and at most %d days", PAUSE_MAX_DAYS)));
	set_pause(until);
	PG_RETURN_TIMESTAMPTZ(until);
}

Datum
pgraft_resume(PG_FUNCTION_ARGS)
{
	require_node_id();
	set_pause(0);
	PG_RETURN_VOID();
}
