"""SQL on a member's server, as the operator: connecting, and errors that say what to do next."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import typer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgraft.cluster_view import MemberView
from pgraft.errors import CommandError, Exit

_CONNECT_SECONDS = 5
_SUPERUSER = "postgres"


@dataclass(frozen=True)
class Login:
    """How the operator connects: all but host and port."""

    conninfo: str = ""
    root_is: str = _SUPERUSER
    """Who root is when nothing says so: there is hardly a role "root"."""

    def words(self) -> dict[str, Any]:
        """Keys and values of the connection string, with our defaults.

        Raises:
            CommandError: It can't be understood, or names the host.
        """
        try:
            words: dict[str, Any] = dict(conninfo_to_dict(self.conninfo))
        except psycopg.ProgrammingError as error:
            raise CommandError(
                f"--conninfo can't be understood: {str(error).strip()}",
                'Write it as "user=postgres passfile=/etc/pgraft.pass".',
                Exit.USAGE,
            ) from None
        for key in ("host", "hostaddr", "port"):
            if words.pop(key, None) is not None:
                raise CommandError(
                    f'--conninfo must not say "{key}": the members tell where their servers are',
                    "Name the member to ask first with --host and --port.",
                    Exit.USAGE,
                )
        if os.geteuid() == 0 and "PGUSER" not in os.environ:
            words.setdefault("user", self.root_is)
        if "PGDATABASE" not in os.environ:
            words.setdefault("dbname", "postgres")
        if "PGCONNECT_TIMEOUT" not in os.environ:
            words.setdefault("connect_timeout", _CONNECT_SECONDS)
        words.setdefault("application_name", "pgraft")
        words["client_encoding"] = "UTF8"  # else a database in SQL_ASCII sends no text, but bytes
        return words

    def connect(self, member: MemberView, *, ask: bool = True) -> psycopg.Connection[Any]:
        """Connects to a member's server; asks for a password at a terminal if one is wanted.

        Raises:
            CommandError: It can't be reached, or refuses.
        """
        words = self.words()
        words.update(host=member.host, port=member.port)
        try:
            try:
                return psycopg.connect(make_conninfo("", **words), autocommit=True)
            except psycopg.OperationalError as error:
                if not (ask and "no password supplied" in str(error) and sys.stdin.isatty()):
                    raise
            words["password"] = typer.prompt(f"Password for {member.server}", hide_input=True)
            return psycopg.connect(make_conninfo("", **words), autocommit=True)
        except psycopg.OperationalError as error:
            raise _refused(member, error) from None

    def call(self, member: MemberView, function: str, arguments: Sequence[Any]) -> Any:
        """Calls one of the extension's functions on a member.

        Returns:
            What it returned.

        Raises:
            CommandError: It failed.
            ConnectionEndedError: The connection ended before the answer.
        """
        places = ", ".join(["%s"] * len(arguments))
        statement = f"SELECT {function}({places})"
        with self.connect(member) as connection, explained(member, connection, function):
            row = connection.execute(statement.encode(), arguments).fetchone()
        return row[0] if row else None


class ConnectionEndedError(CommandError):
    """The server ended the connection before it answered: the outcome is unknown."""


@contextlib.contextmanager
def explained(
    member: MemberView, connection: psycopg.Connection[Any], function: str
) -> Iterator[None]:
    """Turns the server's errors into those of the command line."""
    try:
        yield
    except psycopg.errors.UndefinedFunction:
        raise _no_function(member, connection, function) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise CommandError(
            f"{member.title} refused: {error.diag.message_primary}",
            f"Connect as a superuser (--conninfo user={_SUPERUSER}), or grant this user EXECUTE on "
            f"function {function}.",
        ) from None
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error).strip()
        detail = " ".join(filter(None, [error.diag.message_detail, error.diag.message_hint]))
        if error.sqlstate == "40003":
            raise CommandError(message, detail, Exit.UNKNOWN) from None
        if connection.broken:
            raise ConnectionEndedError(
                f"{member.title} ended the connection before it answered: {message}",
                'What was asked may have been done: look with "pgraft status".',
                Exit.UNKNOWN,
            ) from None
        raise CommandError(f"{member.title} refused: {message}", detail) from None


def _no_function(
    member: MemberView, connection: psycopg.Connection[Any], function: str
) -> CommandError:
    """Which of three is it: not created here, too old in this database, or too old altogether?"""
    database = connection.info.dbname
    row = connection.execute(
        "SELECT e.extversion, a.default_version FROM pg_available_extensions a "
        "LEFT JOIN pg_extension e ON e.extname = a.name WHERE a.name = 'pgraft'"
    ).fetchone()
    if row is None or row[0] is None:
        return CommandError(
            f'the extension pgraft is not there in database "{database}" of {member.title}',
            "Name the database that has it (--conninfo dbname=...), or make it on the leader: "
            "CREATE EXTENSION pgraft.",
        )
    update = "" if row[0] == row[1] else f"ALTER EXTENSION pgraft UPDATE makes it {row[1]}. "
    return CommandError(
        f"the extension pgraft {row[0]} of {member.title} has no function {function}",
        f"{update}Install a newer pgraft on all members, followers first.",
    )


def _refused(member: MemberView, error: psycopg.OperationalError) -> CommandError:
    said = str(error).strip().splitlines() or ["no reason given"]
    why = said[0].rpartition(" failed: ")[2]
    lower = str(error).lower()
    if "password" in lower or "authentication failed" in lower or "does not exist" in lower:
        hint = (
            'Say who you are with --conninfo "user=... passfile=...", with PGUSER and PGPASSWORD, '
            "or in ~/.pgpass."
        )
    elif "pg_hba.conf" in lower:
        hint = (
            f"Let this machine connect in pg_hba.conf of {member.title}, or run this on a machine "
            "that may."
        )
    elif "starting up" in lower or "shutting down" in lower or "recovery" in lower:
        hint = "Try again in a moment."
    else:
        hint = (
            "Is the server running, and its port open from here? See "
            '"pgraft status" and that server\'s log.'
        )
    return CommandError(
        f"could not connect to {member.title}'s server {member.server}: {why}", hint
    )
