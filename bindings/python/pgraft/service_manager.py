"""What a supervisor tells whoever started it: sd_notify for systemd, and the form of its log."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import socket
import sys
import time


class ServiceManager:
    """The other end of `$NOTIFY_SOCKET`; without one nothing is sent."""

    def __init__(self) -> None:
        """Takes the variable out of the environment: postgres would speak to the socket, too."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def notify(self, *lines: str) -> None:
        """Sends "READY=1", "STATUS=..."; nobody there is no error (sd_notify(3))."""
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.connect(self._address)
            out.sendall("\n".join(lines).encode())


class LogFormat(enum.StrEnum):
    """How the supervisor's own lines look; the server's are its own matter (log_destination)."""

    TEXT = "text"
    JSON = "json"


def log_as_json(message: str) -> None:
    """A line of JSON on standard error, with the names that PostgreSQL's jsonlog uses."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}"
    line = {
        "timestamp": f"{stamp} UTC",
        "pid": os.getpid(),
        "backend_type": "pgraft run",
        "error_severity": "LOG",
        "message": message,
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
