/*
 * parity.c: settings that must not be lower here than on the leader (POSTGRES.md, S15).
 *
 * The leader writes those that size its shared memory into its WAL. A standby with a lower one pauses its replay there, refuses to be promoted, and does not start again. Its
 * walreceiver goes on, so commits find their quorum and nothing looks wrong until the leader is gone. Recovery leaves what is needed in the control file, before it pauses.
 */
#include "pgraft.h"

#include "access/twophase.h"
#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/lock.h"

static const struct
{
	const char *name;
	const int  *value;
}			settings[PGRAFT_PARITY_SETTINGS] = {
	{"max_connections", &MaxConnections},
	{"max_worker_processes", &max_worker_processes},
	{"max_wal_senders", &max_wal_senders},
	{"max_prepared_transactions", &max_prepared_xacts},
	{"max_locks_per_transaction", &max_locks_per_xact},
};

void
pgraft_parity_check(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	const int	needed[PGRAFT_PARITY_SETTINGS] = {
		control->MaxConnections,
		control->max_worker_processes,
		control->max_wal_senders,
		control->max_prepared_xacts,
		control->max_locks_per_xact,
	};

	/* It may be being written; the next look will tell. */
	for (int i = 0; crc_ok && i < PGRAFT_PARITY_SETTINGS; i++)
		pgraft_store(&pgraft_shared->needed_settings[i],
					 RecoveryInProgress() && needed[i] > *settings[i].value ? (uint64) needed[i] : 0);
	pfree(control);
}

char *
pgraft_parity_problem(void)
{
	StringInfoData problem;

	initStringInfo(&problem);
	for (int i = 0; i < PGRAFT_PARITY_SETTINGS; i++)
	{
		uint64		needed = pgraft_load(&pgraft_shared->needed_settings[i]);

		if (needed != 0)
			appendStringInfo(&problem, "%s%s is %d and must be at least " UINT64_FORMAT " to replay the leader's WAL",
							 problem.len > 0 ? ", " : "", settings[i].name, *settings[i].value, needed);
	}
	if (problem.len == 0)
	{
		pfree(problem.data);
		return NULL;
	}
	appendStringInfoString(&problem, ": this server replays nothing and can't be promoted until it is set and the server is restarted");
	return problem.data;
}
