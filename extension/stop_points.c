/*
 * stop_points.c: pgraft.debug_stop_at, a setting for tests: the worker's process stops (SIGSTOP) at a step of a promotion or of a membership change, so that a test can end it there.
 *
 * It stops once for each value that the setting is given; the word in the guard says whether that is still to come.
 */
#include "pgraft.h"

#include "utils/guc.h"

static const struct config_enum_entry stop_points[] = {
	{"nowhere", PGRAFT_STOP_NOWHERE, false},
	{"learner_proposed", PGRAFT_STOP_LEARNER_PROPOSED, false},
	{"learner_committed", PGRAFT_STOP_LEARNER_COMMITTED, false},
	{"learner_applied", PGRAFT_STOP_LEARNER_APPLIED, false},
	{"voter_proposed", PGRAFT_STOP_VOTER_PROPOSED, false},
	{"voter_committed", PGRAFT_STOP_VOTER_COMMITTED, false},
	{"voter_applied", PGRAFT_STOP_VOTER_APPLIED, false},
	{"removal_proposed", PGRAFT_STOP_REMOVAL_PROPOSED, false},
	{"removal_committed", PGRAFT_STOP_REMOVAL_COMMITTED, false},
	{"removal_applied", PGRAFT_STOP_REMOVAL_APPLIED, false},
	{"quorum_written", PGRAFT_STOP_QUORUM_WRITTEN, false},
	{"ordered", PGRAFT_STOP_ORDERED, false},
	{"reserved", PGRAFT_STOP_RESERVED, false},
	{"signal", PGRAFT_STOP_SIGNAL, false},
	{"promoted", PGRAFT_STOP_PROMOTED, false},
	{"confirmed", PGRAFT_STOP_CONFIRMED, false},
	{"fence", PGRAFT_STOP_FENCE, false},
	{NULL, 0, false}
};

static int	stop_at_setting = PGRAFT_STOP_NOWHERE;

void
pgraft_stop_points_define_setting(void)
{
	DefineCustomEnumVariable("pgraft.debug_stop_at",
							 "Step of a promotion or of a membership change at which the worker stops, so that a test can end it there.",
							 NULL,
							 &stop_at_setting, PGRAFT_STOP_NOWHERE, stop_points, PGC_SIGHUP,
							 GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							 NULL, NULL, NULL);
}

void
pgraft_stop_points_arm(void)
{
	static int	armed = PGRAFT_STOP_NOWHERE;

	if (stop_at_setting == armed)
		return;
	armed = stop_at_setting;
	pgraft_store(&pgraft_shared->guard.stop_at, (uint64) armed);
}
