/*
 * kv.c: SQL functions of the key-value store.
 *
 * Changes are entries of the Raft log and go through any node. Reads ask the leader first whether this node has all that was committed when they began (linearizable), unless
 * they are to be `stale`. Keys are text in UTF-8, values any bytes; the functions without _bytes take and give values as text, and refuse what is none.
 */
#include "pgraft.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "sql.h"

PG_FUNCTION_INFO_V1(pgraft_kv_put);
PG_FUNCTION_INFO_V1(pgraft_kv_put_bytes);
PG_FUNCTION_INFO_V1(pgraft_kv_get);
PG_FUNCTION_INFO_V1(pgraft_kv_get_bytes);
PG_FUNCTION_INFO_V1(pgraft_kv_get_entry);
PG_FUNCTION_INFO_V1(pgraft_kv_exists);
PG_FUNCTION_INFO_V1(pgraft_kv_delete);
PG_FUNCTION_INFO_V1(pgraft_kv_compare_and_set);
PG_FUNCTION_INFO_V1(pgraft_kv_compare_and_set_value);
PG_FUNCTION_INFO_V1(pgraft_kv_list_keys);
PG_FUNCTION_INFO_V1(pgraft_kv_watch);

#define MAX_KEYS 10000			/* a page of keys */
#define BYTES_HINT "Read it with pgraft_kv_get_bytes()."
#define MAX_CHANGES 1000		/* that one call of pgraft_kv_watch() returns */

/* ---- texts ---- */

char *
pgraft_to_utf8(const text *value, Size *size)
{
	int			length = VARSIZE_ANY_EXHDR(value);
	const char *source = VARDATA_ANY(value);
	char	   *converted = pg_server_to_any(source, length, PG_UTF8);

	*size = converted == source ? length : strlen(converted);
	return converted;
}

text *
pgraft_from_utf8(const char *value, Size size, const char *hint)
{
	char	   *converted;

	if (!pg_verify_mbstr(PG_UTF8, value, (int) size, true))
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the value is no text in UTF-8"),
				 hint ? errhint("%s", hint) : 0));
	converted = pg_any_to_server(value, (int) size, PG_UTF8);
	return converted == value ? cstring_to_text_with_len(value, (int) size) : cstring_to_text(converted);
}

/* ---- arguments ---- */

static void
refuse_null(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name)));
}

static char *
key_argument(FunctionCallInfo fcinfo, int n, const char *name, Size *size)
{
	char	   *key;

	refuse_null(fcinfo, n, name);
	key = pgraft_to_utf8(PG_GETARG_TEXT_PP(n), size);
	if (*size > PGRAFT_MAX_KEY_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s is %zu bytes long, the limit is %d", name, *size, PGRAFT_MAX_KEY_BYTES)));
	return key;
}

static void
check_value_size(const char *name, Size size)
{
	if (size > PGRAFT_MAX_VALUE_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s is %zu bytes long, the limit is %d", name, size, PGRAFT_MAX_VALUE_BYTES)));
}

static char *
value_argument(FunctionCallInfo fcinfo, int n, const char *name, Size *size)
{
	char	   *value;

	refuse_null(fcinfo, n, name);
	value = pgraft_to_utf8(PG_GETARG_TEXT_PP(n), size);
	check_value_size(name, *size);
	return value;
}

/* Milliseconds, rounded up; 0: none was given. Months count as 30 days, as they do when intervals are compared. */
static uint64
ttl_argument(FunctionCallInfo fcinfo, int n)
{
	Interval   *interval;
	double		ms;

	if (PG_ARGISNULL(n))
		return 0;
	interval = PG_GETARG_INTERVAL_P(n);
	ms = ceil(interval->time / 1000.0 + (interval->day + 30.0 * interval->month) * (double) SECS_PER_DAY * 1000);
	if (ms < 1 || ms > 3.0e12)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a time to live must be above zero and at most some 95 years")));
	return (uint64) ms;
}

static int64
count_argument(FunctionCallInfo fcinfo, int n, int64 most)
{
	int64		max;

	refuse_null(fcinfo, n, "max");
	max = PG_GETARG_INT32(n);
	if (max < 1 || max > most)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max must be between 1 and %lld, not %lld", (long long) most, (long long) max)));
	return max;
}

static uint32
stale_argument(FunctionCallInfo fcinfo, int n)
{
	return !PG_ARGISNULL(n) && PG_GETARG_BOOL(n) ? PGRAFT_STALE : 0;
}

/* ---- changes ---- */

static Datum
put(FunctionCallInfo fcinfo, const char *value, Size value_size)
{
	PgraftCommand command;
	PgraftAnswer answer;
	Size		key_size;
	char	   *key = key_argument(fcinfo, 0, "key", &key_size);

	pgraft_new_command(&command, PGRAFT_CMD_KV_PUT);
	command.number = ttl_argument(fcinfo, 2);
	pgraft_set_texts(&command, key, key_size, value, value_size, NULL, 0);
	pgraft_call(&command, pgraft_command_deadline(), &answer);
	PG_RETURN_INT64((int64) answer.value);
}

Datum
pgraft_kv_put(PG_FUNCTION_ARGS)
{
	Size		size;
	char	   *value;

	require_node_id();
	value = value_argument(fcinfo, 1, "value", &size);
	return put(fcinfo, value, size);
}

Datum
pgraft_kv_put_bytes(PG_FUNCTION_ARGS)
{
	bytea	   *value;

	require_node_id();
	refuse_null(fcinfo, 1, "value");
	value = PG_GETARG_BYTEA_PP(1);
	check_value_size("value", VARSIZE_ANY_EXHDR(value));
	return put(fcinfo, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

Datum
pgraft_kv_delete(PG_FUNCTION_ARGS)
{
	PgraftCommand command;
	PgraftAnswer answer;
	Size		size;
	char	   *key;

	require_node_id();
	key = key_argument(fcinfo, 0, "key", &size);
	pgraft_new_command(&command, PGRAFT_CMD_KV_DELETE);
	pgraft_set_texts(&command, key, size, NULL, 0, NULL, 0);
	pgraft_call(&command, pgraft_command_deadline(), &answer);
	PG_RETURN_BOOL(answer.value != 0);
}

/* Key, what is expected, value, time to live. Null when it was not as expected. */
static Datum
compare_and_set(FunctionCallInfo fcinfo, PgraftCommand *command, const char *expected, Size expected_size)
{
	PgraftAnswer answer;
	Size		key_size,
				value_size;
	char	   *key = key_argument(fcinfo, 0, "key", &key_size);
	char	   *value = value_argument(fcinfo, 2, "value", &value_size);

	command->number = ttl_argument(fcinfo, 3);
	pgraft_set_texts(command, key, key_size, value, value_size, expected, expected_size);
	pgraft_call(command, pgraft_command_deadline(), &answer);
	if (answer.value == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) answer.value);
}

Datum
pgraft_kv_compare_and_set(PG_FUNCTION_ARGS)
{
	PgraftCommand command;
	int64		revision;

	require_node_id();
	refuse_null(fcinfo, 1, "expected_revision");
	revision = PG_GETARG_INT64(1);
	if (revision < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expected_revision must not be negative"),
				 errhint("0 means that there is no such key.")));
	pgraft_new_command(&command, PGRAFT_CMD_KV_COMPARE_AND_SET);
	command.revision = (uint64) revision;
	return compare_and_set(fcinfo, &command, NULL, 0);
}

Datum
pgraft_kv_compare_and_set_value(PG_FUNCTION_ARGS)
{
	PgraftCommand command;
	char	   *expected = NULL;
	Size		size = 0;

	require_node_id();
	pgraft_new_command(&command, PGRAFT_CMD_KV_COMPARE_AND_SET);
	if (!PG_ARGISNULL(1))
	{
		expected = value_argument(fcinfo, 1, "expected_value", &size);
		command.flags = PGRAFT_BY_VALUE;
	}
	return compare_and_set(fcinfo, &command, expected, size);
}

/* ---- reads ---- */

/* False: there is no such key. */
static bool
get(FunctionCallInfo fcinfo, PgraftRow *item, const char **value)
{
	PgraftCommand command;
	PgraftAnswer answer;
	Size		size,
				next = 0;
	const char *found_key;
	char	   *key;

	require_node_id();
	key = key_argument(fcinfo, 0, "key", &size);
	pgraft_new_command(&command, PGRAFT_CMD_KV_GET);
	command.flags = stale_argument(fcinfo, 1);
	pgraft_set_texts(&command, key, size, NULL, 0, NULL, 0);
	pgraft_call(&command, pgraft_command_deadline(), &answer);
	return pgraft_next_row(&answer, &next, item, &found_key, value);
}

Datum
pgraft_kv_get(PG_FUNCTION_ARGS)
{
	PgraftRow	item;
	const char *value;

	if (!get(fcinfo, &item, &value))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(pgraft_from_utf8(value, item.sizes[1], BYTES_HINT));
}

Datum
pgraft_kv_get_bytes(PG_FUNCTION_ARGS)
{
	PgraftRow	item;
	const char *value;

	if (!get(fcinfo, &item, &value))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P((bytea *) cstring_to_text_with_len(value, item.sizes[1]));
}

Datum
pgraft_kv_exists(PG_FUNCTION_ARGS)
{
	PgraftRow	item;
	const char *value;

	PG_RETURN_BOOL(get(fcinfo, &item, &value));
}

static Datum
interval_of_ms(uint64 ms)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = (int64) ms * 1000;
	return IntervalPGetDatum(interval);
}

Datum
pgraft_kv_get_entry(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PgraftRow	item;
	const char *value;
	Datum		values[5];
	bool		nulls[5] = {0};

	InitMaterializedSRF(fcinfo, 0);
	if (!get(fcinfo, &item, &value))
		return (Datum) 0;
	values[0] = PointerGetDatum(pgraft_from_utf8(value, item.sizes[1], BYTES_HINT));
	values[1] = Int64GetDatum((int64) item.numbers[0]);
	values[2] = Int64GetDatum((int64) item.numbers[1]);
	values[3] = interval_of_ms(item.numbers[2]);
	nulls[3] = item.numbers[2] == 0;
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp() + (int64) (item.numbers[3] - 1) * 1000);
	nulls[4] = item.numbers[3] == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}

Datum
pgraft_kv_list_keys(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PgraftCommand command;
	PgraftAnswer answer;
	PgraftRow	item;
	Size		prefix_size,
				after_size = 0,
				next = 0;
	char	   *prefix,
			   *after = NULL;
	const char *key,
			   *none;

	require_node_id();
	prefix = key_argument(fcinfo, 0, "prefix", &prefix_size);
	if (!PG_ARGISNULL(1))
		after = key_argument(fcinfo, 1, "after", &after_size);
	pgraft_new_command(&command, PGRAFT_CMD_KV_LIST);
	command.number = (uint64) count_argument(fcinfo, 2, MAX_KEYS);
	command.flags = stale_argument(fcinfo, 3);
	pgraft_set_texts(&command, prefix, prefix_size, after, after_size, NULL, 0);
	pgraft_call(&command, pgraft_command_deadline(), &answer);

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	while (pgraft_next_row(&answer, &next, &item, &key, &none))
	{
		Datum		value = PointerGetDatum(pgraft_from_utf8(key, item.sizes[0], NULL));
		bool		null = false;

		tuplestore_putvalues(result->setResult, result->setDesc, &value, &null);
	}
	return (Datum) 0;
}

/* ---- watching ---- */

static void
stop_watching(int code, Datum arg)
{
	__atomic_fetch_sub(&pgraft_shared->guard.kv_watchers, 1, __ATOMIC_SEQ_CST);
}

/* Asks what has changed, and sleeps until something else has; the worker wakes those that watch only while there are any. False: nothing came in time. */
static bool
wait_for_changes(PgraftCommand *command, TimestampTz deadline, PgraftAnswer *answer)
{
	bool		found = false;

	for (;;)
	{
		uint64		seen;
		long		left;

		ConditionVariablePrepareToSleep(&pgraft_shared->kv_changed);
		seen = pgraft_load(&pgraft_shared->guard.kv_revision);
		/* Waiting for the answer and for the variable use the same latch, so the revision is looked at again between the two. */
		pgraft_call(command, pgraft_command_deadline(), answer);
		found = answer->size > 0;
		if (found)
			break;
		command->revision = Max(command->revision, answer->value);
		while (pgraft_load(&pgraft_shared->guard.kv_revision) == seen)
		{
			left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
			if (left <= 0)
				break;
			ConditionVariableTimedSleep(&pgraft_shared->kv_changed, Min(left, 1000), pgraft_wait_event(PGRAFT_WAIT_KV_CHANGE));
		}
		if (TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline) <= 0)
			break;
	}
	ConditionVariableCancelSleep();
	return found;
}

static const char *
change_name(uint64 kind)
{
	static const char *const names[] = {"unknown", "put", "delete", "expire"};

	return kind < lengthof(names) ? names[kind] : names[0];
}

Datum
pgraft_kv_watch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PgraftCommand command;
	PgraftAnswer answer;
	PgraftRow	change;
	Size		size,
				next = 0;
	char	   *prefix;
	const char *key,
			   *value;
	TimestampTz deadline;
	bool		found = false;

	require_node_id();
	prefix = key_argument(fcinfo, 0, "prefix", &size);
	if (!PG_ARGISNULL(1) && PG_GETARG_INT64(1) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("after_revision must not be negative")));
	refuse_null(fcinfo, 2, "timeout");
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) ttl_argument(fcinfo, 2));
	pgraft_new_command(&command, PGRAFT_CMD_KV_CHANGES);
	/* From now: whatever comes after all that there can be has been seen. */
	command.revision = PG_ARGISNULL(1) ? PG_UINT64_MAX : (uint64) PG_GETARG_INT64(1);
	command.number = MAX_CHANGES;
	pgraft_set_texts(&command, prefix, size, NULL, 0, NULL, 0);

	__atomic_fetch_add(&pgraft_shared->guard.kv_watchers, 1, __ATOMIC_SEQ_CST);
	PG_ENSURE_ERROR_CLEANUP(stop_watching, (Datum) 0);
	{
		if (PG_ARGISNULL(1))
		{
			pgraft_call(&command, pgraft_command_deadline(), &answer);
			command.revision = answer.value;
		}
		found = wait_for_changes(&command, deadline, &answer);
	}
	PG_END_ENSURE_ERROR_CLEANUP(stop_watching, (Datum) 0);
	stop_watching(0, (Datum) 0);

	InitMaterializedSRF(fcinfo, 0);
	while (found && pgraft_next_row(&answer, &next, &change, &key, &value))
	{
		Datum		values[4];
		bool		nulls[4] = {0};

		values[0] = Int64GetDatum((int64) change.numbers[0]);
		values[1] = CStringGetTextDatum(change_name(change.numbers[1]));
		values[2] = PointerGetDatum(pgraft_from_utf8(key, change.sizes[0], NULL));
		nulls[3] = change.numbers[1] != 1;
		values[3] = nulls[3] ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(value, change.sizes[1]));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
