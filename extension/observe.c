/*
 * observe.c: what the controller gets to know of this server (failover::DatabaseView), read from shared memory and files; no database, works in recovery and after it.
 *
 * Positions are what rules 3, 4 and 9 rest on. A standby's is the greater of what it has replayed and what its walreceiver has flushed, timeline first; the walreceiver's
 * counts only if bytes of that timeline have come (POSTGRES.md, M17).
 */
#include "pgraft.h"

#include <sys/stat.h>

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "history.h"
#include "seams.h"

typedef struct CachedHistory
{
	TimeLineID	timeline;		/* 0: none is cached */
	XLogRecPtr	begin;			/* where it forked off; 0: not known */
	int			count;			/* ancestors, oldest first */
	PgraftHistoryLine lines[PGRAFT_HISTORY_MAX];
} CachedHistory;

/* readTimeLineHistory() leaks and raises errors: its own memory, and an error is logged and means 'not known', to be tried again. */
static void
read_history(TimeLineID timeline, CachedHistory *cached)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pgraft history", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);

	cached->timeline = 0;
	PG_TRY();
	{
		List	   *history = readTimeLineHistory(timeline);	/* newest first */
		int			count = list_length(history) - 1;

		if (count > PGRAFT_HISTORY_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("history of timeline %u has more than %d lines", timeline, PGRAFT_HISTORY_MAX)));
		cached->begin = ((TimeLineHistoryEntry *) linitial(history))->begin;
		cached->count = count;
		for (int i = 0; i < count; i++)
		{
			TimeLineHistoryEntry *entry = list_nth(history, count - i);

			cached->lines[i].timeline = entry->tli;
			cached->lines[i].end = entry->end;
		}
		/* A timeline above the first one without ancestors: its file has not come yet. */
		if (count > 0 || timeline == 1)
			cached->timeline = timeline;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		EmitErrorReport();
		FlushErrorState();
		cached->begin = InvalidXLogRecPtr;
		cached->count = 0;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

static const CachedHistory *
history_of(CachedHistory *cached, TimeLineID timeline)
{
	if (cached->timeline != timeline)
		read_history(timeline, cached);
	return cached;
}

/* Of any timeline: the server removes and recycles without regard to timelines, the oldest first. */
static XLogRecPtr
oldest_wal(void)
{
	DIR		   *directory = AllocateDir(XLOGDIR);
	XLogSegNo	oldest = 0;
	struct dirent *entry;
	XLogRecPtr	lsn;

	while ((entry = ReadDir(directory, XLOGDIR)) != NULL)
	{
		TimeLineID	timeline;
		XLogSegNo	segment;

		if (!IsXLogFileName(entry->d_name))
			continue;
		XLogFromFileName(entry->d_name, &timeline, &segment, wal_segment_size);
		if (oldest == 0 || segment < oldest)
			oldest = segment;
	}
	FreeDir(directory);
	XLogSegNoOffsetToRecPtr(oldest, 0, wal_segment_size, lsn);
	return lsn;
}

/* The directory is read again only when it has changed. */
static void
observe_wal_directory(PgraftDatabaseView *view)
{
	static TimeLineID highest = 0;
	static XLogRecPtr oldest = InvalidXLogRecPtr;
	static struct timespec seen;
	struct stat status;

	if (stat(XLOGDIR, &status) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", XLOGDIR)));
	if (status.st_mtim.tv_sec != seen.tv_sec || status.st_mtim.tv_nsec != seen.tv_nsec)
	{
		struct timespec now;

		highest = pgraft_history_highest();
		oldest = oldest_wal();
		/* A change right after this one may bear the same time: what is that fresh is read again. */
		clock_gettime(CLOCK_REALTIME, &now);
		if (now.tv_sec > status.st_mtim.tv_sec + 1)
			seen = status.st_mtim;
	}
	view->highest_history = Max(highest, view->end_timeline);
	view->oldest_lsn = oldest;
}

/* Has the walreceiver received anything of the timeline it was last on? Before that its position is the beginning of a segment, and means nothing. */
static bool
received_counts(TimeLineID received_timeline, XLogRecPtr received, TimeLineID replayed_timeline)
{
	static CachedHistory cached;
	XLogRecPtr	fork;

	if (received_timeline == replayed_timeline)
		return true;
	if (received_timeline < replayed_timeline)
		return false;
	fork = history_of(&cached, received_timeline)->begin;
	return fork != InvalidXLogRecPtr && received > fork;
}

static void
observe_standby(PgraftDatabaseView *view)
{
	TimeLineID	replayed_timeline,
				received_timeline;
	XLogRecPtr	received;
	bool		consistent = HotStandbyActive();	/* "exhausted" means nothing while a backup's start is being looked for (POSTGRES.md, M17) */

	/* Before the replayed position: if it waits, everything it could be waiting for has been replayed. */
	view->replay_exhausted = pgraft_receiver_waiting(); /* what was rewound or cloned becomes consistent by streaming only */
	view->end_known = consistent && pgraft_receiver_has_waited();
	view->receiver_stopped = pgraft_receiver_stopped();

	/* After that, so that its final flush counts. */
	received = GetWalRcvFlushRecPtr(NULL, &received_timeline);
	view->replayed_lsn = GetXLogReplayRecPtr(&replayed_timeline);
	view->replayed_timeline = replayed_timeline;
	view->end_timeline = replayed_timeline;
	view->end_lsn = view->replayed_lsn;
	if (received != InvalidXLogRecPtr && received_counts(received_timeline, received, replayed_timeline) &&
		(received_timeline > replayed_timeline || received > view->end_lsn))
	{
		view->end_timeline = received_timeline;
		view->end_lsn = received;
	}
}

static void
observe_primary(PgraftDatabaseView *view)
{
	static CachedHistory cached;
	const CachedHistory *history;
	TimeLineID	timeline;

	view->end_lsn = GetFlushRecPtr(&timeline);
	view->end_timeline = timeline;
	view->replayed_timeline = timeline;
	view->replayed_lsn = view->end_lsn;
	view->end_known = true;
	view->receiver_stopped = pgraft_receiver_stopped();

	history = history_of(&cached, timeline);
	view->history_count = history->count;
	memcpy(view->history, history->lines, history->count * sizeof(history->lines[0]));
	view->streams_count = pgraft_sender_streams(view->streams, PGRAFT_MAX_MEMBERS);
}

/*
 * A position at or before the beginning of a record that is on disk, so that recovery, which ends behind the last whole record, gets there. Record pointers skip page headers.
 */
static XLogRecPtr
whole_records(TimeLineID *timeline)
{
	XLogRecPtr	flushed = GetFlushRecPtr(timeline);
	XLogRecPtr	record = GetLastImportantRecPtr();

	if (record % XLOG_BLCKSZ == SizeOfXLogShortPHD || XLogSegmentOffset(record, wal_segment_size) == SizeOfXLogLongPHD)
		record -= record % XLOG_BLCKSZ;
	return record < flushed ? record : InvalidXLogRecPtr;
}

/* Rule 3: a data directory that ends before this, when the node starts the next time, was put back from a copy. In the upkeep worker, since it waits for the disk. */
void
pgraft_keep_wal_end(void)
{
	static TimeLineID kept_timeline = 0;
	static XLogRecPtr kept = InvalidXLogRecPtr;
	static bool failing = false;
	TimeLineID	timeline;
	XLogRecPtr	end = RecoveryInProgress() ? GetXLogReplayRecPtr(&timeline) : whole_records(&timeline);
	PgraftError error;

	if (end == InvalidXLogRecPtr || (timeline == kept_timeline && end <= kept))
		return;
	memset(&error, 0, sizeof(error));
	if (pgraft_wal_end_keep(pgraft_data_dir(), DataDir, timeline, end, &error) != PGRAFT_OK)
	{
		if (!failing)
			ereport(LOG,
					(errmsg("pgraft could not remember where the WAL ends: %s", error.message),
					 errdetail("It tries again every second.")));
		failing = true;
		return;
	}
	failing = false;
	kept_timeline = timeline;
	kept = end;
}

void
pgraft_observe(uint64 orders_seen, PgraftDatabaseView *view)
{
	memset(view, 0, sizeof(*view));
	view->orders_seen = orders_seen;
	view->promote_pending = pgraft_promote_pending();	/* first: one that ends right now must not look like 'in recovery, not pending' */
	view->in_recovery = RecoveryInProgress();
	view->promote_pending = view->promote_pending && view->in_recovery;
	if (view->in_recovery)
		observe_standby(view);
	else
		observe_primary(view);
	observe_wal_directory(view);
	view->needed_lsn = Min(GetRedoRecPtr(), view->end_lsn);	/* where this server would begin to recover */
	view->frozen = pgraft_sender_frozen();
	view->quorum_in_force = pgraft_quorum_in_force();
	if (!view->in_recovery)
		pgraft_drain_observe(view);
	view->quorum_waits_for = pgraft_quorum_waits_for();
}
