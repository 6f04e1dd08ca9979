"""The child's side of `launch`: carry out the plan, step by step, and become the container's first process."""

import gc
import os

from wherry.errors import CommandNotFound, HostileInput, KernelError
from wherry.linux import inodes
from wherry.linux import mount as m
from wherry.linux import process as p
from wherry.linux.files import O_PATH, PROC_SUPER_MAGIC, filesystem_magic, make_directories
from wherry.linux.namespace import CLONE_NEWCGROUP, NAMESPACES, setns, unshare
from wherry.runtime import become as b
from wherry.runtime import command, rootfs
from wherry.runtime.devices import make_console, make_devices
from wherry.runtime.hooks import run_hooks, state_json
from wherry.runtime.sync import CGROUP, GO, MAPS, PIVOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from wherry.runtime.plan import Plan
    from wherry.runtime.stdio import Stdio
    from wherry.runtime.sync import ChildSide


class Inherited:
    """What the parent opened for the child.

    `root`, `trees`, `devices`: detached mounts. `joins`: namespaces that the child enters itself, in order.
    `cgroup_paths`: controller to directory. `start_fifo`: opened for reading and writing, or None.
    """

    __slots__ = ("cgroup_paths", "devices", "joins", "root", "start_fifo", "trees")

    def __init__(self) -> None:
        self.root: int | None = None
        self.trees: dict[int, int] = {}
        self.devices: dict[str, int] = {}
        self.joins: list[tuple[str, int]] = []
        self.cgroup_paths: dict[str, str] = {}
        self.start_fifo: int | None = None


class Child:
    """One launch, seen from inside."""

    __slots__ = ("confinement", "inherited", "plan", "stdio", "sync")

    def __init__(
        self, plan: "Plan", stdio: "Stdio", confinement: b.Confinement, inherited: Inherited, sync: "ChildSide"
    ) -> None:
        self.plan = plan
        self.stdio = stdio
        self.confinement = confinement
        self.inherited = inherited
        self.sync = sync

    def run(self) -> "NoReturn":
        """Never returns: the process executes the program, or reports an error and ends."""
        code = 126
        try:
            gc.disable()
            b.isolate()
            inodes.prepare_briefly()
            self._enter_namespaces()
            labels = b.Labels(self.plan.process)
            master, slave = self._build() if self.plan.own_root else self._no_root()
            if slave >= 0:
                b.take_terminal(slave)
                self.sync.say("terminal", master)
            else:
                b.connect(self.stdio.stdin, self.stdio.stdout, self.stdio.stderr)
            fifo = self.inherited.start_fifo
            if set(self.inherited.cgroup_paths) != {""}:
                self._enter_cgroup_namespace()
            path, environment = b.become(
                self.plan.process,
                confinement=self.confinement,
                labels=labels,
                keyring=self.plan.new_session_keyring,
                persona=self.plan.personality,
                before_filter=self._before_filter,
                lend=self._lend,
                keep=(self.sync.fileno(),) if fifo is None else (self.sync.fileno(), fifo),
                preserve=self.stdio.preserve,
            )
            self._announce()
            command.execute(path, self.plan.process.args, environment)
        except BaseException as error:  # noqa: BLE001  the parent raises it; here nothing may escape into Python's own exit
            if not self.sync.fail(error):
                # after `start` the one who created us is gone: the container's own output is left to tell it
                os.write(2, f"{error}\n".encode("utf-8", "surrogateescape"))
                code = 127 if isinstance(error, CommandNotFound) else code
        finally:
            os._exit(code)

    def _enter_namespaces(self) -> None:
        plan = self.plan
        for kind, fd in self.inherited.joins:
            setns(fd, NAMESPACES[kind][0])
        if plan.new_user_namespace:
            self.sync.wait(MAPS)
        if plan.new_user_namespace or "user" in plan.join:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            os.setgroups([])
            p.prctl(p.PR_SET_DUMPABLE, 0, what="prctl PR_SET_DUMPABLE")
        if set(self.inherited.cgroup_paths) == {""}:
            self._enter_cgroup_namespace()

    def _enter_cgroup_namespace(self) -> None:
        """With v2 the child was born in its cgroup, and a cgroup2 mount shows the namespace it is made in; with v1 the
        directories are bind mounted from outside, and there is time until the parent has moved us."""
        if self.plan.new_namespaces & CLONE_NEWCGROUP:
            self.sync.wait(CGROUP)
            unshare(CLONE_NEWCGROUP)

    def _build(self) -> "tuple[int, int]":
        plan, inherited = self.plan, self.inherited
        m.make_all_slave()
        root = rootfs.attach_root(plan, inherited.root)
        late = rootfs.make_mounts(plan, root, inherited.trees, self._cgroup_paths)
        make_devices(plan, root, inherited.devices)
        master = slave = -1
        if plan.process.terminal:
            master, slave = make_console(root, plan.process.console_size)
        os.close(make_directories(root, plan.process.cwd))
        rootfs.hide(root, plan.masked_paths, plan.readonly_paths)
        self._set_kernel_values()
        rootfs.finish_mounts(plan, root, late, self._cgroup_paths)
        self._creation_hooks()
        rootfs.enter(root)
        rootfs.finish_root(plan)
        return master, slave

    def _no_root(self) -> "tuple[int, int]":
        self._set_kernel_values()
        self._creation_hooks()
        if self.plan.process.terminal:
            root = os.open("/", O_PATH | os.O_DIRECTORY)
            return make_terminal(root, self.plan.process.console_size)
        return -1, -1

    def _cgroup_paths(self) -> "Mapping[str, str]":
        self.sync.wait(CGROUP)
        return self.inherited.cgroup_paths

    def _set_kernel_values(self) -> None:
        plan = self.plan
        if plan.hostname:
            p.set_hostname(plan.hostname)
        if plan.domainname:
            p.set_domainname(plan.domainname)
        if plan.sysctl:
            write_sysctls(plan.sysctl)

    def _creation_hooks(self) -> None:
        plan = self.plan
        if plan.hooks["prestart"] or plan.hooks["createRuntime"]:
            self.sync.say("hooks")
            self.sync.wait(PIVOT)
        if plan.hooks["createContainer"]:
            run_hooks("createContainer", plan.hooks["createContainer"], self._state("creating"))

    def _before_filter(self) -> None:
        self.sync.wait(GO)
        fifo = self.inherited.start_fifo
        if fifo is not None:
            self.sync.say("waiting")
            if not os.read(fifo, 1):
                os._exit(1)
            os.close(fifo)
        if self.plan.hooks["startContainer"]:
            run_hooks("startContainer", self.plan.hooks["startContainer"], self._state("created"))

    def _state(self, status: str) -> bytes:
        plan = self.plan
        # the host's /proc tells the pid that the host knows; once inside there is only our own
        pid = int(os.readlink("/proc/self")) if status == "creating" else os.getpid()
        return state_json(plan.container_id, status, pid, plan.bundle, plan.annotations)

    def _lend(self, listener: int) -> None:
        self.sync.say("listener", listener)

    def _announce(self) -> None:
        try:
            self.sync.say("exec")
        except OSError:
            return  # after `start` the one who created us is gone


def make_terminal(root: int, size: "tuple[int, int] | None") -> "tuple[int, int]":
    """A terminal without /dev/console, for a root that is not ours to change. Returns (master, slave)."""
    from wherry.linux.terminal import open_pair, set_size

    master, slave = open_pair(root)
    if size and size != (0, 0):
        set_size(master, size[0], size[1])
    return master, slave


def write_sysctls(values: "tuple[tuple[str, str], ...]") -> None:
    """Write kernel parameters of this process's own namespaces, through the host's /proc, checked to be one
    (CVE-2025-52881)."""
    top = os.open("/proc/sys", O_PATH | os.O_DIRECTORY)
    if filesystem_magic(top) != PROC_SUPER_MAGIC:
        raise HostileInput("/proc/sys is not the kernel's")
    for path, value in values:
        doing = "open"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=top)
            doing = "write"
            os.write(fd, value.encode())
            os.close(fd)
        except OSError as error:
            raise KernelError(f"{doing} /proc/sys/{path}", error.errno or 0) from None
    os.close(top)
