/*
 * compat.h: what differs between the PostgreSQL versions that the seams are built for (15 is the main one; 17 and 18 read from their headers).
 *
 * Only differences of the server's interfaces; no behaviour of ours. Include after pgraft.h.
 */
#ifndef PGRAFT_COMPAT_H
#define PGRAFT_COMPAT_H

#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "replication/walreceiver.h"
#include "replication/walsender_private.h"
#if PG_VERSION_NUM >= 160000
#include "utils/guc_hooks.h"
#endif
#if PG_VERSION_NUM >= 180000
#include "storage/proc.h"
#endif
#include "utils/guc_tables.h"

#if PG_VERSION_NUM < 150000
#error "pgraft needs PostgreSQL 15 or newer"
#endif

#if PG_VERSION_NUM >= 170000
#define PGRAFT_IS_AUTOVACUUM() (AmAutoVacuumLauncherProcess() || AmAutoVacuumWorkerProcess())
#define PGRAFT_IS_AUTOVACUUM_WORKER() AmAutoVacuumWorkerProcess()
#else
#define PGRAFT_IS_AUTOVACUUM() (IsAutoVacuumLauncherProcess() || IsAutoVacuumWorkerProcess())
#define PGRAFT_IS_AUTOVACUUM_WORKER() IsAutoVacuumWorkerProcess()
#endif

/* 18: SIGTERM goes through die(), and ProcessWalRcvInterrupts() is gone. */
#if PG_VERSION_NUM >= 180000
#define PGRAFT_RECEIVER_INTERRUPTS() CHECK_FOR_INTERRUPTS()
#else
#define PGRAFT_RECEIVER_INTERRUPTS() ProcessWalRcvInterrupts()
#endif

/* walrcv_connect: 16 took must_use_password, 17 replication. */
#if PG_VERSION_NUM >= 170000
#define PGRAFT_CONNECT_PARAMS \
	const char *conninfo, bool replication, bool logical, bool must_use_password, const char *appname, char **err
#define PGRAFT_CONNECT_ARGS(info) (info), replication, logical, must_use_password, appname, err
#elif PG_VERSION_NUM >= 160000
#define PGRAFT_CONNECT_PARAMS \
	const char *conninfo, bool logical, bool must_use_password, const char *appname, char **err
#define PGRAFT_CONNECT_ARGS(info) (info), logical, must_use_password, appname, err
#else
#define PGRAFT_CONNECT_PARAMS const char *conninfo, bool logical, const char *appname, char **err
#define PGRAFT_CONNECT_ARGS(info) (info), logical, appname, err
#endif

/* ExecutorRun: 18 lost execute_once. */
#if PG_VERSION_NUM >= 180000
#define PGRAFT_RUN_PARAMS QueryDesc *query, ScanDirection direction, uint64 count
#define PGRAFT_RUN_ARGS query, direction, count
#else
#define PGRAFT_RUN_PARAMS QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once
#define PGRAFT_RUN_ARGS query, direction, count, execute_once
#endif

/* From 17 on pqsignal() wraps every handler, so that the one that is installed can't be compared with the server's. */
#if PG_VERSION_NUM >= 170000
#define PGRAFT_IS_HANDLER(installed, expected) ((installed) != SIG_IGN && (installed) != SIG_DFL)
#else
#define PGRAFT_IS_HANDLER(installed, expected) ((installed) == (expected))
#endif

/* 18: the walreceiver is known by its number in the array of processes. The caller holds WalRcv->mutex. NULL: there is none. */
static inline struct Latch *
pgraft_walreceiver_latch(void)
{
#if PG_VERSION_NUM >= 180000
	return WalRcv->procno == INVALID_PROC_NUMBER ? NULL : &GetPGProcByNumber(WalRcv->procno)->procLatch;
#else
	return WalRcv->latch;
#endif
}

/* 17: the virtual transaction's number has moved. */
#if PG_VERSION_NUM >= 170000
#define PGRAFT_PROC_LXID(proc) ((proc)->vxid.lxid)
#else
#define PGRAFT_PROC_LXID(proc) ((proc)->lxid)
#endif

/* 17: sets belong to resource owners; one of none lives as long as the process. */
#if PG_VERSION_NUM >= 170000
#define PGRAFT_CREATE_WAIT_EVENT_SET(count) CreateWaitEventSet(NULL, count)
#else
#define PGRAFT_CREATE_WAIT_EVENT_SET(count) CreateWaitEventSet(TopMemoryContext, count)
#endif

/* The i-th of pgstat_fetch_stat_numbackends(); 16 gave it another name. */
#if PG_VERSION_NUM >= 160000
#define PGRAFT_BACKEND_STATUS(i) (&pgstat_get_local_beentry_by_index((i) + 1)->backendStatus)
#else
#define PGRAFT_BACKEND_STATUS(i) (&pgstat_fetch_stat_local_beentry((i) + 1)->backendStatus)
#endif

/* Replication slots: 16 gave invalidation a cause, 17 slots that are synchronised, 18 errors for what is invalid. */
#if PG_VERSION_NUM >= 170000
#define PGRAFT_CREATE_PHYSICAL_SLOT(name) ReplicationSlotCreate(name, false, RS_PERSISTENT, false, false, false)
#else
#define PGRAFT_CREATE_PHYSICAL_SLOT(name) ReplicationSlotCreate(name, false, RS_PERSISTENT, false)
#endif
#if PG_VERSION_NUM >= 180000
#define PGRAFT_ACQUIRE_SLOT(name) ReplicationSlotAcquire(name, true, true)
#else
#define PGRAFT_ACQUIRE_SLOT(name) ReplicationSlotAcquire(name, true)
#endif
#if PG_VERSION_NUM >= 160000
#define PGRAFT_SLOT_IS_LOST(slot) ((slot)->data.invalidated != RS_INVAL_NONE)
#else
#define PGRAFT_SLOT_IS_LOST(slot) ((slot)->data.restart_lsn == InvalidXLogRecPtr)
#endif
#define PGRAFT_SLOT_IN_USE(slot) ((slot)->active_pid != 0)

/* A string setting of the server itself; NULL: there is none of that name. */
static inline struct config_string *
pgraft_find_string_setting(const char *name)
{
	struct config_generic *found = NULL;

#if PG_VERSION_NUM >= 160000
	found = find_option(name, false, true, 0);
#else
	struct config_generic **all = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions() && found == NULL; i++)
	{
		if (strcmp(all[i]->name, name) == 0)
			found = all[i];
	}
#endif
	return found != NULL && found->vartype == PGC_STRING ? (struct config_string *) found : NULL;
}

/* Has the checkpointer published that commits have to wait? (Minor releases before 15.13 and 17.5 had a plain flag: too old, see the documentation.) */
static inline bool
pgraft_sync_standbys_defined(void)
{
	bits8		status = *(volatile bits8 *) &WalSndCtl->sync_standbys_status;

	return (status & SYNC_STANDBY_DEFINED) != 0;
}

static inline bool
pgraft_sync_standbys_known(void)
{
	bits8		status = *(volatile bits8 *) &WalSndCtl->sync_standbys_status;

	return (status & SYNC_STANDBY_INIT) != 0;
}

#endif
