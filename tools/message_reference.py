#!/usr/bin/env python3
"""Write the list of the extension's messages from its ereport() calls, or check it.

tools/message_reference.py          writes docs/reference/messages.md
tools/message_reference.py --check  fails when it says something else than the sources, or when
                                    docs/troubleshooting.md or failover.md explains a message or a
                                    phase that nobody writes

What a client or a log can show is taken: ERROR, FATAL, WARNING and LOG. Texts that the core hands
through ("%s") are not in these calls; docs/troubleshooting.md has those that an operator meets.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "reference" / "messages.md"
EXPLAIN = (ROOT / "docs" / "troubleshooting.md", ROOT / "docs" / "failover.md")
MARK = "<!-- From here on written by tools/message_reference.py, from the ereport() calls. -->"

# Of src/backend/utils/errcodes.txt in PostgreSQL, those that the extension uses.
SQLSTATES = {
    "ACTIVE_SQL_TRANSACTION": "25001",
    "ADMIN_SHUTDOWN": "57P01",
    "CANNOT_CONNECT_NOW": "57P03",
    "CHARACTER_NOT_IN_REPERTOIRE": "22021",
    "CONFIGURATION_LIMIT_EXCEEDED": "53400",
    "CONFIG_FILE_ERROR": "F0000",
    "DATA_CORRUPTED": "XX001",
    "DISK_FULL": "53100",
    "DUPLICATE_OBJECT": "42710",
    "INSUFFICIENT_PRIVILEGE": "42501",
    "INSUFFICIENT_RESOURCES": "53000",
    "INVALID_AUTHORIZATION_SPECIFICATION": "28000",
    "INVALID_PARAMETER_VALUE": "22023",
    "IO_ERROR": "58030",
    "NULL_VALUE_NOT_ALLOWED": "22004",
    "OBJECT_IN_USE": "55006",
    "OBJECT_NOT_IN_PREREQUISITE_STATE": "55000",
    "OUT_OF_MEMORY": "53200",
    "PROGRAM_LIMIT_EXCEEDED": "54000",
    "QUERY_CANCELED": "57014",
    "READ_ONLY_SQL_TRANSACTION": "25006",
    "SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION": "08001",
    "SYSTEM_ERROR": "58000",
    "TOO_MANY_CONNECTIONS": "53300",
    "T_R_STATEMENT_COMPLETION_UNKNOWN": "40003",
    "UNDEFINED_OBJECT": "42704",
}
LEVELS = ("FATAL", "ERROR", "WARNING", "LOG")
CALL = re.compile(r"\bereport\((\w+),")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
# A format's directive, with the macros that print integers of a given width.
DIRECTIVE = re.compile(r"%[-+ 0#]*[\d*]*(?:\.[\d*]+)?(?:ll|l|z|h)?[a-zA-Z]")


@dataclass(frozen=True, order=True)
class Message:
    """One ereport() call as its reader sees it."""

    level: int
    text: str
    sqlstate: str
    detail: str
    hint: str


def _literal(source: str) -> str:
    """The string that an argument begins with: its literals put together, %s and so on as …."""
    parts: list[str] = []
    position = 0
    for found in STRING.finditer(source):
        between = source[position : found.start()]
        if parts and between.strip() not in ("", "UINT64_FORMAT"):
            break
        if "UINT64_FORMAT" in between:
            parts.append("%d")
        parts.append(found.group()[1:-1])
        position = found.end()
    text = "".join(parts).replace('\\"', '"').replace("\\n", " ").replace("\\\\", "\\")
    text = text.replace("%%", "\0")
    return DIRECTIVE.sub("…", text).replace("\0", "%")


def _closing(source: str, start: int) -> int:
    """Where the parenthesis that is open at `start` ends; parentheses in strings don't count."""
    depth = 1
    position = start
    while depth > 0:
        if source[position] == '"':
            found = STRING.match(source, position)
            assert found is not None, "an open string"
            position = found.end()
            continue
        depth += {"(": 1, ")": -1}.get(source[position], 0)
        position += 1
    return position


def _part(call: str, function: str) -> str:
    found = re.search(rf"\b{function}\(", call)
    return _literal(call[found.end() : _closing(call, found.end())]) if found else ""


def _sqlstate(call: str, where: str) -> str:
    names = re.findall(r"\berrcode\(.*?ERRCODE_(\w+)", call)
    for name in names:
        if name not in SQLSTATES:
            raise SystemExit(f"{where}: ERRCODE_{name} is not in tools/message_reference.py")
    if names:
        return SQLSTATES[names[0]]
    return "of the cause" if "errcode" in call else ""


def messages(sources: Path) -> list[Message]:
    """Every message of the C files, sorted, each once."""
    found = set()
    for path in sorted(sources.glob("*.c")):
        text = path.read_text(encoding="utf-8")
        for start in CALL.finditer(text):
            if start.group(1) not in LEVELS:
                continue
            call = text[start.end() : _closing(text, start.end())]
            message = _part(call, "errmsg")
            if not message.strip("…: "):
                continue  # handed through from the core
            level = LEVELS.index(start.group(1))
            state = _sqlstate(call, path.name) if level < LEVELS.index("WARNING") else ""
            if level <= LEVELS.index("ERROR") and not state:
                state = "XX000"
            found.add(
                Message(level, message, state, _part(call, "errdetail"), _part(call, "errhint"))
            )
    return sorted(found, key=lambda m: (m.level, m.text.lstrip('"…').lower(), m))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def reference(found: list[Message]) -> Iterator[str]:
    """A section a level."""
    titles = {
        "FATAL": "What ends a session or the server's start (FATAL)",
        "ERROR": "What ends a statement (ERROR)",
        "WARNING": "Warnings",
        "LOG": "Only in the server's log (LOG)",
    }
    for level, title in titles.items():
        rows = [m for m in found if LEVELS[m.level] == level]
        with_state = any(m.sqlstate for m in rows)
        yield f"## {title}"
        yield ""
        yield "| " + "SQLSTATE | " * with_state + "message | detail and hint |"
        yield "|" + "---|" * (2 + with_state)
        for m in rows:
            more = " ".join(part for part in (m.detail, m.hint) if part.strip("… "))
            state = f"{m.sqlstate} | " if with_state else ""
            yield f"| {state}{_cell(m.text)} | {_cell(more)} |"
        yield ""


def unknown_messages(document: Path) -> Iterator[str]:
    """What a document explains in the first column of a table `message` or `phase`, and nobody has.

    `…` stands for what varies; each piece between must be in one literal of some source.
    """
    sources = "\n".join(
        re.sub(r'"\s*\n?\s*"', "", path.read_text(encoding="utf-8")).replace('\\"', '"')
        for pattern in ("extension/*.c", "extension/*.cc", "libpgraft/**/*.cc", "**/pgraft/**/*.py")
        for path in ROOT.glob(pattern)
        if "_test." not in path.name and path.relative_to(ROOT).parts[0] not in ("build", ".venv")
    )
    table = False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("|"):
            table = False
        elif re.match(r"\| *(message|phase)\b", line):
            table = True
        elif table and (cell := re.match(r"\| `(.*?)` +\|", line)):
            for piece in cell.group(1).split("…"):
                if len(piece.strip()) > 3 and piece.strip() not in sources:
                    yield f'{document.name}:{number}: no source says "{piece.strip()}"'


def main() -> int:
    """Write, or check."""
    found = messages(ROOT / "extension")
    old = DOCUMENT.read_text(encoding="utf-8")
    new = old.split(MARK, 1)[0] + MARK + "\n\n" + "\n".join(reference(found)).rstrip() + "\n"
    if sys.argv[1:] != ["--check"]:
        DOCUMENT.write_text(new, encoding="utf-8")
        return 0
    faults = [fault for document in EXPLAIN for fault in unknown_messages(document)]
    if new != old:
        faults.append(f"{DOCUMENT.name} is not of these sources: run tools/message_reference.py")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
