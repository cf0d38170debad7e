/*
 * quorum.c: the commit quorum (rules 6, 7, 8): synchronous_standby_names, and the proof that it is in force.
 *
 * The setting is a file of our own outside the data directory, included by postgresql.conf and loaded by SIGHUP; k of ANY k is evaluated by each walsender from its own copy
 * (POSTGRES.md, S6). The file therefore also sets pgraft.quorum_generation, whose assign hook stamps a word of shared memory for the process that has loaded it. In force
 * means: postmaster (hence every process forked later), checkpointer (publishes that commits must wait), the worker and every live walsender have stamped it.
 *
 * A value by which fewer have to confirm a commit must not be in force for a moment, wherever it comes from (ALTER SYSTEM, an edited file): so the check of
 * synchronous_standby_names is preceded by one that accepts what pgraft has written last, and what it had written before that, and nothing else (POSTGRES.md, M9).
 *
 * The number in the file is not the controller's generation, which starts low in each worker's life, but a stamp that no earlier file has had.
 */
#include "pgraft.h"

#include <signal.h>

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "seams.h"

#define LATE_MS 5000				/* a setting that is not in force after this is reported */
#define RESIGNAL_MS_MIN 1000
#define RESIGNAL_MS_MAX 60000

/* The setting, in every process. */
static char *generation_setting = NULL;
static uint64 loaded = 0;
static GucStringCheckHook server_check_names = NULL;

/* The worker's. */
static struct
{
	uint64		generation;			/* the controller's; 0 none */
	uint64		stamp;				/* in the file for it */
	int			voters_count;
	uint64		voters[PGRAFT_MAX_MEMBERS];
	int			k;
	char	   *names;				/* value of synchronous_standby_names; in TopMemoryContext */
	bool		written;
	TimestampTz written_at;
	TimestampTz signalled_at;
	int			resignal_ms;
	char		error[PGRAFT_MESSAGE_SIZE]; /* why it could not be written */
}			wanted;
static uint64 in_force = 0;			/* controller's generation that was seen in force last */

/* ---- in every process ---- */

static void
stamp(void)
{
	if (pgraft_shared == NULL)
		return;
	if (!IsUnderPostmaster)
		pgraft_store(&pgraft_shared->quorum.postmaster_generation, loaded);
	else if (AmCheckpointerProcess())
		pgraft_store(&pgraft_shared->quorum.checkpointer_generation, loaded);
	else if (MyProcPid == pgraft_shared->worker_pid)
		pgraft_store(&pgraft_shared->quorum.worker_generation, loaded);
	else if (am_walsender)
		pgraft_sender_stamp(loaded);
}

static bool
check_generation(char **value, void **extra, GucSource source)
{
	char	   *end;

	(void) strtoull(*value, &end, 16);
	if (*end == '\0')
		return true;
	GUC_check_errdetail("It is a hexadecimal number that pgraft writes.");
	return false;
}

static void
assign_generation(const char *value, void *extra)
{
	loaded = value ? strtoull(value, NULL, 16) : 0;
	stamp();
}

uint64
pgraft_quorum_loaded(void)
{
	return loaded;
}

void
pgraft_quorum_stamp_postmaster(void)
{
	stamp();
}

/* Never 0. */
static uint64
digest(const char *names)
{
	return hash_bytes_extended((const unsigned char *) names, strlen(names), 0) | 1;
}

/* Rule 6. Before the first setting of this server's life there is nothing to defend, and the fence is down. */
static bool
check_names(char **value, void **extra, GucSource source)
{
	const PgraftQuorumShared *shared = pgraft_shared ? &pgraft_shared->quorum : NULL;
	uint64		wanted_digest = shared ? pgraft_load(&shared->names_digest) : 0;
	const char *given = *value ? *value : "";

	if (wanted_digest != 0 && digest(given) != wanted_digest && digest(given) != pgraft_load(&shared->former_names_digest) &&
		!(pgraft_rules_off & PGRAFT_OFF_COMMIT_QUORUM))
	{
		GUC_check_errdetail("pgraft sets the commit quorum itself, from the members of the cluster.");
		GUC_check_errhint("Change the members with pgraft_add_node() and pgraft_remove_node().");
		return false;
	}
	return server_check_names == NULL || server_check_names(value, extra, source);
}

static void
defend_names(uint64 new_digest)
{
	PgraftQuorumShared *shared = &pgraft_shared->quorum;
	uint64		old_digest = pgraft_load(&shared->names_digest);

	if (old_digest == new_digest)
		return;
	pgraft_store(&shared->former_names_digest, old_digest); /* a process may still be about to load it */
	pgraft_store(&shared->names_digest, new_digest);
}

void
pgraft_quorum_define_setting(void)
{
	struct config_string *names = pgraft_find_string_setting("synchronous_standby_names");

	if (names == NULL)
		elog(ERROR, "setting synchronous_standby_names was not found");
	server_check_names = names->check_hook;
	names->check_hook = check_names;
	DefineCustomStringVariable("pgraft.quorum_generation",
							   "Number of the commit quorum setting; written by pgraft itself.",
							   NULL, &generation_setting, "", PGC_SIGHUP,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							   check_generation, assign_generation, NULL);
}

/* ---- the worker's side ---- */

static uint64
new_stamp(void)
{
	static uint64 base = 0;
	static uint32 count = 0;

	if (base == 0)
	{
		uint32		random = 0;

		/* Differs from that of every earlier worker, also after a crash restart, in which processes have the old file loaded. */
		if (!pg_strong_random(&random, sizeof(random)) || random == 0)
			random = (uint32) MyProcPid ^ (uint32) pgraft_clock_ns();
		base = (uint64) (random | 1) << 32;
	}
	return base | ++count;
}

/* A majority of the voters; this node counts by its own flush, not by a walsender. */
static char *
standby_names(const uint64 *voters, int count, int *k)
{
	StringInfoData names;
	bool		self = false;

	initStringInfo(&names);
	for (int i = 0; i < count; i++)
	{
		if (voters[i] == (uint64) pgraft_node_id)
			self = true;
		else
			appendStringInfo(&names, "%s" PGRAFT_STREAM_NAME_PREFIX UINT64_FORMAT, names.len > 0 ? ", " : "", voters[i]);
	}
	*k = count / 2 + 1 - (self ? 1 : 0);
	if (*k == 0)
		return pstrdup("");		/* the only voter: nothing to wait for (rule 8: the only case of an empty setting) */
	return psprintf("ANY %d (%s)", *k, names.data);
}

static void
write_setting(void)
{
	char	   *path = psprintf("%s/pgraft.conf", pgraft_data_dir());
	char	   *content;
	PgraftError error;

	/* The generation comes last: settings are assigned in the file's order, so its stamp says that the names are loaded. */
	content = psprintf("# written by pgraft; do not edit\n"
					   "synchronous_standby_names = '%s'\n"
					   "pgraft.quorum_generation = '%016llx'\n",
					   wanted.names, (unsigned long long) wanted.stamp);
	wanted.written = pgraft_write_file(path, content, &error) == PGRAFT_OK;
	if (wanted.written)
	{
		wanted.error[0] = '\0';
		wanted.written_at = wanted.signalled_at = GetCurrentTimestamp();
		wanted.resignal_ms = RESIGNAL_MS_MIN;
		pgraft_stop_at(&pgraft_shared->guard, PGRAFT_STOP_QUORUM_WRITTEN);
		kill(PostmasterPid, SIGHUP);
	}
	else if (strcmp(wanted.error, error.message) != 0)
	{
		strlcpy(wanted.error, error.message, sizeof(wanted.error));
		ereport(LOG,
				(errmsg("could not write file \"%s\": %s", path, error.message)));
	}
	pfree(content);
	pfree(path);
}

void
pgraft_quorum_set(uint64 generation, const uint64 *voters, int count)
{
	if (generation == 0 || count <= 0 || count > PGRAFT_MAX_MEMBERS)
		return;					/* leave the setting alone */
	if (generation != wanted.generation)
	{
		int			k;
		char	   *names = standby_names(voters, count, &k);

		if (wanted.names != NULL)
			pfree(wanted.names);
		wanted.names = MemoryContextStrdup(TopMemoryContext, names);
		pfree(names);
		memcpy(wanted.voters, voters, count * sizeof(*voters));
		wanted.voters_count = count;
		wanted.k = k;
		wanted.generation = generation;
		wanted.stamp = new_stamp();
		wanted.written = false;
	}
	if (!wanted.written)
	{
		defend_names(digest(wanted.names));
		write_setting();
	}
}

static const char *
not_loaded_by(void)
{
	PgraftQuorumShared *shared = &pgraft_shared->quorum;
	uint64		node = 0;

	if (pgraft_load(&shared->worker_generation) != wanted.stamp || pgraft_load(&shared->postmaster_generation) != wanted.stamp)
		return "the server";
	if (pgraft_load(&shared->checkpointer_generation) != wanted.stamp ||
		!pgraft_sync_standbys_known() || pgraft_sync_standbys_defined() != (wanted.k > 0))
		return "the checkpointer";
	if (!pgraft_sender_all_loaded(wanted.stamp, &node))
		return node != 0 ? psprintf("the walsender of node " UINT64_FORMAT, node) : "a walsender";
	if (!pgraft_sender_only_votes(wanted.voters, wanted.voters_count))
		return "a walsender";
	return NULL;
}

static bool
overridden(void)
{
	return pgraft_load(&pgraft_shared->quorum.worker_generation) == wanted.stamp &&
		(SyncRepStandbyNames == NULL || strcmp(SyncRepStandbyNames, wanted.names) != 0);
}

uint64
pgraft_quorum_in_force(void)
{
	if (wanted.generation == 0 || !wanted.written || overridden())
		return 0;
	if (not_loaded_by() == NULL)
	{
		in_force = wanted.generation;
		pgraft_store(&pgraft_shared->guard.quorum_k, wanted.k); /* before the fence can be lifted for it */
		return in_force;
	}

	/* A process that was being started when the signal came may have missed it. */
	if (TimestampDifferenceExceeds(wanted.signalled_at, GetCurrentTimestamp(), wanted.resignal_ms))
	{
		wanted.signalled_at = GetCurrentTimestamp();
		wanted.resignal_ms = Min(wanted.resignal_ms * 2, RESIGNAL_MS_MAX);
		kill(PostmasterPid, SIGHUP);
	}
	/* While a step is on its way the processes count by one setting or the other, which differ by one member (rule 8). */
	return in_force == wanted.generation ? 0 : in_force;
}

uint64
pgraft_quorum_waits_for(void)
{
	uint64		node = 0;

	if (wanted.generation != 0 && wanted.written && in_force != wanted.generation)
		(void) pgraft_sender_all_loaded(wanted.stamp, &node);
	return node;
}

const char *
pgraft_quorum_problem(void)
{
	const char *missing;

	if (wanted.generation == 0)
		return NULL;
	if (wanted.error[0] != '\0')
		return psprintf("the commit quorum could not be written: %s", wanted.error);
	if (!wanted.written || !TimestampDifferenceExceeds(wanted.written_at, GetCurrentTimestamp(), LATE_MS))
		return NULL;
	if (overridden())
		return psprintf("synchronous_standby_names is \"%s\", not \"%s\" as pgraft has set it: remove it from postgresql.auto.conf (ALTER SYSTEM RESET synchronous_standby_names) and from what follows the include line in postgresql.conf",
						SyncRepStandbyNames ? SyncRepStandbyNames : "", wanted.names);
	missing = not_loaded_by();
	if (missing == NULL)
		return NULL;
	if (strcmp(missing, "the server") == 0)
		return psprintf("the commit quorum is not loaded: add this line at the end of postgresql.conf: include_if_exists '%s/pgraft.conf'",
						pgraft_data_dir());
	return psprintf("the commit quorum is not in force: %s has not loaded it yet", missing);
}
