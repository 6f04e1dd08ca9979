"""A pseudo terminal with a command in it, driven as a person would."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

_EDITING = re.compile(rb"\x1b\[(J|6n)")


class Terminal:
    """A command on a terminal of its own.

    Args:
        argv: the command.
        env: its environment.
        size: rows and columns.
    """

    def __init__(self, argv: list[str], env: dict[str, str], size: tuple[int, int] = (24, 80)) -> None:
        master, slave = pty.openpty()
        _set_size(slave, size)
        self.master = master
        self.seen = b""
        self.code: int | None = None
        self.pid = os.posix_spawnp(
            "setsid",
            ["setsid", "--ctty", "--wait", *argv],
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, slave, fd) for fd in (0, 1, 2)],
        )
        os.close(slave)

    def type(self, text: str | bytes) -> None:
        """Press keys."""
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def ready(self, seconds: float = 15.0) -> None:
        """Wait until the command has put the terminal into raw mode: what is typed before is not its own yet."""
        deadline = time.monotonic() + seconds
        while termios.tcgetattr(self.master)[3] & termios.ICANON:
            assert time.monotonic() < deadline, f"not raw; last seen: {self.seen[-400:]!r}"
            select.select([], [], [], 0.01)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window, as dragging its corner does."""
        _set_size(self.master, (rows, columns))

    def expect(self, text: str, seconds: float = 15.0) -> str:
        """Read until `text` appears; returns what came before it, and forgets all up to its end.

        Raises:
            AssertionError: it did not come.
        """
        wanted = text.encode()
        deadline = time.monotonic() + seconds
        while wanted not in self.seen:
            assert self._read(deadline), f"{text!r} did not appear in {self.seen.decode(errors='replace')!r}"
        before, _, self.seen = self.seen.partition(wanted)
        return before.decode(errors="replace")

    def wait(self, seconds: float = 15.0) -> int:
        """Read to the end; returns the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            continue
        assert time.monotonic() < deadline, f"it did not end; last seen: {self.seen[-400:]!r}"
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.master)
        return self.code

    def close(self) -> None:
        """End the command if it still runs."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.master)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            # EIO: the last process on the other side is gone
            return False
        # busybox's line editor asks where the cursor is, and redraws the line when keys arrive before the answer
        self.seen = _EDITING.sub(b"", self.seen + data)
        return bool(data)


def _set_size(fd: int, size: tuple[int, int]) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
