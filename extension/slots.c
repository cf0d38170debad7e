/*
 * slots.c: on every node a physical replication slot for each other member, pgraft_<node id>, so that whoever is promoted next still has the WAL that the others will ask for.
 *
 * No stream takes these slots: a walsender would advance them on the leader alone. A worker (upkeep.c) advances them on all nodes alike, by what the members tell about
 * themselves once a second (failover::WalStatus: nothing older than their last checkpoint's redo point). max_slot_wal_keep_size bounds what a member that is away can
 * hold back; the server then gives the slot up, and the member will have to be cloned.
 *
 * Names that begin with pgraft_ and go on with a number are ours: slots of nodes that are no members are dropped. A rewind or clone comes without slots (POSTGRES.md, S16),
 * and they are made anew. No database is needed.
 */
#include "pgraft.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "utils/memutils.h"

#include "compat.h"
#include "seams.h"

typedef struct Wanted
{
	char		name[NAMEDATALEN];
	XLogRecPtr	needed;			/* 0: not known */
	bool		found;
} Wanted;

typedef struct Found
{
	char		name[NAMEDATALEN];
	XLogRecPtr	restart;
	bool		lost;			/* the WAL it stood for is gone */
	bool		in_use;
} Found;

/* The slots that there shall be. -1: not known, leave all as they are. */
static int
list_wanted(Wanted *wanted)
{
	int			count = 0;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	if (!pgraft_shared->status.member || pgraft_shared->status.members_count == 0)
		count = -1;
	for (int i = 0; count >= 0 && i < pgraft_shared->status.members_count; i++)
	{
		const PgraftMemberStatus *member = &pgraft_shared->status.members[i];

		if (member->id == pgraft_shared->status.node_id)
			continue;
		snprintf(wanted[count].name, NAMEDATALEN, PGRAFT_SLOT_PREFIX UINT64_FORMAT, member->id);
		wanted[count].needed = member->needed_lsn;
		wanted[count].found = false;
		count++;
	}
	LWLockRelease(pgraft_shared->lock);
	return count;
}

static bool
is_ours(const char *name)
{
	size_t		prefix = strlen(PGRAFT_SLOT_PREFIX);

	return strncmp(name, PGRAFT_SLOT_PREFIX, prefix) == 0 && name[prefix] != '\0' &&
		strspn(name + prefix, "0123456789") == strlen(name + prefix);
}

static int
list_found(Found *found)
{
	int			count = 0;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (!slot->in_use || !SlotIsPhysical(slot) || !is_ours(NameStr(slot->data.name)))
			continue;
		SpinLockAcquire(&slot->mutex);
		strlcpy(found[count].name, NameStr(slot->data.name), NAMEDATALEN);
		found[count].restart = slot->data.restart_lsn;
		found[count].lost = PGRAFT_SLOT_IS_LOST(slot);
		found[count].in_use = PGRAFT_SLOT_IN_USE(slot);
		SpinLockRelease(&slot->mutex);
		count++;
	}
	LWLockRelease(ReplicationSlotControlLock);
	return count;
}

/* Begins at the redo point of this node's last checkpoint: the oldest WAL that the server itself keeps. */
static void
create_slot(const char *name)
{
	PGRAFT_CREATE_PHYSICAL_SLOT(name);
	ReplicationSlotReserveWal();
	ReplicationSlotMarkDirty();
	ReplicationSlotSave();
	ReplicationSlotRelease();
	ereport(DEBUG1, (errmsg("created replication slot \"%s\"", name)));
}

static XLogRecPtr
end_of_wal(void)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetFlushRecPtr(NULL);
}

/* Written with the next checkpoint: after a crash it stands where it was, which keeps more. */
static void
advance_slot(const char *name, XLogRecPtr to)
{
	PGRAFT_ACQUIRE_SLOT(name);
	SpinLockAcquire(&MyReplicationSlot->mutex);
	MyReplicationSlot->data.restart_lsn = to;
	SpinLockRelease(&MyReplicationSlot->mutex);
	ReplicationSlotMarkDirty();
	ReplicationSlotsComputeRequiredLSN();
	ReplicationSlotRelease();
}

static void
drop_slot(const Found *found, const char *why)
{
	if (found->in_use)
		return;					/* by someone who reads from it by hand; the next look tries again */
	ReplicationSlotDrop(found->name, true);
	ereport(LOG, (errmsg("dropped replication slot \"%s\": %s", found->name, why)));
}

/* Whole segments only: nothing less makes WAL removable. */
static void
keep_up(const Found *found, const Wanted *wanted)
{
	XLogRecPtr	to = Min(wanted->needed, end_of_wal());
	XLogSegNo	now_at,
				then_at;

	XLByteToSeg(found->restart, now_at, wal_segment_size);
	XLByteToSeg(to, then_at, wal_segment_size);
	if (then_at > now_at && !found->in_use)
		advance_slot(found->name, to);
}

/* A member that has been away for so long that its WAL is gone gets its slot back when it has come back by a clone. */
static bool
is_too_late(const Wanted *wanted)
{
	XLogSegNo	segment;

	if (wanted->needed == 0)
		return false;
	XLByteToSeg(wanted->needed, segment, wal_segment_size);
	return segment <= XLogGetLastRemovedSegno();
}

void
pgraft_slots_keep(void)
{
	static Found *found = NULL;
	Wanted		wanted[PGRAFT_MAX_MEMBERS];
	int			wanted_count = list_wanted(wanted);
	int			found_count;

	if (wanted_count < 0 || max_replication_slots == 0)	/* reported by pgraft_check_server() */
		return;
	if (found == NULL)
		found = MemoryContextAlloc(TopMemoryContext, sizeof(Found) * max_replication_slots);
	found_count = list_found(found);
	for (int i = 0; i < found_count; i++)
	{
		Wanted	   *match = NULL;

		for (int j = 0; j < wanted_count; j++)
			if (strcmp(wanted[j].name, found[i].name) == 0)
				match = &wanted[j];
		if (match == NULL)
		{
			drop_slot(&found[i], "its node is not a member of the cluster");
			continue;
		}
		match->found = true;
		if (!found[i].lost)
			keep_up(&found[i], match);
		else if (!is_too_late(match))
			drop_slot(&found[i], "its node had been away for too long, and is back");	/* and is made anew at the next look */
	}
	for (int j = 0; j < wanted_count; j++)
		if (!wanted[j].found && !is_too_late(&wanted[j]))
			create_slot(wanted[j].name);
}
