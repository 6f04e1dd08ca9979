"""A branch in the v1 hierarchies: the same directory under every mounted controller (cgroups(7))."""

import time

from wherry.errors import KernelError
from wherry.runtime.cgroups import files, limits_v1, stats
from wherry.runtime.cgroups.base import Cgroup, checked, kill_all, make_directory, no_controller
from wherry.runtime.cgroups.devices import device_list
from wherry.runtime.cgroups.limits import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.runtime.cgroups.base import Resources
    from wherry.runtime.cgroups.hierarchies import Hierarchies

EINVAL, EBUSY = 22, 16
FREEZE_SECONDS = 10.0


class V1Cgroup(Cgroup):
    """A branch of v1 controllers."""

    __slots__ = ("_roots",)

    def __init__(self, path: str, hierarchies: "Hierarchies") -> None:
        # the freezer first: once a process is there a kill can reach it, whatever fails afterwards
        order = sorted(hierarchies.v1, key=lambda name: (name != "freezer", name))
        self._roots = {name: hierarchies.v1[name] for name in order}
        super().__init__(path, {name: root + path for name, root in self._roots.items()})

    def create(self, resources: "Resources | None" = None) -> None:
        wanted = checked(resources)
        for root in dict.fromkeys(self._roots.values()):
            made = make_directory(root, self.path)
            if root == self._roots.get("cpuset"):
                self._prepare_cpuset(root, made)
        self._apply(wanted, fresh=True)

    def update(self, resources: "Resources") -> None:
        self._apply(checked(resources), fresh=False)

    def add(self, pid: int, beside: int | None = None) -> None:  # noqa: ARG002 - v1 has no such rule
        for directory in dict.fromkeys(self.paths[name] for name in self._roots):
            files.write(f"{directory}/cgroup.procs", str(pid))

    def freeze(self, on: bool) -> None:
        directory = self.paths.get("freezer")
        if directory is None:
            raise no_controller("freezer", "pause")
        state = f"{directory}/freezer.state"
        if not on:
            files.write(state, "THAWED")
            return
        deadline = time.monotonic() + FREEZE_SECONDS
        pause = 0.0005
        while True:
            # written again each time: a process that is being forked while the others freeze needs the second push
            files.write(state, "FROZEN")
            if files.read(state).strip() == "FROZEN":
                return
            if time.monotonic() > deadline:
                files.write(state, "THAWED")
                raise KernelError("freeze cgroup", EBUSY, directory)
            time.sleep(pause)
            pause = min(pause * 2, 0.02)

    def kill(self) -> None:
        frozen = False
        if "freezer" in self.paths:
            try:
                self.freeze(True)
                frozen = True
            except KernelError:
                frozen = False  # gone, or a process in uninterruptible sleep: the loop below does what can be done
        try:
            kill_all(self.directories())
        finally:
            if "freezer" in self.paths:
                try:
                    self.freeze(False)
                except KernelError as error:
                    if error.errno != 2:
                        raise
        # without a freezer a process may have forked between the listing and the signal
        for _ in range(0 if frozen else 100):
            if not kill_all(self.directories()):
                break

    def oom_count(self) -> int:
        directory = self.paths.get("memory")
        return files.read_table(f"{directory}/memory.oom_control").get("oom_kill", 0) if directory else 0

    def stats(self) -> "dict[str, Any]":
        return stats.v1(self.paths)

    def _apply(self, resources: "Resources", *, fresh: bool) -> None:
        for write in _cpu_order(limits_v1.writes(resources)):
            write.apply(self.paths.get(write.controller))
        if resources.get("memory"):
            self._apply_memory(resources, fresh=fresh)
        if resources.get("devices") is not None:
            self._apply_devices(resources, fresh=fresh)

    def _apply_memory(self, resources: "Resources", *, fresh: bool) -> None:
        directory = self.paths.get("memory")
        current = None
        if directory and not fresh:
            current = files.read_int(f"{directory}/memory.limit_in_bytes")
        elif fresh:
            current = 1 << 63  # unlimited
        for write in limits_v1.memory_writes(resources, current):
            write.apply(directory)

    def _apply_devices(self, resources: "Resources", *, fresh: bool) -> None:
        rules = resources["devices"]
        if not rules and not fresh:
            return
        wanted = device_list(rules)
        directory = self.paths.get("devices")
        if directory is None:
            if wanted.allow_all and not wanted.exceptions:
                return
            raise no_controller("devices", "device access rules")
        if wanted.allow_all:
            # a new branch allows all already, as far as its parents do; saying so is refused once it has children
            if not fresh or wanted.exceptions:
                files.write(f"{directory}/devices.allow", "a")
        else:
            files.write(f"{directory}/devices.deny", "a")
        name = "devices.deny" if wanted.allow_all else "devices.allow"
        for device in wanted.exceptions:
            files.write(f"{directory}/{name}", str(device))

    def _prepare_cpuset(self, root: str, made: "list[str]") -> None:
        """Give new cpuset directories their parent's processors and memory nodes: empty, they accept no process.

        Directories made on the way get `cgroup.clone_children`, with which the kernel does it for the next container.
        """
        for directory in made:
            if files.read(f"{directory}/cpuset.cpus").strip() and files.read(f"{directory}/cpuset.mems").strip():
                continue
            inherit_cpuset(root, directory)
        for directory in made[:-1]:
            files.write(f"{directory}/cgroup.clone_children", "1")


def inherit_cpuset(root: str, directory: str) -> None:
    """Copy processors and memory nodes from the parent, which is filled the same way first."""
    parent = directory.rpartition("/")[0]
    for name in ("cpuset.cpus", "cpuset.mems"):
        if files.read(f"{directory}/{name}").strip():
            continue
        value = files.read(f"{parent}/{name}").strip()
        if not value and parent != root:
            inherit_cpuset(root, parent)
            value = files.read(f"{parent}/{name}").strip()
        files.write(f"{directory}/{name}", value)


class _PeriodAndQuota:
    """Two writes that depend on each other: a parent's ratio may refuse the period before the quota is there."""

    __slots__ = ("controller", "period", "quota")

    def __init__(self, period: Write, quota: Write) -> None:
        self.controller = "cpu"
        self.period = period
        self.quota = quota

    def apply(self, directory: "str | None") -> None:
        try:
            self.period.apply(directory)
        except KernelError as error:
            if error.errno != EINVAL:
                raise
            self.quota.apply(directory)
            self.period.apply(directory)
            return
        self.quota.apply(directory)


def _cpu_order(writes: list[Write]) -> "list[Write | _PeriodAndQuota]":
    by_name = {write.names[0]: write for write in writes}
    period, quota = by_name.get("cpu.cfs_period_us"), by_name.get("cpu.cfs_quota_us")
    if not period or not quota:
        return list(writes)
    rest: list[Write | _PeriodAndQuota] = [w for w in writes if w is not period and w is not quota]
    return [*rest, _PeriodAndQuota(period, quota)]
