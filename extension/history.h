/*
 * history.h: timeline history files as the seams see them (rule 5).
 *
 * A reserved id has a history file that holds a comment only: PostgreSQL sees that the id is taken, finds no parent in it, and a running standby therefore
 * refuses to follow it. Paths are relative to the data directory, which is the working directory of every server process.
 */
#ifndef PGRAFT_HISTORY_H
#define PGRAFT_HISTORY_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "lib/stringinfo.h"

#define PGRAFT_RESERVED_MARK "# reserved by pgraft"

/* "0000001A.history" -> true and 0x1A. */
extern bool pgraft_history_parse_name(const char *name, TimeLineID *timeline);

/* Content of the file in pg_wal, palloc'd and zero-terminated; NULL when there is none. ERROR when it can't be read. */
extern char *pgraft_history_read(TimeLineID timeline);

extern bool pgraft_history_is_reserved(const char *content);

/* The last line's parent and switch point; false when no line has one. */
extern bool pgraft_history_last_line(const char *content, TimeLineID *parent, XLogRecPtr *end);

/* Greatest id of a file in pg_wal; 0 none. */
extern TimeLineID pgraft_history_highest(void);

/* What the log of the cluster knows: the history of a completed promotion, the mark for one that was given up; false when it does not know. */
extern bool pgraft_history_from_log(TimeLineID timeline, StringInfo content);

#endif
