/*
 * sender.c: which replication connections are admitted, and what stands behind each of them (rules 3, 6).
 *
 * Every walsender, also one for a base backup, has an entry in the registry before its authentication ends, taken under the same lock as the decision to admit it: "frozen"
 * (none admitted, registry empty) therefore has no gap through which a walsender could still come (POSTGRES.md, S5). The entry is given back by an exit
 * callback that runs after the walsender has left PostgreSQL's own array.
 *
 * A member has one stream: quorum commit counts walsenders, not nodes (POSTGRES.md, M8). Its stream says in the startup packet for which member, incarnation and term it is
 * (pgraft.member_stream); a connection that bears a member's application_name and does not is refused.
 *
 * guard.admit_term may be zeroed by the consensus thread at any moment, without the lock.
 */
#include "pgraft.h"

#include <signal.h>

#include "libpq/auth.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "access/xlog.h"
#include "seams.h"

#define STALE_SENDER_TIMEOUT_MS 5000
#define STALE_SENDER_NAP_MS 20

typedef struct MemberStream
{
	uint64		cluster;
	uint64		node;			/* 0: not a member's stream */
	uint64		incarnation;
	uint64		term;
} MemberStream;

typedef enum Admission
{
	ADMITTED,
	NOT_ADMITTED,
	WRONG_TERM,
	STALE_OWNER,
	REGISTRY_FULL,
	RELOADING
} Admission;

static ClientAuthentication_hook_type prev_authentication = NULL;
static char *member_stream = NULL;	/* pgraft.member_stream, so that the startup packet may carry it */
static int	my_slot = -1;			/* in the registry */

/* ---- the worker's side ---- */

static void
terminate_locked(int slot)
{
	pid_t		pid = pgraft_shared->sender.senders[slot].pid;

	/* The entry is removed by its process under the same lock, so the pid is still its. */
	if (pid != 0)
		kill(pid, SIGTERM);
}

void
pgraft_sender_freeze(void)
{
	pgraft_store(&pgraft_shared->guard.admit_term, 0);	/* rule 3 */
	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < PGRAFT_MAX_SENDERS; i++)
		terminate_locked(i);
	LWLockRelease(pgraft_shared->lock);
}

/* What streams for another term goes first: a quorum must not count it (PROTOCOL.md, M2). */
void
pgraft_sender_admit(uint64 term)
{
	PgraftGuard *guard = &pgraft_shared->guard;
	bool		clear = true;

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PGRAFT_MAX_SENDERS; i++)
	{
		if (pgraft_shared->sender.senders[i].pid != 0 && pgraft_shared->sender.senders[i].term != term)
		{
			clear = false;
			terminate_locked(i);
		}
	}
	if (clear)
		pgraft_store(&guard->admit_term, term);
	LWLockRelease(pgraft_shared->lock);

	/* Entering a term stores current_term before it clears admit_term: either that store is seen here, or its clearing comes after ours. */
	if (pgraft_load(&guard->current_term) != term)
		pgraft_store(&guard->admit_term, 0);
}

bool
pgraft_sender_frozen(void)
{
	bool		frozen = true;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	frozen = pgraft_load(&pgraft_shared->guard.admit_term) == 0;
	for (int i = 0; i < PGRAFT_MAX_SENDERS && frozen; i++)
		frozen = pgraft_shared->sender.senders[i].pid == 0;
	LWLockRelease(pgraft_shared->lock);
	return frozen;
}

static XLogRecPtr
flushed_by(pid_t pid)
{
	XLogRecPtr	flush = InvalidXLogRecPtr;

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *walsnd = &WalSndCtl->walsnds[i];

		SpinLockAcquire(&walsnd->mutex);
		if (walsnd->pid == pid)
			flush = walsnd->flush;
		SpinLockRelease(&walsnd->mutex);
	}
	return flush;
}

int
pgraft_sender_streams(PgraftStream *streams, int max)
{
	int			count = 0;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < PGRAFT_MAX_SENDERS && count < max; i++)
	{
		if (pgraft_shared->sender.senders[i].pid == 0 || pgraft_shared->sender.senders[i].node == 0)
			continue;
		streams[count].node = pgraft_shared->sender.senders[i].node;
		streams[count].flush_lsn = flushed_by(pgraft_shared->sender.senders[i].pid);
		count++;
	}
	LWLockRelease(pgraft_shared->lock);
	return count;
}

/* `node`, if it is not NULL: the member of one that has not; left alone if there is none, or if it is no member's. */
bool
pgraft_sender_all_loaded(uint64 generation, uint64 *node)
{
	bool		loaded = true;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < PGRAFT_MAX_SENDERS && loaded; i++)
	{
		loaded = pgraft_shared->sender.senders[i].pid == 0 ||
			pgraft_load(&pgraft_shared->sender.senders[i].quorum_generation) == generation;
		if (!loaded && node != NULL && pgraft_shared->sender.senders[i].node != 0)
			*node = pgraft_shared->sender.senders[i].node;
	}
	LWLockRelease(pgraft_shared->lock);
	return loaded;
}

static uint64
node_of_pid_locked(pid_t pid)
{
	for (int i = 0; i < PGRAFT_MAX_SENDERS; i++)
	{
		if (pgraft_shared->sender.senders[i].pid == pid)
			return pgraft_shared->sender.senders[i].node;
	}
	return 0;
}

/*
 * Those that have a vote in synchronous replication are streams of these members. A removed member's walsender loses its vote a moment after it has loaded the new setting; one
 * that got a vote without being a member's stream has given itself a member's name after it was admitted, and is terminated.
 */
bool
pgraft_sender_only_votes(const uint64 *voters, int count)
{
	bool		only = true;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *walsnd = &WalSndCtl->walsnds[i];
		bool		found = false;
		uint64		node;
		pid_t		pid;

		SpinLockAcquire(&walsnd->mutex);
		pid = walsnd->sync_standby_priority > 0 ? walsnd->pid : 0;
		SpinLockRelease(&walsnd->mutex);
		if (pid == 0)
			continue;

		node = node_of_pid_locked(pid);
		if (node == 0)
			kill(pid, SIGTERM);
		for (int j = 0; j < count && !found; j++)
			found = voters[j] == node;
		only = only && found;
	}
	LWLockRelease(pgraft_shared->lock);
	return only;
}

/* ---- in the walsender ---- */

void
pgraft_sender_stamp(uint64 generation)
{
	if (my_slot >= 0)
		pgraft_store(&pgraft_shared->sender.senders[my_slot].quorum_generation, generation);
}

static void
leave_registry(int code, Datum arg)
{
	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	memset(&pgraft_shared->sender.senders[my_slot], 0, sizeof(pgraft_shared->sender.senders[my_slot]));
	my_slot = -1;
	LWLockRelease(pgraft_shared->lock);
	pgraft_wake_worker();
}

/* The value that the startup packet sets for a parameter by its own name, or NULL. */
static const char *
packet_option(const Port *port, const char *name)
{
	const ListCell *cell = list_head(port->guc_options);
	const char *value = NULL;

	while (cell != NULL)
	{
		const char *key = lfirst(cell);

		cell = lnext(port->guc_options, cell);
		if (pg_strcasecmp(key, name) == 0)
			value = lfirst(cell);
		cell = lnext(port->guc_options, cell);
	}
	return value;
}

static bool
parse_member_stream(const char *text, MemberStream *stream)
{
	unsigned long long cluster,
				node,
				incarnation,
				term;

	if (text == NULL || sscanf(text, PGRAFT_MEMBER_STREAM_SCAN, &cluster, &node, &incarnation, &term) != 4 || node == 0)
		return false;
	stream->cluster = cluster;
	stream->node = node;
	stream->incarnation = incarnation;
	stream->term = term;
	return true;
}

static void
read_member_stream(const Port *port, MemberStream *stream)
{
	const char *option = port->cmdline_options ? strstr(port->cmdline_options, PGRAFT_MEMBER_STREAM "=") : NULL;

	memset(stream, 0, sizeof(*stream));
	if (option != NULL)
		option += strlen(PGRAFT_MEMBER_STREAM "=");
	else
		option = packet_option(port, PGRAFT_MEMBER_STREAM);
	if (option != NULL && !parse_member_stream(option, stream))
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for parameter \"%s\"", PGRAFT_MEMBER_STREAM)));
}

/* The node whose name in synchronous_standby_names this is; 0 none. Names are compared without regard to case there. */
static uint64
node_of_name(const char *name)
{
	size_t		prefix = strlen(PGRAFT_STREAM_NAME_PREFIX);
	char	   *end;
	uint64		node;

	if (name == NULL || pg_strncasecmp(name, PGRAFT_STREAM_NAME_PREFIX, prefix) != 0)
		return 0;
	node = strtoull(name + prefix, &end, 10);
	return *end == '\0' ? node : 0;
}

/* Rule 6: only a member's stream counts, and for that member only. */
static void
check_name(const Port *port, const MemberStream *stream)
{
	const char *options = port->cmdline_options;

	if (options != NULL && (strcasestr(options, "application_name") || strcasestr(options, "application-name")))
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("application_name of a replication connection cannot be set by \"options\""),
				 errhint("Use the connection parameter application_name.")));
	if (node_of_name(packet_option(port, "application_name")) != stream->node)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("replication connection does not belong to the member that its application_name names"),
				 errdetail("Names that begin with \"%s\" are kept for the members of the cluster.", PGRAFT_STREAM_NAME_PREFIX),
				 errhint("Use another application_name.")));
}

static void
check_member(const MemberStream *stream)
{
	bool		same_cluster;
	bool		member = false;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	same_cluster = stream->cluster == pgraft_shared->status.cluster_id;
	for (int i = 0; i < pgraft_shared->status.members_count && !member; i++)
	{
		const PgraftMemberStatus *status = &pgraft_shared->status.members[i];

		member = status->id == stream->node &&
			(status->incarnation == 0 || status->incarnation == stream->incarnation);	/* rule 10 */
	}
	LWLockRelease(pgraft_shared->lock);

	if (!same_cluster || !member)
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("node " UINT64_FORMAT " is not a member of this cluster", stream->node),
				 same_cluster ?
				 errdetail("The members do not include it, or it has another incarnation.") :
				 errdetail("It belongs to another cluster.")));
}

/* Decides and registers under one lock (POSTGRES.md, S5). */
static Admission
try_register(const MemberStream *stream)
{
	PgraftSenderShared *shared = &pgraft_shared->sender;
	int			free_slot = -1;
	int			stale_slot = -1;
	bool		standalone;
	uint64		term;
	Admission	admission = ADMITTED;

	LWLockAcquire(pgraft_shared->lock, LW_EXCLUSIVE);
	standalone = pgraft_load(&pgraft_shared->guard.standalone);
	term = pgraft_load(&pgraft_shared->guard.admit_term);
	for (int i = PGRAFT_MAX_SENDERS - 1; i >= 0; i--)
	{
		if (shared->senders[i].pid == 0)
			free_slot = i;
		else if (stream->node != 0 && shared->senders[i].node == stream->node)
			stale_slot = i;
	}

	if (standalone)
		admission = ADMITTED;	/* registered all the same, should this server become a member */
	else if (term == 0)
		admission = NOT_ADMITTED;
	else if (stream->node != 0 && stream->term != term)
		admission = WRONG_TERM;
	else if (pgraft_quorum_loaded() != pgraft_load(&pgraft_shared->quorum.postmaster_generation))
		admission = RELOADING;	/* forked before the postmaster's last reload: it would count by the old quorum */
	else if (stale_slot >= 0 && !(pgraft_rules_off & PGRAFT_OFF_ONE_STREAM))
	{
		admission = STALE_OWNER;
		terminate_locked(stale_slot);
	}
	if (admission == ADMITTED && free_slot < 0)
		admission = REGISTRY_FULL;

	if (admission == ADMITTED)
	{
		shared->senders[free_slot].node = stream->node;
		shared->senders[free_slot].term = term;
		shared->senders[free_slot].quorum_generation = pgraft_quorum_loaded();
		shared->senders[free_slot].pid = MyProcPid;
		my_slot = free_slot;
		/* Registered before InitWalSender() registers WalSndKill(), so it runs after that. */
		on_shmem_exit(leave_registry, (Datum) 0);
	}
	LWLockRelease(pgraft_shared->lock);
	return admission;
}

static void
refuse(Admission admission, const MemberStream *stream)
{
	switch (admission)
	{
		case NOT_ADMITTED:
			ereport(FATAL,
					(errcode(ERRCODE_CANNOT_CONNECT_NOW),
					 errmsg("not accepting replication connections at the moment"),
					 errhint("%s", pgraft_leader_hint())));
			break;
		case WRONG_TERM:
			ereport(FATAL,
					(errcode(ERRCODE_CANNOT_CONNECT_NOW),
					 errmsg("replication connection of node " UINT64_FORMAT " is for term " UINT64_FORMAT ", not for the current one",
							stream->node, stream->term)));
			break;
		case STALE_OWNER:
			ereport(FATAL,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("the former replication connection of node " UINT64_FORMAT " has not ended yet", stream->node)));
			break;
		case REGISTRY_FULL:
			ereport(FATAL,
					(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
					 errmsg("too many replication connections"),
					 errdetail("At most %d are possible.", PGRAFT_MAX_SENDERS),
					 errhint("Lower max_wal_senders, or end connections that are not needed.")));
			break;
		case RELOADING:
			ereport(FATAL,
					(errcode(ERRCODE_CANNOT_CONNECT_NOW),
					 errmsg("the commit quorum has just been changed"),
					 errhint("Connect again.")));
			break;
		case ADMITTED:
			break;
	}
}

static void
admit_walsender(const Port *port)
{
	MemberStream stream;
	Admission	admission;
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), STALE_SENDER_TIMEOUT_MS);

	read_member_stream(port, &stream);
	if (pgraft_load(&pgraft_shared->guard.standalone))
	{
		memset(&stream, 0, sizeof(stream));
		refuse(try_register(&stream), &stream);
		return;
	}
	if (pgraft_load(&pgraft_shared->guard.admit_term) == 0)
		refuse(NOT_ADMITTED, &stream);
	check_name(port, &stream);
	if (stream.node != 0)
		check_member(&stream);

	/* One live walsender per member: the stale one goes before the new one counts (rule 6). */
	while ((admission = try_register(&stream)) == STALE_OWNER && GetCurrentTimestamp() < deadline)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, STALE_SENDER_NAP_MS, pgraft_wait_event(PGRAFT_WAIT_ADMISSION));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	refuse(admission, &stream);
}

static void
authentication(Port *port, int status)
{
	if (prev_authentication)
		prev_authentication(port, status);
	if (status != STATUS_OK || pgraft_shared == NULL || pgraft_node_id == 0)
		return;

	if (am_walsender)
		admit_walsender(port);
	else
	{
		pgraft_drain_refuse_session();
		if (!pgraft_fenced())
			return;
		/* POSTGRES.md, S8: what target_session_attrs goes by */
		SetConfigOption("default_transaction_read_only", "on", PGC_SUSET, PGC_S_OVERRIDE);
		pgraft_fence_mark_session();
	}
}

void
pgraft_sender_install(void)
{
	DefineCustomStringVariable(PGRAFT_MEMBER_STREAM,
							   "Member for which a replication connection streams; set by pgraft itself.",
							   NULL, &member_stream, "", PGC_BACKEND,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							   NULL, NULL, NULL);
	prev_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = authentication;
}
