#!/usr/bin/env python3
"""Check that includes follow the arrows of ARCHITECTURE.md.

Each layer of libpgraft may include itself and the layers listed for it, nothing above. The layers
that decide (raft, failover) must stay deterministic, so they may not see clocks, threads, locks,
sockets or storage. In the extension C++ and PostgreSQL meet in engine.h alone: C++ files see no
PostgreSQL header, C files see nothing of libpgraft.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

BELOW = {
    "base": set[str](),
    "raft": {"base"},
    "failover": {"base"},
    "state": {"base", "raft", "failover"},
    "storage": {"base", "raft"},
    "transport": {"base", "raft", "failover", "state"},
    "node": {"base", "raft", "failover", "state", "storage", "transport"},
    "sim": {"base", "raft", "failover", "state", "storage", "transport", "node"},
    "fuzz": {"base", "raft", "failover", "state", "storage", "transport", "node"},
    "bench": {"base", "raft", "failover", "state", "storage", "transport", "node"},
}

# Headers by which the outside world gets in. A clock or a thread in a deciding layer would make
# the simulator's runs differ from production and from one another.
TIME_AND_THREADS = {
    "chrono", "condition_variable", "ctime", "future", "mutex", "pthread.h", "random", "semaphore",
    "shared_mutex", "stop_token", "sys/time.h", "thread", "time.h", "unistd.h",
}  # fmt: skip
DETERMINISTIC = {"base", "raft", "failover"}
# Which layer may use which library, and no other.
LIBRARY_OF = {
    "asio": {"transport", "node"},
    "cereal": {"transport", "state"},
    "leveldb": {"storage", "sim"},  # sim: a disk below it
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def includes(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and name of each header that a file includes."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if found := INCLUDE.match(line):
            yield number, found.group(2)


def library(header: str) -> str:
    """Name the library that a header belongs to ("asio.hpp" and "asio/x.hpp" are "asio")."""
    return header.split("/", 1)[0].removesuffix(".hpp")


def check_library(root: Path) -> Iterator[str]:
    """Check libpgraft: arrows point downwards, the deciding layers are shut off."""
    base = root / "libpgraft"
    for path in sorted([*base.rglob("*.h"), *base.rglob("*.cc")]):
        layer = path.relative_to(base).parts[0]
        where = path.relative_to(root)
        if layer not in BELOW:
            yield f"{where}: layer {layer} is not in the list of this script"
            continue
        is_test = path.stem.endswith("_test")
        for number, header in includes(path):
            parts = header.split("/")
            if parts[0] == "libpgraft" and parts[1] != layer and parts[1] not in BELOW[layer]:
                yield f"{where}:{number}: {layer} must not include {header}"
            if parts[0] in ("extension", "bindings") or header == "postgres.h":
                yield f"{where}:{number}: libpgraft knows nothing of {header}"
            if layer in DETERMINISTIC and not is_test and header in TIME_AND_THREADS:
                yield f"{where}:{number}: {layer} is deterministic and must not include <{header}>"
            if layer not in LIBRARY_OF.get(library(header), {layer}):
                yield f"{where}:{number}: {layer} must not include <{header}>"


def check_extension(root: Path) -> Iterator[str]:
    """Check the extension: PostgreSQL and C++ meet in engine.h only."""
    base = root / "extension"
    for path in sorted([*base.rglob("*.h"), *base.rglob("*.c"), *base.rglob("*.cc")]):
        where = path.relative_to(root)
        cpp = path.suffix == ".cc" or path.name in ("engine.h", "guard.h")
        for number, header in includes(path):
            if path.suffix == ".c" and header.startswith("libpgraft/"):
                yield f"{where}:{number}: C files reach libpgraft through engine.h"
            if cpp and header in ("postgres.h", "fmgr.h", "c.h", "pgraft.h"):
                yield f"{where}:{number}: no PostgreSQL header on the C++ side"


def main() -> int:
    """Print each forbidden include; the exit status says whether there was one."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    faults = [*check_library(root), *check_extension(root)]
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print("layers: every include points downwards")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
