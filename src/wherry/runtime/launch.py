"""Start a container: the parent's side.

The child is forked at once and builds its root while the parent makes the cgroup and whatever `concurrently` does
(the network). Whatever fails, on either side: the child is killed and reaped, the cgroup removed, and the mounts went
with the child's namespace.
"""

import errno
import os

from wherry.errors import KernelError, WherryError
from wherry.linux.clone import clone, reap
from wherry.linux.namespace import CLONE_NEWTIME, NAMESPACES, open_namespace, setns, unshare
from wherry.linux.process import pidfd_send_signal, start_time
from wherry.linux.signals import SIGKILL
from wherry.runtime import rootfs, sync
from wherry.runtime.become import Confinement, warm
from wherry.runtime.devices import open_device_sources
from wherry.runtime.execute import Child, Inherited
from wherry.runtime.hooks import run_hooks, state_json
from wherry.runtime.plan import clone_flags
from wherry.runtime.stdio import Launched, Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.runtime.cgroups.base import Cgroup
    from wherry.runtime.plan import Plan

__all__ = ["Launched", "Stdio", "launch"]

# entered by the parent for a moment: the first decides where a child is born, and both would need a fork otherwise
_PARENT_JOINS = ("pid", "time")


def launch(
    plan: "Plan",
    stdio: Stdio,
    *,
    cgroup: "Cgroup | None" = None,
    seccomp: bytes | None = None,
    socketcalls: bool = False,
    concurrently: "Callable[[int], None] | None" = None,
    start_fifo: int | None = None,
) -> Launched:
    """Start a container and return once its program runs. The caller must have no other thread.

    Args:
        plan: from `plan_container`.
        stdio: standard streams; the caller keeps its descriptors.
        cgroup: created here with the plan's resources, and removed again on failure; None: the caller's own.
        seccomp: compiled filter, or None.
        socketcalls: the caller answers socketcall(2), by `Launched.listener`, if 32-bit programs are likely there.
            Not with `start_fifo`.
        concurrently: called with the pid while the child builds its root.
        start_fifo: descriptor of a FIFO opened for reading and writing. With it the return comes before the exec: the
            process waits, confined, until a byte is written.

    Returns:
        The child, which is the caller's own to reap.

    Raises:
        CommandNotFound, CommandNotExecutable: about the program.
        InvalidSpec, HostileInput, InvalidArgument: about the configuration or the image.
        KernelError: a system call failed, here or in the child.
        NotSupported: a limit that this host cannot apply.
    """
    warm()
    inherited = Inherited()
    opened: list[int] = []
    try:
        joined = _open_joined(plan, opened)
        inherited.root, inherited.trees = rootfs.open_sources(plan)
        inherited.devices = open_device_sources(plan)
        inherited.start_fifo = start_fifo
        born_in = None
        if cgroup is not None:
            inherited.cgroup_paths = dict(cgroup.paths)
            if set(cgroup.paths) == {""}:
                # v2: the child is born in its place
                cgroup.create(plan.resources)
                # born into a frozen one it would never say a word
                sync.Watch(cgroup).check()
                born_in = cgroup.directory_fd()
                if born_in is not None:
                    opened.append(born_in)
        parent, child = sync.pair()
        try:
            here = _Birth(plan, joined, inherited)

            def born() -> None:
                # held here, it would keep the child from seeing that its parent is gone
                parent.close()
                confinement = Confinement(seccomp, socketcalls=socketcalls)
                Child(plan, stdio, confinement, inherited, sync.ChildSide(child)).run()

            pid, pidfd = here.make_child(born_in, born)
        except BaseException:
            parent.close()
            raise
        finally:
            child.close()
        return _accompany(
            _Parent(plan, pid, pidfd, sync.ParentSide(parent), cgroup), cgroup, born_in is None, concurrently
        )
    except BaseException:
        if cgroup is not None:
            _discard(cgroup)
        raise
    finally:
        rootfs.close_sources(inherited.root, inherited.trees)
        for fd in [*opened, *inherited.devices.values()]:
            os.close(fd)


class _Birth:
    """Where the child is born: which namespaces the parent enters for a moment, which the child enters itself."""

    __slots__ = ("_flags", "_intermediate", "_parent_joins", "_plan")

    def __init__(self, plan: "Plan", joined: "dict[str, int]", inherited: Inherited) -> None:
        self._plan = plan
        self._flags = clone_flags(plan)
        self._intermediate = joined.get("user")
        by_parent = set(_PARENT_JOINS)
        if plan.new_user_namespace or "user" in joined:
            # once in the user namespace the child has no right to enter those that others own
            by_parent |= {"network", "ipc", "uts"}
        self._parent_joins = [(kind, fd) for kind, fd in joined.items() if kind in by_parent]
        inherited.joins = [(k, fd) for k, fd in joined.items() if k not in by_parent and k not in ("user", "mount")]
        if "mount" in joined:
            inherited.joins.append(("mount", joined["mount"]))

    def make_child(self, born_in: int | None, child: "Callable[[], None]") -> "tuple[int, int]":
        """Fork; the parent is back in its own namespaces when this returns."""
        back: list[tuple[str, int]] = []
        try:
            for kind, fd in self._parent_joins:
                back.append((kind, open_namespace(kind)))
                setns(fd, NAMESPACES[kind][0])
            if self._plan.new_namespaces & CLONE_NEWTIME:
                back.append(("time", open_namespace("time")))
                _new_time_namespace(self._plan.time_offsets)
            if self._intermediate is not None:
                return _fork_into_user_namespace(self._intermediate, self._flags, born_in, child)
            pid, pidfd = clone(self._flags, cgroup=born_in)
            if pid == 0:
                child()
            return pid, pidfd
        finally:
            # in the child this is never reached: `child` ends the process
            for kind, fd in reversed(back):
                setns(fd, NAMESPACES[kind][0])
                os.close(fd)


class _Parent:
    """What the parent knows of the child."""

    __slots__ = ("cgroup", "code", "failed", "listener", "master", "pid", "pidfd", "plan", "started", "sync")

    def __init__(
        self, plan: "Plan", pid: int, pidfd: int, channel: sync.ParentSide, cgroup: "Cgroup | None" = None
    ) -> None:
        self.cgroup = cgroup
        self.code: int | None = None
        self.plan = plan
        self.pid = pid
        self.pidfd = pidfd
        self.sync = channel
        self.master: int | None = None
        self.listener: int | None = None
        self.started = 0
        self.failed = False

    def converse(self, looks: int = 0) -> bool:
        """Listen until the child has executed (True), or waits for `start` (False).

        Args:
            looks: seconds after which a silent child is given up; 0: it may take its time, as long as it is not frozen.

        Raises:
            WherryError: the child's error, or that it died.
            Conflict: somebody has frozen its cgroup.
        """
        executing = False
        watch = sync.Watch(self.cgroup, looks)
        while True:
            message, fd = self.sync.receive(watch)
            if message is None:
                if executing:
                    return True
                self.code = reap(self.pidfd)
                raise _died(self.code)
            if "error" in message:
                self.failed = True
                raise sync.raised(message)
            where = message.get("at")
            if where == "terminal":
                self.master = fd
            elif where == "listener":
                self.listener = fd
            elif where == "hooks":
                state = self.state("creating")
                for kind in ("prestart", "createRuntime"):
                    run_hooks(kind, self.plan.hooks[kind], state)
                self.sync.tell(sync.PIVOT)
            elif where == "waiting":
                return False
            elif where == "exec":
                executing = True

    def state(self, status: str) -> bytes:
        plan = self.plan
        return state_json(plan.container_id, status, self.pid, plan.bundle, plan.annotations)

    def abandon(self) -> None:
        """Kill and reap the child; with process 1 goes its whole pid namespace."""
        pidfd_send_signal(self.pidfd, SIGKILL)
        if self.cgroup is not None and self.cgroup.frozen():
            try:
                self.cgroup.freeze(False)  # cgroup v1: what is frozen does not die
            except WherryError:
                pass
        # a cgroup above may be frozen: it dies when that is thawed
        reap(self.pidfd, _REAP_SECONDS)
        os.close(self.pidfd)
        for fd in (self.master, self.listener):
            if fd is not None:
                os.close(fd)


def _accompany(
    parent: _Parent, cgroup: "Cgroup | None", place: bool, concurrently: "Callable[[int], None] | None"
) -> Launched:
    plan = parent.plan
    try:
        if plan.new_user_namespace:
            write_maps(parent.pid, plan.uid_map, plan.gid_map)
            parent.sync.tell(sync.MAPS)
        if cgroup is not None and place:
            cgroup.create(plan.resources)
            sync.Watch(cgroup).check()
            cgroup.add(parent.pid)
        parent.sync.tell(sync.CGROUP)
        set_oom_score(parent.pid, plan.process.oom_score_adj)
        started = start_time(parent.pid)
        if concurrently is not None:
            concurrently(parent.pid)
        parent.sync.tell(sync.GO)
        launched = Launched(parent.pid, parent.pidfd, started)
        if parent.converse() and plan.hooks["poststart"]:
            try:
                run_hooks("poststart", plan.hooks["poststart"], parent.state("running"))
            except WherryError as error:
                launched.warnings = (str(error),)  # the specification: warn, and go on
        launched.master, launched.listener = parent.master, parent.listener
        return launched
    except KernelError as error:
        # when the child fails early, the parent stumbles over its absence: the child's own words say why. One that
        # waits for a word of ours ends without any
        parent.sync.say_no_more()
        failure = _words_of_child(parent) if error.errno in _GONE and not parent.failed else None
        parent.abandon()
        raise failure or error from None
    except BaseException:
        parent.abandon()
        raise
    finally:
        parent.sync.close()


_GONE = frozenset({errno.ESRCH, errno.ENOENT})
_WORDS_SECONDS = 10
_REAP_SECONDS = 5.0


def _words_of_child(parent: _Parent) -> WherryError | None:
    try:
        parent.converse(_WORDS_SECONDS)
    except WherryError as error:
        # with status 1 it ends when nobody speaks to it any more
        return None if parent.code == 1 else error
    return None


def _died(code: int | None) -> WherryError:
    how = f"by signal {-code}" if code is not None and code < 0 else f"with status {code}"
    return WherryError(f"the container's first process ended {how} before it could execute")


def _discard(cgroup: "Cgroup") -> None:
    try:
        cgroup.kill()
        cgroup.remove()
    except WherryError:
        return  # the error that brought us here is the one to tell


def _open_joined(plan: "Plan", opened: "list[int]") -> "dict[str, int]":
    joined: dict[str, int] = {}
    for kind, where in plan.join.items():
        if isinstance(where, int):
            joined[kind] = where
            continue
        try:
            joined[kind] = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(f"open {kind} namespace", error.errno or 0, where) from None
        opened.append(joined[kind])
    return joined


def _new_time_namespace(offsets: str) -> None:
    unshare(CLONE_NEWTIME)
    if offsets:
        try:
            fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, offsets.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise KernelError("set time offsets", error.errno or 0) from None


def _fork_into_user_namespace(
    user: int, flags: int, born_in: int | None, child: "Callable[[], None]"
) -> "tuple[int, int]":
    """New namespaces of an existing user namespace are made from inside it, so a process in between enters it, makes
    the child as our own (CLONE_PARENT), and ends."""
    ours, theirs = sync.pair()
    with_child = sync.ChildSide(theirs)
    between, between_fd = clone(0, cgroup=born_in)
    if between == 0:
        try:
            setns(user, NAMESPACES["user"][0])
            pid, pidfd = clone(flags, sibling=True)
            if pid == 0:
                theirs.close()
                ours.close()
                child()
            with_child.say("born", pidfd)
        except BaseException as error:  # noqa: BLE001  told to the parent
            with_child.fail(error)
        finally:
            os._exit(0)
    theirs.close()
    side = sync.ParentSide(ours)
    try:
        message, pidfd_or_none = side.receive()
    finally:
        side.close()
        reap(between_fd)
        os.close(between_fd)
    if message is not None and "error" in message:
        raise sync.raised(message)
    if pidfd_or_none is None:
        raise WherryError("the process that enters the user namespace died")
    return _pid_of(pidfd_or_none), pidfd_or_none


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("Pid:"):
                return int(line[4:])
    raise KernelError("pid of a pidfd", errno.ESRCH)


def write_maps(pid: int, uid_map: str, gid_map: str) -> None:
    """Fill the id maps of a new user namespace (user_namespaces(7))."""
    for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
        _write_proc(pid, name, text, f"write {name}")


def set_oom_score(pid: int, wanted: int | None) -> None:
    """Set the OOM score adjustment of a child. None: 0, so that ours is not inherited, where that may be had.

    Raises:
        KernelError: EACCES: a lower value than the host allows was asked for.
    """
    fd = os.open("/proc/self/oom_score_adj", os.O_RDONLY | os.O_CLOEXEC)
    try:
        inherited = int(os.read(fd, 16))
    finally:
        os.close(fd)
    if inherited == (wanted or 0):
        return
    try:
        _write_proc(pid, "oom_score_adj", str(wanted or 0), f"set oom_score_adj to {wanted or 0}")
    except KernelError as error:
        if wanted is not None or error.errno != errno.EACCES:
            raise


def _write_proc(pid: int, name: str, text: str, what: str) -> None:
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(what, error.errno or 0) from None
