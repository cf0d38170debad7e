/*
 * promote.c: promotion to exactly the timeline that consensus has chosen (rule 5).
 *
 * PostgreSQL takes the first id without a history file, probing one by one from the timeline that its startup process is on. So every id below the chosen one gets a file: a
 * comment only, which a standby refuses to follow and which can't become part of anybody's history (POSTGRES.md, M1). Written immediately before the signal;
 * what is left of an attempt that failed is removed at the next start (boot.c).
 */
#include "pgraft.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "history.h"

#define RESERVED_CONTENT PGRAFT_RESERVED_MARK "\n"
#define RESERVED_MAX 4096			/* ids between two promotions; more is a mistake */

static bool
history_exists(TimeLineID timeline)
{
	char		path[MAXPGPATH];

	TLHistoryFilePath(path, timeline);
	return access(path, F_OK) == 0;
}

/* Complete and durable under its name, or not there at all. */
static void
reserve(TimeLineID timeline)
{
	char		path[MAXPGPATH];
	char		temporary[MAXPGPATH];
	int			fd;

	TLHistoryFilePath(path, timeline);
	snprintf(temporary, sizeof(temporary), XLOGDIR "/pgraft.%08X.tmp", timeline);
	fd = OpenTransientFile(temporary, O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", temporary)));
	errno = 0;
	if (write(fd, RESERVED_CONTENT, strlen(RESERVED_CONTENT)) != strlen(RESERVED_CONTENT))
	{
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", temporary)));
	}
	CloseTransientFile(fd);
	durable_rename(temporary, path, ERROR);
}

static void
signal_startup_process(void)
{
	FILE	   *file = AllocateFile(PROMOTE_SIGNAL_FILE, "w");

	if (file == NULL || FreeFile(file) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", PROMOTE_SIGNAL_FILE)));
	pgraft_stop_at(&pgraft_shared->guard, PGRAFT_STOP_SIGNAL);
	if (kill(PostmasterPid, SIGUSR1) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("failed to send signal to postmaster: %m")));
}

void
pgraft_promote_start(uint32 timeline)
{
	static uint32 refused = 0;
	TimeLineID	current;

	if (!RecoveryInProgress() || pgraft_load(&pgraft_shared->promote_timeline) != 0)
		return;					/* done, or signalled: the signal can't be taken back */

	(void) GetXLogReplayRecPtr(&current);
	if (timeline <= current || timeline - current > RESERVED_MAX || history_exists(timeline))
	{
		if (refused != timeline)
			ereport(LOG,
					(errmsg("cannot promote to timeline %u", timeline),
					 errdetail("This server is on timeline %u, and its timelines go up to %u.", current, pgraft_history_highest())));
		refused = timeline;
		return;
	}

	pgraft_stop_at(&pgraft_shared->guard, PGRAFT_STOP_ORDERED);
	for (TimeLineID id = current + 1; id < timeline; id++)
	{
		if (!history_exists(id))
			reserve(id);
	}
	pgraft_stop_at(&pgraft_shared->guard, PGRAFT_STOP_RESERVED);
	ereport(LOG,
			(errmsg("promoting this server to timeline %u", timeline)));
	pgraft_store(&pgraft_shared->promote_timeline, timeline);	/* before the signal: pending from here on */
	signal_startup_process();
}

bool
pgraft_promote_pending(void)
{
	return pgraft_load(&pgraft_shared->promote_timeline) != 0 && RecoveryInProgress();
}
