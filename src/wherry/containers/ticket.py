"""A ticket: what may be refused was checked; what is left is the client's connection."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


class Ticket:
    """The right to one stream.

    Args:
        tty: whether the stream is a terminal's (raw) or multiplexed.
        connect: takes a descriptor of the client's socket, which it then owns, and the bytes that came with the head.
    """

    __slots__ = ("_connect", "tty")

    def __init__(self, *, tty: bool, connect: Callable[[int, bytes], Awaitable[None]]) -> None:
        self.tty = tty
        self._connect = connect

    async def connect(self, fd: int, tail: bytes = b"") -> None:
        """Hand the client's socket over; `tail` is what it sent behind the head."""
        await self._connect(fd, tail)

    @staticmethod
    def tail(data: bytes) -> dict[str, str]:
        """The message field that carries early bytes."""
        return {"tail": base64.b64encode(data).decode("ascii")} if data else {}


def stream_request(*, stdin: bool, stdout: bool, stderr: bool, detach_keys: str, tty: bool) -> dict[str, Any]:
    """The stream fields of a monitor's `attach` and `exec` requests."""
    return {
        "stdin": stdin,
        "stdout": stdout,
        "stderr": stderr,
        "tty": tty,
        "detach_keys": detach_keys or DEFAULT_DETACH_KEYS,
        "framed": not tty,
    }
