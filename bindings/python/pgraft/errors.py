"""Exceptions of the command-line side: set-up, prepare, supervisor, local clusters.

What goes wrong inside the consensus part (not the leader, no quorum, damaged files) is raised by
the compiled module under its own names; both kinds derive from `pgraft.Error`.
"""

from __future__ import annotations

from pgraft._pgraft import Error

__all__ = ["Error", "NoLeader", "ProgramError", "SetupError", "StopRequested", "WaitTimeout"]


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
