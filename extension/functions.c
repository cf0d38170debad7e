/*
 * functions.c: the SQL functions of the members and their state; those of keys are in kv.c, those of the log in log.c, of commands and measurements in activity.c.
 *
 * Those that show something read shared memory. Those that change something give the worker a command (calls.c).
 */
#include "pgraft.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "sql.h"

PG_FUNCTION_INFO_V1(pgraft_init);
PG_FUNCTION_INFO_V1(pgraft_add_node);
PG_FUNCTION_INFO_V1(pgraft_add_node_server);
PG_FUNCTION_INFO_V1(pgraft_remove_node);
PG_FUNCTION_INFO_V1(pgraft_get_cluster_status);
PG_FUNCTION_INFO_V1(pgraft_get_nodes);
PG_FUNCTION_INFO_V1(pgraft_is_leader);
PG_FUNCTION_INFO_V1(pgraft_in_contact_sql);
PG_FUNCTION_INFO_V1(pgraft_read_barrier);
PG_FUNCTION_INFO_V1(pgraft_get_leader);
PG_FUNCTION_INFO_V1(pgraft_get_term);
PG_FUNCTION_INFO_V1(pgraft_get_worker_state);
PG_FUNCTION_INFO_V1(pgraft_get_version);

#define PROBE_APPLICATION "pgraft_add_node"

/* ---- preconditions ---- */

/* What shared memory holds of the cluster, copied in one piece. */
static PgraftEngineStatus *
copy_status(void)
{
	PgraftEngineStatus *status = palloc(sizeof(PgraftEngineStatus));

	require_loaded();
	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	*status = pgraft_shared->status;
	LWLockRelease(pgraft_shared->lock);
	return status;
}

static bool
is_writable_leader(void)
{
	return pgraft_load(&pgraft_shared->guard.standalone) == 0 && pgraft_writes_allowed(&pgraft_shared->guard);
}

/* ---- arguments ---- */

static int32
node_id_argument(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("node_id must not be null")));
	return pgraft_node_id_argument(PG_GETARG_INT32(n));
}

int32
pgraft_node_id_argument(int32 id)
{
	if (id < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("node_id must be at least 1, not %d", id)));
	return id;
}

static char *
address_argument(FunctionCallInfo fcinfo, int n)
{
	char	   *address;

	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("address must not be null")));
	address = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (address[0] == '\0' || strpbrk(address, " \t\r\n'\"\\,/=") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a host name or IP address", address)));
	if (strlen(address) >= PGRAFT_ADDRESS_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("address is longer than %d bytes", PGRAFT_ADDRESS_SIZE - 1)));
	return address;
}

static void
check_port(long port)
{
	if (port < 1 || port > 65535)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("port must be between 1 and 65535, not %ld", port)));
}

/* ---- commands ---- */

uint64
pgraft_run_command(const PgraftCommand *command, TimestampTz deadline)
{
	PgraftAnswer answer;

	pgraft_call(command, deadline, &answer);
	return answer.value;
}

/* A change of the membership. */
static void
run_command(PgraftCommandType type, uint64 node_id, const char *address, int port, TimestampTz deadline)
{
	PgraftCommand command;

	pgraft_new_command(&command, type);
	command.node_id = node_id;
	command.port = port;
	if (address != NULL)
		strlcpy(command.address, address, PGRAFT_ADDRESS_SIZE);	/* its length has been checked */
	(void) pgraft_run_command(&command, deadline);
}

/* ---- lifecycle ---- */

static void
refuse_unsuitable_server(void)
{
	bool		fatal;
	char	   *problems;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a cluster can't be made from a standby"),
				 errhint("Run pgraft_init() on the primary; a standby is added by pgraft_add_node(), run on the leader.")));
	problems = pgraft_check_server(&fatal);
	if (problems == NULL)
		return;
	if (fatal)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this server's settings make it unfit for a cluster: %s", problems),
				 errhint("Set fsync = on and wal_level = replica in postgresql.conf and restart the server.")));
	ereport(WARNING,
			(errmsg("pgraft can't keep all of its promises with this server's settings: %s", problems),
			 errhint("Change them and restart the server.")));
}

/* Returns when this server accepts writes as the leader of its cluster of one. */
Datum
pgraft_init(PG_FUNCTION_ARGS)
{
	TimestampTz deadline = pgraft_command_deadline();

	require_node_id();
	refuse_unsuitable_server();
	run_command(PGRAFT_CMD_INIT, 0, NULL, 0, deadline);

	ConditionVariablePrepareToSleep(&pgraft_shared->changed);
	while (!is_writable_leader())
	{
		if (!pgraft_sleep_until_change(deadline))
		{
			PgraftEngineStatus *status = copy_status();

			ConditionVariableCancelSleep();
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("the cluster was made, but this node did not become its leader within %d ms", pgraft_command_timeout),
					 errdetail("State: %s; %s.", status->state, status->phase[0] != '\0' ? status->phase : "no further detail"),
					 errhint("It goes on trying. See pgraft_get_cluster_status().")));
		}
	}
	ConditionVariableCancelSleep();
	PG_RETURN_VOID();
}

Datum
pgraft_add_node(PG_FUNCTION_ARGS)
{
	int32		id = node_id_argument(fcinfo, 0);
	char	   *address = address_argument(fcinfo, 1);
	int32		port;

	require_node_id();
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("port must not be null")));
	port = PG_GETARG_INT32(2);
	check_port(port);
	run_command(PGRAFT_CMD_ADD_NODE, (uint64) id, address, port, pgraft_command_deadline());
	PG_RETURN_VOID();
}

/* 'host:port', '[address]:port' */
static char *
split_server_address(FunctionCallInfo fcinfo, int *port)
{
	char	   *address = address_argument(fcinfo, 0);
	char	   *colon = strrchr(address, ':');
	char	   *end;
	long		number;

	if (colon == NULL || colon == address || (address[0] == '[') != (colon[-1] == ']') ||
		(address[0] != '[' && strchr(address, ':') != colon))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not of the form host:port", address),
				 errhint("An IPv6 address is put in brackets: [::1]:5432.")));
	errno = 0;
	number = strtol(colon + 1, &end, 10);
	if (errno != 0 || end == colon + 1 || *end != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not a port", colon + 1)));
	check_port(number);
	*port = (int) number;
	*colon = '\0';
	if (address[0] == '[')
	{
		colon[-1] = '\0';
		address++;
	}
	return address;
}

/* One value of the other server's configuration. */
static char *
show_remote(WalReceiverConn *connection, const char *server, const char *setting)
{
	Oid			types[1] = {TEXTOID};
	char	   *query = psprintf("SHOW %s", setting);
	char	   *value = NULL;
	WalRcvExecResult *result = walrcv_exec(connection, query, 1, types);
	TupleTableSlot *slot;
	bool		isnull;

	if (result->status != WALRCV_OK_TUPLES)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server %s could not tell its %s: %s", server, setting, result->err ? result->err : "no answer"),
				 errhint("The server must have shared_preload_libraries = 'pgraft' and pgraft.node_id set.")));
	slot = MakeSingleTupleTableSlot(result->tupledesc, &TTSOpsMinimalTuple);
	if (tuplestore_gettupleslot(result->tuplestore, true, false, slot))
	{
		Datum		datum = slot_getattr(slot, 1, &isnull);

		if (!isnull)
			value = TextDatumGetCString(datum);
	}
	ExecDropSingleTupleTableSlot(slot);
	walrcv_clear_result(result);
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server %s did not tell its %s", server, setting)));
	return value;
}

static WalReceiverConn *
connect_to_server(const char *server, const char *host, int port)
{
	char	   *conninfo = psprintf("%s host=%s port=%d", pgraft_replication_conninfo, host, port);
	char	   *error = NULL;
	WalReceiverConn *connection;

	if (WalReceiverFunctions == NULL)
		load_file("libpqwalreceiver", false);
#if PG_VERSION_NUM >= 170000
	connection = walrcv_connect(conninfo, true, false, false, PROBE_APPLICATION, &error);
#elif PG_VERSION_NUM >= 160000
	connection = walrcv_connect(conninfo, false, false, PROBE_APPLICATION, &error);
#else
	connection = walrcv_connect(conninfo, false, PROBE_APPLICATION, &error);
#endif
	if (connection == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("could not connect to server %s: %s", server, error ? pchomp(error) : "unknown error"),
				 errhint("The connection is made with pgraft.replication_conninfo and needs a \"replication\" line in the other server's pg_hba.conf.")));
	return connection;
}

/* The server itself is asked where its Raft port is, so that one address is enough to type. */
Datum
pgraft_add_node_server(PG_FUNCTION_ARGS)
{
	TimestampTz deadline = pgraft_command_deadline();
	int			port;
	char	   *host;
	char	   *server;
	WalReceiverConn *connection;
	long		id = 0;
	long		raft_port = 0;
	char	   *raft_host = NULL;

	require_node_id();
	host = split_server_address(fcinfo, &port);
	server = psprintf("%s:%d", host, port);
	pgraft_require_worker();

	connection = connect_to_server(server, host, port);
	PG_TRY();
	{
		id = strtol(show_remote(connection, server, "pgraft.node_id"), NULL, 10);
		raft_port = strtol(show_remote(connection, server, "pgraft.listen_port"), NULL, 10);
		raft_host = show_remote(connection, server, "pgraft.advertise_address");
		if (raft_host[0] == '\0')
			raft_host = show_remote(connection, server, "pgraft.listen_address");
	}
	PG_FINALLY();
	{
		walrcv_disconnect(connection);
	}
	PG_END_TRY();

	if (id < 1 || id > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pgraft.node_id is not set on server %s", server)));
	/* It listens on every interface of the machine whose address was given. */
	if (strcmp(raft_host, "0.0.0.0") == 0 || strcmp(raft_host, "::") == 0 || strcmp(raft_host, "*") == 0)
		raft_host = host;
	check_port(raft_port);
	run_command(PGRAFT_CMD_ADD_NODE, (uint64) id, raft_host, (int) raft_port, deadline);
	PG_RETURN_VOID();
}

Datum
pgraft_remove_node(PG_FUNCTION_ARGS)
{
	int32		id = node_id_argument(fcinfo, 0);

	require_node_id();
	run_command(PGRAFT_CMD_REMOVE_NODE, (uint64) id, NULL, 0, pgraft_command_deadline());
	PG_RETURN_VOID();
}

/* ---- status ---- */

Datum
pgraft_get_cluster_status(PG_FUNCTION_ARGS)
{
	PgraftEngineStatus *status = copy_status();
	Datum		values[19];
	bool		nulls[19] = {0};
	uint32		timeline;
	XLogRecPtr	lsn;
	bool		in_recovery;
	int			n = 0;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	timeline = pgraft_shared->view.end_timeline;
	lsn = pgraft_shared->view.end_lsn;
	LWLockRelease(pgraft_shared->lock);
	in_recovery = RecoveryInProgress();

	values[n++] = Int32GetDatum(pgraft_node_id);
	values[n++] = Int64GetDatum((int64) status->term);
	values[n] = Int32GetDatum((int32) status->leader_id);
	nulls[n++] = status->leader_id == 0;
	values[n++] = CStringGetTextDatum(status->state[0] != '\0' ? status->state : "uninitialized");
	values[n++] = Int32GetDatum(status->member ? status->members_count : 0);
	values[n++] = Int64GetDatum((int64) status->messages_processed);
	values[n++] = Int64GetDatum((int64) status->heartbeats_sent);
	values[n++] = Int64GetDatum((int64) status->elections_triggered);
	values[n++] = BoolGetDatum(is_writable_leader());
	values[n++] = CStringGetTextDatum(status->phase);
	values[n++] = Int64GetDatum((int64) status->commit_index);
	values[n++] = Int64GetDatum((int64) status->applied_index);
	values[n] = Int64GetDatum((int64) timeline);
	nulls[n++] = timeline == 0;
	values[n] = LSNGetDatum(lsn);
	nulls[n++] = lsn == 0;
	values[n++] = BoolGetDatum(in_recovery);
	values[n++] = BoolGetDatum(status->abstaining);
	nulls[n] = nulls[n + 1] = !pgraft_is_paused(status);
	values[n++] = TimestampTzGetDatum(pgraft_paused_until(status));
	values[n++] = CStringGetTextDatum(status->paused_by);
	values[n] = CStringGetTextDatum(status->change_waits_for);
	nulls[n++] = status->change_waits_for[0] == '\0';
	return row(fcinfo, values, nulls);
}

static const char *
role_name(const PgraftMemberStatus *member)
{
	return member->voter ? "voter" : member->learner ? "learner" : "removed";
}

/* As this node knows it; NULL: it does not, because it does not lead. */
static const char *
state_name(const PgraftEngineStatus *status, const PgraftMemberStatus *member)
{
	if (status->leader_id != 0 && member->id == status->leader_id)
		return "leader";
	if (status->leader_id == 0 || status->leader_id != status->node_id)
		return NULL;
	if (!member->answering)
		return "no answer";
	return member->flush_lsn != 0 ? "streaming" : "catching up";
}

/* By the clock of the leader, whose view it is. */
static TimestampTz
last_contact(const PgraftMemberStatus *member, bool self)
{
	uint64		now_ns = pgraft_clock_ns();
	TimestampTz now = GetCurrentTimestamp();

	return self || now_ns < member->contact_ns ? now : now - (int64) ((now_ns - member->contact_ns) / 1000);
}

/* Version 0.1.0 of the extension has the columns up to waits_for. */
Datum
pgraft_get_nodes(PG_FUNCTION_ARGS)
{
	PgraftEngineStatus *status = copy_status();
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		leads = status->leader_id != 0 && status->leader_id == status->node_id;
	XLogRecPtr	own_flush = leads && !RecoveryInProgress() ? GetFlushRecPtr(NULL) : InvalidXLogRecPtr;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < status->members_count; i++)
	{
		const PgraftMemberStatus *member = &status->members[i];
		bool		self = member->id == status->node_id;
		XLogRecPtr	flush = self && own_flush != 0 ? own_flush : member->flush_lsn;
		const char *state = state_name(status, member);
		Datum		values[19];
		bool		nulls[19] = {0};
		int			n = 0;

		values[n++] = Int32GetDatum((int32) member->id);
		values[n++] = CStringGetTextDatum(member->address);
		values[n++] = Int32GetDatum(member->port);
		values[n++] = BoolGetDatum(status->leader_id != 0 && member->id == status->leader_id);
		values[n++] = CStringGetTextDatum(member->name);
		values[n++] = CStringGetTextDatum(role_name(member));
		values[n++] = CStringGetTextDatum(member->pg_host);
		values[n++] = Int32GetDatum(member->pg_port);
		/* The rest is known to the leader only. */
		values[n] = BoolGetDatum(self || member->answering);
		nulls[n++] = !leads;
		values[n] = Int64GetDatum((int64) member->match_index);
		nulls[n++] = !leads;
		values[n] = LSNGetDatum(flush);
		nulls[n++] = !leads || flush == 0;
		values[n] = Int64GetDatum(own_flush > flush ? (int64) (own_flush - flush) : 0);
		nulls[n++] = !leads || flush == 0 || own_flush == 0;
		values[n] = CStringGetTextDatum(member->waits_for);
		nulls[n++] = member->waits_for[0] == '\0';
		values[n] = CStringGetTextDatum(state != NULL ? state : "");
		nulls[n++] = state == NULL;
		values[n] = TimestampTzGetDatum(last_contact(member, self));
		nulls[n++] = !leads || (!self && member->contact_ns == 0);
		/* As the member told all once a second. */
		values[n] = Int64GetDatum((int64) member->wal_timeline);
		nulls[n++] = member->wal_timeline == 0;
		values[n] = LSNGetDatum(member->wal_lsn);
		nulls[n++] = member->wal_lsn == 0;
		values[n] = Int32GetDatum(member->priority);
		nulls[n++] = member->priority < 0;
		values[n++] = BoolGetDatum(member->nosync);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
pgraft_is_leader(PG_FUNCTION_ARGS)
{
	require_loaded();
	PG_RETURN_BOOL(is_writable_leader());
}

Datum
pgraft_in_contact_sql(PG_FUNCTION_ARGS)
{
	require_loaded();
	PG_RETURN_BOOL(pgraft_in_contact(&pgraft_shared->guard));
}

/* ---- reads ---- */

/* A WAL on a later timeline holds all that was acknowledged on the earlier ones (PROTOCOL.md, section 4, lemma 2). */
static bool
holds_wal(uint32 timeline, XLogRecPtr lsn)
{
	TimeLineID	here;
	XLogRecPtr	replayed;

	if (!RecoveryInProgress())
		return GetWALInsertionTimeLine() >= timeline;	/* the rest of an own timeline is its own work */
	replayed = GetXLogReplayRecPtr(&here);
	return here > timeline || (here == timeline && replayed >= lsn);
}

/*
 * PROTOCOL.md, M9: the leader, once a majority has confirmed that it still is one, says where the acknowledged WAL ends; then this server replays up to there. Nobody tells how
 * far replay is, hence the looks at growing intervals.
 */
Datum
pgraft_read_barrier(PG_FUNCTION_ARGS)
{
	TimestampTz deadline = pgraft_command_deadline();
	PgraftCommand command;
	PgraftAnswer answer;
	PgraftRow	row;
	const char *first;
	const char *second;
	Size		next = 0;
	uint32		timeline;
	XLogRecPtr	lsn;
	long		pause_ms = 1;

	require_node_id();
	if (pgraft_load(&pgraft_shared->guard.standalone))
		PG_RETURN_VOID();
	pgraft_new_command(&command, PGRAFT_CMD_READ_BARRIER);
	pgraft_call(&command, deadline, &answer);
	if (!pgraft_next_row(&answer, &next, &row, &first, &second))
		elog(ERROR, "the pgraft worker did not say where the acknowledged WAL ends");
	lsn = (XLogRecPtr) row.numbers[0];
	timeline = (uint32) row.numbers[1];

	while (!holds_wal(timeline, lsn))
	{
		if (TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_CANNOT_CONNECT_NOW),
					 errmsg("this server has not replayed what was acknowledged within %d ms", pgraft_command_timeout),
					 errdetail("What was acknowledged ends at %X/%X on timeline %u.", LSN_FORMAT_ARGS(lsn), timeline),
					 errhint("%s", pgraft_leader_hint())));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause_ms, pgraft_wait_event(PGRAFT_WAIT_COMMAND));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		pause_ms = Min(pause_ms * 2, 64);
	}
	PG_RETURN_VOID();
}

Datum
pgraft_get_leader(PG_FUNCTION_ARGS)
{
	PgraftEngineStatus *status = copy_status();

	if (status->leader_id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32((int32) status->leader_id);
}

Datum
pgraft_get_term(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) copy_status()->term);
}

static const char *
worker_state_name(PgraftWorkerState state)
{
	static const char *const names[] = {"IDLE", "INIT", "RUNNING", "STOPPING", "STOPPED", "ERROR"};

	return names[state];
}

Datum
pgraft_get_worker_state(PG_FUNCTION_ARGS)
{
	PgraftEngineStatus *status = copy_status();
	PgraftWorkerState state;
	PgraftError error;
	pid_t		pid;
	Datum		values[8];
	bool		nulls[8] = {0};
	int			n = 0;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	state = pgraft_shared->worker_state;
	error = pgraft_shared->worker_error;
	pid = pgraft_shared->worker_pid;
	LWLockRelease(pgraft_shared->lock);

	values[n++] = CStringGetTextDatum(worker_state_name(state));
	values[n] = Int32GetDatum(pid);
	nulls[n++] = pid == 0;
	values[n++] = Int32GetDatum(pgraft_node_id);
	values[n++] = CStringGetTextDatum(pgraft_advertise_address[0] != '\0' ? pgraft_advertise_address : pgraft_listen_address);
	values[n++] = Int32GetDatum(status->raft_port != 0 ? status->raft_port : pgraft_listen_port);
	values[n++] = CStringGetTextDatum(pgraft_cluster_name);
	values[n++] = BoolGetDatum(status->member);
	values[n] = CStringGetTextDatum(error.message);
	nulls[n++] = error.message[0] == '\0';
	return row(fcinfo, values, nulls);
}

Datum
pgraft_get_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(PGRAFT_VERSION));
}
