#!/usr/bin/env python3
"""Write the reference of functions, views and settings from a running server, or check it.

tools/sql_reference.py          writes docs/reference/functions.md, views.md and settings.md
tools/sql_reference.py --check  fails when they say something else than the server

The server is a cluster of one, made for this and removed again, so the extension must be installed
(./dev build). What its catalogs can't say, what a result column means, is in
tools/sql_columns.toml: each column needs its line there, and no line may be left over.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from pgraft.local_cluster import LocalCluster
from psycopg.rows import dict_row

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
MEANINGS = ROOT / "tools" / "sql_columns.toml"
MARK = "<!-- From here on written by tools/sql_reference.py, from a running server. -->"

Row = dict[str, Any]
Meaning = Callable[[str, str], str]

_MEMBERS = """
    FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pgraft'
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
"""

_FUNCTIONS = f"""
SELECT p.proname AS name,
       (SELECT coalesce(array_agg(concat_ws(' ', a.name, format_type(a.type, NULL),
                   'DEFAULT ' || pg_get_function_arg_default(p.oid, a.n::int)) ORDER BY a.n),
                '{{}}')
        FROM unnest(coalesce(p.proargnames, '{{}}'), coalesce(p.proallargtypes, p.proargtypes),
                    p.proargmodes) WITH ORDINALITY AS a(name, type, mode, n)
        WHERE coalesce(a.mode, 'i') = 'i' AND a.type IS NOT NULL) AS arguments,
       (SELECT coalesce(array_agg(ARRAY[a.name, format_type(a.type, NULL)] ORDER BY a.n), '{{}}')
        FROM unnest(p.proargnames, p.proallargtypes, p.proargmodes)
             WITH ORDINALITY AS a(name, type, mode, n) WHERE a.mode IN ('o', 't')) AS columns,
       format_type(p.prorettype, NULL) AS result, p.proretset AS is_set,
       CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END
           AS volatility,
       CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END
           AS parallel,
       obj_description(p.oid, 'pg_proc') AS comment,
       (SELECT array_agg(coalesce(r.rolname, 'PUBLIC') ORDER BY r.rolname)
        FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE a.grantee <> p.proowner) AS grantees
FROM pg_proc p
WHERE p.oid IN (SELECT d.objid {_MEMBERS} AND d.classid = 'pg_proc'::regclass)
ORDER BY p.proname COLLATE "C", p.pronargs, p.oid
"""

_VIEWS = f"""
SELECT c.relname AS name, obj_description(c.oid, 'pg_class') AS comment,
       (SELECT array_agg(ARRAY[a.attname, format_type(a.atttypid, NULL)] ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
           AS columns,
       (SELECT coalesce(array_agg(DISTINCT p.proname::text), '{{}}')
        FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
        WHERE w.ev_class = c.oid AND p.oid IN
              (SELECT d.objid {_MEMBERS} AND d.classid = 'pg_proc'::regclass)) AS functions,
       (SELECT array_agg(coalesce(r.rolname, 'PUBLIC') ORDER BY r.rolname)
        FROM aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE a.grantee <> c.relowner AND a.privilege_type = 'SELECT') AS grantees
FROM pg_class c
WHERE c.relkind = 'v' AND c.oid IN (SELECT d.objid {_MEMBERS} AND d.classid = 'pg_class'::regclass)
ORDER BY c.relname COLLATE "C"
"""

_SETTINGS = """
SELECT name, vartype, unit, boot_val, min_val, max_val, context, enumvals, short_desc, extra_desc
FROM pg_settings WHERE name LIKE 'pgraft.%' ORDER BY name COLLATE "C"
"""

_CONTEXTS = {
    "postmaster": "at the server's start",
    "sighup": "at a reload of the configuration",
    "superuser": "at once, by `SET` of a superuser",
    "user": "at once, by `SET` in any session",
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _sentence(comment: str | None, what: str) -> str:
    """The comment as a sentence; each object needs one."""
    if not comment:
        raise SystemExit(f"{what} has no COMMENT: give it one in the extension's script")
    return _cell(comment[0].upper() + comment[1:].rstrip(".") + ".")


def _grantees(roles: list[str] | None) -> str:
    if not roles:
        return "superusers"
    return "everybody" if "PUBLIC" in roles else ", ".join(f"`{role}`" for role in roles)


def _columns(name: str, columns: list[list[str]], meaning: Meaning) -> Iterator[str]:
    yield "| column | type | meaning |"
    yield "|---|---|---|"
    for column, kind in columns:
        yield f"| `{column}` | {kind} | {_cell(meaning(name, column))} |"
    yield ""


def functions(rows: list[Row], meaning: Meaning) -> Iterator[str]:
    """One section a name; functions of one name are told apart by their arguments."""
    previous = None
    for row in rows:
        name = row["name"]
        if name != previous:
            yield f"## {name}"
            yield ""
        previous = name
        returns = "setof " * row["is_set"] + row["result"]
        yield "```sql"
        yield f"{name}({', '.join(row['arguments'])}) → {returns}"
        yield "```"
        yield ""
        yield _sentence(row["comment"], f"function {name}")
        yield ""
        yield (
            f"May be called by: {_grantees(row['grantees'])}. "
            f"{row['volatility'].capitalize()}, parallel {row['parallel']}."
        )
        yield ""
        if row["columns"]:
            yield from _columns(name, row["columns"], meaning)


def views(rows: list[Row], meaning: Meaning) -> Iterator[str]:
    """One section a view."""
    for row in rows:
        yield f"## {row['name']}"
        yield ""
        yield _sentence(row["comment"], f"view {row['name']}")
        yield ""
        sources = ", ".join(f"[`{f}()`](functions.md#{f})" for f in row["functions"])
        yield f"May be read by: {_grantees(row['grantees'])}." + f" From {sources}." * bool(sources)
        yield ""
        yield from _columns(row["name"], row["columns"], meaning)


def _value(row: Row) -> str:
    value, unit = row["boot_val"] or "", row["unit"] or ""
    return f"`{value}{' ' * bool(unit)}{unit}`" if value else "empty"


def settings(rows: list[Row]) -> Iterator[str]:
    """A table of all, then one section a setting."""
    yield "| setting | default | takes effect |"
    yield "|---|---|---|"
    for row in rows:
        anchor = row["name"].replace(".", "")
        effect = _CONTEXTS[row["context"]]
        yield f"| [`{row['name']}`](#{anchor}) | {_value(row)} | {effect} |"
    yield ""
    for row in rows:
        yield f"## {row['name']}"
        yield ""
        yield _cell(" ".join(filter(None, [row["short_desc"], row["extra_desc"]])))
        yield ""
        kind = {"bool": "boolean", "integer": "whole number"}.get(row["vartype"], row["vartype"])
        facts = [f"Type: {kind}" + (f", in {row['unit']} without a unit" if row["unit"] else "")]
        facts.append(f"Default: {_value(row)}")
        if row["min_val"] is not None:
            unit = f" {row['unit']}" if row["unit"] else ""
            facts.append(f"From {row['min_val']} to {row['max_val']}{unit}")
        if row["enumvals"]:
            facts.append("One of " + ", ".join(f"`{v}`" for v in row["enumvals"]))
        facts.append(f"Takes effect {_CONTEXTS[row['context']]}")
        yield ". ".join(facts) + "."
        yield ""


class Meanings:
    """What columns mean: of a function by its name, of a view that of the functions behind it."""

    def __init__(self, known: Mapping[str, Mapping[str, str]], view_rows: list[Row]) -> None:
        """Takes the file's content, and the views for the functions that they are made of."""
        self._known = known
        self._behind = {row["name"]: row["functions"] for row in view_rows}
        self._used: set[tuple[str, str]] = set()
        self._missing: set[str] = set()

    def __call__(self, name: str, column: str) -> str:
        """The meaning of a column."""
        for source in (name, *self._behind.get(name, [])):
            text = self._known.get(source, {}).get(column)
            if text is not None:
                self._used.add((source, column))
                return text
        self._missing.add(f"{name}.{column}")
        return ""

    def faults(self) -> Iterator[str]:
        """Columns without a meaning, and meanings without a column."""
        for each in sorted(self._missing):
            yield f"{MEANINGS.name} does not say what the column {each} means"
        for name, columns in self._known.items():
            for column in columns:
                if (name, column) not in self._used:
                    yield f"{MEANINGS.name} speaks of {name}.{column}, which there is not"


def reference(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """The generated part of each page.

    Raises:
        SystemExit: Something has no description, or a description has nothing.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = {
            "functions": cursor.execute(_FUNCTIONS.encode()).fetchall(),
            "views": cursor.execute(_VIEWS.encode()).fetchall(),
            "settings": cursor.execute(_SETTINGS.encode()).fetchall(),
        }
    meaning = Meanings(tomllib.loads(MEANINGS.read_text(encoding="utf-8")), rows["views"])
    pages = {
        "functions.md": functions(rows["functions"], meaning),
        "views.md": views(rows["views"], meaning),
        "settings.md": settings(rows["settings"]),
    }
    done = {page: "\n".join(lines).rstrip() + "\n" for page, lines in pages.items()}
    faults = list(meaning.faults())
    if faults:
        raise SystemExit("\n".join(faults))
    return done


def differences(connection: psycopg.Connection[Any], *, write: bool = False) -> list[str]:
    """What the pages say otherwise than the server; nothing once they were written."""
    found = []
    for page, text in reference(connection).items():
        path = REFERENCE / page
        old = path.read_text(encoding="utf-8")
        new = old.split(MARK, 1)[0] + MARK + "\n\n" + text
        if write:
            path.write_text(new, encoding="utf-8")
        elif new != old:
            odd = next(
                (line for line in new.splitlines() if line not in old.splitlines()),
                "something that is not there any more",
            )
            found.append(f"{path.relative_to(ROOT)} lacks: {re.sub(r'^#+ ', '', odd)}")
    return found


def main() -> int:
    """Write, or check."""
    with LocalCluster(1) as cluster, cluster.connect() as connection:
        found = differences(connection, write=sys.argv[1:] != ["--check"])
    for line in found:
        print(line, file=sys.stderr)
    if found:
        print("run tools/sql_reference.py", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
