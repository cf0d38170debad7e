"""What a check found."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pgraft.errors import Exit


class Level(enum.IntEnum):
    """How bad it is."""

    OK = 0
    NOTE = 1  # could not be seen from here, or is only worth knowing
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    check: str
    """Name of the check, for programs and for filters: "settings", "raft port"."""
    node: str
    """The member concerned; empty: the cluster."""
    message: str
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "level": self.level.name.lower(),
            "check": self.check,
            "node": self.node,
            "message": self.message,
            "fix": self.fix,
        }


def exit_status(findings: Iterable[Finding]) -> int:
    """0: nothing to do; 1: warnings; 2: something critical."""
    worst = max((f.level for f in findings), default=Level.OK)
    if worst is Level.CRITICAL:
        return int(Exit.USAGE)
    return int(Exit.FAILED if worst is Level.WARNING else Exit.DONE)
