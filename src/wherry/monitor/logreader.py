"""The worker `logs`: reads a container's json-file log to a client, and follows it while the container runs.

Following waits in poll(2) for: a change in the log's directory (more output, a rotation), a change of `state.json` in
the run directory (the container has stopped), the end of the monitor, and the client's leaving.
"""

import _socket
import os
import select
from json import loads

from wherry.errors import InvalidArgument, KernelError
from wherry.linux.inotify import IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MODIFY, IN_MOVED_TO, Inotify
from wherry.monitor.attach import widen
from wherry.monitor.child import start_time
from wherry.monitor.logfiles import Lines, inflated, open_log, seek_tail
from wherry.monitor.logformat import Formatter
from wherry.values import times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WATCHED = IN_MODIFY | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF


class _ClientGone(Exception):
    """Nobody reads any more."""


class _Output:
    """The client's socket, with HTTP's chunked coding where the answer was announced so (RFC 9112, 7.1)."""

    __slots__ = ("_chunked", "_sock", "fd")

    def __init__(self, fd: int, *, chunked: bool) -> None:
        self._sock = _socket.socket(fileno=fd)
        self._sock.setblocking(True)
        widen(self._sock)
        self._chunked = chunked
        self.fd = fd

    def write(self, data: bytes) -> None:
        if not data:
            return
        try:
            if self._chunked:
                self._sock.sendall(b"%x\r\n%b\r\n" % (len(data), data), _socket.MSG_NOSIGNAL)
            else:
                self._sock.sendall(data, _socket.MSG_NOSIGNAL)
        except OSError:
            raise _ClientGone from None

    def end(self) -> None:
        try:
            if self._chunked:
                self._sock.sendall(b"0\r\n\r\n", _socket.MSG_NOSIGNAL)
        except OSError:
            return

    def close(self) -> None:
        self._sock.close()


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> None:
    """Serve one `logs` request.

    Args:
        args: `path`: the log file; `run_dir`: where state.json is (for `follow`); `follow`; `tail`: number of
            records, or -1 for all; `since`, `until`: nanoseconds since the epoch, 0 for none; `timestamps`, `details`,
            `stdout`, `stderr`, `framed`: as `Formatter`; `tty`: there is one stream only, never framed; `chunked`:
            write HTTP chunks; `files`: for each file that came open, oldest first, whether it is compressed.
        fds: `client`: a stream socket. It is not shut down: live output may follow the past one, and whoever asked for
            this closes it. `log:0`, `log:1`…: the open files.

    Raises:
        InvalidArgument: no client.
    """
    if "client" not in fds:
        raise InvalidArgument("logs needs the descriptor `client`")
    output = _Output(fds["client"], chunked=bool(args.get("chunked")))
    tty = bool(args.get("tty"))
    since, until = int(args.get("since") or 0), int(args.get("until") or 0)
    formatter = Formatter(
        stdout=bool(args.get("stdout", True)) or tty,
        stderr=bool(args.get("stderr", True)),
        since=times.exact(since) if since else "",
        until=times.exact(until) if until else "",
        timestamps=bool(args.get("timestamps")),
        details=bool(args.get("details")),
        framed=bool(args.get("framed", True)) and not tty,
    )
    tail = args.get("tail")
    given = args.get("files")
    opened = [(fds[f"log:{number}"], compressed) for number, compressed in enumerate(given)] if given else None
    try:
        _serve(args["path"], opened, output, formatter, -1 if tail is None else int(tail), args)
        output.end()
    except _ClientGone:
        return
    finally:
        output.close()


def _serve(
    path: str,
    opened: "list[tuple[int, bool]] | None",
    output: _Output,
    formatter: Formatter,
    tail: int,
    args: "dict[str, Any]",
) -> None:
    follower = _Follower(path, args["run_dir"], output.fd) if args.get("follow") else None
    files = open_log(path) if opened is None else opened
    if tail >= 0:
        files = _last(files, tail)
    current: Lines | None = None
    for index, (fd, compressed) in enumerate(files):
        plain = inflated(fd) if compressed else fd
        lines = Lines(plain)
        _copy(lines, output, formatter)
        if index == len(files) - 1:
            current = lines
        else:
            os.close(plain)
        if formatter.done:
            return
    if follower is not None:
        follower.run(current, output, formatter)
    elif current is not None:
        os.close(current.fd)


def _copy(lines: Lines, output: _Output, formatter: Formatter) -> None:
    for block in lines:
        output.write(formatter.feed(block))
        if formatter.done:
            return


def _last(files: "list[tuple[int, bool]]", tail: int) -> "list[tuple[int, bool]]":
    """The files that hold the last `tail` records, the first of them already at its place; the others are closed."""
    kept: list[tuple[int, bool]] = []
    for index in range(len(files) - 1, -1, -1):
        fd, compressed = files[index]
        if tail <= 0 and kept:
            os.close(fd)
            continue
        plain = inflated(fd) if compressed else fd
        if tail > 0:
            tail -= seek_tail(plain, tail)
        else:
            os.lseek(plain, 0, os.SEEK_END)
        kept.insert(0, (plain, False))
    return kept


class _Follower:
    """Waits for what may come, and knows when nothing more will."""

    def __init__(self, path: str, run_dir: str, client: int) -> None:
        self._path = path
        self._run_dir = run_dir
        self._client = client
        # before the first look at either, so that no change is missed
        self._inotify = Inotify()
        try:
            self._inotify.watch(os.path.dirname(path), _WATCHED)
            self._inotify.watch(run_dir, _WATCHED)
        except KernelError:
            self._run_dir = ""  # it has never run, or is gone: what is there is all
        self._monitor = self._open_monitor()

    def _open_monitor(self) -> int:
        state = self._state()
        try:
            monitor = state["monitor"]
            pidfd = os.pidfd_open(monitor["pid"])
            if start_time(monitor["pid"]) == monitor["start_time"]:
                return pidfd
            os.close(pidfd)
        except (KeyError, TypeError, OSError):
            return -1
        return -1

    def _state(self) -> "dict[str, Any]":
        try:
            with open(f"{self._run_dir}/state.json", "rb") as file:
                state = loads(file.read())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _over(self) -> bool:
        return self._monitor < 0 or self._state().get("status") not in ("starting", "running", "paused")

    def run(self, lines: "Lines | None", output: _Output, formatter: Formatter) -> None:
        poll = select.poll()
        poll.register(self._inotify.fd, select.POLLIN)
        poll.register(self._client, select.POLLRDHUP)
        if self._monitor >= 0:
            poll.register(self._monitor, select.POLLIN)
        while True:
            over = self._over()  # asked first: what was logged before the end is still read below
            lines = self._catch_up(lines, output, formatter)
            if over or formatter.done:
                return
            ready = {fd for fd, _ in poll.poll()}
            if self._client in ready:
                raise _ClientGone
            if self._monitor in ready:
                os.close(self._monitor)
                poll.unregister(self._monitor)
                self._monitor = -1
            self._inotify.clear()

    def _catch_up(self, lines: "Lines | None", output: _Output, formatter: Formatter) -> "Lines | None":
        """Read to the end of the log; through rotated files too, where some came between."""
        while True:
            if lines is not None:
                _copy(lines, output, formatter)
                if self._is_current(lines.fd):
                    return lines
                _copy(lines, output, formatter)  # what came between the end of it and its rotation
            newer = self._files_after(lines)
            if not newer:
                return lines
            for index, (fd, compressed) in enumerate(newer):
                if lines is not None:
                    os.close(lines.fd)
                lines = Lines(inflated(fd) if compressed else fd)
                if index < len(newer) - 1:
                    _copy(lines, output, formatter)

    def _is_current(self, fd: int) -> bool:
        try:
            return os.fstat(fd).st_ino == os.stat(self._path).st_ino
        except FileNotFoundError:
            return True  # between two steps of a rotation: there will be another event

    def _files_after(self, lines: "Lines | None") -> "list[tuple[int, bool]]":
        """The files that are newer than the one read, oldest first.

        One that was compressed meanwhile is another file; it kept the time of its rotation, which no two share.
        """
        files = open_log(self._path)
        if lines is None:
            return files
        read = os.fstat(lines.fd)
        newer: list[tuple[int, bool]] = []
        for index, (fd, compressed) in enumerate(files):
            status = os.fstat(fd)
            if status.st_ino == read.st_ino:
                for old, _ in newer:
                    os.close(old)
                newer = []
                os.close(fd)
            elif index == len(files) - 1 or status.st_mtime_ns > read.st_mtime_ns:
                newer.append((fd, compressed))
            else:
                os.close(fd)
        return newer
