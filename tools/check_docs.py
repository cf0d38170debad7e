#!/usr/bin/env python3
"""Check that the documents speak of what is there.

Every path of this repository that a top-level document names must exist, and a file that
ARCHITECTURE.md's table names for a rule must name that rule itself.
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


def check(root: Path) -> Iterator[str]:
    """Yield one line for each claim that does not hold."""
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


def main() -> int:
    """Print each claim that does not hold; the exit status says whether there was one."""
    faults = list(check(Path(__file__).resolve().parent.parent))
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print("docs: every file they name is there")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
