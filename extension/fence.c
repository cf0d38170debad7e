/*
 * fence.c: the write fence (rule 7), as far as statements are concerned.
 *
 * While a member may not accept writes, every transaction of a server that is not in recovery is made read-only at each of its statements, so that the server itself raises
 * 25006; commit.c refuses what gets past (SET TRANSACTION READ WRITE, large objects, sequences, functions). In recovery the server refuses writes anyway. In both
 * cases the error gets a hint that names the leader.
 *
 * COMMIT PREPARED and ROLLBACK PREPARED are allowed in read-only transactions and write their record inside the utility: refused here. They also wait for the
 * commit quorum there, in a window that commit.c guards (POSTGRES.md, M10).
 */
#include "pgraft.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "tcop/utility.h"

#include "compat.h"
#include "seams.h"

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

/* The session was told at its start that it is read-only; see pgraft_fence_mark_session(). */
static bool session_fenced = false;

bool
pgraft_fenced(void)
{
	return pgraft_shared != NULL && !pgraft_writes_allowed(&pgraft_shared->guard) && !RecoveryInProgress() &&
		!(pgraft_rules_off & PGRAFT_OFF_WRITE_FENCE);
}

const char *
pgraft_leader_hint(void)
{
	uint64		leader = pgraft_load(&pgraft_shared->guard.leader_id);
	char	   *hint = NULL;

	if (leader == 0)
		return pstrdup("No leader is known at the moment.");
	if (leader == (uint64) pgraft_node_id)
		return pstrdup("This node is about to become the leader, or has just lost its lease; try again.");

	LWLockAcquire(pgraft_shared->lock, LW_SHARED);
	for (int i = 0; i < pgraft_shared->status.members_count; i++)
	{
		const PgraftMemberStatus *member = &pgraft_shared->status.members[i];

		if (member->id == leader && member->pg_host[0] != '\0')
			hint = psprintf("Node " UINT64_FORMAT " (%s:%d) is the leader.", leader, member->pg_host, member->pg_port);
	}
	LWLockRelease(pgraft_shared->lock);
	return hint != NULL ? hint : psprintf("Node " UINT64_FORMAT " is the leader.", leader);
}

/*
 * libpq chooses a server for target_session_attrs = read-write by the values reported at the start of a session; so a fenced one has to report that it is
 * read-only (POSTGRES.md, S8). It stays so for the session's life, hence the session ends once writes are accepted again: its client would otherwise be stuck.
 */
void
pgraft_fence_mark_session(void)
{
	session_fenced = true;
}

/* An error context callback may add to whatever error the server raises meanwhile. */
static void
hint_at_leader(void *arg)
{
	if (geterrcode() == ERRCODE_READ_ONLY_SQL_TRANSACTION)
		errhint("%s", pgraft_leader_hint());
}

/* Rule 7. The hint is for followers too, where the server itself refuses writes; after an error it is not on the server's list any more. */
static void
begin_statement(ErrorContextCallback *hint)
{
	hint->callback = NULL;
	if (pgraft_shared == NULL || IsParallelWorker())
		return;

	if (pgraft_writes_allowed(&pgraft_shared->guard))
	{
		if (session_fenced)
			ereport(FATAL,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("terminating connection because this server accepts writes again"),
					 errdetail("The session had begun as a read-only one."),
					 errhint("Connect again.")));
		return;
	}

	if (pgraft_fenced())
		XactReadOnly = true;
	hint->callback = hint_at_leader;
	hint->arg = NULL;
	hint->previous = error_context_stack;
	error_context_stack = hint;
}

static void
end_statement(const ErrorContextCallback *hint)
{
	if (hint->callback != NULL)
		error_context_stack = hint->previous;
}

/* ---- hooks ---- */

static void
executor_start(QueryDesc *query, int eflags)
{
	ErrorContextCallback hint;

	if (pgraft_shared != NULL && pgraft_drain_may_write(query->plannedstmt))
		pgraft_drain_wait();
	begin_statement(&hint);
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		pgraft_check_read(query->plannedstmt);
	end_statement(&hint);
}

/* A portal may have been opened before the fence, and functions like nextval() ask while they run. */
static void
executor_run(PGRAFT_RUN_PARAMS)
{
	ErrorContextCallback hint;

	begin_statement(&hint);
	pgraft_check_read(query->plannedstmt);
	if (prev_executor_run)
		prev_executor_run(PGRAFT_RUN_ARGS);
	else
		standard_ExecutorRun(PGRAFT_RUN_ARGS);
	end_statement(&hint);
}

static bool
finishes_prepared(const PlannedStmt *statement)
{
	const TransactionStmt *transaction = (const TransactionStmt *) statement->utilityStmt;

	return IsA(transaction, TransactionStmt) &&
		(transaction->kind == TRANS_STMT_COMMIT_PREPARED || transaction->kind == TRANS_STMT_ROLLBACK_PREPARED);
}

/* Rule 6: a walsender's name is its vote; it was checked when the connection was admitted and must not change after that (sender.c). */
static void
refuse_renamed_sender(const PlannedStmt *statement)
{
	const VariableSetStmt *set = (const VariableSetStmt *) statement->utilityStmt;

	if (am_walsender && IsA(set, VariableSetStmt) && set->name != NULL &&
		pg_strcasecmp(set->name, "application_name") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("application_name of a replication connection cannot be changed")));
}

static void
process_utility(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	ProcessUtility_hook_type next = prev_process_utility ? prev_process_utility : standard_ProcessUtility;
	ErrorContextCallback hint;

	if (pgraft_shared != NULL && (finishes_prepared(statement) || pgraft_drain_may_write(statement)))
		pgraft_drain_wait();
	begin_statement(&hint);
	refuse_renamed_sender(statement);
	pgraft_check_copy(statement);
	if (!finishes_prepared(statement))
	{
		next(statement, query, read_only_tree, context, params, environment, dest, completion);
		pgraft_warn_of_shared_tablespace(statement);
		end_statement(&hint);
		return;
	}

	if (pgraft_fenced())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot finish a prepared transaction: this server does not accept writes"),
				 errhint("%s", pgraft_leader_hint())));

	pgraft_commit_window_open();
	PG_TRY();
	{
		next(statement, query, read_only_tree, context, params, environment, dest, completion);
		pgraft_commit_verify(XactLastRecEnd);
	}
	PG_FINALLY();
	{
		pgraft_commit_window_close();
	}
	PG_END_TRY();
	end_statement(&hint);
}

void
pgraft_fence_install(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
