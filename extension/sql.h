/*
 * sql.h: what the files with SQL functions share. Backends only.
 */
#ifndef PGRAFT_SQL_H
#define PGRAFT_SQL_H

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"

#include "pgraft.h"

static inline void
require_loaded(void)
{
	if (pgraft_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pgraft must be loaded via shared_preload_libraries"),
				 errhint("Add \"shared_preload_libraries = 'pgraft'\" to postgresql.conf and restart the server.")));
}

static inline void
require_node_id(void)
{
	require_loaded();
	if (pgraft_node_id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pgraft.node_id is not set"),
				 errhint("Set pgraft.node_id in postgresql.conf to a number that no other node of the cluster has, and restart the server.")));
}

/* A row of the function's result type. */
static inline Datum
row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* ---- calls.c ---- */

typedef struct PgraftAnswer
{
	uint64		value;
	char	   *data;		/* palloc'd; NULL: none */
	Size		size;
} PgraftAnswer;

extern void pgraft_new_command(PgraftCommand *command, PgraftCommandType type);
/* Puts texts into a command: (text, length) pairs; NULL is an empty one. What they point to is copied. */
extern void pgraft_set_texts(PgraftCommand *command, const char *first, Size first_size, const char *second, Size second_size,
							 const char *third, Size third_size);
extern TimestampTz pgraft_command_deadline(void);	/* now + pgraft.command_timeout */
extern void pgraft_require_worker(void);
/* Gives the worker a command and waits for its end; raises its failure. A session that is cancelled takes back what has not been begun. */
extern void pgraft_call(const PgraftCommand *command, TimestampTz deadline, PgraftAnswer *answer);
/* Sleeps on pgraft_shared->changed (prepared by the caller). False: the deadline has passed. */
extern bool pgraft_sleep_until_change(TimestampTz deadline);
extern int	pgraft_sqlstate(PgraftCode code, bool change);
/* Reads the next row of an answer, and moves *next on; false: there is none. The texts point into the answer. */
extern bool pgraft_next_row(const PgraftAnswer *answer, Size *next, PgraftRow *row, const char **first, const char **second);

/* What the worker's node has counted and measured (activity.c). */
extern const PgraftMetrics *pgraft_get_metrics(void);

/* ---- texts of the cluster are in UTF-8, those of a database in its own encoding (kv.c) ---- */
extern char *pgraft_to_utf8(const text *value, Size *size);
extern text *pgraft_from_utf8(const char *value, Size size, const char *hint);	/* hint: what to do when it is no text; NULL: none */

#endif
