/*
 * commit.c: a commit answers 'done' or the connection dies (rule 6), and a fenced server commits nothing (rule 7).
 *
 * From PRE_COMMIT to COMMIT or ABORT (PRE_PREPARE to PREPARE, and around COMMIT/ROLLBACK PREPARED, fence.c) the session is in the window: cancel requests and timeouts
 * are ignored, since the server answers a cancelled wait for the quorum with success; and a weaker synchronous_commit is raised. After the local commit the
 * backstop compares the quorum's LSN with the commit's end; whatever went wrong before, an unconfirmed commit is never answered (POSTGRES.md, M9 to M12).
 *
 * Nothing may raise an error in XACT_EVENT_COMMIT: that would be a PANIC.
 */
#include "pgraft.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"

#include "compat.h"
#include "seams.h"

/* Read by the signal handler. */
static volatile sig_atomic_t in_commit = false;

static bool handler_installed = false;
static bool replaced = false;	/* synchronous_commit is ours for this window */
static int	chosen_synchronous_commit;	/* the session's; valid while `replaced` */
static bool weak = false;		/* of this window: a weaker commit is wanted and allowed */
static bool wrote_wal = false;	/* the transaction had written WAL when its commit began */

static void
sigint_handler(SIGNAL_ARGS)
{
	int			saved_errno = errno;

	if (!in_commit)
		StatementCancelHandler(postgres_signal_arg);
	errno = saved_errno;
}

/* Once in each process that cancels by SIGINT; background workers never authenticate, so this can't wait for the authentication hook (POSTGRES.md, M11). */
static void
install_handler(void)
{
	struct sigaction old;

	if (handler_installed)
		return;
	handler_installed = true;
	if (sigaction(SIGINT, NULL, &old) == 0 && PGRAFT_IS_CANCEL_HANDLER(old.sa_handler))
		pqsignal(SIGINT, sigint_handler);
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

	install_handler();
	in_commit = true;			/* before the check: a cancel between the two would be left pending and end the wait (POSTGRES.md, M11) */
	CHECK_FOR_INTERRUPTS();
	if (QueryCancelPending)
	{
		in_commit = false;
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling statement due to user request")));
	}

	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
	{
		if (pgraft_allow_weak_commit)
			weak = true;
		else
			replace_synchronous_commit(SYNCHRONOUS_COMMIT_REMOTE_FLUSH);
	}
}

void
pgraft_commit_window_close(void)
{
	in_commit = false;
	if (replaced)
	{
		replaced = false;
		set_synchronous_commit(chosen_synchronous_commit);
	}
}

/*
 * Rule 6, the backstop: `end` is in this server's WAL, committed locally. If the quorum's LSN does not cover it the wait was left early or never begun, and the only honest
 * answer is none. As syncrep.c itself does for a terminated waiter: no error, the process ends at its next check for interrupts.
 */
void
pgraft_commit_verify(XLogRecPtr end)
{
	XLogRecPtr	confirmed;

	if (!concerned() || weak || pgraft_load(&pgraft_shared->guard.quorum_k) == 0 || RecoveryInProgress())
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

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
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
