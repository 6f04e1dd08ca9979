"""Enter a running container with a new process: `docker exec`, health checks, `wherry-runtime exec`.

All namespaces are joined by one setns(2) on the container's pidfd. The child is born in the container's pid namespace,
is not dumpable until it executes (CVE-2016-9962), and is the caller's own to reap.
"""

import errno
import gc
import os

from wherry.errors import KernelError, NotBegun, NotRunning, Paused
from wherry.linux import inodes
from wherry.linux.clone import clone, reap
from wherry.linux.files import O_PATH
from wherry.linux.namespace import NAMESPACES, namespace_id, open_namespace, setns
from wherry.linux.process import (
    PR_SET_DUMPABLE,
    close_from,
    is_alive,
    pidfd_open,
    pidfd_send_signal,
    prctl,
    start_time,
    stat_fields,
)
from wherry.linux.signals import SIGKILL
from wherry.runtime import become as b
from wherry.runtime import sync
from wherry.runtime.cgroups.base import holds_no_process
from wherry.runtime.execute import make_terminal
from wherry.runtime.launch import set_oom_score
from wherry.runtime.process_plan import plan_process
from wherry.runtime.stdio import Launched, Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from wherry.oci.runtime_config import Process
    from wherry.runtime.cgroups.base import Cgroup
    from wherry.runtime.process_plan import ProcessPlan

_KINDS = ("user", "mount", "network", "ipc", "uts", "cgroup", "time")
_REAP_SECONDS = 1.0
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.EPIPE, errno.ECONNRESET})
_KILLED = "the process that was to run the program was killed before it could"
_CAPABILITIES_IN_USER_NAMESPACE = (1 << 41) - 1


def join(
    target_pid: int,
    process: "Process",
    stdio: Stdio,
    *,
    target_start_time: int | None = None,
    cgroup: "Cgroup | None" = None,
    seccomp: bytes | None = None,
    socketcalls: bool = False,
    new_session_keyring: bool = True,
    ignore_paused: bool = False,
    born: "Callable[[int], None] | None" = None,
) -> Launched:
    """Run a process in the namespaces of process 1 of a container. The caller must have no other thread.

    Args:
        target_pid: the container's process 1, as the caller sees it.
        process: OCI process object; of it `capabilities` are exactly what it gets.
        stdio: standard streams, or a terminal that is made in the container's devpts.
        target_start_time: checked, so that a recycled pid is not taken for the container.
        cgroup: the container's; None: the caller's own.
        seccomp: compiled filter, or None.
        socketcalls: the caller answers socketcall(2), by `Launched.listener`, if 32-bit programs are likely there.
        new_session_keyring: join a new session keyring.
        ignore_paused: in a frozen container wait until it is thawed.
        born: called with the process's pid before it is let go.

    Raises:
        NotRunning: the container is gone.
        NotBegun: the process was killed before it could execute.
        Paused: it is frozen.
        CommandNotFound, CommandNotExecutable, InvalidArgument, HostileInput, KernelError: as `launch`.
    """
    b.warm()
    if cgroup is not None and not ignore_paused and cgroup.frozen():
        raise Paused("cannot exec in a paused container (use --ignore-paused to override)")
    target = pidfd_of(target_pid, target_start_time)
    try:
        kinds = [kind for kind in _KINDS if namespace_id(kind, target_pid) != namespace_id(kind)]
        flags = 0
        for kind in kinds:
            flags |= NAMESPACES[kind][0]
        plan = plan_process(process, _CAPABILITIES_IN_USER_NAMESPACE if "user" in kinds else None)
        parent, child = sync.pair()
        confinement = b.Confinement(seccomp, socketcalls=socketcalls)
        body = _Joining(target, flags, plan, stdio, confinement, new_session_keyring, sync.ChildSide(child))
        try:
            pid, pidfd = _fork(target, target_pid, cgroup, body)
        except BaseException:
            parent.close()
            raise
        finally:
            child.close()
    except KernelError as error:
        if error.errno in (errno.ESRCH, errno.ENOENT) or not is_alive(target_pid, target_start_time):
            raise NotRunning("container is not running") from None
        raise
    finally:
        os.close(target)
    watch = sync.Watch(None if ignore_paused else cgroup)
    return _accompany(pid, pidfd, sync.ParentSide(parent), cgroup, plan, watch, target_pid, born)


def pidfd_of(pid: int, started: int | None) -> int:
    """A pidfd of exactly that process.

    Raises:
        NotRunning: it is gone, or the pid is another process's by now.
    """
    try:
        pidfd = pidfd_open(pid)
    except KernelError as error:
        if error.errno == errno.ESRCH:
            raise NotRunning("container is not running") from None
        raise
    # checked after the descriptor was opened: from here on it cannot become another
    if not is_alive(pid, started):
        os.close(pidfd)
        raise NotRunning("container is not running")
    return pidfd


class _Joining:
    """The child's side."""

    __slots__ = ("_confinement", "_flags", "_keyring", "_plan", "_stdio", "_sync", "_target")

    def __init__(
        self,
        target: int,
        flags: int,
        plan: "ProcessPlan",
        stdio: Stdio,
        confinement: b.Confinement,
        keyring: bool,
        channel: sync.ChildSide,
    ) -> None:
        self._target = target
        self._flags = flags
        self._plan = plan
        self._stdio = stdio
        self._confinement = confinement
        self._keyring = keyring
        self._sync = channel

    def run(self) -> "NoReturn":
        """Never returns."""
        try:
            gc.disable()
            b.isolate()
            stdio = () if self._stdio.terminal else (self._stdio.stdin, self._stdio.stdout, self._stdio.stderr)
            # who shares the pid namespace and has CAP_SYS_PTRACE sees us: of the host there is nothing to see
            close_from(3 + self._stdio.preserve, keep=(self._sync.fileno(), self._target, *stdio))
            inodes.prepare_briefly()
            labels = b.Labels(self._plan)
            self._sync.wait(sync.CGROUP)  # before the cgroup namespace hides where we come from
            if self._flags:
                setns(self._target, self._flags)
            if self._flags & NAMESPACES["user"][0]:
                os.setgroups([])
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                prctl(PR_SET_DUMPABLE, 0, what="prctl PR_SET_DUMPABLE")
            if self._stdio.terminal:
                root = os.open("/", O_PATH | os.O_DIRECTORY)
                master, slave = make_terminal(root, self._plan.console_size)
                b.take_terminal(slave)
                self._sync.say("terminal", master)
            else:
                b.connect(self._stdio.stdin, self._stdio.stdout, self._stdio.stderr)
            b.become(
                self._plan,
                confinement=self._confinement,
                labels=labels,
                keyring=self._keyring,
                announce=self._announce,
                lend=self._lend,
                keep=(self._sync.fileno(),),
                preserve=self._stdio.preserve,
            )
        except BaseException as error:  # noqa: BLE001  the parent raises it
            self._sync.fail(error)
        finally:
            os._exit(1)

    def _lend(self, listener: int) -> None:
        self._sync.say("listener", listener)

    def _announce(self) -> None:
        self._sync.say("exec")


def _fork(target: int, target_pid: int, cgroup: "Cgroup | None", body: _Joining) -> "tuple[int, int]":
    born_in = cgroup.directory_fd() if cgroup is not None and set(cgroup.paths) == {""} else None
    flag = NAMESPACES["pid"][0]
    enter = namespace_id("pid", target_pid) != namespace_id("pid")
    back = open_namespace("pid") if enter else -1
    try:
        if enter:
            setns(target, flag)
        try:
            try:
                pid, pidfd = clone(cgroup=born_in)
            except KernelError as error:
                # the container has made branches of its own, and the top may hold no process: process 1 knows where
                if cgroup is None or born_in is None or not holds_no_process(error):
                    raise
                os.close(born_in)
                born_in = None  # not closed twice where the next line fails
                born_in = cgroup.directory_fd(beside=target_pid)
                pid, pidfd = clone(cgroup=born_in)
            if pid == 0:
                body.run()
            return pid, pidfd
        finally:
            if enter:
                setns(back, flag)
    finally:
        if back >= 0:
            os.close(back)
        if born_in is not None:
            os.close(born_in)


def _accompany(
    pid: int,
    pidfd: int,
    channel: sync.ParentSide,
    cgroup: "Cgroup | None",
    plan: "ProcessPlan",
    watch: sync.Watch,
    target_pid: int,
    born: "Callable[[int], None] | None",
) -> Launched:
    given: dict[str, int | None] = {}
    told = False  # the child said why
    try:
        if cgroup is not None and set(cgroup.paths) != {""}:
            cgroup.add(pid, beside=target_pid)
        set_oom_score(pid, plan.oom_score_adj)
        started = start_time(pid)
        if born is not None:
            born(pid)
        channel.tell(sync.CGROUP)
        executing = False
        while True:
            message, fd = channel.receive(watch)
            if message is None:
                if not executing:
                    raise NotBegun(_KILLED)
                return Launched(pid, pidfd, started, given.get("terminal"), given.get("listener"))
            if "error" in message:
                told = True
                raise sync.raised(message)
            if message.get("at") in ("terminal", "listener"):
                given[message["at"]] = fd
            executing = executing or message.get("at") == "exec"
    except BaseException as error:
        # one that is dead already was killed: by itself it ends only after it has said why
        killed = not told and isinstance(error, KernelError) and error.errno in _GONE and stat_fields(pid)[0] in "ZX"
        pidfd_send_signal(pidfd, SIGKILL)
        # in a frozen cgroup v1 it dies when that is thawed
        reap(pidfd, _REAP_SECONDS)
        for fd in (pidfd, *given.values()):
            if fd is not None:
                os.close(fd)
        if killed:
            raise NotBegun(_KILLED) from None
        raise
    finally:
        channel.close()
