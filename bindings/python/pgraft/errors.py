"""Exceptions of the command-line side: set-up, prepare, supervisor, local clusters.

What goes wrong inside the consensus part (not the leader, no quorum, damaged files) is raised by
the compiled module under its own names; both kinds derive from `pgraft.Error`.
"""

from __future__ import annotations

import enum

from pgraft._pgraft import Error

__all__ = [
    "EXIT_MEANINGS",
    "CommandError",
    "Error",
    "Exit",
    "NoLeader",
    "ProgramError",
    "SetupError",
    "StopRequested",
    "WaitTimeout",
]


class Exit(enum.IntEnum):
    """Exit statuses of the command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_LEADER = 3
    UNKNOWN = 4


EXIT_MEANINGS = {
    Exit.DONE: "done, or all is well",
    Exit.FAILED: "it failed, and the message says what to do (status: nobody leads; check: "
    "warnings)",
    Exit.USAGE: "the command line is wrong (check: something critical)",
    Exit.NO_LEADER: "nobody answers, or no member leads and accepts writes",
    Exit.UNKNOWN: "the outcome is unknown, so look before trying again",
}


class CommandError(Error):
    """A command can't go on."""

    def __init__(self, message: str, hint: str = "", status: Exit = Exit.FAILED) -> None:
        """Keeps what to show.

        Args:
            message: What is wrong, without a full stop.
            hint: What to do next, as sentences.
            status: Of the process.
        """
        self.hint = hint
        self.status = status
        super().__init__(message)


class SetupError(Error):
    """It can't be done on this machine or directory; the message says what to do."""


class ProgramError(Error):
    """A PostgreSQL program failed."""

    def __init__(self, program: str, returncode: int, output: str) -> None:
        """Keeps what the program said.

        Args:
            program: Its name ("pg_rewind").
            returncode: Its exit status; negative: killed by that signal.
            output: The end of what it wrote.
        """
        self.program = program
        self.returncode = returncode
        self.output = output
        how = f"exit status {returncode}" if returncode >= 0 else f"signal {-returncode}"
        super().__init__(f"{program} failed ({how}): {output.strip() or 'no output'}")


class NoLeader(Error):
    """No member of the cluster said in time that it leads and accepts writes."""


class WaitTimeout(Error):
    """A condition that was waited for did not come true in time."""


class StopRequested(BaseException):
    """The operator asked the supervisor to stop while it was preparing the data directory."""
