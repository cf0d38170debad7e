/*
 * functions.c: the SQL functions.
 *
 * Those that show something read shared memory. Those that change something queue a command for the worker and sleep until it has ended; they write nothing
 * themselves, so neither the write fence nor the commit quorum concerns them. They return when the change is committed, or raise an error that says what to do.
 */
#include "pgraft.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

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
PG_FUNCTION_INFO_V1(pgraft_get_queue_status);
PG_FUNCTION_INFO_V1(pgraft_get_version);

#define PROBE_APPLICATION "pgraft_add_node"

/* ---- preconditions ---- */

static void
require_loaded(void)
{
	if (pgraft_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pgraft must be loaded via shared_preload_libraries"),
				 errhint("Add \"shared_preload_libraries = 'pgraft'\" to postgresql.conf and restart the server.")));
}

static void
require_node_id(void)
{
	pgraft_require_node_id();
}

void
pgraft_require_node_id(void)
{
	require_loaded();
	if (pgraft_node_id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pgraft.node_id is not set"),
				 errhint("Set pgraft.node_id in postgresql.conf to a number that no other node of the cluster has, and restart the server.")));
}

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

static int
sqlstate_of(PgraftCode code)
{
	switch (code)
	{
		case PGRAFT_INVALID_ARGUMENT:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case PGRAFT_NO_QUORUM:
			return ERRCODE_CANNOT_CONNECT_NOW;
		case PGRAFT_UNAVAILABLE:
			return ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;
		case PGRAFT_TIMEOUT:
			return ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN;
		case PGRAFT_NOT_FOUND:
			return ERRCODE_UNDEFINED_OBJECT;
		case PGRAFT_ALREADY_EXISTS:
			return ERRCODE_DUPLICATE_OBJECT;
		case PGRAFT_RESOURCE_EXHAUSTED:
			return ERRCODE_INSUFFICIENT_RESOURCES;
		case PGRAFT_CORRUPTION:
			return ERRCODE_DATA_CORRUPTED;
		case PGRAFT_IO:
			return ERRCODE_IO_ERROR;
		case PGRAFT_ABORTED:
			return ERRCODE_QUERY_CANCELED;
		case PGRAFT_NO_SPACE:
			return ERRCODE_DISK_FULL;
		case PGRAFT_OK:
		case PGRAFT_NOT_LEADER:
		case PGRAFT_FAILED_PRECONDITION:
		case PGRAFT_MISMATCH:
			break;
	}
	return ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

static char *
hint_of(PgraftCode code)
{
	switch (code)
	{
		case PGRAFT_NOT_LEADER:
			return psprintf("%s Changes of the cluster are made on the leader.", pgraft_leader_hint());
		case PGRAFT_NO_QUORUM:
			return "Start the members that are down, or repair the network between them.";
		case PGRAFT_TIMEOUT:
			return "The change may still be made. Look at pgraft_get_nodes() before trying again.";
		default:
			return NULL;
	}
}

static void
report_failure(const PgraftError *error)
{
	char	   *hint = hint_of(error->code);

	ereport(ERROR,
			(errcode(sqlstate_of(error->code)),
			 errmsg("%s", error->message[0] != '\0' ? error->message : "the command failed"),
			 hint ? errhint("%s", hint) : 0));
}

/* Without a worker nobody would take the command; why there is none is more use than a timeout. */
static void
require_worker(void)
{
	PgraftWorkerState state;
	PgraftError error;

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	state = pgraft_shared->worker_state;
	error = pgraft_shared->worker_error;
	LWLockRelease(pgraft_shared->lock);
	if (state == PGRAFT_WORKER_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the pgraft worker is not running: %s", error.message),
				 errhint("Remove the cause; the worker tries again by itself every few seconds.")));
}

static TimestampTz
command_deadline(void)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pgraft_command_timeout);
}

/* Sleeps on `changed` (prepared by the caller). False: the deadline has passed. */
static bool
sleep_until_change(TimestampTz deadline)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	if (left <= 0)
		return false;
	/* A second at most at a time: the lease of a leader begins without a broadcast. */
	ConditionVariableTimedSleep(&pgraft_shared->changed, Min(left, 1000), PG_WAIT_EXTENSION);
	return true;
}

static void
report_timeout(uint64 id)
{
	if (pgraft_command_withdraw(id))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the pgraft worker did not begin the command within %d ms", pgraft_command_timeout),
				 errdetail("The command has been withdrawn, nothing was changed."),
				 errhint("See pgraft_get_worker_state().")));
	ereport(ERROR,
			(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
			 errmsg("the change was not confirmed within %d ms, its outcome is unknown", pgraft_command_timeout),
			 errhint("The change may still be made. Look at pgraft_get_nodes() before trying again.")));
}

static void
wait_for_command(uint64 id, TimestampTz deadline, PgraftCommandStatus *result)
{
	ConditionVariablePrepareToSleep(&pgraft_shared->changed);
	for (;;)
	{
		if (!pgraft_command_state(id, result))
			elog(ERROR, "state of pgraft command " UINT64_FORMAT " is gone", id);
		if (result->state == PGRAFT_COMMAND_COMPLETED || result->state == PGRAFT_COMMAND_FAILED)
			break;
		if (!sleep_until_change(deadline))
			report_timeout(id);
	}
	ConditionVariableCancelSleep();
}

/* A session that is terminated passes no PG_CATCH(). */
static void
withdraw_at_exit(int code, Datum id)
{
	(void) pgraft_command_withdraw((uint64) DatumGetInt64(id));
}

/* A switchover that has been begun is given up, if that is still possible. */
static void
withdraw_switchover(void)
{
	PgraftCommand command;

	memset(&command, 0, sizeof(command));
	command.type = PGRAFT_CMD_CANCEL_TRANSFER;
	(void) pgraft_command_queue(&command);
}

/* Queues a command and waits for its end. A session that is cancelled or terminated takes back what has not been begun. */
static void
await_command(const PgraftCommand *command, TimestampTz deadline, PgraftCommandStatus *result)
{
	uint64		id;

	require_worker();
	id = pgraft_command_queue(command);
	PG_TRY();
	{
		PG_ENSURE_ERROR_CLEANUP(withdraw_at_exit, Int64GetDatum((int64) id));
		wait_for_command(id, deadline, result);
		PG_END_ENSURE_ERROR_CLEANUP(withdraw_at_exit, Int64GetDatum((int64) id));
	}
	PG_CATCH();
	{
		ConditionVariableCancelSleep();
		if (!pgraft_command_withdraw(id) && geterrcode() == ERRCODE_QUERY_CANCELED &&
			command->type != PGRAFT_CMD_READ_BARRIER &&
			pgraft_command_state(id, result) && result->state == PGRAFT_COMMAND_PROCESSING)
		{
			if (command->type == PGRAFT_CMD_TRANSFER)
				withdraw_switchover();
			ereport(WARNING,
					(errmsg("the change had been begun, its outcome is unknown"),
					 errhint("Look at pgraft_get_nodes() before trying again.")));
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
}

uint64
pgraft_run_command(const PgraftCommand *command, TimestampTz deadline)
{
	PgraftCommandStatus result;

	await_command(command, deadline, &result);
	if (result.state == PGRAFT_COMMAND_FAILED)
		report_failure(&result.error);
	return result.value;
}

/* A change of the membership. */
static void
run_command(PgraftCommandType type, uint64 node_id, const char *address, int port, TimestampTz deadline)
{
	PgraftCommand command;

	memset(&command, 0, sizeof(command));
	command.type = type;
	command.node_id = node_id;
	command.port = port;
	if (address != NULL)		/* its length has been checked */
		strlcpy(command.address, address, PGRAFT_ADDRESS_SIZE);
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
	TimestampTz deadline = command_deadline();

	require_node_id();
	refuse_unsuitable_server();
	run_command(PGRAFT_CMD_INIT, 0, NULL, 0, deadline);

	ConditionVariablePrepareToSleep(&pgraft_shared->changed);
	while (!is_writable_leader())
	{
		if (!sleep_until_change(deadline))
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
	run_command(PGRAFT_CMD_ADD_NODE, (uint64) id, address, port, command_deadline());
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
	TimestampTz deadline = command_deadline();
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
	require_worker();

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
	run_command(PGRAFT_CMD_REMOVE_NODE, (uint64) id, NULL, 0, command_deadline());
	PG_RETURN_VOID();
}

/* ---- status ---- */

static Datum
row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

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
		Datum		values[13];
		bool		nulls[13] = {0};
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
	TimestampTz deadline = command_deadline();
	PgraftCommand command;
	PgraftCommandStatus result;
	long		pause_ms = 1;

	memset(&command, 0, sizeof(command));
	command.type = PGRAFT_CMD_READ_BARRIER;
	pgraft_require_node_id();
	if (pgraft_load(&pgraft_shared->guard.standalone))
		PG_RETURN_VOID();
	await_command(&command, deadline, &result);
	if (result.state == PGRAFT_COMMAND_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW),
				 errmsg("%s", result.error.message),
				 errhint("%s", pgraft_leader_hint())));

	while (!holds_wal(result.timeline, (XLogRecPtr) result.value))
	{
		if (TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_CANNOT_CONNECT_NOW),
					 errmsg("this server has not replayed what was acknowledged within %d ms", pgraft_command_timeout),
					 errdetail("What was acknowledged ends at %X/%X on timeline %u.", LSN_FORMAT_ARGS((XLogRecPtr) result.value), result.timeline),
					 errhint("%s", pgraft_leader_hint())));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause_ms, PG_WAIT_EXTENSION);
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
		case PGRAFT_CMD_READ_BARRIER:
			return "READ_BARRIER";
	}
	return "UNKNOWN";
}

static const char *
command_state_name(PgraftCommandState state)
{
	static const char *const names[] = {"PENDING", "PROCESSING", "COMPLETED", "FAILED"};

	return names[state];
}

/* The newest PGRAFT_STATUS_SIZE commands, oldest first. */
Datum
pgraft_get_queue_status(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PgraftCommandStatus *statuses = palloc(sizeof(pgraft_shared->statuses));
	uint64		next;

	require_loaded();
	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	memcpy(statuses, pgraft_shared->statuses, sizeof(pgraft_shared->statuses));
	next = pgraft_shared->next_command_id;
	LWLockRelease(pgraft_shared->lock);

	InitMaterializedSRF(fcinfo, 0);
	for (uint64 id = next > PGRAFT_STATUS_SIZE ? next - PGRAFT_STATUS_SIZE : 1; id < next; id++)
	{
		const PgraftCommandStatus *status = &statuses[id % PGRAFT_STATUS_SIZE];
		Datum		values[6];
		bool		nulls[6] = {0};
		int			n = 0;

		if (status->id != id)
			continue;
		values[n++] = Int64GetDatum((int64) id);
		values[n++] = CStringGetTextDatum(command_name(status->type));
		values[n++] = CStringGetTextDatum(command_state_name(status->state));
		values[n] = CStringGetTextDatum(status->error.message);
		nulls[n++] = status->error.message[0] == '\0';
		values[n++] = TimestampTzGetDatum(status->queued_at);
		values[n] = TimestampTzGetDatum(status->completed_at);
		nulls[n++] = status->completed_at == 0;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
pgraft_get_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(PGRAFT_VERSION));
}
