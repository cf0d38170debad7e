/*
 * tablespace.c: CREATE TABLESPACE where members are on one machine (POSTGRES.md, S18).
 *
 * Every member makes the tablespace at the same path when it replays the record, and takes over a directory that is there. Servers that share it overwrite each other's files. None of them
 * can tell: containers with an address in common may well have file systems of their own. So it is a warning, by the members' addresses.
 */
#include "pgraft.h"

#include "nodes/parsenodes.h"

#include "seams.h"

/* Another member at this one's address; 0: there is none. */
static uint64
neighbour(void)
{
	const PgraftEngineStatus *status = &pgraft_shared->status;
	const PgraftMemberStatus *self = NULL;
	uint64		found = 0;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < status->members_count; i++)
	{
		if (status->members[i].id == (uint64) pgraft_node_id)
			self = &status->members[i];
	}
	for (int i = 0; self != NULL && found == 0 && i < status->members_count; i++)
	{
		if (&status->members[i] != self && strcmp(status->members[i].pg_host, self->pg_host) == 0)
			found = status->members[i].id;
	}
	LWLockRelease(pgraft_shared->lock);
	return found;
}

void
pgraft_warn_of_shared_tablespace(const PlannedStmt *statement)
{
	const CreateTableSpaceStmt *create = (const CreateTableSpaceStmt *) statement->utilityStmt;
	uint64		other;

	if (pgraft_shared == NULL || !IsA(create, CreateTableSpaceStmt) || create->location[0] == '\0')
		return;
	other = neighbour();
	if (other != 0)
		ereport(WARNING,
				(errmsg("node " UINT64_FORMAT " has this server's address, and may now use the same directory \"%s\"", other, create->location),
				 errdetail("Each member keeps a tablespace at the same path. Servers that share the directory overwrite each other's files."),
				 errhint("Unless each member has a file system of its own there, drop the tablespace.")));
}
