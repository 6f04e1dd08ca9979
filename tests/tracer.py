"""A process of a container that has CAP_SYS_PTRACE, and traces every process that appears beside it.

`python -m tests.tracer PID CAPABILITIES SENTINEL` enters the namespaces of the container's process 1, takes over the
capabilities of a process in there (a bit set, hexadecimal), and attaches to each new pid as soon as it exists. It holds
what it caught at every system call until that has executed a program, and writes what it saw as one line of JSON:

    {"pid": 7, "stops": 40, "executed": true, "capabilities": 42, "outside": ["root", "fd 5"], "fds": ["pipe:[…]"]}

`stops`: how often it was held before it executed. `capabilities`: what it had or could have got then (permitted,
effective, inheritable and bounding set together). `outside`: ways through it to a file of the host, SENTINEL, that the
container does not have. `fds`: what its descriptors lead to. `variables`: names of its environment. `memory`: whether
/proc/PID/mem of the program could be opened for writing.
"""

import contextlib
import ctypes
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.races import race
from wherry.linux import process as p
from wherry.linux import signals
from wherry.linux.clone import clone
from wherry.linux.libc import libc
from wherry.linux.namespace import NAMESPACES, setns

SYS_PTRACE = 1 << 19
BEFORE, AFTER = "traced before its program", "traced in its program"
_ROOT = Path(__file__).resolve().parents[1]
_SEIZE, _INTERRUPT, _SYSCALL, _DETACH = 0x4206, 0x4207, 24, 17
_TRACE_SYSGOOD, _TRACE_EXEC = 0x1, 0x10
_EVENT_EXEC, _EVENT_STOP, _SIGTRAP, _SYSCALL_STOP = 4, 128, 5, 5 | 0x80
_WALL = 0x40000000
_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd")
_AHEAD = 16
_SECONDS = 5.0

_ptrace = libc["ptrace"]
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class Tracer:
    """The attacker, seen from a test.

    Args:
        pid: process 1 of the container, which must have CAP_SYS_PTRACE.
        sentinel: a file of the host.
    """

    def __init__(self, pid: int, sentinel: Path) -> None:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        self.capabilities = int(dict(line.split(":\t", 1) for line in lines)["CapEff"], 16)
        assert self.capabilities & SYS_PTRACE, "the container has no CAP_SYS_PTRACE: there is nothing to show"
        words = (sys.executable, "-m", "tests.tracer", str(pid), f"{self.capabilities:x}", str(sentinel))
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=_ROOT, text=True)
        assert self._read(60) == "ready", "the attacker did not begin"

    def _read(self, seconds: float) -> str:
        """A line, or nothing where none came in time."""
        stream = self._process.stdout
        assert stream is not None
        # a line at a time is written and read, so that nothing waits in the buffer
        if not select.select([stream], [], [], seconds)[0]:
            return ""
        line = stream.readline()
        assert line, "the attacker died"
        return line.rstrip("\n")

    def caught(self) -> dict[str, Any] | None:
        """The next process that was caught, once it is let go; None: there was none for some seconds."""
        line = self._read(_SECONDS)
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def tracing(pid: int, sentinel: Path) -> Iterator[Tracer]:
    """Trace what joins that container until the end of the block; see `Tracer`."""
    tracer = Tracer(pid, sentinel)
    try:
        yield tracer
    finally:
        tracer.close()


def attack(tracer: Tracer, join: Callable[[], object], rounds: int = 12) -> None:
    """Join a process again and again under the eyes of the attacker: it never has more than the container.

    Args:
        join: makes one process, which executes a program that runs for a moment, in the container.
        rounds: the least number of processes.
    """

    def attempt() -> Iterator[str]:
        join()
        found = tracer.caught()
        if found is None:
            return  # it ended before it was seen
        assert found["executed"], found
        assert not found["capabilities"] & ~tracer.capabilities, f"caught with {found['capabilities']:x}: {found}"
        assert not found["outside"], found
        assert found["memory"], found  # the control: whoever may trace may write
        for target in found["fds"]:
            assert target.startswith(("pipe:[", "socket:[", "/dev/null", "/dev/pts/")), found
        yield BEFORE if found["stops"] else AFTER

    race(attempt, (BEFORE,), rounds=rounds)


def _enter(pid: int, capabilities: int) -> None:
    """Become a process of the container; returns only in it."""
    flags = 0
    for flag, _ in NAMESPACES.values():
        flags |= flag
    flags &= ~NAMESPACES["user"][0] & ~NAMESPACES["time"][0]
    setns(p.pidfd_open(pid), flags)
    child, pidfd = clone()
    if child:
        p.prctl(p.PR_SET_PDEATHSIG, 9)
        with contextlib.suppress(KeyboardInterrupt):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os._exit(0)
    p.prctl(p.PR_SET_PDEATHSIG, 9)
    signals.set_mask(())
    p.drop_bounding(capabilities)
    p.capset(capabilities, capabilities, 0)


def _watch(sentinel: str) -> None:
    last = os.getpid()
    while True:
        for pid in range(last + 1, last + 1 + _AHEAD):
            if _ptrace(_SEIZE, pid, None, _TRACE_SYSGOOD | _TRACE_EXEC) == 0:
                last = pid
                found = _hold(pid, sentinel)
                sys.stdout.write(json.dumps(found) + "\n")
                sys.stdout.flush()
                break


def _hold(pid: int, sentinel: str) -> dict[str, Any]:
    """Stop it at every system call until it has executed."""
    capabilities, stops, executed = 0, 0, False
    outside: set[str] = set()
    fds: set[str] = set()
    variables: set[str] = set()
    memory = False
    program = os.stat("/bin/busybox")
    _ptrace(_INTERRUPT, pid, None, None)
    while True:
        try:
            _, status = os.waitpid(pid, _WALL)
        except ChildProcessError:
            break
        if not os.WIFSTOPPED(status):
            break
        number, event = os.WSTOPSIG(status), status >> 16
        if event == _EVENT_EXEC or (not stops and os.path.samestat(os.stat(f"/proc/{pid}/exe"), program)):
            memory = _opens(f"/proc/{pid}/mem", os.O_RDWR)
            executed = True
            _ptrace(_DETACH, pid, None, None)
            break
        stops += 1
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        values = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        for name in _SETS:
            capabilities |= int(values[name], 16)
        environment = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
        variables.update(entry.partition("=")[0] for entry in environment if entry)
        for way in ("root", "cwd"):
            if _opens(f"/proc/{pid}/{way}{sentinel}", os.O_RDONLY):
                outside.add(way)
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                fds.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
                if _opens(f"/proc/{pid}/fd/{fd}{sentinel}", os.O_RDONLY):
                    outside.add(f"fd {fd}")
        signal = 0 if event or number in (_SIGTRAP, _SYSCALL_STOP) else number
        _ptrace(_SYSCALL, pid, None, signal)
    return {
        "pid": pid,
        "stops": stops,
        "executed": executed,
        "capabilities": capabilities,
        "outside": sorted(outside),
        "fds": sorted(fds),
        "variables": sorted(variables),
        "memory": memory,
    }


def _opens(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def main() -> None:
    """See the module."""
    pid, capabilities, sentinel = int(sys.argv[1]), int(sys.argv[2], 16), sys.argv[3]
    _enter(pid, capabilities)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _watch(sentinel)


if __name__ == "__main__":
    main()
