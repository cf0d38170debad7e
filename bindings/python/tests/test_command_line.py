"""The help of the command line, and the document that is written from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pgraft
import pytest
from pgraft.cli import app
from pgraft.errors import EXIT_MEANINGS, Exit
from typer.main import get_command
from typer.testing import CliRunner

ROOT = Path(__file__).parents[3]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


def test_the_reference_is_what_help_says() -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "cli_reference.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_an_example_that_it_understands(name: str) -> None:
    text = " ".join(COMMANDS[name].help.split())
    assert "Example" in text
    examples = text.rpartition("Example")[2].partition(": ")[2].split("; ")
    for example in examples:
        words = example.split()
        assert words[:2] == ["pgraft", name]
        COMMANDS[name].make_context(name, words[2:])  # raises for an option that is not there


def test_the_units_of_systemd_use_options_that_there_are() -> None:
    found = []
    for unit in sorted((ROOT / "packaging" / "systemd").iterdir()):
        for line in unit.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key in ("ExecStart", "ExecStartPre"):
                program, name, *words = value.split()
                assert program == "/usr/bin/pgraft"
                COMMANDS[name].make_context(name, ["-D", "/data", *words])
                found.append(name)
    assert sorted(found) == ["prepare", "run"]


def test_each_option_says_what_it_is() -> None:
    for name, command in COMMANDS.items():
        for parameter in command.params:
            assert parameter.help or getattr(parameter, "hidden", False), (name, parameter.name)


def test_the_help_tells_every_exit_status() -> None:
    assert set(EXIT_MEANINGS) == set(Exit)
    text = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    for status in Exit:
        assert f"{int(status)} {EXIT_MEANINGS[status].split(' ', 1)[0]}" in text


def test_the_shell_completes_commands() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pgraft"],
        env={"_PGRAFT_COMPLETE": "complete_bash", "COMP_WORDS": "pgraft sw", "COMP_CWORD": "1",
             "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert result.stdout.split() == ["switchover"]


def test_the_version_is_that_of_package_and_library() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    number = pgraft._pgraft.__version__
    assert result.output.strip() == f"pgraft {number} (library {number})"
