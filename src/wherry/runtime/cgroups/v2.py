"""A branch in the unified hierarchy (the kernel's admin-guide/cgroup-v2)."""

import errno
import os
import select
import time

from wherry.errors import KernelError, NotSupported
from wherry.linux import bpf
from wherry.runtime.cgroups import files, limits_v2, stats
from wherry.runtime.cgroups.base import (
    Cgroup,
    checked,
    holds_no_process,
    kill_all,
    make_directory,
    place_beside,
)
from wherry.runtime.cgroups.device_program import device_program
from wherry.runtime.cgroups.devices import device_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.runtime.cgroups.base import Resources
    from wherry.runtime.cgroups.hierarchies import Hierarchies

# delegated to every container where the host offers them
CONTROLLERS = frozenset(["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc"])
FREEZE_SECONDS = 10.0


class V2Cgroup(Cgroup):
    """A directory of the unified hierarchy."""

    __slots__ = ("_offered", "_root", "directory")

    def __init__(self, path: str, hierarchies: "Hierarchies") -> None:
        if hierarchies.v2 is None:
            raise NotSupported("the unified cgroup hierarchy is not mounted")
        self._root = hierarchies.v2
        self._offered = hierarchies.v2_controllers & CONTROLLERS
        self.directory = self._root + path
        super().__init__(path, {"": self.directory})

    def make(self) -> None:
        """Make the directory alone: no limit, and no controller handed down to it."""
        make_directory(self._root, self.path)

    def create(self, resources: "Resources | None" = None) -> None:
        wanted = checked(resources)
        self.make()
        present = set(files.read(f"{self.directory}/cgroup.controllers").split())
        if not self._offered <= present:
            self._delegate()
        self._apply(wanted, fresh=True)

    def update(self, resources: "Resources") -> None:
        self._apply(checked(resources), fresh=False)

    def add(self, pid: int, beside: int | None = None) -> None:
        try:
            files.write(f"{self.directory}/cgroup.procs", str(pid))
        except KernelError as error:
            if beside is None or not holds_no_process(error):
                raise
            files.write(f"{place_beside(self.directory, beside)}/cgroup.procs", str(pid))

    def freeze(self, on: bool) -> None:
        try:
            files.write(f"{self.directory}/cgroup.freeze", "1" if on else "0")
        except KernelError as error:
            if error.errno == errno.ENOENT and os.path.isdir(self.directory):
                raise NotSupported("pause cannot be had: this kernel has no cgroup.freeze (it came with 5.2)") from None
            raise
        if not self._await_event("frozen", int(on), FREEZE_SECONDS):
            if on:
                files.write(f"{self.directory}/cgroup.freeze", "0")
            raise KernelError("freeze cgroup" if on else "thaw cgroup", errno.EBUSY, self.directory)

    def kill(self) -> None:
        try:
            files.write(f"{self.directory}/cgroup.kill", "1")
            return
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
        if not os.path.isdir(self.directory):
            return
        # kernels before 5.14: nobody forks while frozen, and SIGKILL reaches the frozen
        frozen = True
        try:
            self.freeze(True)
        except (KernelError, NotSupported):
            frozen = False
        kill_all([self.directory])
        if frozen:
            files.write(f"{self.directory}/cgroup.freeze", "0")
        for _ in range(0 if frozen else 100):
            if not kill_all([self.directory]):
                break

    def directory_fd(self, beside: int | None = None) -> "int | None":
        directory = self.directory if beside is None else place_beside(self.directory, beside)
        try:
            return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open cgroup", error.errno or 0, directory) from None

    def oom_count(self) -> int:
        return files.read_table(f"{self.directory}/memory.events").get("oom_kill", 0)

    def stats(self) -> "dict[str, Any]":
        return stats.v2(self.directory)

    def apply_device_rules(self, resources: "Resources") -> None:
        """Attach a program that decides as `resources.devices` says, instead of the one before.

        Raises:
            KernelError: bpf(2) refuses.
            InvalidSpec: the rules are not device rules.
        """
        wanted = device_list(resources["devices"])
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if wanted.allow_all and not wanted.exceptions and not bpf.attached_device_programs(fd):
                return
            bpf.replace_device_programs(fd, device_program(wanted))
        except KernelError as error:
            raise KernelError(f"device access rules cannot be applied: {error.call}", error.errno or 0) from None
        finally:
            os.close(fd)

    def offers(self, controller: str) -> bool:
        """Whether the host gives the unified tree this controller."""
        return controller in self._offered

    def apply_limits(self, resources: "Resources") -> None:
        """Write everything but device rules."""
        for write in limits_v2.writes(resources):
            has = write.controller in self._offered or write.controller not in CONTROLLERS
            try:
                write.apply(self.directory if has else None)
            except NotSupported:
                # a limit of no swap where the kernel does not count swap: memory alone is the limit then
                if write.names == ("memory.swap.max",) and write.value == "0" and has:
                    continue
                raise

    def _apply(self, resources: "Resources", *, fresh: bool) -> None:
        self.apply_limits(resources)
        rules = resources.get("devices")
        if rules is not None and (fresh or rules):
            self.apply_device_rules(resources)

    def _delegate(self) -> None:
        """Offer every controller down the path; one that the kernel refuses is missed when asked for."""
        above = self.directory.rpartition("/")[0]
        level = self._root
        steps = [level]
        for part in above[len(self._root) :].split("/"):
            if part:
                level = f"{level}/{part}"
                steps.append(level)
        for directory in steps:
            enabled = set(files.read(f"{directory}/cgroup.subtree_control").split())
            missing = sorted(self._offered - enabled)
            if not missing:
                continue
            try:
                files.write(f"{directory}/cgroup.subtree_control", " ".join(f"+{name}" for name in missing))
            except KernelError as error:
                if error.errno == errno.EBUSY:
                    raise KernelError(
                        "delegate cgroup controllers: processes run in the cgroup itself, not below it:"
                        " move them to a child first",
                        errno.EBUSY,
                        directory,
                    ) from None
                for name in missing:
                    try:
                        files.write(f"{directory}/cgroup.subtree_control", f"+{name}")
                    except KernelError:
                        continue  # its files will not exist: `Write.apply` names the limit that needs them

    def _await_event(self, key: str, value: int, seconds: float) -> bool:
        """Wait until `cgroup.events` says so; the kernel announces each change of that file as POLLPRI."""
        path = f"{self.directory}/cgroup.events"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("read cgroup file", error.errno or 0, path) from None
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            deadline = time.monotonic() + seconds
            while True:
                now = dict(line.split(" ") for line in os.pread(fd, 4096, 0).decode().splitlines())
                if now.get(key, str(value)) == str(value):
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                poll.poll(left * 1000)
        except OSError as error:
            raise KernelError("read cgroup file", error.errno or 0, path) from None
        finally:
            os.close(fd)

    def _await_empty(self, directory: str, seconds: float) -> None:
        if directory != self.directory:
            time.sleep(seconds)
            return
        try:
            if self._await_event("populated", 0, seconds):
                time.sleep(min(seconds, 0.0005))  # empty, and yet busy: the last exit is still being put away
        except KernelError:
            return
