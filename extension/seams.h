/*
 * seams.h: what the files of the seams need of each other, and of no interest to the rest of the extension.
 */
#ifndef PGRAFT_SEAMS_H
#define PGRAFT_SEAMS_H

#include "pgraft.h"

#include "nodes/plannodes.h"

/* fence.c */
extern bool pgraft_fenced(void);				/* a primary that may not accept writes (rule 7) */
extern void pgraft_fence_mark_session(void);	/* this session starts as a read-only one */

/* reads.c, from the hooks of fence.c: ERROR (57P03) if pgraft.minority_reads forbids it */
extern void pgraft_check_read(const PlannedStmt *plan);			/* its snapshot has been taken */
extern void pgraft_check_copy(const PlannedStmt *statement);	/* a utility statement */

/* drain.c: planned switchovers */
extern bool pgraft_drain_may_write(PlannedStmt *statement);
extern void pgraft_drain_wait(void);			/* a statement that may write; returns when it may go on */
extern void pgraft_drain_refuse_session(void);	/* FATAL while none is let in */

/* commit.c: the window in which the commit waits for its quorum, for commits that do not go through the transaction callback */
extern void pgraft_commit_window_open(void);	/* ERROR if the statement is being cancelled */
extern void pgraft_commit_window_close(void);	/* idempotent */
extern void pgraft_commit_verify(XLogRecPtr end);	/* rule 6: not on a quorum: the connection dies */

/* receiver.c: "<cluster>:<node>:<incarnation>:<term>", by which a member's walreceiver proves to sender.c for whom it streams */
#define PGRAFT_MEMBER_STREAM "pgraft.member_stream"
#define PGRAFT_MEMBER_STREAM_FORMAT "%016llx:%llu:%016llx:%llu"
#define PGRAFT_MEMBER_STREAM_SCAN "%llx:%llu:%llx:%llu"
#define PGRAFT_SLOT_PREFIX "pgraft_"				/* + node id: the slots of slots.c */
#define PGRAFT_STREAM_NAME_PREFIX "pgraft_"		/* + node id: application_name, and the name in synchronous_standby_names */

/* sender.c, from the assign hook of quorum.c: this walsender has loaded the generation */
extern void pgraft_sender_stamp(uint64 generation);
extern bool pgraft_sender_only_votes(const uint64 *voters, int count);	/* walsenders with a vote are these members' */

/* tablespace.c, once the statement is done */
extern void pgraft_warn_of_shared_tablespace(const PlannedStmt *statement);

/* observe.c */
extern void pgraft_keep_wal_end(void);

/* quorum.c */
extern void pgraft_quorum_stamp_postmaster(void);	/* after the shared memory was set up again */
extern uint64 pgraft_quorum_loaded(void);			/* generation this process has loaded */

#endif
