"""A whole engine under the trap: wherryd, its spawner, monitors, their helpers and process 1 of containers.

`python -m tests.faults.tree SOCKET` supervises. wherryd is executed by `python -m tests.faults.tree SOCKET PROGRAM …`,
which puts itself, and so all that it will fork, under the filter. Whoever tests connects to the socket too, arms a
fault for one step of one container's start, and asks afterwards what was seen (`tests.faults.engine`).
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from tests.faults import trap
from wherry.linux.libc import libc

_MOUNTS = (
    *("mount", "umount2", "open_tree", "move_mount", "mount_setattr", "fsopen", "fsconfig", "fsmount", "pivot_root"),
    *("clone", "clone3", "fork", "vfork", "unshare", "setns", "chroot", "sethostname"),
)
_TELLS = ("sendmsg", "sendto")
MAY_BE_FULL = trap.MAY_BE_FULL | {"mount", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "clone3"}
_BY_FD = {**trap.BY_FD, "sendmsg": 0, "sendto": 0}
_VOLATILE = re.compile(r"[0-9a-f]{8,}|\d+")
_PIDFD_GETFD = 438
_ROLES = {
    "wherry-spawner": "spawner",
    "wherry-spare": "spawner",
    "wherry-monitor": "monitor",
    "wherry-launch": "launch",
}


def under(path: str, argv: list[str]) -> None:
    """Put this process under the filter of the supervisor at `path`, and execute a program."""
    calls = trap.numbers((*_BY_FD, *trap.BY_PATH, *trap.OPENS, *_MOUNTS))
    program = trap.program(calls)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        spare = os.dup(0)
        os.close(spare)
        # told before: once the filter is there, who sends waits for a supervisor that does not know of it yet
        sock.sendall(json.dumps({"op": "under", "pid": os.getpid(), "listener": spare}).encode() + b"\n")
        listener = trap.install(program, privileged=True)
        assert listener == spare
        assert sock.recv(1) == b"x"
    os.close(listener)
    os.execv(argv[0], argv)


class Supervisor:
    """Answers every call of the trees under it, and does one fault."""

    def __init__(self, path: str) -> None:
        self._calls = trap.numbers((*_BY_FD, *trap.BY_PATH, *trap.OPENS, *_MOUNTS))
        self._poll = select.poll()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(path)
        self._server.listen()
        self._poll.register(self._server, select.POLLIN)
        self._clients: dict[int, socket.socket] = {}
        self._listeners: set[int] = set()
        self._engine = 0
        self._id = ""
        self._base = ""
        self._fault: dict[str, Any] | None = None
        self._seen: dict[tuple[str, str], int] = {}
        self._steps: list[tuple[str, str, int]] = []
        self._hit = False
        self._full = False

    def serve(self) -> None:
        """Until the last client has gone, and every process under the filter with it."""
        served = False
        while not served or self._clients or self._listeners:
            for fd, bits in self._poll.poll():
                if fd == self._server.fileno():
                    client, _ = self._server.accept()
                    self._clients[client.fileno()] = client
                    self._poll.register(client, select.POLLIN)
                    served = True
                elif fd in self._clients:
                    self._request(self._clients[fd])
                elif bits & select.POLLIN:
                    self._notice(fd)
                else:  # nobody is under this filter any more
                    self._poll.unregister(fd)
                    self._listeners.discard(fd)
                    os.close(fd)

    def _request(self, client: socket.socket) -> None:
        data = client.recv(65536)
        if not data:
            self._poll.unregister(client)
            del self._clients[client.fileno()]
            client.close()
            return
        while not data.endswith(b"\n"):
            data += client.recv(65536)
        asked = json.loads(data)
        if asked["op"] == "under":
            self._engine = asked["pid"]
            listener = _taken(asked["pid"], asked["listener"])
            self._listeners.add(listener)
            self._poll.register(listener, select.POLLIN)
            client.sendall(b"x")
        elif asked["op"] == "arm":
            self._id, self._base, self._fault = asked["id"], asked["base"], asked["fault"]
            self._seen, self._steps, self._hit, self._full = {}, [], False, False
            client.sendall(b"{}\n")
        else:
            self._id, self._full = "", False
            client.sendall(json.dumps({"steps": self._steps, "hit": self._hit}).encode() + b"\n")

    def _notice(self, listener: int) -> None:
        notice = trap.receive(listener)
        if notice is None:
            return
        id_, who, number, arguments = notice
        refuse = False
        if self._id:
            process, role = self._role(who)
            name = self._calls[number]
            try:
                step = self._step(who, role, name, arguments) if role else ""
            except (FileNotFoundError, ProcessLookupError):
                return  # who asked was killed a moment ago: nobody waits for an answer
            if step:
                what = (role, _VOLATILE.sub("N", step.replace(self._base, "")))
                nth = self._seen[what] = self._seen.get(what, 0) + 1
                self._steps.append((*what, nth))
                refuse = self._full and name in trap.ALLOCATES and self._base in step
                if self._fault is not None and not self._hit and [*what, nth] == self._fault["step"]:
                    self._hit = True
                    if self._fault["kind"] == "kill":
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(process, signal.SIGKILL)
                        return
                    refuse, self._full = True, self._base in step
        trap.answer(listener, id_, refuse)

    def _role(self, who: int) -> tuple[int, str]:
        """The process that a thread belongs to, and its part in the start; none: it has none."""
        try:
            lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{who}/status").read_text().splitlines())
            process = int(lines["Tgid"])
            if process == self._engine:
                return process, "wherryd"
            role = _ROLES.get(lines["Name"], "")
            if role in ("monitor", "launch"):
                words = Path(f"/proc/{process}/cmdline").read_text(errors="replace")
                if self._id not in words:
                    return process, ""
                if len(lines["NSpid"].split()) > 1:
                    return process, "process 1"
            return process, role
        except (OSError, ValueError, KeyError):
            return who, ""

    def _step(self, who: int, role: str, name: str, arguments: tuple[int, ...]) -> str:
        inside = role in ("launch", "process 1")
        if name in _MOUNTS:
            return name
        if name in _BY_FD:
            fd = arguments[_BY_FD[name]] & 0xFFFFFFFF
            try:
                path = os.readlink(f"/proc/{who}/fd/{fd}")
            except OSError:
                return ""
            if path.startswith("socket:"):
                return f"{name} {_family(who, fd)}" if name in ("sendmsg", "sendto") else ""
            return f"{name} {path}" if self._ours(path) or (inside and path.startswith("/proc/")) else ""
        if name == "openat2":
            flags = struct.unpack("=Q", trap.memory(who, arguments[2], 8))[0]
            if not flags & (os.O_CREAT | os.O_TRUNC):
                return ""
        at = name in trap.OPENS or name.endswith("at") or name == "renameat2"
        path = trap.memory(who, arguments[1 if at else 0], 4096).split(b"\0")[0].decode(errors="replace")
        return f"{name} {path}" if inside or self._ours(path) or not path.startswith("/") else ""

    def _ours(self, path: str) -> bool:
        return path.startswith((f"{self._base}/data", f"{self._base}/run", "/sys/fs/cgroup"))


def _taken(pid: int, fd: int) -> int:
    """A copy of another process's descriptor, as soon as it is there."""
    pidfd = os.pidfd_open(pid)
    try:
        while True:
            found = int(libc.syscall(_PIDFD_GETFD, pidfd, fd, 0))
            if found >= 0:
                return found
            assert ctypes.get_errno() == errno.EBADF, os.strerror(ctypes.get_errno())
            select.select([], [], [], 0.001)
    finally:
        os.close(pidfd)


def _family(who: int, fd: int) -> str:
    """What a thread's socket is. Raises FileNotFoundError or ProcessLookupError where the thread is gone."""
    pidfd = os.pidfd_open(int(Path(f"/proc/{who}/status").read_text().split("Tgid:\t")[1].split()[0]))
    try:
        copy = int(libc.syscall(_PIDFD_GETFD, pidfd, fd, 0))
    finally:
        os.close(pidfd)
    if copy < 0:
        return "socket"
    with socket.socket(fileno=copy) as sock:
        return "netlink" if sock.family == socket.AF_NETLINK else "socket"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        under(sys.argv[1], sys.argv[2:])
    else:
        Supervisor(sys.argv[1]).serve()
