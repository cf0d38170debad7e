/*
 * history.c: timeline histories, from files and from the promotions in the log (history.h).
 */
#include "pgraft.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog_internal.h"
#include "storage/fd.h"

#include "history.h"

/* A history has one short line for each switch; more than this is no history. */
#define HISTORY_BYTES_MAX (1024 * 1024)

bool
pgraft_history_parse_name(const char *name, TimeLineID *timeline)
{
	if (!IsTLHistoryFileName(name))
		return false;
	*timeline = (TimeLineID) strtoul(name, NULL, 16);
	return *timeline != 0;
}

char *
pgraft_history_read(TimeLineID timeline)
{
	char		path[MAXPGPATH];
	char	   *content;
	struct stat status;
	FILE	   *file;
	size_t		length;

	TLHistoryFilePath(path, timeline);
	file = AllocateFile(path, "r");
	if (file == NULL)
	{
		if (errno == ENOENT)
			return NULL;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	}
	if (fstat(fileno(file), &status) != 0 || status.st_size > HISTORY_BYTES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" is not a timeline history", path)));
	content = palloc(status.st_size + 1);
	length = fread(content, 1, status.st_size, file);
	if (ferror(file))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", path)));
	content[length] = '\0';
	FreeFile(file);
	return content;
}

bool
pgraft_history_is_reserved(const char *content)
{
	return strncmp(content, PGRAFT_RESERVED_MARK, strlen(PGRAFT_RESERVED_MARK)) == 0;
}

bool
pgraft_history_last_line(const char *content, TimeLineID *parent, XLogRecPtr *end)
{
	bool		found = false;

	for (const char *line = content; line != NULL && *line != '\0';)
	{
		uint32		timeline,
					high,
					low;

		if (sscanf(line, "%u\t%X/%X", &timeline, &high, &low) == 3)
		{
			*parent = timeline;
			*end = ((uint64) high << 32) | low;
			found = true;
		}
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	return found;
}

TimeLineID
pgraft_history_highest(void)
{
	DIR		   *directory = AllocateDir(XLOGDIR);
	TimeLineID	highest = 0;
	struct dirent *entry;

	while ((entry = ReadDir(directory, XLOGDIR)) != NULL)
	{
		TimeLineID	timeline;

		if (pgraft_history_parse_name(entry->d_name, &timeline))
			highest = Max(highest, timeline);
	}
	FreeDir(directory);
	return highest;
}

static const PgraftPromotion *
find_promotion(const PgraftPromotion *promotions, int count, TimeLineID timeline)
{
	for (int i = count - 1; i >= 0; i--)
	{
		if (promotions[i].timeline == timeline)
			return &promotions[i];
	}
	return NULL;
}

/* The lines of `timeline`'s history into `content`; false when the promotions do not lead down to a timeline whose history is on disk, or to the first one. */
static bool
append_history(StringInfo content, const PgraftPromotion *promotions, int count, TimeLineID timeline, int depth)
{
	const PgraftPromotion *promotion = find_promotion(promotions, count, timeline);
	char	   *file;

	if (promotion == NULL)
	{
		if (timeline == 1)
			return true;
		file = pgraft_history_read(timeline);
		if (file == NULL || pgraft_history_is_reserved(file))
			return false;
		appendStringInfoString(content, file);
		if (content->len > 0 && content->data[content->len - 1] != '\n')
			appendStringInfoChar(content, '\n');
		return true;
	}
	if (!promotion->done || promotion->parent == 0 || promotion->parent >= timeline || depth > PGRAFT_KEPT_PROMOTIONS ||
		!append_history(content, promotions, count, promotion->parent, depth + 1))
		return false;
	appendStringInfo(content, "%u\t%X/%X\tpromoted by pgraft\n", promotion->parent, LSN_FORMAT_ARGS(promotion->switch_lsn));
	return true;
}

bool
pgraft_history_from_log(TimeLineID timeline, StringInfo content)
{
	PgraftReceiverShared *shared = &pgraft_shared->receiver;
	PgraftPromotion *promotions = palloc(sizeof(shared->promotions));
	const PgraftPromotion *promotion;
	bool		known;
	int			count;

	SpinLockAcquire(&shared->mutex);
	count = shared->promotions_count;
	memcpy(promotions, shared->promotions, sizeof(shared->promotions));
	SpinLockRelease(&shared->mutex);

	promotion = find_promotion(promotions, count, timeline);
	known = promotion != NULL;
	if (known && !promotion->done)
	{
		/* Given up for certain only if a later one was completed; the newest may be complete at the leader and just not be known here yet. */
		known = false;
		for (int i = 0; i < count && !known; i++)
			known = promotions[i].done && promotions[i].timeline > timeline;
		if (known)
			appendStringInfoString(content, PGRAFT_RESERVED_MARK "\n");
	}
	else if (known)
		known = append_history(content, promotions, count, timeline, 0);
	pfree(promotions);
	return known;
}
