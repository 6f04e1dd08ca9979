"""A container's log, opened: whoever was told that it can be read reads it, also when the container is removed then."""

import os
from typing import Any

from wherry.containers.context import Context
from wherry.monitor.logfiles import open_log

_MOST = 64
"""Descriptors that one message carries without trouble (SCM_RIGHTS allows 253)."""


class HeldLog:
    """The files of one log, open until they are read or nobody refers to them any more.

    Args:
        path: the current file; it need not be there.
    """

    __slots__ = ("_files",)

    def __init__(self, path: str) -> None:
        self._files = open_log(path)

    @property
    def files(self) -> int:
        """How many there are."""
        return len(self._files)

    async def read(self, context: Context, request: dict[str, Any], client: int) -> None:
        """Let a worker read the log to a client.

        Args:
            request: what `monitor.logreader.worker` takes.
            client: descriptor of the client's socket; stays the caller's.
        """
        fds = {"client": client}
        asked = dict(request)
        if len(self._files) <= _MOST:
            fds |= {f"log:{number}": fd for number, (fd, _) in enumerate(self._files)}
            asked["files"] = [compressed for _, compressed in self._files]
        # those of more files than that are opened by name, as they are then
        try:
            await context.run_worker("logs", asked, fds)
        finally:
            self.close()

    def close(self) -> None:
        """Close the files."""
        files, self._files = self._files, []
        for fd, _ in files:
            os.close(fd)

    def __del__(self) -> None:
        self.close()
