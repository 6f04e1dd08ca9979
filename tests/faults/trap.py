"""Stop a process at each system call that changes a file system, from outside (seccomp_unotify(2)).

The product has no hook for it: a filter in the child hands every such call to a supervisor, which lets it go on, kills
the process before it is made, or answers that the disk is full. What the child forks and executes is under it too.
"""

import array
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
from collections.abc import Callable

from wherry.linux import libseccomp
from wherry.linux.libc import check, libc

# by descriptor, its place among the arguments; these count only for files below the root
BY_FD = {
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "fallocate", "sendfile"), 0),
    **dict.fromkeys(("ftruncate", "fsync", "fdatasync", "syncfs", "fchmod", "fchown", "fsetxattr"), 0),
    "copy_file_range": 2,
}
BY_PATH = (
    *("rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "link", "linkat"),
    *("symlink", "symlinkat", "mknod", "mknodat", "truncate", "chmod", "fchmodat", "chown", "lchown", "fchownat"),
    *("setxattr", "lsetxattr"),
)
OPENS = ("openat", "openat2")
# what a full disk refuses from then on; and what it may refuse once
ALLOCATES = frozenset(("write", "pwrite64", "writev", "pwritev", "fallocate", "sendfile", "copy_file_range"))
MAY_BE_FULL = ALLOCATES | {
    *("fsync", "fdatasync", "mkdir", "mkdirat", "openat", "openat2", "rename", "renameat", "renameat2"),
    *("link", "linkat", "symlink", "symlinkat", "mknod", "mknodat", "setxattr", "lsetxattr", "fsetxattr"),
}
_LOAD, _JEQ, _JSET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_CWD = 0xFFFFFF9C
_BEGIN = "/the-operation-begins-here"
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}


class Fault:
    """What happens at a step: `kill` (SIGKILL before the call is made) or `full` (ENOSPC, and no room after it)."""

    __slots__ = ("at", "kind")

    def __init__(self, kind: str, at: int) -> None:
        assert kind in ("kill", "full")
        self.kind = kind
        self.at = at


class Outcome:
    """How it went.

    Fields: `ended` (`returned`, `raised`, `killed`), `error` (what was raised), `steps` (the calls that were seen),
    `hit` (the call at which the fault was; empty where it was not reached), `began` (how many steps there were when the
    body said `begin`).
    """

    def __init__(self) -> None:
        self.ended = ""
        self.error = ""
        self.steps: list[str] = []
        self.hit = ""
        self.began = 0


def begin() -> None:
    """Tell the supervisor, from a body, that what comes is the operation; before it lies the start of an engine."""
    try:
        os.rmdir(_BEGIN)
    except FileNotFoundError:
        return


def numbers(names: "tuple[str, ...]") -> dict[int, str]:
    """The system calls of this machine by number."""
    found = {libseccomp.number(name): name for name in names}
    return {number: name for number, name in found.items() if number >= 0}


def program(calls: dict[int, str]) -> bytes:
    """A filter that notifies of those calls, and of openat(2) where it creates or truncates."""
    openat = next(number for number, name in calls.items() if name == "openat")
    others = [number for number in calls if number != openat]
    code = [(_LOAD, 0, 0, 0), (_JEQ, len(others) + 1, 0, openat)]
    code += [(_JEQ, len(others) - place + 4, 0, number) for place, number in enumerate(others, 1)]
    code += [(_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 32), (_JSET, 1, 0, os.O_CREAT | os.O_TRUNC)]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def install(program: bytes, *, privileged: bool = False) -> int:
    """Put the calling thread under the filter; returns the descriptor that its supervisor reads.

    Args:
        privileged: as root may, without no_new_privs: what is executed then is as it would be otherwise.
    """
    if not privileged:
        check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    number = ctypes.c_long(_SECCOMP[os.uname().machine])
    return int(check(libc.syscall(number, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(header)), "seccomp"))


def run_trapped(body: Callable[[], object], root: str, fault: Fault | None = None) -> Outcome:
    """Run `body` in a fork of this process, which must have one thread, and supervise it.

    Args:
        root: only changes of files below it count, where a call says by a descriptor which file it changes.
        fault: what to do, and at which step (from 1); None lets everything go on.
    """
    calls = numbers((*BY_FD, *BY_PATH, *OPENS))
    code = program(calls)
    ours, theirs = socket.socketpair()
    result, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            os.close(result)
            listener = install(code)
            theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]).tobytes())])
            os.close(listener)
            body()
            status = 0
        except BaseException as error:  # noqa: BLE001 (told to the supervisor)
            os.write(told, f"{type(error).__name__}: {error}"[:4000].encode())
        finally:
            os._exit(status)
    theirs.close()
    os.close(told)
    _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    ours.close()
    assert ancillary, "the child could not be put under the filter"
    listener = struct.unpack("i", ancillary[0][2][:4])[0]
    outcome = Outcome()
    try:
        _supervise(pid, listener, calls, root, fault, outcome)
        with os.fdopen(result, "rb") as file:
            outcome.error = file.read().decode(errors="replace")
    finally:
        os.close(listener)
    return outcome


def _supervise(
    pid: int, listener: int, calls: dict[int, str], root: str, fault: Fault | None, outcome: Outcome
) -> None:
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    full = False
    try:
        while True:
            ready = dict(poll.poll())
            if pidfd in ready:
                _, status = os.waitpid(pid, 0)
                if os.WIFSIGNALED(status):
                    outcome.ended = "killed"
                else:
                    outcome.ended = "raised" if os.WEXITSTATUS(status) else "returned"
                return
            notice = receive(listener)
            if notice is None:
                continue
            id_, who, number, arguments = notice
            name = calls[number]
            if name == "rmdir" and memory(who, arguments[0], 64).startswith(_BEGIN.encode() + b"\0"):
                outcome.began = len(outcome.steps)
            step = describe(who, name, arguments, root)
            refuse = full and name in ALLOCATES and bool(step)
            if step:
                outcome.steps.append(step)
                if fault is not None and len(outcome.steps) == fault.at:
                    outcome.hit = step
                    if fault.kind == "kill":
                        os.kill(pid, signal.SIGKILL)
                        continue
                    full = True
                    refuse = name in MAY_BE_FULL
            answer(listener, id_, refuse)
    finally:
        os.close(pidfd)


def receive(listener: int) -> "tuple[int, int, int, tuple[int, ...]] | None":
    """The next call that waits: its cookie, its thread, number and arguments; None: who made it is dead."""
    buffer = bytearray(80)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None  # who asked is dead
        raise
    id_, who, _, number, _, _, *arguments = struct.unpack("=QIIiIQ6Q", buffer)
    return id_, who, number, tuple(arguments)


def answer(listener: int, id_: int, refuse: bool) -> None:
    """Let a call go on, or fail it with ENOSPC."""
    reply = struct.pack("=QqiI", id_, 0, -errno.ENOSPC if refuse else 0, 0 if refuse else _CONTINUE)
    try:
        fcntl.ioctl(listener, _SEND, bytearray(reply))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def describe(pid: int, name: str, arguments: "tuple[int, ...]", root: str) -> str:
    """Describe a call; empty where it changes nothing below the root."""
    if name in BY_FD:
        path = _link(f"/proc/{pid}/fd/{arguments[BY_FD[name]] & 0xFFFFFFFF}")
        return f"{name} {path[len(root) + 1 :]}" if path == root or path.startswith(f"{root}/") else ""
    if name == "openat2":
        flags = struct.unpack("=Q", memory(pid, arguments[2], 8))[0]
        if not flags & (os.O_CREAT | os.O_TRUNC):
            return ""
    # a symbolic link's own path comes behind its target
    first = 1 if name.startswith("symlink") else 0
    relative = name in OPENS or name.endswith("at") or name == "renameat2"
    at, path_argument = (arguments[first], arguments[first + 1]) if relative else (_CWD, arguments[first])
    path = memory(pid, path_argument, 4096).split(b"\0")[0].decode(errors="replace")
    if not path.startswith("/"):
        above = f"/proc/{pid}/cwd" if at & 0xFFFFFFFF == _CWD else f"/proc/{pid}/fd/{at & 0xFFFFFFFF}"
        path = f"{_link(above)}/{path}"
    return f"{name} {path[len(root) + 1 :]}" if path.startswith(f"{root}/") else ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def memory(pid: int, address: int, size: int) -> bytes:
    """What lies at an address of another process, up to a NUL."""
    try:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return b"\0" * 8  # another of its threads was killed a moment ago, and it too
    try:
        # what is asked for may end at the end of its page
        parts = b""
        while size and (part := os.pread(fd, min(size, 4096 - address % 4096), address)):
            parts += part
            if b"\0" in part and size > 8:
                break
            address, size = address + len(part), size - len(part)
        return parts
    except OSError:
        return b"\0" * 8
    finally:
        os.close(fd)
