/*
 * activity.c: SQL functions that show commands, measurements, the commit quorum and the changes of leadership.
 */
#include "pgraft.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/errcodes.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "sql.h"

PG_FUNCTION_INFO_V1(pgraft_get_command);
PG_FUNCTION_INFO_V1(pgraft_get_queue_status);
PG_FUNCTION_INFO_V1(pgraft_kv_get_stats);
PG_FUNCTION_INFO_V1(pgraft_get_performance);
PG_FUNCTION_INFO_V1(pgraft_get_messages);
PG_FUNCTION_INFO_V1(pgraft_get_failovers);
PG_FUNCTION_INFO_V1(pgraft_get_commit_quorum);

/* ---- commands ---- */

static const char *
command_name(PgraftCommandType type)
{
	switch (type)
	{
		case PGRAFT_CMD_INIT:
			return "INIT";
		case PGRAFT_CMD_ADD_NODE:
			return "ADD_NODE";
		case PGRAFT_CMD_REMOVE_NODE:
			return "REMOVE_NODE";
		case PGRAFT_CMD_TRANSFER:
			return "TRANSFER_LEADERSHIP";
		case PGRAFT_CMD_CHECK_TRANSFER:
			return "CHECK_TRANSFER";
		case PGRAFT_CMD_CANCEL_TRANSFER:
			return "CANCEL_TRANSFER";
		case PGRAFT_CMD_PAUSE:
			return "PAUSE";
		case PGRAFT_CMD_KV_PUT:
			return "KV_PUT";
		case PGRAFT_CMD_KV_DELETE:
			return "KV_DELETE";
		case PGRAFT_CMD_KV_COMPARE_AND_SET:
			return "KV_COMPARE_AND_SET";
		case PGRAFT_CMD_LOG_APPEND:
			return "LOG_APPEND";
		case PGRAFT_CMD_KV_GET:
		case PGRAFT_CMD_KV_LIST:
		case PGRAFT_CMD_KV_CHANGES:
		case PGRAFT_CMD_LOG_ENTRY:
		case PGRAFT_CMD_READ_BARRIER:
		case PGRAFT_CMD_METRICS:
			return "LOOK";
	}
	return "UNKNOWN";
}

static const char *
command_state_name(const PgraftCommandStatus *status)
{
	static const char *const names[] = {"PENDING", "PROCESSING", "COMPLETED", "FAILED"};

	if (status->state == PGRAFT_COMMAND_FAILED && status->error.code == PGRAFT_TIMEOUT)
		return "UNKNOWN";
	return names[status->state];
}

/* The first five columns are those of both functions. */
static int
command_columns(const PgraftCommandStatus *status, Datum *values, bool *nulls)
{
	int			n = 0;

	values[n++] = Int64GetDatum((int64) status->id);
	values[n++] = CStringGetTextDatum(command_name(status->type));
	values[n++] = CStringGetTextDatum(command_state_name(status));
	values[n] = CStringGetTextDatum(status->error.message);
	nulls[n++] = status->error.message[0] == '\0';
	values[n++] = TimestampTzGetDatum(status->queued_at);
	values[n] = TimestampTzGetDatum(status->completed_at);
	nulls[n++] = status->completed_at == 0;
	return n;
}

Datum
pgraft_get_command(PG_FUNCTION_ARGS)
{
	PgraftCommandStatus status;
	Datum		values[8];
	bool		nulls[8] = {0};
	int			n;

	require_loaded();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("id must not be null")));
	if (!pgraft_command_find((uint64) PG_GETARG_INT64(0), &status))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("command %lld is not known", (long long) PG_GETARG_INT64(0)),
				 errdetail("Each server knows the newest %d changes given on it since it started, and the newest %d whose outcome nobody was told.",
						   PGRAFT_COMMANDS_KEPT, PGRAFT_COMMANDS_KEPT)));
	n = command_columns(&status, values, nulls);
	values[n] = Int64GetDatum((int64) status.value);
	nulls[n++] = status.state != PGRAFT_COMMAND_COMPLETED;
	nulls[n] = status.state != PGRAFT_COMMAND_FAILED;
	values[n] = nulls[n] ? (Datum) 0 : CStringGetTextDatum(unpack_sql_state(pgraft_sqlstate(status.error.code, true)));
	return row(fcinfo, values, nulls);
}

Datum
pgraft_get_queue_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PgraftCommandStatus *statuses;
	int			count;

	require_loaded();
	count = pgraft_command_list(&statuses);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
	{
		Datum		values[6];
		bool		nulls[6] = {0};

		command_columns(&statuses[i], values, nulls);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---- measurements ---- */

const PgraftMetrics *
pgraft_get_metrics(void)
{
	PgraftCommand command;
	PgraftAnswer answer;

	require_node_id();
	pgraft_new_command(&command, PGRAFT_CMD_METRICS);
	pgraft_call(&command, pgraft_command_deadline(), &answer);
	if (answer.size != sizeof(PgraftMetrics))
		elog(ERROR, "the pgraft worker's measurements have %zu bytes, not %zu", answer.size, sizeof(PgraftMetrics));
	return (const PgraftMetrics *) answer.data;
}

Datum
pgraft_kv_get_stats(PG_FUNCTION_ARGS)
{
	const PgraftMetrics *m = pgraft_get_metrics();
	Datum		values[12];
	bool		nulls[12] = {0};
	int			n = 0;

	values[n++] = Int64GetDatum((int64) m->kv_keys);
	values[n++] = Int64GetDatum((int64) m->kv_bytes);
	values[n++] = Int64GetDatum((int64) PGRAFT_MAX_KV_BYTES);
	values[n++] = Int64GetDatum((int64) m->kv_with_ttl);
	values[n++] = Int64GetDatum((int64) m->kv_revision);
	values[n++] = Int64GetDatum((int64) m->kv_changes_kept_after);
	values[n++] = Int64GetDatum((int64) m->kv_puts);
	values[n++] = Int64GetDatum((int64) m->kv_deletes);
	values[n++] = Int64GetDatum((int64) m->kv_expirations);
	values[n++] = Int64GetDatum((int64) m->kv_conflicts);
	values[n++] = Int64GetDatum((int64) m->kv_refused);
	values[n++] = Int32GetDatum((int32) pgraft_load(&pgraft_shared->guard.kv_watchers));
	return row(fcinfo, values, nulls);
}

static void
put_figure(ReturnSetInfo *result, const char *name, double value, const char *unit)
{
	Datum		values[3];
	bool		nulls[3] = {0};

	values[0] = CStringGetTextDatum(name);
	values[1] = Float8GetDatum(value);
	values[2] = CStringGetTextDatum(unit);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_latency(ReturnSetInfo *result, const char *name, const PgraftLatency *latency)
{
	put_figure(result, psprintf("%s_count", name), (double) latency->count, "");
	put_figure(result, psprintf("%s_mean", name), latency->mean / 1000.0, "ms");
	put_figure(result, psprintf("%s_p50", name), latency->p50 / 1000.0, "ms");
	put_figure(result, psprintf("%s_p90", name), latency->p90 / 1000.0, "ms");
	put_figure(result, psprintf("%s_p99", name), latency->p99 / 1000.0, "ms");
	put_figure(result, psprintf("%s_max", name), latency->max / 1000.0, "ms");
}

Datum
pgraft_get_performance(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const PgraftMetrics *m = pgraft_get_metrics();

	InitMaterializedSRF(fcinfo, 0);
	put_latency(result, "command", &m->entries);
	put_latency(result, "read", &m->looks);
	put_latency(result, "disk_write", &m->disk_write);
	put_latency(result, "disk_sync", &m->disk_sync);
	put_figure(result, "disk_syncs", (double) m->disk_syncs, "");
	put_figure(result, "disk_entries", (double) m->disk_entries, "");
	put_latency(result, "tick_delay", &m->tick_delay);
	put_figure(result, "lease_left", (double) m->lease_ms, "ms");
	put_figure(result, "queued", (double) m->queued, "");
	put_figure(result, "worker_memory", (double) m->resident_bytes, "bytes");
	put_figure(result, "elections", (double) m->elections_triggered, "");
	put_figure(result, "heartbeats_sent", (double) m->heartbeats_sent, "");
	put_figure(result, "messages_processed", (double) m->messages_processed, "");
	return (Datum) 0;
}

/* One row a member and type of message. Version 0.1.0 of the extension has the first six columns. */
Datum
pgraft_get_messages(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const PgraftMetrics *m = pgraft_get_metrics();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < m->peers_count; i++)
	{
		const PgraftPeerMetrics *peer = &m->peers[i];

		for (int type = 0; type < PGRAFT_MESSAGE_TYPES; type++)
		{
			const PgraftTraffic *sent = &peer->sent[type];
			const PgraftTraffic *received = &peer->received[type];
			Datum		values[8];
			bool		nulls[8] = {0};

			if (sent->bytes == 0 && received->bytes == 0)
				continue;
			values[0] = Int32GetDatum((int32) peer->id);
			values[1] = CStringGetTextDatum(pgraft_message_type_name(type));
			values[2] = Int64GetDatum((int64) sent->messages);
			values[3] = Int64GetDatum((int64) received->messages);
			values[4] = Int64GetDatum((int64) peer->bytes_sent);
			values[5] = Int64GetDatum((int64) peer->messages_dropped);
			values[6] = Int64GetDatum((int64) sent->bytes);
			values[7] = Int64GetDatum((int64) received->bytes);
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}

/* ---- leadership and quorum ---- */

static TimestampTz
timestamp_of_unix_ms(uint64 ms)
{
	return ((int64) ms - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * INT64CONST(86400000)) * 1000;
}

Datum
pgraft_get_failovers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const PgraftMetrics *m = pgraft_get_metrics();

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < m->leader_changes_count; i++)
	{
		const PgraftLeaderChange *change = &m->leader_changes[i];
		Datum		values[9];
		bool		nulls[9] = {0};
		int			n = 0;

		values[n++] = Int64GetDatum((int64) change->term);
		values[n++] = Int64GetDatum((int64) change->timeline);
		values[n] = Int32GetDatum((int32) change->previous);
		nulls[n++] = change->previous == 0;
		values[n++] = Int32GetDatum((int32) change->node);
		values[n++] = TimestampTzGetDatum(timestamp_of_unix_ms(change->at_ms));
		values[n++] = Int32GetDatum((int32) change->election_ms);
		values[n++] = Int32GetDatum((int32) change->agreement_ms);
		values[n++] = Int32GetDatum((int32) change->promotion_ms);
		values[n++] = Int32GetDatum((int32) change->opening_ms);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

static const PgraftStream *
find_stream(const PgraftDatabaseView *view, uint64 node)
{
	for (int i = 0; i < view->streams_count; i++)
		if (view->streams[i].node == node)
			return &view->streams[i];
	return NULL;
}

/* Who counts towards a commit, on the leader; nobody elsewhere. */
Datum
pgraft_get_commit_quorum(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PgraftDatabaseView *view = palloc(sizeof(PgraftDatabaseView));
	PgraftOrders *orders = palloc(sizeof(PgraftOrders));
	uint64		self;

	require_loaded();
	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	*view = pgraft_shared->view;
	*orders = pgraft_shared->orders;
	self = pgraft_shared->status.node_id;
	LWLockRelease(pgraft_shared->lock);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < orders->quorum_voters_count && orders->quorum_generation != 0; i++)
	{
		uint64		node = orders->quorum_voters[i];
		const PgraftStream *stream = find_stream(view, node);
		Datum		values[6];
		bool		nulls[6] = {0};

		values[0] = Int32GetDatum((int32) node);
		values[1] = BoolGetDatum(node == self);
		values[2] = BoolGetDatum(node == self || stream != NULL);
		values[3] = LSNGetDatum(node == self ? view->end_lsn : stream ? stream->flush_lsn : 0);
		nulls[3] = node != self && (stream == NULL || stream->flush_lsn == 0);
		values[4] = Int32GetDatum(orders->quorum_voters_count / 2 + 1);
		values[5] = BoolGetDatum(view->quorum_in_force == orders->quorum_generation);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
