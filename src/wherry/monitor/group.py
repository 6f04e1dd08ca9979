"""The cgroup that all processes of a container, or of a helper, live in."""

import os

from wherry.errors import WherryError
from wherry.runtime.cgroups import open_cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop
    from wherry.monitor.socketcalls import Socketcalls
    from wherry.runtime.cgroups import Cgroup
    from wherry.runtime.stdio import Launched

# a process that is not frozen is gone by then
THAW_AFTER = 0.05


class Group:
    """What a monitor does to all its processes at once.

    Args:
        path: the cgroup's path below each hierarchy; it need not exist yet.
    """

    __slots__ = ("_cgroup_path", "_socketcalls")

    def __init__(self, path: str) -> None:
        self._cgroup_path = path
        self._socketcalls: list[Socketcalls] = []

    @property
    def _cgroup(self) -> "Cgroup":
        # looked up when needed: reading the mount table costs an idle monitor most of a megabyte
        return open_cgroup(self._cgroup_path)

    def enter(self, beside: int) -> None:
        """Move this process into the cgroup; to where `beside`, a process of it, is, if the top may hold none.

        Raises:
            KernelError: the kernel refuses it, or `beside` is gone.
        """
        self._cgroup.add(os.getpid(), beside)

    def answer(self, loop: "Loop", launched: "Launched") -> None:
        """Make sockets for the 32-bit programs of a process whose filter asks for it, and for its descendants."""
        if launched.listener is not None:
            from wherry.monitor.socketcalls import Socketcalls  # no monitor carries it for nothing

            made = Socketcalls(loop, self.enter, launched.listener, lambda: self._socketcalls.remove(made))
            self._socketcalls.append(made)

    def oom_count(self) -> int:
        """How often the kernel has killed here for want of memory; 0 before the cgroup exists."""
        try:
            cgroup = self._cgroup
            return cgroup.oom_count() if cgroup.exists() else 0
        except WherryError:
            return 0

    def freeze(self, on: bool) -> None:
        """Freeze or thaw every process."""
        if on:
            # who waits for a socket does not freeze until it has it
            for each in self._socketcalls:
                each.settle()
        self._cgroup.freeze(on)

    def thaw_killed(self, loop: "Loop", alive: "Callable[[], bool]") -> None:
        """Thaw in a while, if what was killed still lives: frozen, whoever did it, it does not even die (cgroup v1)."""

        def thaw() -> None:
            try:
                if alive():
                    self.freeze(False)
            except WherryError:
                return  # no freezer, so it was not that

        loop.call_later(THAW_AFTER, thaw)

    def pids(self) -> "list[int]":
        """Every process, as the host numbers them."""
        return self._cgroup.pids()

    def update(self, resources: "dict[str, Any]") -> None:
        """Change limits (an OCI resources object)."""
        self._cgroup.update(resources)

    def kill(self) -> None:
        """Kill every process."""
        cgroup = self._cgroup
        if cgroup.exists():
            cgroup.kill()

    def remove_cgroup(self) -> None:
        """Kill what still runs, and remove the cgroup; raises KernelError when it stays."""
        cgroup = self._cgroup
        if cgroup.exists():
            if cgroup.pids():
                cgroup.kill()
            cgroup.remove()
