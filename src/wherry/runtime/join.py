"""Enter a running container with a new process: `docker exec`, health checks, `wherry-runtime exec`.

The process that enters stays outside of the container's pid namespace. It makes the one that executes the program,
which is born with what the program may have and is the caller's own to reap: see `joiner`. Neither is dumpable until
then (CVE-2016-9962).
"""

import errno
import os
import select

from wherry.errors import HostileInput, KernelError, NotBegun, NotRunning, Paused
from wherry.linux.clone import clone, reap
from wherry.linux.namespace import NAMESPACES, namespace_id
from wherry.linux.process import (
    children,
    comm,
    has_executed,
    hold_after_vfork,
    is_alive,
    pidfd_open,
    pidfd_send_signal,
    start_time,
    stat_fields,
)
from wherry.linux.signals import SIGKILL
from wherry.runtime import command, sync
from wherry.runtime.become import warm
from wherry.runtime.cgroups.base import holds_no_process
from wherry.runtime.joiner import NAME, Joiner
from wherry.runtime.launch import set_oom_score
from wherry.runtime.process_plan import plan_process
from wherry.runtime.stdio import Launched, Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.oci.runtime_config import Process
    from wherry.runtime.cgroups.base import Cgroup

_KINDS = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time")
_REAP_SECONDS = 1.0
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.EPIPE, errno.ECONNRESET})
_KILLED = "the process that was to run the program was killed before it could"
_TAKEN_OVER = "the process that was to run the program was taken over by another"
_WORD = 12
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

    Raises:
        NotRunning: the container is gone.
        NotBegun: the process was killed before it could execute.
        Paused: it is frozen.
        CommandNotFound, CommandNotExecutable, InvalidArgument, HostileInput, KernelError: as `launch`.
    """
    warm()
    if cgroup is not None and not ignore_paused and cgroup.frozen():
        raise Paused("cannot exec in a paused container (use --ignore-paused to override)")
    target = pidfd_of(target_pid, target_start_time)
    try:
        spaces = {kind: namespace_id(kind, target_pid) for kind in _KINDS}
        kinds = [kind for kind in _KINDS if spaces[kind] != namespace_id(kind)]
        flags = 0
        for kind in kinds:
            flags |= NAMESPACES[kind][0]
        plan = plan_process(process, _CAPABILITIES_IN_USER_NAMESPACE if "user" in kinds else None)
        ours, theirs = sync.pair()
        words, of_member = sync.pair()
        try:
            joiner = Joiner(
                target,
                flags,
                plan,
                stdio,
                seccomp,
                socketcalls=socketcalls,
                keyring=new_session_keyring,
                channel=sync.ChildSide(theirs),
                words=sync.ChildSide(of_member),
            )
            pid, pidfd = _start(joiner, target_pid, cgroup)
        except BaseException:
            ours.close()
            words.close()
            raise
        finally:
            theirs.close()
            of_member.close()
    except KernelError as error:
        if error.errno in (errno.ESRCH, errno.ENOENT) or not is_alive(target_pid, target_start_time):
            raise NotRunning("container is not running") from None
        raise
    finally:
        os.close(target)
    watch = sync.Watch(None if ignore_paused else cgroup)
    family = _Family(pid, pidfd, spaces["pid"], sync.ParentSide(ours), sync.ParentSide(words), watch)
    try:
        if cgroup is not None and set(cgroup.paths) != {""}:
            cgroup.add(pid, beside=target_pid)
        set_oom_score(pid, plan.oom_score_adj)
        return family.accompany(plan.args[0])
    except BaseException as error:
        family.end()
        if isinstance(error, KernelError):
            if not is_alive(target_pid, target_start_time):
                raise NotRunning("container is not running") from None
            if family.killed and error.errno in _GONE:
                raise NotBegun(_KILLED) from None
        raise
    finally:
        family.close()


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


def _start(joiner: Joiner, target_pid: int, cgroup: "Cgroup | None") -> "tuple[int, int]":
    """Fork the process that joins, in the container's cgroup where that can be."""
    born_in = cgroup.directory_fd() if cgroup is not None and set(cgroup.paths) == {""} else None
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
            joiner.run()
        return pid, pidfd
    finally:
        if born_in is not None:
            os.close(born_in)


class _Family:
    """The process that joins, and the member that it makes, seen from their parent.

    Args:
        pid, pidfd: of the former; owned.
        namespace: the pid namespace of the latter.
        channel: to the former.
        words: to the latter.
        watch: raises when they are frozen.

    Fields: `killed`: one of them was killed before it could say why it ended.
    """

    __slots__ = (
        "_channel",
        "_given",
        "_joiner",
        "_joiner_fd",
        "_launched",
        "_namespace",
        "_since",
        "_told",
        "_watch",
        "_words",
        "killed",
    )

    def __init__(
        self,
        pid: int,
        pidfd: int,
        namespace: "tuple[int, int]",
        channel: sync.ParentSide,
        words: sync.ParentSide,
        watch: sync.Watch,
    ) -> None:
        self._joiner, self._joiner_fd = pid, pidfd
        self._since = start_time(pid)
        self._namespace = namespace
        self._channel = channel
        self._words = words
        self._watch = watch
        self._given: dict[str, int] = {}
        self._launched: Launched | None = None
        self._told = False
        self.killed = False

    def accompany(self, name: str) -> Launched:
        """Let them work until the member has executed.

        Args:
            name: of the program, for errors.

        Raises:
            NotBegun: one of them was killed before that.
            HostileInput: somebody else spoke for the member.
            WherryError: what they say.
        """
        held = hold_after_vfork(self._joiner)
        self._channel.tell(sync.HELD + sync.CGROUP if held else sync.CGROUP)
        launched = self._launched = self._find()
        pidfd_send_signal(self._joiner_fd, SIGKILL)
        self._follow(launched.pid, name)
        # in a frozen cgroup it dies when that is thawed
        reap(self._joiner_fd, _REAP_SECONDS)
        return launched

    def end(self) -> None:
        """Kill and reap what there is of them."""
        launched = self._launched
        # one that is dead already was killed: by itself it ends only after it has said why
        self.killed = not self._told and self._is_over(launched.pid if launched else self._joiner)
        # in a frozen cgroup v1 they die when that is thawed
        pidfd_send_signal(self._joiner_fd, SIGKILL)
        reap(self._joiner_fd, _REAP_SECONDS)
        # one that made the member may have died before it could say so
        unknown = [pid for pid in children() if self._member_since(pid)] if launched is None else []
        pidfds = [pidfd_open(pid) for pid in unknown] if launched is None else [launched.pidfd]
        for pidfd in pidfds:
            pidfd_send_signal(pidfd, SIGKILL)
            reap(pidfd, _REAP_SECONDS)
            os.close(pidfd)
        for fd in self._given.values():
            os.close(fd)

    def close(self) -> None:
        """Let go of the channels and the pidfd."""
        self._channel.close()
        self._words.close()
        os.close(self._joiner_fd)

    def _find(self) -> Launched:
        """The member. The pid that is said must be a child of ours in that namespace, whoever says it."""
        kind, number = self._word(self._joiner)
        if not kind:
            pidfd_send_signal(self._joiner_fd, SIGKILL)
        self._hear()
        if kind == sync.FAILED:
            self._told = True
            raise KernelError("clone", number)
        if not kind:
            raise NotBegun(_KILLED)
        started = self._member_since(number) if kind == sync.BORN else 0
        if not started:
            raise HostileInput(_TAKEN_OVER)
        given = self._given
        return Launched(number, pidfd_open(number), started, given.get("terminal"), given.get("listener"))

    def _hear(self) -> None:
        """Read what the process that joins has said. It closes its end before it makes the member, or it dies."""

        def stalled() -> None:
            raise NotBegun(_KILLED)

        while True:
            message, fd = self._channel.receive(stalled)
            if message is None:
                return
            if "error" in message:
                self._told = True
                raise sync.raised(message)
            if fd is not None:
                self._given[message["at"]] = fd

    def _follow(self, pid: int, name: str) -> None:
        kind, number = self._word(pid)
        if not kind:
            # it has its program's name, or is about to get it
            if has_executed(pid) or comm(pid) != NAME:
                return
            raise NotBegun(_KILLED)
        self._told = kind in (sync.FAILED, sync.NOT_EXECUTED)
        if kind == sync.NOT_EXECUTED:
            raise command.failure(name, number)
        if kind == sync.FAILED:
            raise KernelError("prepare the process", number)
        raise HostileInput(_TAKEN_OVER)

    def _word(self, pid: int) -> "tuple[bytes, int]":
        """The next word and its number. An empty one: nothing more comes, or `pid` is dead, or executes."""
        poll = select.poll()
        poll.register(self._words.fileno(), select.POLLIN)
        if pid == self._joiner:
            poll.register(self._joiner_fd, select.POLLIN)
        ready: list[tuple[int, int]] = []
        while not ready:
            ready = poll.poll(sync.LOOK_MILLISECONDS)
            if not ready:
                self._watch()
                if self._is_over(pid) or (pid != self._joiner and has_executed(pid)):
                    return b"", 0
        if self._words.fileno() not in dict(ready):
            return b"", 0
        data = self._words.receive_word(_WORD)
        digits = data[1:]
        if digits and (len(data) == _WORD or not digits.isdigit()):
            raise HostileInput(_TAKEN_OVER)
        return data[:1], int(digits or b"0")

    def _member_since(self, pid: int) -> int:
        """The start time of a member: a child of ours in that namespace, not older than the process that joins, and not
        that one. 0: it is none."""
        try:
            fields = stat_fields(pid)
            started = int(fields[19])
            ours = pid != self._joiner and int(fields[1]) == os.getpid() and started >= self._since
            return started if ours and namespace_id("pid", pid) == self._namespace else 0
        except KernelError:
            return 0  # gone

    def _is_over(self, pid: int) -> bool:
        """Whether it is dead, or we trace it and a signal has stopped it for good."""
        return stat_fields(pid)[0] in ("ZXt" if pid == self._joiner else "ZX")
