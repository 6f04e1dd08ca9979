"""clone3(2) as a fork that Python survives: the interpreter's own fork hooks run around it.

`os.fork` cannot make namespaces, give a pidfd, or have the child born in a cgroup. The call is made with the
interpreter's lock held (PyDLL), from a process without threads.
"""

import ctypes
import errno
import os
import select

from wherry.errors import KernelError
from wherry.linux import signals
from wherry.linux.process import PR_GET_DUMPABLE, PR_SET_DUMPABLE, prctl

CLONE_VM = 0x00000100
CLONE_PIDFD = 0x00001000
CLONE_VFORK = 0x00004000
CLONE_PARENT = 0x00008000
CLONE_PARENT_SETTID = 0x00100000
CLONE_INTO_CGROUP = 0x200000000

_SYS_CLONE3 = 435


class _CloneArgs(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


_python = ctypes.PyDLL(None, use_errno=True)
_clone3 = _python["syscall"]
_clone3.restype = ctypes.c_long
_clone3.argtypes = (ctypes.c_long, ctypes.POINTER(_CloneArgs), ctypes.c_size_t)
_raw = ctypes.PyDLL(None, use_errno=True)["syscall"]
_raw.restype = ctypes.c_long
_raw.argtypes = (ctypes.c_long,) * 7
_before = ctypes.pythonapi["PyOS_BeforeFork"]
_after_parent = ctypes.pythonapi["PyOS_AfterFork_Parent"]
_after_child = ctypes.pythonapi["PyOS_AfterFork_Child"]
for _hook in (_before, _after_parent, _after_child):
    _hook.restype = None
    _hook.argtypes = ()


def clone(flags: int = 0, *, cgroup: int | None = None, sibling: bool = False) -> "tuple[int, int]":
    """Fork, with new namespaces.

    All signals are blocked in the child, so that no handler of the parent runs in it; the child resets its
    dispositions and then its mask. The child is born not dumpable: there is no moment in which who shares its pid
    namespace could look into it (CVE-2016-9962). The parent is as before.

    Args:
        flags: CLONE_NEW* bits.
        cgroup: descriptor of a cgroup v2 directory that the child is born in.
        sibling: the child becomes a child of the caller's parent (CLONE_PARENT).

    Returns:
        In the parent (pid, pidfd); in the child (0, -1).

    Raises:
        KernelError: the call failed; there is no child.
    """
    pidfd = ctypes.c_int(-1)
    args = _CloneArgs()
    args.flags = flags | CLONE_PIDFD
    args.pidfd = ctypes.addressof(pidfd)
    args.exit_signal = signals.SIGCHLD
    if cgroup is not None:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup
    if sibling:
        args.flags |= CLONE_PARENT
        args.exit_signal = 0
    mask = signals.block()
    dumpable = prctl(PR_GET_DUMPABLE)
    prctl(PR_SET_DUMPABLE, 0)
    _before()
    pid: int = _clone3(_SYS_CLONE3, args, ctypes.sizeof(args))
    if pid == 0:
        _after_child()
        return 0, -1
    number = ctypes.get_errno()
    _after_parent()
    if dumpable == 1:  # 2 is the machine's choice, and cannot be set
        prctl(PR_SET_DUMPABLE, 1)
    signals.set_mask(mask)
    if pid < 0:
        raise KernelError("clone3", number, None)
    return pid, pidfd.value


def fork_by(number: int, *arguments: int, hooks: bool = True) -> int:
    """Fork by a system call of the caller's choice, as `clone` does it otherwise. The caller is not dumpable and has no
    signal handlers.

    Args:
        number: of clone(2) on this machine.
        arguments: its six registers.
        hooks: run the interpreter's; a child that takes over the parent's memory, which never runs again, needs none.

    Returns:
        In the parent the pid; in the child 0.

    Raises:
        KernelError: the call failed; there is no child.
    """
    if hooks:
        _before()
    pid: int = _raw(number, *arguments)
    if pid == 0:
        if hooks:
            _after_child()
        return 0
    code = ctypes.get_errno()
    if hooks:
        _after_parent()
    if pid < 0:
        raise KernelError("clone", code)
    return pid


def reap(pidfd: int, seconds: float | None = None) -> int | None:
    """Wait for the child that `pidfd` holds, for ever or for some seconds. Returns its status as
    `os.waitstatus_to_exitcode` counts it, or None when it lives still, or another part of the process has reaped it."""
    if seconds is not None:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(int(seconds * 1000)):
            return None
    while True:
        try:
            result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        except ChildProcessError:
            return None
        except OSError as error:
            if error.errno == errno.EINTR:
                continue
            raise KernelError("waitid", error.errno or 0) from None
        if result is None:
            continue
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
