"""One process: pidfds, start times, capabilities, prctl(2), descriptors before an exec."""

import ctypes
import errno
import os

from wherry.errors import KernelError
from wherry.linux import signals
from wherry.linux.libc import libc

PTRACE_SEIZE = 0x4206
PTRACE_O_TRACEVFORKDONE = 0x20
PTRACE_O_EXITKILL = 0x100000
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAP_VERSION_3 = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SYS_KEYCTL = 219 if os.uname().machine in ("aarch64", "riscv64", "loongarch64") else 250
_SYS_CLOSE_RANGE = 436
_KERNEL_SIGSET_BYTES = 8

_prctl = libc["prctl"]
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_close_range = libc["syscall"]
_close_range.restype = ctypes.c_long
_close_range.argtypes = (ctypes.c_long, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)
_keyctl = libc["syscall"]
_keyctl.restype = ctypes.c_long
_keyctl.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_char_p)
_ptrace = libc["ptrace"]
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_setdomainname = libc["setdomainname"]
_setdomainname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
_sethostname = libc["sethostname"]
_sethostname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
_personality = libc["personality"]
_personality.argtypes = (ctypes.c_ulong,)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_CapData = ctypes.c_uint32 * 6  # effective, permitted, inheritable of the low word, then of the high word
_capset = libc["capset"]
_capset.argtypes = (ctypes.POINTER(_CapHeader), _CapData)
_capget = libc["capget"]
_capget.argtypes = (ctypes.POINTER(_CapHeader), _CapData)


def prctl(option: int, arg2: int = 0, arg3: int = 0, *, what: str = "prctl") -> int:
    """prctl(2)."""
    result: int = _prctl(option, arg2, arg3, 0, 0)
    if result < 0:
        raise KernelError(what, ctypes.get_errno())
    return result


def capget() -> "tuple[int, int, int]":
    """(effective, permitted, inheritable) of this thread, as bit sets."""
    data = _CapData()
    if _capget(_CapHeader(_CAP_VERSION_3, 0), data) < 0:
        raise KernelError("capget", ctypes.get_errno())
    return data[0] | data[3] << 32, data[1] | data[4] << 32, data[2] | data[5] << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for this thread; the arguments are bit sets."""
    low = 0xFFFFFFFF
    data = _CapData(
        effective & low, permitted & low, inheritable & low, effective >> 32, permitted >> 32, inheritable >> 32
    )
    if _capset(_CapHeader(_CAP_VERSION_3, 0), data) < 0:
        raise KernelError("capset", ctypes.get_errno())


def bounding_set() -> int:
    """Bounding set of this thread, as a bit set."""
    bits = 0
    for number in range(64):
        has = _prctl(PR_CAPBSET_READ, number, 0, 0, 0)
        if has < 0:
            break
        bits |= has << number
    return bits


def drop_bounding(keep: int) -> None:
    """Drop every capability from the bounding set that is not in `keep` (a bit set)."""
    for number in range(64):
        if not keep >> number & 1 and _prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            code = ctypes.get_errno()
            if code == errno.EINVAL:
                return  # past the kernel's last capability
            raise KernelError(f"drop capability {number} from the bounding set", code)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2)."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise KernelError("pidfd_open", error.errno or 0) from None


def pidfd_send_signal(pidfd: int, number: int) -> bool:
    """Signal the process that `pidfd` holds. False if it is gone."""
    try:
        signals.send_by_pidfd(pidfd, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise KernelError("pidfd_send_signal", error.errno or 0) from None
    return True


def stat_fields(pid: "int | str") -> "list[str]":
    """Fields of /proc/<pid>/stat from the third on (`[0]` is the state, `[19]` the start time).

    Raises:
        KernelError: ENOENT or ESRCH: there is no such process.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, 4096)
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError("read stat", error.errno or 0, f"/proc/{pid}/stat") from None
    # the name may hold spaces and parentheses: what follows the last one counts
    return text[text.rfind(b")") + 2 :].decode("ascii", "replace").split()


def start_time(pid: "int | str") -> int:
    """Start time in clock ticks since boot (field 22): with it a pid names one process for ever."""
    return int(stat_fields(pid)[19])


def is_alive(pid: int, started: int | None) -> bool:
    """Whether the process `pid` of that start time runs; a zombie does not."""
    try:
        fields = stat_fields(pid)
    except KernelError:
        return False
    return fields[0] not in "ZXx" and (started is None or int(fields[19]) == started)


def hold_after_vfork(pid: int) -> bool:
    """Have a child of ours stop where its vfork(2) would return (ptrace(2)): it runs no instruction any more, and is
    only to be killed. It dies with the caller.

    Returns:
        False: the caller may not trace it.
    """
    return bool(_ptrace(PTRACE_SEIZE, pid, None, PTRACE_O_TRACEVFORKDONE | PTRACE_O_EXITKILL) == 0)


def children(name: str = "") -> "list[int]":
    """Children of this process, dead ones too; with `name` only those whose name that is (comm(5)). Reads all of /proc:
    for what is rare."""
    found, own = [], str(os.getpid())
    for word in os.listdir("/proc"):
        if not word.isdigit():
            continue
        try:
            if stat_fields(word)[1] == own and (not name or comm(word) == name):
                found.append(int(word))
        except KernelError:
            continue  # gone
    return found


def comm(pid: "int | str") -> str:
    """The name of a process (comm(5)), which a dead one keeps.

    Raises:
        KernelError: there is no such process.
    """
    path = f"/proc/{pid}/comm"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError as error:
        raise KernelError("read comm", error.errno or 0, path) from None


def has_executed(pid: int) -> bool:
    """Whether a fork of ours executes another program by now, whose name it gets a moment later. A dead one is not told
    apart from one that does not."""
    try:
        return not os.path.samefile(f"/proc/{pid}/exe", "/proc/self/exe")
    except OSError:
        return False


def close_from(first: int, *, keep: "tuple[int, ...]" = ()) -> None:
    """Close every descriptor from `first` on, except `keep`."""
    for fd in sorted(keep):
        if fd < first:
            continue
        if fd > first:
            _close(first, fd - 1)
        first = fd + 1
    _close(first, 0xFFFFFFFF)


def _close(first: int, last: int) -> None:
    if _close_range(_SYS_CLOSE_RANGE, first, last, 0) < 0:
        number = ctypes.get_errno()
        if number != errno.ENOSYS:
            raise KernelError("close_range", number)
        for name in os.listdir("/proc/self/fd"):
            if first <= int(name) <= last:
                try:
                    os.close(int(name))
                except OSError:
                    continue  # the listing's own descriptor


def new_session_keyring() -> None:
    """Join a fresh session keyring (keyctl(2)), so that the caller's keys stay the caller's. Kernels without keyrings,
    and filters that forbid the call, have nothing to leak."""
    if _keyctl(_SYS_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None) < 0:
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EPERM):
            raise KernelError("keyctl", number)


def set_name(name: str) -> None:
    """Name this thread (comm(5)); 15 characters count."""
    libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    encoded = os.fsencode(name)
    if _sethostname(encoded, len(encoded)) < 0:
        raise KernelError("sethostname", ctypes.get_errno())


def set_domainname(name: str) -> None:
    """setdomainname(2)."""
    encoded = os.fsencode(name)
    if _setdomainname(encoded, len(encoded)) < 0:
        raise KernelError("setdomainname", ctypes.get_errno())


def set_personality(persona: int) -> None:
    """personality(2)."""
    if _personality(persona) < 0:
        raise KernelError("personality", ctypes.get_errno())
