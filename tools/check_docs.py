#!/usr/bin/env python3
"""Check that the documents speak of what is there.

Every path of this repository that a top-level document names must exist, and a file that
ARCHITECTURE.md's table names for a rule must name that rule itself. Every test that any document
names must exist, and docs/POSTGRES.md must say for each of its items what shows it, or why nothing
does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

PATH = re.compile(
    r"[`(]((?:libpgraft|extension|bindings|integration|tools)/[\w./-]*|[A-Z]+\.md)[`)]"
)
RULE = re.compile(r"^\| (\d+) \| .* \| (.*) \|$")
NAMED_TEST = re.compile(r"([\w./-]+\.(?:py|cc))::(\w+)")
PYTHON_TEST = re.compile(r"(?<![\w/:])(?<!def )(test_\w+)\b(?!\.py)")
ITEM = re.compile(r"^\*\*([MS]\d+)\. ")
SHOWN_BY = re.compile(r"^\| ([MS]\d+) \| (.*) \|$")
NO_TEST = "No test: "


def check_paths(root: Path) -> Iterator[str]:
    """What top-level documents say of files."""
    for document in sorted(root.glob("*.md")):
        for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
            for name in PATH.findall(line):
                if not (root / name).exists():
                    yield f"{document.name}:{number}: {name} does not exist"
            if document.name != "ARCHITECTURE.md" or not (row := RULE.match(line)):
                continue
            files = [root / name for name in PATH.findall(row.group(2))]
            named = re.compile(rf"rules? [\d, toand]*\b{row.group(1)}\b")
            for path in files:
                if path.is_file() and not named.search(path.read_text(encoding="utf-8")):
                    where = path.relative_to(root)
                    yield f"{document.name}:{number}: {where} does not name rule {row.group(1)}"
            if not files:
                yield f"{document.name}:{number}: no file keeps rule {row.group(1)}"


def has_test(path: Path, name: str) -> bool:
    """Is there a test of that name: a function in Python, the second argument of TEST in C++?"""
    pattern = rf"^def {name}\(" if path.suffix == ".py" else rf"^TEST(?:_[FP])?\(\w+, {name}\)"
    return path.is_file() and bool(re.search(pattern, path.read_text(encoding="utf-8"), re.M))


def check_tests(root: Path) -> Iterator[str]:
    """Every test that a document names, alone or with its file."""
    python = [*root.glob("integration/test_*.py"), *root.glob("bindings/python/tests/test_*.py")]
    for document in [*sorted(root.glob("*.md")), *sorted(root.glob("docs/*.md"))]:
        for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{document.relative_to(root)}:{number}"
            for file, name in NAMED_TEST.findall(line):
                if not has_test(root / file, name):
                    yield f"{where}: {file} has no test {name}"
            for name in PYTHON_TEST.findall(line):
                if not any(has_test(path, name) for path in python):
                    yield f"{where}: there is no test {name}"


def check_items(root: Path) -> Iterator[str]:
    """Each item of docs/POSTGRES.md has one row that says what shows it."""
    document = root / "docs" / "POSTGRES.md"
    items: list[str] = []
    rows: dict[str, str] = {}
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if item := ITEM.match(line):
            items.append(item.group(1))
        if not (row := SHOWN_BY.match(line)):
            continue
        name, shown = row.groups()
        if name in rows:
            yield f"docs/POSTGRES.md:{number}: {name} has a second row"
        rows[name] = shown
        if not NAMED_TEST.search(shown) and not shown.startswith(NO_TEST):
            yield f'docs/POSTGRES.md:{number}: {name} names no test and does not say "{NO_TEST}..."'
    for name in items:
        if name not in rows:
            yield f"docs/POSTGRES.md: no row says what shows {name}"
    for name in rows.keys() - set(items):
        yield f"docs/POSTGRES.md: there is no item {name}"


def check(root: Path) -> Iterator[str]:
    """Yield one line for each claim that does not hold."""
    yield from check_paths(root)
    yield from check_tests(root)
    yield from check_items(root)


def main() -> int:
    """Print each claim that does not hold; the exit status says whether there was one."""
    faults = list(check(Path(__file__).resolve().parent.parent))
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print("docs: every file and test that they name is there")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
