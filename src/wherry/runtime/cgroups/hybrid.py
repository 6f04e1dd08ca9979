"""v1 controllers beside an empty unified tree, as systemd's hybrid layout and small virtual machines have it.

v1 does the limiting. The unified tree is joined too: its `cgroup.kill` ends everything in one write, it carries the
controllers that v1 lacks, and its device program stands in where no v1 `devices` hierarchy is mounted.
"""

import errno
import os

from wherry.errors import KernelError
from wherry.runtime.cgroups.base import checked, pids_below
from wherry.runtime.cgroups.v1 import V1Cgroup
from wherry.runtime.cgroups.v2 import V2Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.runtime.cgroups.base import Resources
    from wherry.runtime.cgroups.hierarchies import Hierarchies

# resources that the unified tree may carry here: member -> controller
_SECTIONS = {"hugepageLimits": "hugetlb", "rdma": "rdma", "pids": "pids", "memory": "memory", "blockIO": "io"}


class HybridCgroup(V1Cgroup):
    """A branch of v1 controllers and of the unified tree."""

    __slots__ = ("_unified",)

    def __init__(self, path: str, hierarchies: "Hierarchies") -> None:
        super().__init__(path, hierarchies)
        self._unified = V2Cgroup(path, hierarchies)
        self.paths["unified"] = self._unified.directory

    def create(self, resources: "Resources | None" = None) -> None:
        v1, v2 = self._split(checked(resources))
        super().create(v1)
        # controllers are handed down only for a limit: within a container the top of the tree has processes, and
        # once it hands controllers down no engine outside can put another one there
        if v2:
            self._unified.create(v2)
        else:
            self._unified.make()

    def update(self, resources: "Resources") -> None:
        v1, v2 = self._split(checked(resources))
        super().update(v1)
        if v2:
            self._unified.create(v2)

    def add(self, pid: int, beside: int | None = None) -> None:
        super().add(pid)
        self._unified.add(pid, beside)

    def oom_count(self) -> int:
        return super().oom_count() or self._unified.oom_count()

    def freeze(self, on: bool) -> None:
        if "freezer" in self.paths:
            super().freeze(on)
        else:
            self._unified.freeze(on)

    def kill(self) -> None:
        kill_file = f"{self._unified.directory}/cgroup.kill"
        if os.path.exists(kill_file):
            try:
                self._unified.kill()
            except KernelError as error:
                if error.errno not in (errno.ENOENT, errno.ENODEV):
                    raise
            # a frozen process dies when it is thawed
            if "freezer" in self.paths and os.path.isdir(self.paths["freezer"]):
                V1Cgroup.freeze(self, False)
            # whoever is in the v1 branches alone (put there by hand) goes the old way
            if not self._only_in_v1():
                return
        super().kill()

    def _only_in_v1(self) -> bool:
        inside = set(pids_below(self._unified.directory))
        first = next(iter(self.paths.values()))
        return any(pid not in inside for pid in pids_below(first))

    def _split(self, resources: "Resources") -> "tuple[Resources, Resources]":
        """Which members go to v1 and which to the unified tree: v1 wherever v1 can."""
        v1, v2 = dict(resources), {}
        for member, controller in _SECTIONS.items():
            name = "blkio" if controller == "io" else controller
            if v1.get(member) and name not in self._roots and self._unified.offers(controller):
                v2[member] = v1.pop(member)
        if v1.get("devices") and "devices" not in self._roots:
            v2["devices"] = v1.pop("devices")
        return v1, v2
