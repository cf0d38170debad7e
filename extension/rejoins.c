/*
 * rejoins.c: who copies from this server in order to join or rejoin, and how far that is.
 *
 * Such a node's own server is down. Its `pgraft prepare` (or `pgraft join`) keeps a session here while it works, whose application_name says what it does:
 * "pgraft_rejoin <node> <phase> <bytes done>/<bytes in all>" (bindings/python/pgraft/progress.py). Anybody who may connect can say so: it is shown, nothing rests on it.
 */
#include "pgraft.h"

#include <ctype.h>

#include "access/xlog.h"
#include "funcapi.h"
#include "pgstat.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "sql.h"

PG_FUNCTION_INFO_V1(pgraft_get_rejoins);

#define REJOIN_FORMAT "pgraft_rejoin " UINT64_FORMAT " %15s " UINT64_FORMAT "/" UINT64_FORMAT "%c"

static bool
is_rejoin(const char *name, PgraftRejoin *rejoin)
{
	uint64		node,
				done,
				total;
	char		more;

	if (name == NULL || sscanf(name, REJOIN_FORMAT, &node, rejoin->phase, &done, &total, &more) != 4 || node < 1 || node > PG_INT32_MAX)
		return false;
	for (const char *c = rejoin->phase; *c != '\0'; c++)
		if (!islower((unsigned char) *c))
			return false;
	rejoin->node = node;
	rejoin->bytes_done = done;
	rejoin->bytes_total = total;
	return true;
}

/* Once a second, by the upkeep worker. */
void
pgraft_rejoins_observe(void)
{
	PgraftRejoin found[PGRAFT_MAX_MEMBERS];
	int			count = 0;
	int			backends = RecoveryInProgress() ? 0 : pgstat_fetch_stat_numbackends();

	memset(found, 0, sizeof(found));
	for (int i = 0; i < backends && count < PGRAFT_MAX_MEMBERS; i++)
	{
		const PgBackendStatus *backend = PGRAFT_BACKEND_STATUS(i);
		PgraftRejoin *rejoin = &found[count];

		if (backend->st_procpid == 0 || !is_rejoin(backend->st_appname, rejoin))
			continue;
		rejoin->pid = backend->st_procpid;
		rejoin->since = backend->st_proc_start_timestamp;
		rejoin->seconds = (uint64) Max(GetCurrentTimestamp() - rejoin->since, 0) / USECS_PER_SEC;
		count++;
	}
	pgstat_clear_backend_activity_snapshot();

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	memcpy(pgraft_shared->rejoins, found, sizeof(found));
	pgraft_shared->rejoins_count = count;
	LWLockRelease(pgraft_shared->lock);
}

/* ---- SQL ---- */

static const char *
phase_text(const char *phase)
{
	static const char *const texts[][2] = {
		{"replay", "replaying local WAL"},
		{"rewind", "rewinding"},
		{"copy", "copying"},
		{"finish", "finishing"},
	};

	for (int i = 0; i < lengthof(texts); i++)
		if (strcmp(phase, texts[i][0]) == 0)
			return texts[i][1];
	return phase;
}

static const PgraftMemberStatus *
find_member(const PgraftEngineStatus *status, uint64 node)
{
	for (int i = 0; i < status->members_count; i++)
		if (status->members[i].id == node)
			return &status->members[i];
	return NULL;
}

static void
put_rejoin(ReturnSetInfo *result, const PgraftRejoin *rejoin, const PgraftMemberStatus *member)
{
	Datum		values[9];
	bool		nulls[9] = {0};

	values[0] = Int32GetDatum((int32) rejoin->node);
	values[1] = CStringGetTextDatum(member != NULL ? member->name : "");
	nulls[1] = member == NULL;
	values[2] = CStringGetTextDatum(phase_text(rejoin->phase));
	values[3] = Int64GetDatum((int64) rejoin->bytes_done);
	values[4] = Int64GetDatum((int64) rejoin->bytes_total);
	nulls[3] = nulls[4] = rejoin->bytes_total == 0;
	nulls[5] = true;
	values[6] = TimestampTzGetDatum(rejoin->since);
	values[7] = Int32GetDatum(rejoin->pid);
	nulls[8] = true;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_catching_up(ReturnSetInfo *result, const PgraftMemberStatus *member, XLogRecPtr own_flush)
{
	XLogRecPtr	end = Max(member->flush_lsn, member->wal_lsn);
	Datum		values[9];
	bool		nulls[9] = {0};

	values[0] = Int32GetDatum((int32) member->id);
	values[1] = CStringGetTextDatum(member->name);
	values[2] = CStringGetTextDatum("catching up");
	nulls[3] = nulls[4] = true;
	values[5] = Int64GetDatum(own_flush > end ? (int64) (own_flush - end) : 0);
	nulls[5] = end == 0;
	nulls[6] = nulls[7] = true;
	values[8] = CStringGetTextDatum(member->waits_for);
	nulls[8] = member->waits_for[0] == '\0';
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Answers, but acknowledges nothing; or has no vote yet and is to get one. */
static bool
is_catching_up(const PgraftMemberStatus *member)
{
	if (!member->answering)
		return false;
	return member->flush_lsn == 0 || (member->learner && !member->nosync);
}

/* On the leader; nobody elsewhere. */
Datum
pgraft_get_rejoins(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PgraftEngineStatus *status = palloc(sizeof(PgraftEngineStatus));
	PgraftRejoin rejoins[PGRAFT_MAX_MEMBERS];
	int			count;
	XLogRecPtr	own_flush;

	require_loaded();
	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	*status = pgraft_shared->status;
	memcpy(rejoins, pgraft_shared->rejoins, sizeof(rejoins));
	count = pgraft_shared->rejoins_count;
	LWLockRelease(pgraft_shared->lock);

	InitMaterializedSRF(fcinfo, 0);
	if (status->leader_id == 0 || status->leader_id != status->node_id || RecoveryInProgress())
		return (Datum) 0;
	own_flush = GetFlushRecPtr(NULL);
	for (int i = 0; i < count; i++)
		put_rejoin(result, &rejoins[i], find_member(status, rejoins[i].node));
	for (int i = 0; i < status->members_count; i++)
	{
		const PgraftMemberStatus *member = &status->members[i];
		bool		shown = member->id == status->node_id || !is_catching_up(member);

		for (int j = 0; j < count; j++)
			shown = shown || rejoins[j].node == member->id;
		if (!shown)
			put_catching_up(result, member, own_flush);
	}
	return (Datum) 0;
}
