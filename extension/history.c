/*
 * history.c: reading timeline history files (history.h).
 */
#include "history.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog_internal.h"
#include "storage/fd.h"

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
