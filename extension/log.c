/*
 * log.c: SQL functions of the Raft log and of how far each member has come.
 */
#include "pgraft.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "sql.h"

PG_FUNCTION_INFO_V1(pgraft_log_append);
PG_FUNCTION_INFO_V1(pgraft_log_get_entry);
PG_FUNCTION_INFO_V1(pgraft_log_get_stats);
PG_FUNCTION_INFO_V1(pgraft_log_get_replication_status);

Datum
pgraft_log_append(PG_FUNCTION_ARGS)
{
	PgraftCommand command;
	PgraftAnswer answer;
	Size		size;
	char	   *data;

	require_node_id();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("data must not be null")));
	data = pgraft_to_utf8(PG_GETARG_TEXT_PP(0), &size);
	if (size > PGRAFT_MAX_VALUE_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("data is %zu bytes long, the limit is %d", size, PGRAFT_MAX_VALUE_BYTES)));
	pgraft_new_command(&command, PGRAFT_CMD_LOG_APPEND);
	pgraft_set_texts(&command, data, size, NULL, 0, NULL, 0);
	pgraft_call(&command, pgraft_command_deadline(), &answer);
	PG_RETURN_INT64((int64) answer.value);
}

Datum
pgraft_log_get_entry(PG_FUNCTION_ARGS)
{
	PgraftCommand command;
	PgraftAnswer answer;
	PgraftRow	entry;
	Size		next = 0;
	const char *kind,
			   *data;
	Datum		values[6];
	bool		nulls[6] = {0};

	require_node_id();
	if (PG_ARGISNULL(0) || PG_GETARG_INT64(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("index must be at least 1")));
	pgraft_new_command(&command, PGRAFT_CMD_LOG_ENTRY);
	command.number = (uint64) PG_GETARG_INT64(0);
	pgraft_call(&command, pgraft_command_deadline(), &answer);
	if (!pgraft_next_row(&answer, &next, &entry, &kind, &data))
		PG_RETURN_NULL();
	values[0] = Int64GetDatum((int64) entry.numbers[0]);
	values[1] = Int64GetDatum((int64) entry.numbers[1]);
	values[2] = PointerGetDatum(pgraft_from_utf8(kind, entry.sizes[0], NULL));
	values[3] = PointerGetDatum(pgraft_from_utf8(data, entry.sizes[1], NULL));
	values[4] = Int32GetDatum((int32) entry.numbers[3]);
	nulls[4] = entry.numbers[3] == 0;
	values[5] = Int64GetDatum((int64) entry.numbers[4]);
	return row(fcinfo, values, nulls);
}

Datum
pgraft_log_get_stats(PG_FUNCTION_ARGS)
{
	const PgraftMetrics *m = pgraft_get_metrics();
	Datum		values[12];
	bool		nulls[12] = {0};
	int			n = 0;

	values[n++] = Int64GetDatum((int64) m->first_index);
	values[n++] = Int64GetDatum((int64) m->last_index);
	values[n++] = Int64GetDatum((int64) m->commit_index);
	values[n++] = Int64GetDatum((int64) m->applied_index);
	values[n++] = Int64GetDatum((int64) m->snapshot_index);
	values[n++] = Int64GetDatum((int64) (m->last_index + 1 - m->first_index));
	values[n++] = Int64GetDatum((int64) m->log_appends);
	values[n++] = Int64GetDatum((int64) m->disk_write.count);
	values[n++] = Int64GetDatum((int64) m->disk_entries);
	values[n++] = Int64GetDatum((int64) m->disk_syncs);
	values[n++] = Float8GetDatum(m->disk_write.p50 / 1000.0);
	values[n++] = Float8GetDatum(m->disk_write.p99 / 1000.0);
	return row(fcinfo, values, nulls);
}

/* ---- how far the members are ---- */

/* How long a member's stream needed for what it flushed last, as pg_stat_replication.flush_lag; -1: nothing was written lately, or there is no stream. */
static TimeOffset
flush_lag(uint64 node)
{
	pid_t		pid = 0;
	TimeOffset	lag = -1;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < PGRAFT_MAX_SENDERS; i++)
		if (pgraft_shared->sender.senders[i].pid != 0 && pgraft_shared->sender.senders[i].node == node)
			pid = pgraft_shared->sender.senders[i].pid;
	LWLockRelease(pgraft_shared->lock);
	for (int i = 0; i < max_wal_senders && pid != 0; i++)
	{
		WalSnd	   *walsender = &WalSndCtl->walsnds[i];

		SpinLockAcquire(&walsender->mutex);
		if (walsender->pid == pid)
			lag = walsender->flushLag;
		SpinLockRelease(&walsender->mutex);
	}
	return lag;
}

static const PgraftPeerMetrics *
find_peer(const PgraftMetrics *metrics, uint64 id)
{
	for (int i = 0; i < metrics->peers_count; i++)
		if (metrics->peers[i].id == id)
			return &metrics->peers[i];
	return NULL;
}

/* The leader knows all of it; others what the members tell all once a second. */
Datum
pgraft_log_get_replication_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const PgraftMetrics *metrics = pgraft_get_metrics();
	PgraftEngineStatus *status = palloc(sizeof(PgraftEngineStatus));
	TimestampTz now = GetCurrentTimestamp();
	XLogRecPtr	own_flush = RecoveryInProgress() ? InvalidXLogRecPtr : GetFlushRecPtr(NULL);

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	*status = pgraft_shared->status;
	LWLockRelease(pgraft_shared->lock);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < status->members_count; i++)
	{
		const PgraftMemberStatus *member = &status->members[i];
		const PgraftPeerMetrics *peer = find_peer(metrics, member->id);
		bool		self = member->id == status->node_id;
		bool		tracked = peer != NULL && peer->tracked;
		XLogRecPtr	flush = self && own_flush != 0 ? own_flush : member->flush_lsn;
		uint64		behind = own_flush > flush ? own_flush - flush : 0;
		TimeOffset	lag = self || behind == 0 ? 0 : flush_lag(member->id);
		Datum		values[12];
		bool		nulls[12] = {0};
		int			n = 0;

		values[n++] = Int32GetDatum((int32) member->id);
		values[n] = Int64GetDatum(tracked ? (int64) peer->match_index : 0);
		nulls[n++] = !tracked;
		values[n] = Int64GetDatum(tracked ? (int64) peer->next_index : 0);
		nulls[n++] = !tracked;
		nulls[n] = !tracked;
		values[n++] = CStringGetTextDatum(tracked ? peer->state : "");
		values[n] = TimestampTzGetDatum(tracked ? now - (int64) (self ? 0 : peer->idle_ms) * 1000 : 0);
		nulls[n++] = !tracked;
		values[n] = LSNGetDatum(flush);
		nulls[n++] = flush == 0;
		values[n] = Int64GetDatum((int64) member->wal_timeline);
		nulls[n++] = member->wal_timeline == 0;
		values[n] = LSNGetDatum(member->wal_lsn);
		nulls[n++] = member->wal_lsn == 0;
		values[n] = LSNGetDatum(member->replayed_lsn);
		nulls[n++] = member->replayed_lsn == 0;
		values[n] = Int64GetDatum((int64) behind);
		nulls[n++] = own_flush == 0 || flush == 0;
		values[n] = Float8GetDatum(lag / 1000000.0);
		nulls[n++] = own_flush == 0 || flush == 0 || lag < 0;
		values[n] = BoolGetDatum(self || (peer != NULL && peer->connected));
		nulls[n++] = peer == NULL;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
