/*
 * boot.c: what must be settled before recovery begins: at boot and at every crash restart (rules 1, 5, 10).
 *
 * Runs in the postmaster, in the shared-memory start-up hook: the working directory is the data directory, the startup process does not exist yet, nothing else touches
 * the files. An error here ends the postmaster: a server whose identity is in doubt must not start.
 */
#include "pgraft.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "storage/copydir.h"
#include "storage/fd.h"

#include "history.h"
#include "seams.h"

#define BINDING_FILE "pgraft.binding"	/* written by the node, see libpgraft/node/member_files.h */
#define ASIDE_TRIES 1000

static PgraftBoot boot;

/* ---- rule 10 ---- */

/* False: this server belongs to no cluster and is left alone. */
static bool
check_identity(void)
{
	PgraftError error;

	if (pgraft_node_id == 0)
	{
		if (access(BINDING_FILE, F_OK) == 0)
			ereport(FATAL,
					(errcode(ERRCODE_CONFIG_FILE_ERROR),
					 errmsg("this data directory belongs to a member of a pgraft cluster, but pgraft.node_id is not set"),
					 errdetail("The file \"%s\" is in the data directory.", BINDING_FILE),
					 errhint("Set pgraft.node_id to the node's number. Started without it, the server would write beside the cluster.")));
		return false;
	}

	memset(&error, 0, sizeof(error));
	if (pgraft_boot_check(pgraft_data_dir(), DataDir, (uint64) pgraft_node_id, pgraft_cluster_name,
						  GetSystemIdentifier(), &boot, &error) != PGRAFT_OK)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pgraft refuses to start this server: %s", error.message)));
	return boot.member;
}

/* ---- rule 1 ---- */

/* Recovery deletes the file long before the promotion is complete, so it is put back at every start (POSTGRES.md, M4). */
static void
start_as_standby(void)
{
	int			fd;

	if (access(STANDBY_SIGNAL_FILE, F_OK) != 0)
	{
		fd = BasicOpenFile(STANDBY_SIGNAL_FILE, O_RDWR | O_CREAT | PG_BINARY);
		if (fd < 0)
			ereport(FATAL,
					(errcode_for_file_access(),
					 errmsg("could not create file \"%s\": %m", STANDBY_SIGNAL_FILE)));
		close(fd);
		ereport(LOG,
				(errmsg("starting as a standby, as every member of the cluster does")));
	}
	fsync_fname(STANDBY_SIGNAL_FILE, false);
	if (unlink(PROMOTE_SIGNAL_FILE) != 0 && errno != ENOENT)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", PROMOTE_SIGNAL_FILE)));
	fsync_fname(".", true);
}

/* ---- rule 5: history files that no promotion accounts for ---- */

/*
 * A promotion writes N's history before its first record on N. If it died in between the file would send this node to a timeline that nobody is on (POSTGRES.md, M2). True if
 * pg_wal holds nothing of timeline N but what its creation copied: bytes up to the switch, then zeroes.
 */
static bool
nothing_written_in(const char *name, off_t from)
{
	char		path[MAXPGPATH];
	char		block[XLOG_BLCKSZ];
	bool		zero = true;
	ssize_t		length;
	int			fd;

	snprintf(path, sizeof(path), XLOGDIR "/%s", name);
	fd = BasicOpenFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	while (zero && (length = pg_pread(fd, block, sizeof(block), from)) > 0)
	{
		for (ssize_t i = 0; i < length && zero; i++)
			zero = block[i] == 0;
		from += length;
	}
	close(fd);
	return zero;
}

/* Also returns the segment that belongs to the timeline, for moving it: there is at most one if the answer is true. */
static bool
nothing_written_on(TimeLineID timeline, XLogRecPtr switch_lsn, char *segment)
{
	DIR		   *directory = AllocateDir(XLOGDIR);
	struct dirent *entry;
	bool		nothing = true;
	XLogSegNo	switch_segment;

	segment[0] = '\0';
	XLByteToSeg(switch_lsn, switch_segment, wal_segment_size);
	while (nothing && (entry = ReadDir(directory, XLOGDIR)) != NULL)
	{
		TimeLineID	found;
		XLogSegNo	number;

		if (!IsXLogFileName(entry->d_name) && !IsPartialXLogFileName(entry->d_name))
			continue;
		XLogFromFileName(entry->d_name, &found, &number, wal_segment_size);
		if (found != timeline)
			continue;
		nothing = IsXLogFileName(entry->d_name) && number == switch_segment &&
			nothing_written_in(entry->d_name, XLogSegmentOffset(switch_lsn, wal_segment_size));
		strlcpy(segment, entry->d_name, MAXFNAMELEN);
	}
	FreeDir(directory);
	return nothing;
}

/* Never deleted: whoever has to find out what happened finds it there. */
static void
move_aside(const char *name)
{
	char	   *directory = psprintf("%s/aside", pgraft_data_dir());
	char	   *from = psprintf(XLOGDIR "/%s", name);
	char	   *to = NULL;

	if (MakePGDirectory(directory) != 0 && errno != EEXIST)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", directory)));
	for (int i = 0; i < ASIDE_TRIES; i++)
	{
		to = i == 0 ? psprintf("%s/%s", directory, name) : psprintf("%s/%s.%d", directory, name, i);
		if (access(to, F_OK) != 0)
			break;
	}
	if (rename(from, to) != 0)
	{
		if (errno != EXDEV)
			ereport(FATAL,
					(errcode_for_file_access(),
					 errmsg("could not rename file \"%s\" to \"%s\": %m", from, to)));
		copy_file(from, to);	/* another file system */
		fsync_fname(to, false);
		fsync_fname(directory, true);
		if (unlink(from) != 0)
			ereport(FATAL,
					(errcode_for_file_access(),
					 errmsg("could not remove file \"%s\": %m", from)));
	}
	else
		fsync_fname(directory, true);
	fsync_fname(XLOGDIR, true);
	ereport(LOG,
			(errmsg("moved file \"%s\" to \"%s\"", from, to),
			 errdetail("It belongs to a promotion that was begun and has written nothing.")));
}

static void
remove_reserved(TimeLineID timeline)
{
	char		path[MAXPGPATH];

	TLHistoryFilePath(path, timeline);
	if (unlink(path) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", path)));
	fsync_fname(XLOGDIR, true);
	ereport(LOG,
			(errmsg("removed file \"%s\", which had reserved a timeline that was not used", path)));
}

static bool
is_in_history(TimeLineID timeline)
{
	if (timeline == boot.current_timeline)
		return true;
	for (int i = 0; i < boot.history_count; i++)
	{
		if (boot.history[i].timeline == timeline)
			return true;
	}
	return false;
}

/* Files up to here are needed or do no harm: recovery reads the newest one only, and the lower ones fill the sequence that it probes. */
static TimeLineID
newest_accounted_for(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	DIR		   *directory = AllocateDir(XLOGDIR);
	struct dirent *entry;
	TimeLineID	newest = Max(control->checkPointCopy.ThisTimeLineID, control->minRecoveryPointTLI);

	pfree(control);
	while ((entry = ReadDir(directory, XLOGDIR)) != NULL)
	{
		TimeLineID	timeline;

		if (pgraft_history_parse_name(entry->d_name, &timeline) && is_in_history(timeline))
			newest = Max(newest, timeline);
	}
	FreeDir(directory);
	return newest;
}

/*
 * From the greatest id downwards: reservations are removed, and the history of a promotion that has written nothing is moved aside, until one comes that is accounted for,
 * or that has WAL of its own: that branch is real, and the node will be found diverged and be rewound (rule 9).
 */
static void
clean_histories(void)
{
	TimeLineID	accounted = newest_accounted_for();
	TimeLineID	timeline;

	while ((timeline = pgraft_history_highest()) > accounted)
	{
		char	   *content = pgraft_history_read(timeline);
		char		name[MAXFNAMELEN];
		char		segment[MAXFNAMELEN];
		TimeLineID	parent;
		XLogRecPtr	switch_lsn;

		if (content == NULL)
			break;
		if (pgraft_history_is_reserved(content))
			remove_reserved(timeline);
		else if (boot.current_timeline != 0 && pgraft_history_last_line(content, &parent, &switch_lsn) &&
				 nothing_written_on(timeline, switch_lsn, segment))
		{
			TLHistoryFileName(name, timeline);
			move_aside(name);	/* first: without it the segment is not looked for */
			if (segment[0] != '\0')
				move_aside(segment);
		}
		else
			break;
		pfree(content);
	}
}

void
pgraft_boot(void)
{
	pgraft_quorum_stamp_postmaster();
	if (check_identity())
	{
		clean_histories();
		if ((pgraft_rules_off & PGRAFT_OFF_STANDBY_START) == 0)
			start_as_standby();
	}
	else
		pgraft_store(&pgraft_shared->guard.standalone, 1);
}
