/*
 * settings.c: the settings pgraft.*, their checks, and what pgraft demands of the server's own settings.
 *
 * A bad value is refused with its reason when it is set; what depends on two settings is checked in _PG_init. What the Raft side reads once at its start is
 * PGC_POSTMASTER.
 */
#include "pgraft.h"

#include <limits.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "replication/slot.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"

int			pgraft_node_id = 0;
char	   *pgraft_node_name = NULL;
char	   *pgraft_cluster_name = NULL;
char	   *pgraft_listen_address = NULL;
int			pgraft_listen_port = 8001;
char	   *pgraft_advertise_address = NULL;
char	   *pgraft_data_dir_setting = NULL;
int			pgraft_heartbeat_interval = 100;
int			pgraft_election_timeout = 1000;
int			pgraft_peer_timeout = 10000;
int			pgraft_max_log_entries = 1000;
int			pgraft_health_period_ms = 500;
bool		pgraft_debug_enabled = false;
bool		pgraft_allow_weak_commit = false;
bool		pgraft_minority_reads = true;
int			pgraft_rules_off = 0;
char	   *pgraft_replication_conninfo = NULL;
int			pgraft_command_timeout = 30000;
int			pgraft_switchover_timeout = 10000;
bool		pgraft_switchover_end_writers = false;
int			pgraft_failover_priority = 100;
bool		pgraft_nosync = false;
static char *rules_off_setting = NULL;

/* ---- checks ---- */

/* Names go into application_name, slots and files. */
static bool
is_plain_name(const char *value)
{
	size_t		length = strlen(value);

	return length >= 1 && length < PGRAFT_NAME_SIZE &&
		strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == length;
}

static bool
check_cluster_name(char **newval, void **extra, GucSource source)
{
	if (is_plain_name(*newval))
		return true;
	GUC_check_errdetail("The name must have 1 to %d characters, each a letter, digit, \"_\" or \"-\".", PGRAFT_NAME_SIZE - 1);
	return false;
}

static bool
check_node_name(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] == '\0')
		return true;			/* "node<id>" */
	return check_cluster_name(newval, extra, source);
}

/* An address is passed to the resolver of the other members and into connection strings as it stands. */
static bool
is_address(const char *value)
{
	if (strlen(value) >= PGRAFT_ADDRESS_SIZE)
	{
		GUC_check_errdetail("An address can't be longer than %d bytes.", PGRAFT_ADDRESS_SIZE - 1);
		return false;
	}
	for (const char *c = value; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= ' ' || *c == 0x7f || strchr("'\"\\,/=", *c) != NULL)
		{
			GUC_check_errdetail("An address is one host name or IP address, without spaces, quotes, commas or a port.");
			return false;
		}
	}
	return true;
}

static bool
check_listen_address(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] == '\0')
	{
		GUC_check_errdetail("The address must not be empty; \"0.0.0.0\" and \"::\" listen on all interfaces.");
		return false;
	}
	return is_address(*newval);
}

static bool
check_advertise_address(char **newval, void **extra, GucSource source)
{
	if (strcmp(*newval, "0.0.0.0") == 0 || strcmp(*newval, "::") == 0 || strcmp(*newval, "*") == 0)
	{
		GUC_check_errdetail("Other members can't connect to a wildcard address.");
		return false;
	}
	return is_address(*newval);
}

/* Rule 10: base backups and rewinds copy everything inside the data directory, and Raft state must never be copied. */
static bool
check_data_dir(char **newval, void **extra, GucSource source)
{
	char		path[MAXPGPATH];

	if ((*newval)[0] == '\0')
		return true;
	if (strlen(*newval) >= MAXPGPATH - 64)
	{
		GUC_check_errdetail("The path can't be longer than %d bytes.", MAXPGPATH - 65);
		return false;
	}
	if (!is_absolute_path(*newval))
	{
		GUC_check_errdetail("The path must be absolute.");
		return false;
	}
	strlcpy(path, *newval, sizeof(path));
	canonicalize_path(path);
	if (DataDir != NULL && path_is_prefix_of_path(DataDir, path))
	{
		GUC_check_errdetail("Raft state must lie outside the data directory \"%s\", because base backups and rewinds copy everything inside it.", DataDir);
		GUC_check_errhint("Leave it empty for \"%s.pgraft\".", DataDir);
		return false;
	}
	return true;
}

/* Reads one `key` of a connection string at *scan and skips its value; false at the end or at what is no `key = value`. */
static bool
next_conninfo_key(const char **scan, char *key, size_t size)
{
	const char *c = *scan;
	size_t		length = 0;

	while (isspace((unsigned char) *c))
		c++;
	while (*c != '\0' && *c != '=' && !isspace((unsigned char) *c))
	{
		if (length + 1 < size)
			key[length++] = *c;
		c++;
	}
	key[length] = '\0';
	while (isspace((unsigned char) *c))
		c++;
	if (length == 0 || *c != '=')
		return false;
	c++;
	while (isspace((unsigned char) *c))
		c++;
	if (*c == '\'')
	{
		for (c++; *c != '\'' && *c != '\0'; c++)
			if (*c == '\\' && c[1] != '\0')
				c++;
		if (*c != '\'')
			return false;
		c++;
	}
	else
		while (*c != '\0' && !isspace((unsigned char) *c))
		{
			if (*c == '\\' && c[1] != '\0')
				c++;
			c++;
		}
	*scan = c;
	return true;
}

/*
 * libpq is not linked here, so this looks at the keys only: those that pgraft fills in itself are refused, or a node would follow another server than the
 * leader, or under a name that is not its own.
 */
static bool
check_replication_conninfo(char **newval, void **extra, GucSource source)
{
	static const char *const own[] = {"host", "hostaddr", "port", "application_name", "fallback_application_name", "replication", "dbname", "options", "target_session_attrs"};
	const char *scan = *newval;
	char		key[NAMEDATALEN];

	if (strlen(*newval) >= 512)
	{
		GUC_check_errdetail("The string can't be longer than 511 bytes.");
		return false;
	}
	if (strncmp(*newval, "postgresql://", 13) == 0 || strncmp(*newval, "postgres://", 11) == 0)
	{
		GUC_check_errdetail("The string must consist of \"key = value\" pairs; a URI is not accepted.");
		return false;
	}
	for (;;)
	{
		while (isspace((unsigned char) *scan))
			scan++;
		if (*scan == '\0')
			return true;
		if (!next_conninfo_key(&scan, key, sizeof(key)))
		{
			GUC_check_errdetail("The string must consist of \"key = value\" pairs.");
			return false;
		}
		for (int i = 0; i < lengthof(own); i++)
		{
			if (strcmp(key, own[i]) == 0)
			{
				GUC_check_errdetail("\"%s\" is filled in by pgraft.", key);
				GUC_check_errhint("Give only what all members have in common, for example \"user=replicator passfile=/etc/pgraft.pass\".");
				return false;
			}
		}
	}
}

/*
 * Off is a promise of the server's to all that read from it; a session may be stricter than the server, never laxer. RESET takes it back to what it began with. Also refused
 * where the server allows it: a session that had set it would keep it when the server's setting changes.
 */
static bool
check_minority_reads(bool *newval, void **extra, GucSource source)
{
	if (!*newval || source <= PGC_S_ARGV)
		return true;
	GUC_check_errdetail("It can be set to \"on\" in the server's configuration only.");
	GUC_check_errhint("Use RESET pgraft.minority_reads to return to the server's setting.");
	return false;
}

/* ---- rules left out, for tests ---- */

static const struct
{
	const char *name;
	int			bit;
}			rule_parts[] = {
	{"commit_wait", PGRAFT_OFF_COMMIT_WAIT},
	{"commit_level", PGRAFT_OFF_COMMIT_LEVEL},
	{"commit_backstop", PGRAFT_OFF_COMMIT_BACKSTOP},
	{"commit_quorum", PGRAFT_OFF_COMMIT_QUORUM},
	{"write_fence", PGRAFT_OFF_WRITE_FENCE},
	{"standby_start", PGRAFT_OFF_STANDBY_START},
	{"health", PGRAFT_OFF_HEALTH},
	{"timeline_ids", PGRAFT_OFF_TIMELINE_IDS},
	{"divergence", PGRAFT_OFF_DIVERGENCE},
	{"wal_end", PGRAFT_OFF_WAL_END},
	{"one_stream", PGRAFT_OFF_ONE_STREAM},
};

/* False: the list names something else. */
static bool
parse_rules_off(const char *value, int *bits)
{
	char	   *names = pstrdup(value);
	List	   *list = NIL;
	ListCell   *cell;
	bool		valid = SplitIdentifierString(names, ',', &list);

	*bits = 0;
	foreach(cell, list)
	{
		int			part = 0;

		while (part < lengthof(rule_parts) && strcmp(rule_parts[part].name, (const char *) lfirst(cell)) != 0)
			part++;
		if (part == lengthof(rule_parts))
			valid = false;
		else
			*bits |= rule_parts[part].bit;
	}
	list_free(list);
	pfree(names);
	return valid;
}

static bool
check_rules_off(char **newval, void **extra, GucSource source)
{
	int			bits;

	if (parse_rules_off(*newval, &bits))
		return true;
	GUC_check_errdetail("It is a list of commit_wait, commit_level, commit_backstop, commit_quorum, write_fence, standby_start, health, timeline_ids, divergence, wal_end and one_stream.");
	return false;
}

/* ---- definitions ---- */

static void
define_addresses(void)
{
	DefineCustomIntVariable("pgraft.node_id",
							"Number of this node, unique in its cluster.",
							"0 leaves the server alone. It can't be changed once the node is part of a cluster.",
							&pgraft_node_id, 0, 0, INT_MAX, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.node_name",
							   "Name of this node, for people to read.",
							   "Empty: \"node\" and the number.",
							   &pgraft_node_name, "", PGC_POSTMASTER, 0, check_node_name, NULL, NULL);
	DefineCustomStringVariable("pgraft.cluster_name",
							   "Name of the cluster; only nodes that have the same one talk to each other.",
							   NULL,
							   &pgraft_cluster_name, "pgraft", PGC_POSTMASTER, 0, check_cluster_name, NULL, NULL);
	DefineCustomStringVariable("pgraft.listen_address",
							   "Address on which this node listens for the other members (Raft).",
							   "\"0.0.0.0\" and \"::\" listen on all interfaces.",
							   &pgraft_listen_address, "0.0.0.0", PGC_POSTMASTER, 0, check_listen_address, NULL, NULL);
	DefineCustomIntVariable("pgraft.listen_port",
							"TCP port on which this node listens for the other members (Raft).",
							NULL,
							&pgraft_listen_port, 8001, 1, 65535, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("pgraft.advertise_address",
							   "Address by which the other members reach this node, for Raft and for PostgreSQL.",
							   "Empty: pgraft.listen_address, or 127.0.0.1 when that is a wildcard.",
							   &pgraft_advertise_address, "", PGC_POSTMASTER, 0, check_advertise_address, NULL, NULL);
	DefineCustomStringVariable("pgraft.data_dir",
							   "Directory of this node's Raft state, outside the data directory.",
							   "Empty: the data directory's path with \".pgraft\" appended. It must be on a durable disk.",
							   &pgraft_data_dir_setting, "", PGC_POSTMASTER, 0, check_data_dir, NULL, NULL);
	DefineCustomStringVariable("pgraft.replication_conninfo",
							   "Connection parameters by which a follower connects to the leader, all but host and port.",
							   "For example \"user=replicator passfile=/etc/pgraft.pass\". Host, port and name are filled in by pgraft.",
							   &pgraft_replication_conninfo, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_replication_conninfo, NULL, NULL);
}

static void
define_timing(void)
{
	DefineCustomIntVariable("pgraft.heartbeat_interval",
							"Time between two heartbeats of the leader.",
							"A fifth of pgraft.election_timeout at most.",
							&pgraft_heartbeat_interval, 100, 10, 60000, PGC_POSTMASTER, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.election_timeout",
							"The longest time a silent leader goes unnoticed.",
							"A follower campaigns after a random time between half and all of it. The leader's lease to accept writes lasts a little less than half of it.",
							&pgraft_election_timeout, 1000, 100, 600000, PGC_POSTMASTER, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.peer_timeout",
							"How long a change of the cluster waits for the answers of the other members.",
							"When it has passed, the function that asked for the change reports how many have answered.",
							&pgraft_peer_timeout, 10000, 100, 600000, PGC_POSTMASTER, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.health_period_ms",
							"Time between two checks that this node's PostgreSQL side is alive.",
							"A leader whose PostgreSQL side has not answered ten times in a row (five seconds at least) steps down.",
							&pgraft_health_period_ms, 500, 50, 60000, PGC_POSTMASTER, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.command_timeout",
							"How long a function that changes the cluster waits before it gives up.",
							"When it gives up on a change that has been begun, the outcome is unknown.",
							&pgraft_command_timeout, 30000, 100, INT_MAX, PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.switchover_timeout",
							"How long pgraft_transfer_leadership() may hold writes back before it gives up.",
							"Running transactions must have ended, and the target must have all WAL, by then. The checkpoint before it is not counted.",
							&pgraft_switchover_timeout, 10000, 100, 3600000, PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgraft.switchover_end_writers",
							 "Lets pgraft_transfer_leadership() abort transactions that have not ended at half of pgraft.switchover_timeout.",
							 "Off: it gives up in the end, and says which sessions were in the way.",
							 &pgraft_switchover_end_writers, false, PGC_USERSET, 0, NULL, NULL, NULL);
}

/*
 * A value that stands in postgresql.conf was accepted as text before the module was loaded. If its check fails when the setting is defined, the server only warns and goes
 * on with the default: with another data_dir or node_id, a node would come up as somebody else. So what was given is compared with what is in force.
 */
typedef struct GivenSetting
{
	const char *name;
	int		   *number;			/* one of the three */
	char	  **text;
	bool	   *flag;
	int			unit;
	char	   *given;			/* NULL: not set */
} GivenSetting;

static GivenSetting given_settings[] = {
	{"pgraft.node_id", &pgraft_node_id, NULL, NULL, 0, NULL},
	{"pgraft.node_name", NULL, &pgraft_node_name, NULL, 0, NULL},
	{"pgraft.cluster_name", NULL, &pgraft_cluster_name, NULL, 0, NULL},
	{"pgraft.listen_address", NULL, &pgraft_listen_address, NULL, 0, NULL},
	{"pgraft.listen_port", &pgraft_listen_port, NULL, NULL, 0, NULL},
	{"pgraft.advertise_address", NULL, &pgraft_advertise_address, NULL, 0, NULL},
	{"pgraft.data_dir", NULL, &pgraft_data_dir_setting, NULL, 0, NULL},
	{"pgraft.replication_conninfo", NULL, &pgraft_replication_conninfo, NULL, 0, NULL},
	{"pgraft.heartbeat_interval", &pgraft_heartbeat_interval, NULL, NULL, GUC_UNIT_MS, NULL},
	{"pgraft.election_timeout", &pgraft_election_timeout, NULL, NULL, GUC_UNIT_MS, NULL},
	{"pgraft.peer_timeout", &pgraft_peer_timeout, NULL, NULL, GUC_UNIT_MS, NULL},
	{"pgraft.health_period_ms", &pgraft_health_period_ms, NULL, NULL, GUC_UNIT_MS, NULL},
	{"pgraft.command_timeout", &pgraft_command_timeout, NULL, NULL, GUC_UNIT_MS, NULL},
	{"pgraft.failover_priority", &pgraft_failover_priority, NULL, NULL, 0, NULL},
	{"pgraft.max_log_entries", &pgraft_max_log_entries, NULL, NULL, 0, NULL},
	{"pgraft.debug_rules_off", NULL, &rules_off_setting, NULL, 0, NULL},
	{"pgraft.minority_reads", NULL, NULL, &pgraft_minority_reads, 0, NULL},
};

static void
remember_given(void)
{
	for (int i = 0; i < lengthof(given_settings); i++)
	{
		const char *value = GetConfigOption(given_settings[i].name, true, false);

		given_settings[i].given = value ? pstrdup(value) : NULL;
	}
}

static void
refuse_rejected(void)
{
	for (int i = 0; i < lengthof(given_settings); i++)
	{
		const GivenSetting *setting = &given_settings[i];
		bool		taken;
		int			number;
		bool		flag;

		if (setting->given == NULL)
			continue;
		if (setting->text != NULL)
			taken = strcmp(setting->given, *setting->text) == 0;
		else if (setting->flag != NULL)
			taken = parse_bool(setting->given, &flag) && flag == *setting->flag;
		else
			taken = parse_int(setting->given, &number, setting->unit, NULL) && number == *setting->number;
		if (!taken)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for parameter \"%s\": \"%s\"", setting->name, setting->given),
					 errhint("The reason is in the warning before this message. Correct the value in postgresql.conf.")));
	}
}

void
pgraft_define_settings(void)
{
	remember_given();
	define_addresses();
	define_timing();
	DefineCustomIntVariable("pgraft.max_log_entries",
							"Number of Raft log entries sent in one message at most.",
							NULL,
							&pgraft_max_log_entries, 1000, 1, 100000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pgraft.failover_priority",
							"Who shall lead: members with a greater value campaign first and are chosen first in a switchover.",
							"0: this node leads only where nobody else may without losing data, and hands over as soon as somebody else can.",
							&pgraft_failover_priority, 100, 0, 100, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgraft.nosync",
							 "This node stays a learner when it is added: it has no vote and no commit waits for it.",
							 "It has an effect when the node is added to the cluster; remove and add it again to change it.",
							 &pgraft_nosync, false, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgraft.debug_enabled",
							 "Writes every order of the failover controller to the server's log.",
							 NULL,
							 &pgraft_debug_enabled, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgraft.allow_weak_commit",
							 "Lets synchronous_commit go below what makes an acknowledged commit survive a failover.",
							 "Commits of sessions that choose off, local or remote_write may then be lost when the leader fails. Off: they are raised to the commit quorum's level.",
							 &pgraft_allow_weak_commit, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgraft.minority_reads",
							 "Lets a node be read while it is not in contact with a majority of its cluster.",
							 "Such reads may show what was never acknowledged, and miss what was. Off: they are refused with 57P03. Sessions can set it to off only.",
							 &pgraft_minority_reads, true, PGC_USERSET, 0, check_minority_reads, NULL, NULL);
	DefineCustomStringVariable("pgraft.debug_rules_off",
							   "Parts of pgraft's safety rules to leave out, so that a test can show what they are for.",
							   "Acknowledged commits can be lost with it.",
							   &rules_off_setting, "", PGC_POSTMASTER,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_AUTO_FILE,
							   check_rules_off, NULL, NULL);
	pgraft_stop_points_define_setting();
	refuse_rejected();
	if (parse_rules_off(rules_off_setting, &pgraft_rules_off) && pgraft_rules_off != 0)
		ereport(WARNING,
				(errmsg("pgraft.debug_rules_off is \"%s\": acknowledged commits can be lost", rules_off_setting),
				 errdetail("It is there for tests of pgraft alone."),
				 errhint("Remove it from the configuration.")));
}

const char *
pgraft_data_dir(void)
{
	static char path[MAXPGPATH];

	if (path[0] == '\0')
	{
		if (pgraft_data_dir_setting != NULL && pgraft_data_dir_setting[0] != '\0')
			strlcpy(path, pgraft_data_dir_setting, sizeof(path));
		else
			snprintf(path, sizeof(path), "%s.pgraft", DataDir);
		canonicalize_path(path);
	}
	return path;
}

/* ---- what pgraft needs of the server ---- */

static void
add_problem(StringInfo problems, const char *problem)
{
	if (problems->len > 0)
		appendStringInfoString(problems, "; ");
	appendStringInfoString(problems, problem);
}

/*
 * Every one of these would break a promise or the way back of a failed node; which, is said beside it. `fatal`: commits would not be durable, or nobody could follow.
 */
char *
pgraft_check_server(bool *fatal)
{
	StringInfoData problems;
	bool		hopeless = false;

	initStringInfo(&problems);
	if (!enableFsync)
	{
		hopeless = true;
		add_problem(&problems, "fsync is off");		/* an acknowledgement would mean nothing */
	}
	if (wal_level < WAL_LEVEL_REPLICA)
	{
		hopeless = true;
		add_problem(&problems, "wal_level is \"minimal\"");
	}
	if (max_wal_senders < 4)
		add_problem(&problems, "max_wal_senders is below 4");
	if (max_replication_slots < 4)
		add_problem(&problems, "max_replication_slots is below 4");	/* slots.c: one for each other member */
	if (max_slot_wal_keep_size_mb < 0)
		add_problem(&problems, "max_slot_wal_keep_size is not set");	/* a member that is away would fill the disk */
	if (!EnableHotStandby)
		add_problem(&problems, "hot_standby is off");	/* followers serve reads */
	if (!fullPageWrites)
		add_problem(&problems, "full_page_writes is off");	/* needed by pg_rewind */
	if (!wal_log_hints && !DataChecksumsEnabled())
		add_problem(&problems, "wal_log_hints is off and there are no data checksums");	/* the same */
	if (wal_receiver_status_interval <= 0)
		add_problem(&problems, "wal_receiver_status_interval is 0");	/* it suppresses acknowledgements */
	if (PrimaryConnInfo == NULL || PrimaryConnInfo[0] == '\0')
		add_problem(&problems, "primary_conninfo is empty (any value will do, for example 'application_name=pgraft')");	/* else recovery never asks for a stream */
	if (recoveryRestoreCommand != NULL && recoveryRestoreCommand[0] != '\0')
		add_problem(&problems, "restore_command is set");	/* the archive bypasses the term gate */
	if (pgraft_rules_off != 0)
		add_problem(&problems, "pgraft.debug_rules_off is set");	/* acknowledged commits can be lost */
	if (fatal)
		*fatal = hopeless;
	if (problems.len == 0)
	{
		pfree(problems.data);
		return NULL;
	}
	return problems.data;
}
