"""The audit log: who changed what, one JSON object a line, written before the client is answered."""

import os
import time
from typing import Any, Protocol

import msgspec


class Audit(Protocol):
    """Takes what happened."""

    def record(self, event: str, *, caller: str, request: str, **facts: Any) -> None:
        """Write one event.

        Args:
            event: `manifest.push`, `tag.delete`, …
            caller: name of who did it; "" for nobody in particular.
            request: id of the request.
            facts: names and digests; never a credential.
        """


class NoAudit:
    """Keeps nothing."""

    def record(self, event: str, *, caller: str, request: str, **facts: Any) -> None:  # noqa: ARG002 — the protocol's
        return


class FileAudit:
    """Appends to a file; several processes may.

    Args:
        path: the file, made with mode 0600.
    """

    def __init__(self, path: str) -> None:
        os.makedirs(os.path.dirname(os.path.abspath(path)), 0o700, exist_ok=True)
        self._path = path
        self._fd = -1
        self.reopen()

    def reopen(self) -> None:
        """Open the file anew, after it was rotated."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def record(self, event: str, *, caller: str, request: str, **facts: Any) -> None:
        line = {"time": time.time(), "event": event, "caller": caller, "request": request, **facts}
        os.write(self._fd, msgspec.json.encode(line) + b"\n")
