/*
 * reads.c: reads on a node that is not in contact with a majority (rule 7; PROTOCOL.md, M9).
 *
 * Such a node may show rows that nobody has acknowledged and that will vanish, and may lack rows that were acknowledged long ago. With pgraft.minority_reads = off it refuses
 * statements that read users' data: tables, materialized views, sequences, large objects. Catalogs, settings and functions that show a status are not concerned, so that
 * monitoring and psql go on. In contact (pgraft_in_contact()) is a leader with a live lease, and a follower whose gate is open and that has heard its leader within the
 * election timeout; both are deadlines in shared memory, so a worker that stands still changes nothing.
 *
 * Asked after the snapshot was taken, at the start of a statement and at each fetch of a cursor. Not covered: functions in C that read files or pages on their own
 * (pageinspect, logical decoding).
 */
#include "pgraft.h"

#include "access/parallel.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_largeobject.h"
#include "nodes/parsenodes.h"
#include "utils/fmgroids.h"

#include "seams.h"

static object_access_hook_type prev_object_access = NULL;

static bool
must_not_read(void)
{
	return !pgraft_minority_reads && pgraft_shared != NULL && !pgraft_in_contact(&pgraft_shared->guard) &&
		!IsParallelWorker();	/* its leader was asked */
}

static void
refuse(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_CANNOT_CONNECT_NOW),
			 errmsg("cannot read: this server is not in contact with a majority of its cluster"),
			 errdetail("What it would show may be old, or may never have been acknowledged; pgraft.minority_reads is off."),
			 errhint("%s", pgraft_leader_hint())));
}

/* The server's own catalogs and views, but for the one that holds users' data. */
static bool
holds_data(Oid relation)
{
	return relation >= FirstNormalObjectId || relation == LargeObjectRelationId;
}

/* Views hold nothing themselves: what they read is listed beside them. Foreign tables are somebody else's. */
static bool
is_stored(char relkind)
{
	return relkind != RELKIND_VIEW && relkind != RELKIND_FOREIGN_TABLE;
}

void
pgraft_check_read(const PlannedStmt *plan)
{
	ListCell   *cell;

	if (!must_not_read())
		return;
	foreach(cell, plan->rtable)
	{
		const RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_RELATION && is_stored(entry->relkind) && holds_data(entry->relid))
			refuse();
	}
}

/* COPY of a table reads it without a plan. */
void
pgraft_check_copy(const PlannedStmt *statement)
{
	const CopyStmt *copy = (const CopyStmt *) statement->utilityStmt;

	if (!IsA(copy, CopyStmt) || copy->is_from || copy->relation == NULL || !must_not_read())
		return;
	if (holds_data(RangeVarGetRelid(copy->relation, NoLock, true)))
		refuse();
}

/* Large objects are read by functions, also without any statement (the protocol's function call). */
static void
object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class, object, sub, arg);
	if (access != OAT_FUNCTION_EXECUTE)
		return;
	switch (object)
	{
		case F_LO_OPEN:
		case F_LOREAD:
		case F_LO_GET_OID:
		case F_LO_GET_OID_INT8_INT4:
		case F_LO_EXPORT:
			if (must_not_read())
				refuse();
			break;
		default:
			break;
	}
}

void
pgraft_reads_install(void)
{
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
}
