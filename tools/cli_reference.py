#!/usr/bin/env python3
"""Write the reference part of docs/cli.md from the command line's own help, or check it.

tools/cli_reference.py          writes docs/cli.md
tools/cli_reference.py --check  fails when docs/cli.md says something else than --help
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgraft.cli import app
from pgraft.errors import EXIT_MEANINGS
from typer.main import get_command

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
MARK = "<!-- From here on written by tools/cli_reference.py, from pgraft --help. -->"


def reference() -> str:
    """The reference as Markdown."""
    lines = [MARK, "", "## Exit statuses", "", "| status | meaning |", "|---|---|"]
    lines += [f"| {int(status)} | {meaning} |" for status, meaning in EXIT_MEANINGS.items()]
    lines += ["| 130 | stopped by Ctrl-C |", ""]
    group: Any = get_command(app)
    for name, command in group.commands.items():
        lines += _command(name, command)
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = [f"[{p.name.upper()}]" if not p.required else p.name.upper() for p in arguments]
    yield f"## pgraft {name}"
    yield ""
    yield from _text(command.help or "")
    yield "```"
    yield " ".join(["pgraft", name, *usage, "[OPTIONS]"])
    yield "```"
    yield ""
    yield "| option | meaning |"
    yield "|---|---|"
    for parameter in arguments:
        yield f"| `{parameter.name.upper()}` | {_meaning(parameter)} |"
    for parameter in options:
        names = ", ".join(f"`{o}`" for o in sorted(parameter.opts, key=len))
        yield f"| {names} | {_meaning(parameter)} |"
    yield ""


def _text(text: str) -> Iterator[str]:
    """Paragraphs; the examples at the end as code."""
    for paragraph in text.split("\n\n"):
        joined = " ".join(paragraph.split())
        examples = re.match(r"Examples?: (.*)", joined)
        if examples:
            yield "```sh"
            yield from examples.group(1).split("; ")
            yield "```"
        else:
            yield joined
        yield ""


def _meaning(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split()).replace("|", "\\|").replace("<", "&lt;")
    if parameter.required and parameter.param_type_name == "option":
        text += " Required."
    plain = parameter.default is not None and not isinstance(parameter.default, bool | list)
    if plain and str(parameter.default) and "[default:" not in text:
        text += f" [default: {parameter.default}]"
    if parameter.envvar:
        text += f" [env: {parameter.envvar}]"
    return text.replace("[", "\\[")  # no reference to a link


def main() -> int:
    """Write, or check."""
    old = DOCUMENT.read_text(encoding="utf-8")
    introduction = old.split(MARK, 1)[0]
    new = introduction + reference()
    if sys.argv[1:] == ["--check"]:
        if new != old:
            print("docs/cli.md differs from --help: run tools/cli_reference.py", file=sys.stderr)
            return 1
        return 0
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
