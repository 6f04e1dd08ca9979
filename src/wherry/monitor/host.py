"""What a helper's process lives in: the host's own namespaces, and a cgroup. In the place of a container's sandbox.

A helper is a monitor whose launch object has

    "helper": {"module": "wherry.network.netd", "socket": "netd.sock"}       a module of ours, run in a fork, or
    "helper": {"argv": ["/usr/sbin/haproxy", …], "env": {…}, "cwd": "/"}     a program, executed

A module's `main(listener)` gets a listening SOCK_SEQPACKET socket `<run_dir>/<socket>`, made before it confines itself.
When the monitor's socket disappears, the engine's roots were removed: the monitor ends the helper, and itself.
"""

import _socket
import os

from wherry.errors import CommandNotFound, KernelError, NotSupported
from wherry.linux import signals
from wherry.linux.inotify import IN_DELETE, Inotify
from wherry.linux.sockets import listen_at
from wherry.monitor.child import close_all_but, fork, set_title, start_time
from wherry.monitor.group import Group
from wherry.monitor.sandbox import taken
from wherry.runtime.launch import Launched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.linux.loop import Loop
    from wherry.runtime.cgroups import Cgroup

_FAILED = 125


class HostProcess(Group):
    """A helper's surroundings; what `Sandbox` is for a container.

    Args:
        values: the launch object; `cgroup` counts here.
        _fds: its descriptors; none is used.
    """

    __slots__ = ("endpoints", "netns_fd")

    def __init__(self, values: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        super().__init__(values["cgroup"])
        self.netns_fd: int | None = None
        self.endpoints: list[dict[str, Any]] = []

    def launch(
        self, values: "dict[str, Any]", _fds: "dict[str, int]", stdio: "tuple[int, int, int] | None"
    ) -> "tuple[dict[str, Any], dict[str, int]]":
        """Start the process; as `Sandbox.launch`.

        Raises:
            CommandNotFound: the program is not there.
            KernelError: the cgroup or the socket cannot be made.
        """
        if stdio is None:
            raise NotSupported("a helper has no terminal")
        helper = values["helper"]
        argv = helper.get("argv")
        if argv and not os.access(argv[0], os.X_OK):
            raise CommandNotFound(f'exec: "{argv[0]}": executable file not found', path=argv[0])
        group = self._cgroup
        group.create(None)
        listener = -1 if argv else _listen(values["run_dir"], helper["socket"])
        try:
            pid = fork(lambda: _run(helper, values["id"], group, stdio, listener))
        finally:
            if listener >= 0:
                os.close(listener)
        group.add(pid)  # it adds itself before it starts anything; here, it is there before anybody is told
        launched = {"pid": pid, "start_time": start_time(pid), "warnings": ()}
        return launched, {"pidfd": os.pidfd_open(pid)}

    def launched(self, values: "dict[str, Any]", fds: "dict[str, int]") -> Launched:
        """Take over what `launch` has made."""
        return taken(values, fds)

    def join(
        self,
        _init_pid: int,
        _message: "dict[str, Any]",
        _stdio: "tuple[int, int, int] | None",
    ) -> "tuple[dict[str, Any], dict[str, int]]":
        """Nothing is executed in a helper; raises NotSupported."""
        raise NotSupported("nothing can be executed in a helper")

    def lend_resolver(self, _loop: "Loop", _id: str, _fd: int) -> None:
        """A helper asks no resolver of ours; raises NotSupported."""
        raise NotSupported("a helper has no resolver")

    def lend_ports(self, _fd: int) -> None:
        """A helper has no published ports; raises NotSupported."""
        raise NotSupported("a helper has no published ports")

    def kill_rest(self) -> None:
        """The first process is dead; what it started must not go on without it."""
        self.kill()

    def hold(self, _fds: "dict[str, int]") -> "dict[str, int]":
        """A helper has no volumes."""
        return {}

    def close(self) -> None:
        """Nothing else is held."""


def watch_home(run_dir: str) -> Inotify:
    """A descriptor that is readable when something in `run_dir` is deleted; raises KernelError.

    The directory itself would not be seen to go: our listening socket in it holds it.
    """
    watch = Inotify()
    try:
        watch.watch(run_dir, IN_DELETE)
    except BaseException:
        watch.close()
        raise
    return watch


def _listen(run_dir: str, name: str) -> int:
    try:
        return listen_at(run_dir, name, _socket.SOCK_SEQPACKET, backlog=512).detach()
    except OSError as error:
        raise KernelError("listen", error.errno or 0, f"{run_dir}/{name}") from None


def _run(helper: "dict[str, Any]", name: str, group: "Cgroup", stdio: "tuple[int, int, int]", listener: int) -> None:
    """The helper's own process; it ends with this function."""
    group.add(os.getpid())
    os.setsid()
    os.chdir(helper.get("cwd") or "/")
    os.umask(0o022)
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
    close_all_but([0, 1, 2, listener] if listener >= 0 else [0, 1, 2])
    argv = helper.get("argv")
    if not argv:
        set_title(f"wherry-{name}")
        _run_module(helper["module"], listener)
        return
    signals.reset()
    try:
        os.execve(argv[0], argv, helper.get("env") or {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    except OSError as error:
        os.write(2, f"{argv[0]}: {os.strerror(error.errno or 0)}\n".encode())
        os._exit(_FAILED)


def _run_module(module: str, listener: int) -> None:
    import gc
    from importlib import import_module

    gc.enable()
    try:
        import_module(module).main(listener)
    except BaseException:
        import traceback

        traceback.print_exc()
        raise
