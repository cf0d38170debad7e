/*
 * guard.h: the words of shared memory that keep the promises when the worker is stopped or hung.
 *
 * Written by the engine's thread (C++) and the worker's main thread, read by every backend, the walreceiver and the postmaster. No PostgreSQL and no C++
 * header: plain 64-bit words, accessed only with the __atomic builtins below, so that both languages share one layout.
 *
 * All zero means: gate closed, fenced, no lease, no walsender admitted (rule 1). Shared memory starts that way at boot and after every crash restart.
 */
#ifndef PGRAFT_GUARD_H
#define PGRAFT_GUARD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* failover::Drain */
#define PGRAFT_DRAIN_NONE 0
#define PGRAFT_DRAIN_HOLD 1
#define PGRAFT_DRAIN_END 2

/* Where a worker can be made to stand still in the middle of a promotion or of a membership change, for tests (pgraft.debug_stop_at). */
typedef enum PgraftStopPoint
{
	PGRAFT_STOP_NOWHERE = 0,
	PGRAFT_STOP_LEARNER_PROPOSED, /* each three in the order of node::ChangeStep */
	PGRAFT_STOP_LEARNER_COMMITTED,
	PGRAFT_STOP_LEARNER_APPLIED,
	PGRAFT_STOP_VOTER_PROPOSED,
	PGRAFT_STOP_VOTER_COMMITTED,
	PGRAFT_STOP_VOTER_APPLIED,
	PGRAFT_STOP_REMOVAL_PROPOSED,
	PGRAFT_STOP_REMOVAL_COMMITTED,
	PGRAFT_STOP_REMOVAL_APPLIED,
	PGRAFT_STOP_QUORUM_WRITTEN,   /* the new commit quorum's file is there, and no process has been told */
	PGRAFT_STOP_ORDERED,          /* the promotion is committed, nothing is done yet */
	PGRAFT_STOP_RESERVED,         /* the ids below are reserved */
	PGRAFT_STOP_SIGNAL,           /* the promote signal file is there, the postmaster does not know yet */
	PGRAFT_STOP_PROMOTED,         /* a primary, which consensus does not know yet */
	PGRAFT_STOP_CONFIRMED,        /* PromotionDone is committed, the commit quorum is not set */
	PGRAFT_STOP_FENCE             /* walsenders are admitted, the fence is closed */
} PgraftStopPoint;

typedef struct PgraftGuard
{
	uint64_t standalone;     /* 1: this server belongs to no cluster, nothing is fenced or gated (set by the start-up hook, cleared by the worker) */
	uint64_t current_term;   /* newest term that the gate knows; connections remember it */

	/* rule 2, the term gate: gate_term is written last on opening and zeroed first on closing */
	uint64_t gate_term;      /* 0: closed */
	uint64_t gate_timeline;
	uint64_t gate_switch;    /* LSN */
	uint64_t gate_sending;   /* the walreceiver is between its check and the end of its send */
	uint64_t receiver_pid;   /* of the walreceiver that may be sending; 0 none */

	/* rule 7, the write fence: writes are allowed while fence_term != 0 and now < lease_until */
	uint64_t fence_term;     /* 0: fenced */
	uint64_t lease_until_ns; /* CLOCK_BOOTTIME, so that a suspended machine wakes up fenced */
	uint64_t leased_ns;      /* when it was last renewed; 0: never */

	/* rule 7, reads: a follower is in contact with its leader while gate_term != 0 and now < contact_until */
	uint64_t contact_until_ns; /* CLOCK_BOOTTIME */

	/* rule 3: walsenders are admitted for this term; 0: frozen */
	uint64_t admit_term;

	/* rule 6, backstop: walsenders a commit needs besides this node (k of ANY k); meaningful while fence_term != 0 */
	uint64_t quorum_k;

	uint64_t drain;          /* PGRAFT_DRAIN_...: a planned switchover (drain.c); written by the worker */
	/* for those that watch keys: newest revision of the key-value store here, and how many wait for a newer one */
	uint64_t kv_revision;
	uint64_t kv_watchers;

	uint64_t leader_id;      /* for hints in messages; 0 unknown */
	uint64_t worker_tick_ns; /* last sign of life of the worker's main thread (rule 11) */
	uint64_t stop_at;        /* PgraftStopPoint: there the worker's process stops (SIGSTOP), once */
	uint64_t database_tick_ns; /* the same of the database, when a primary (health.c); 0: not known */
} PgraftGuard;

static inline uint64_t
pgraft_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static inline void
pgraft_store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static inline uint64_t
pgraft_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t) ts.tv_sec * 1000000000u + (uint64_t) ts.tv_nsec;
}

static inline void
pgraft_stop_at(PgraftGuard *guard, PgraftStopPoint here)
{
	if (pgraft_load(&guard->stop_at) != (uint64_t) here)
		return;
	pgraft_store(&guard->stop_at, PGRAFT_STOP_NOWHERE);
	(void) raise(SIGSTOP);
}

/* Rule 7: may this server accept writes at this moment? Async-signal-safe. */
static inline bool
pgraft_writes_allowed(const PgraftGuard *guard)
{
	if (pgraft_load(&guard->standalone))
		return true;
	return pgraft_load(&guard->fence_term) != 0 && pgraft_clock_ns() < pgraft_load(&guard->lease_until_ns);
}

/*
 * Rule 7: may this server's data be what a majority has? True for a leader with a live lease, and for a follower whose gate is open and that has heard its leader within the
 * election timeout. Async-signal-safe.
 */
static inline bool
pgraft_in_contact(const PgraftGuard *guard)
{
	if (pgraft_writes_allowed(guard))
		return true;
	return pgraft_load(&guard->gate_term) != 0 && pgraft_clock_ns() < pgraft_load(&guard->contact_until_ns);
}

#ifdef __cplusplus
}
#endif

#endif
