/*
 * waits.c: what a session that waits for pgraft shows in pg_stat_activity.
 *
 * From PostgreSQL 17 on an extension may name its wait events; before that all of them are called "Extension".
 */
#include "pgraft.h"

#include "utils/wait_event.h"

uint32
pgraft_wait_event(PgraftWait wait)
{
#if PG_VERSION_NUM >= 170000
	static const char *const names[] = {"PgraftCommand", "PgraftLeadership", "PgraftKvChange", "PgraftSwitchover",
	"PgraftAdmission", "PgraftReceiver", "PgraftWorker", "PgraftUpkeep"};
	static uint32 events[lengthof(names)];

	if (events[wait] == 0)
		events[wait] = WaitEventExtensionNew(names[wait]);
	return events[wait];
#else
	return PG_WAIT_EXTENSION;
#endif
}
