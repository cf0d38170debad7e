"""Reads test data that is a file of cases: a command, its input, and what it must give.

    # comment
    command [key | key=value | key=(v1, v2)]...     a trailing backslash continues the line
    input lines
    ----
    expected lines up to the first empty one

Where expected lines hold empty ones, `----` stands twice before and twice after them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ARGUMENT = re.compile(r"([^\s=]+)(?:=(?:\(([^)]*)\)|(\S*)))?")
SEPARATOR = "----"


@dataclass(frozen=True)
class Case:
    """One command of a file."""

    where: str
    command: str
    words: tuple[str, ...]  # arguments without a value
    options: dict[str, tuple[str, ...]]
    input: tuple[str, ...]
    expected: tuple[str, ...]

    @property
    def ids(self) -> list[int]:
        """The words that are numbers."""
        return [int(word) for word in self.words if word.isdecimal()]

    def option(self, name: str, default: str) -> str:
        """The value of an option that has one."""
        (value,) = self.options.get(name, (default,))
        return value

    def flag(self, name: str) -> bool:
        return self.option(name, "false") == "true"

    def numbers(self, name: str) -> list[int]:
        return [int(value) for value in self.options.get(name, ())]


def parse(path: Path) -> list[Case]:
    """All cases of a file, in order."""
    reader = _Reader(path)
    cases = []
    while (case := reader.next_case()) is not None:
        cases.append(case)
    return cases


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text(encoding="utf-8").splitlines()
        self.next = 0

    def take(self) -> str:
        assert self.next < len(self.lines), f"{self.path}: ends within a case"
        self.next += 1
        return self.lines[self.next - 1]

    def take_until(self, end: str) -> list[str]:
        taken = []
        while (line := self.take()) != end:
            taken.append(line)
        return taken

    def next_case(self) -> Case | None:
        while self.next < len(self.lines) and (
            not self.lines[self.next].strip() or self.lines[self.next].startswith("#")
        ):
            self.next += 1
        if self.next == len(self.lines):
            return None
        where = f"{self.path.name}:{self.next + 1}"
        line = self.take()
        while line.endswith("\\"):
            line = line[:-1] + self.take()
        command, _, rest = line.partition(" ")
        words, options = _arguments(rest)
        given = self.take_until(SEPARATOR)
        return Case(where, command, words, options, tuple(given), tuple(self.expected()))

    def expected(self) -> list[str]:
        if self.next < len(self.lines) and self.lines[self.next] == SEPARATOR:
            self.next += 1
            taken = self.take_until(SEPARATOR)
            assert self.take() == SEPARATOR, f"{self.path}:{self.next}: expected {SEPARATOR}"
            return taken
        taken = []
        while self.next < len(self.lines) and self.lines[self.next]:
            taken.append(self.take())
        return taken


def _arguments(text: str) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    words = []
    options: dict[str, tuple[str, ...]] = {}
    for match in ARGUMENT.finditer(text):
        name, several, one = match.groups()
        if several is not None:
            options[name] = tuple(several.replace(",", " ").split())
        elif one is not None:
            options[name] = (one,)
        else:
            words.append(name)
    return tuple(words), options
