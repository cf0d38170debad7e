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

#if PG_VERSION_NUM < 150000
#error "pgraft needs PostgreSQL 15 or newer"
#endif

#if PG_VERSION_NUM >= 170000
#define PGRAFT_IS_AUTOVACUUM() (AmAutoVacuumLauncherProcess() || AmAutoVacuumWorkerProcess())
#else
#define PGRAFT_IS_AUTOVACUUM() (IsAutoVacuumLauncherProcess() || IsAutoVacuumWorkerProcess())
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

/* From 17 on pqsignal() wraps every handler, so that the one that is installed can't be compared with the server's. */
#if PG_VERSION_NUM >= 170000
#define PGRAFT_IS_CANCEL_HANDLER(handler) ((handler) != SIG_IGN && (handler) != SIG_DFL)
#else
#define PGRAFT_IS_CANCEL_HANDLER(handler) ((handler) == StatementCancelHandler)
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
