/*
 * commit.c: a commit answers 'done' or the connection dies (rule 6), and a fenced server commits nothing (rule 7).
 *
 * From PRE_COMMIT to COMMIT or ABORT (PRE_PREPARE to PREPARE, and around COMMIT/ROLLBACK PREPARED, fence.c) the session is in the window: cancel requests and timeouts
 * are held back, since the server answers a cancelled wait for the quorum with success; and a weaker synchronous_commit is raised. After the local commit the
 * backstop compares the quorum's LSN with the commit's end; whatever went wrong before, an unconfirmed commit is never answered (POSTGRES.md, M9 to M12).
 *
 * Nothing may raise an error in XACT_EVENT_COMMIT: that would be a PANIC.
 */
#include "pgraft.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"

#include "compat.h"
#include "seams.h"

/* The signal handlers'. */
static volatile sig_atomic_t in_commit = false;
static volatile sig_atomic_t cancel_held = false;

static bool handlers_installed = false;
static bool replaced = false;	/* synchronous_commit is ours for this window */
static int	chosen_synchronous_commit;	/* the session's; valid while `replaced` */
static bool weak = false;		/* of this window: a weaker commit is wanted and allowed */
static bool wrote_wal = false;	/* the transaction had written WAL when its commit began */

static void
sigint_handler(SIGNAL_ARGS)
{
	int			saved_errno = errno;

	if (in_commit)
		cancel_held = true;
	else
		StatementCancelHandler(postgres_signal_arg);
	errno = saved_errno;
}

/*
 * A session that is ended in the window says no word more: a last warning would take along the tag of the command, which in the extended protocol waits in the buffer
 * while the commit waits for its quorum, and which some clients take for success (POSTGRES.md, N3).
 */
static void
sigterm_handler(SIGNAL_ARGS)
{
	int			saved_errno = errno;

	die(postgres_signal_arg);
	if (in_commit)
		whereToSendOutput = DestNone;
	errno = saved_errno;
}

static void
sigquit_handler(SIGNAL_ARGS)
{
	if (in_commit)
		whereToSendOutput = DestNone;
	quickdie(postgres_signal_arg);
}

static void
replace_handler(int number, pqsigfunc expected, pqsigfunc ours)
{
	struct sigaction old;

	if (sigaction(number, NULL, &old) == 0 && PGRAFT_IS_HANDLER(old.sa_handler, expected))
		pqsignal(number, ours);
}

/* Once in each process; background workers never authenticate, so this can't wait for the authentication hook (POSTGRES.md, M11). */
static void
install_handlers(void)
{
	if (handlers_installed)
		return;
	handlers_installed = true;
	replace_handler(SIGINT, StatementCancelHandler, sigint_handler);
	if (MyBackendType != B_BACKEND)
		return;					/* answers no client */
	replace_handler(SIGTERM, die, sigterm_handler);
	replace_handler(SIGQUIT, quickdie, sigquit_handler);
}

/* Autovacuum must go on without standbys and answers nobody; a standalone server has no quorum. */
static bool
concerned(void)
{
	return pgraft_shared != NULL && !pgraft_load(&pgraft_shared->guard.standalone) && !PGRAFT_IS_AUTOVACUUM();
}

static void
set_synchronous_commit(int level)
{
	synchronous_commit = level;
	assign_synchronous_commit(level, NULL); /* sets what syncrep.c waits for */
}

static void
replace_synchronous_commit(int level)
{
	if (!replaced)
		chosen_synchronous_commit = synchronous_commit;
	replaced = true;
	set_synchronous_commit(level);
}

static void
hold_cancels(void)
{
	install_handlers();
	cancel_held = false;
	in_commit = true;			/* before the check: a cancel between the two would be left pending and end the wait (POSTGRES.md, M11) */
	CHECK_FOR_INTERRUPTS();
	if (QueryCancelPending)
	{
		in_commit = false;
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling statement due to user request")));
	}
}

/*
 * A procedure, or a command that commits several times, goes on after its commit, and the cancel is due now: it may do little else than commit, and could not be stopped
 * otherwise. Where nothing follows the commit, an error would be a lie.
 */
static void
deliver_held_cancel(void)
{
	if (cancel_held && ActivePortal != NULL)
	{
		QueryCancelPending = true;
		InterruptPending = true;
	}
}

void
pgraft_commit_window_open(void)
{
	weak = false;
	if (!concerned())
		return;

	if (proc_exit_inprogress)
	{
		/* An ending session drops its temporary tables. Nobody is answered, and nothing could end a wait for a quorum that is not there. */
		weak = true;
		replace_synchronous_commit(SYNCHRONOUS_COMMIT_LOCAL_FLUSH);
		return;
	}

	if (!(pgraft_rules_off & PGRAFT_OFF_COMMIT_WAIT))
		hold_cancels();

	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
	{
		if (pgraft_allow_weak_commit)
			weak = true;
		else if (!(pgraft_rules_off & PGRAFT_OFF_COMMIT_LEVEL))
			replace_synchronous_commit(SYNCHRONOUS_COMMIT_REMOTE_FLUSH);
	}
}

/* A logical apply worker keeps the level: it finishes prepared transactions without a statement, hence outside of any window, and confirms them to its publisher. */
void
pgraft_commit_window_close(void)
{
	in_commit = false;
	if (replaced && !IsLogicalWorker())
		set_synchronous_commit(chosen_synchronous_commit);
	replaced = false;
}

/*
 * Rule 6, the backstop: `end` is in this server's WAL, committed locally. If the quorum's LSN does not cover it the wait was left early or never begun, and the only honest
 * answer is none. As syncrep.c itself does for a terminated waiter: no error, the process ends at its next check for interrupts.
 */
void
pgraft_commit_verify(XLogRecPtr end)
{
	XLogRecPtr	confirmed;

	if (!concerned() || weak || pgraft_load(&pgraft_shared->guard.quorum_k) == 0 || RecoveryInProgress() ||
		(pgraft_rules_off & PGRAFT_OFF_COMMIT_BACKSTOP))
		return;
	/* Grows only, and is written as one word: without the lock it can be too old, never too new; our own wait has seen it reach us. */
	confirmed = *(volatile XLogRecPtr *) &WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH];
	if (end <= confirmed)
		return;

	ProcDiePending = true;
	InterruptPending = true;
	whereToSendOutput = DestNone;	/* first: the message below is for the server's log only */
	ereport(LOG,
			(errmsg("terminating connection because its commit is not confirmed by the commit quorum"),
			 errdetail("The commit ends at %X/%X, confirmed is %X/%X.",
					   LSN_FORMAT_ARGS(end), LSN_FORMAT_ARGS(confirmed))));
}

/* Rule 7; before the commit record is written, so that a refused commit is really none (rule 6). */
static void
refuse_when_fenced(const char *what)
{
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()) && pgraft_fenced())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot %s: this server does not accept writes", what),
				 errhint("%s", pgraft_leader_hint())));
}

/*
 * An autovacuum worker ends with its first transaction, before it has touched a table: it would write WAL behind the fence, which makes a rewind necessary, and one line of the
 * log for each table whose statistics it may not commit.
 */
static void
leave_when_fenced(void)
{
	if (PGRAFT_IS_AUTOVACUUM_WORKER() && pgraft_fenced())
	{
		ereport(DEBUG1,
				(errmsg_internal("autovacuum worker ends: this server does not accept writes")));
		proc_exit(0);
	}
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			leave_when_fenced();
			refuse_when_fenced("commit");
			pgraft_commit_window_open();
			/* With an xid and no WAL (unlogged tables, NOTIFY, txid_current()) the server does not wait, and nothing has to survive. */
			wrote_wal = XactLastRecEnd != InvalidXLogRecPtr;
			break;
		case XACT_EVENT_PRE_PREPARE:
			refuse_when_fenced("prepare the transaction");
			pgraft_commit_window_open();
			break;
		case XACT_EVENT_COMMIT:
			if (wrote_wal && TransactionIdIsValid(GetTopTransactionIdIfAny()))
				pgraft_commit_verify(XactLastCommitEnd);
			pgraft_commit_window_close();
			deliver_held_cancel();
			break;
		case XACT_EVENT_PREPARE:
			/* The record's end is forgotten by now; its start is at least in it. The window is the main guard here (POSTGRES.md, M12). */
			pgraft_commit_verify(ProcLastRecPtr + 1);
			pgraft_commit_window_close();
			break;
		case XACT_EVENT_ABORT:
			pgraft_commit_window_close();
			break;
		default:				/* parallel workers commit nothing of their own */
			break;
	}
}

void
pgraft_commit_install(void)
{
	RegisterXactCallback(xact_callback, NULL);
}
