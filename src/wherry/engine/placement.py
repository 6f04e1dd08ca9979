"""Where this engine's own processes are in the cgroup tree, and back to where they came from at the end."""

import errno
import fcntl
import os
import time

from wherry.errors import Conflict, KernelError, NotSupported, WherryError
from wherry.paths import Roots
from wherry.runtime.cgroups import Cgroup, open_cgroup
from wherry.runtime.cgroups.hierarchies import mounted

_ROUNDS = 5  # forks go on while we move
_ROOM_WITHIN = 2.0  # seconds
_PAUSE = 0.01
# those of the unified tree that `docker run` has a limit for
_LIMITING = frozenset({"cpu", "cpuset", "io", "memory", "pids"})


class Placement:
    """`<scope>/engine` holds wherryd, `<scope>/monitors` the spawner and what it forks, `<scope>/containers` and
    `<scope>/helpers` the rest.

    Args:
        roots: name the scope.
    """

    def __init__(self, roots: Roots) -> None:
        self._scope = roots.scope
        self._home: list[str] = []
        self._held = -1

    def enter(self) -> tuple[str, ...]:
        """Put this process into its place; returns the directories that the spawner belongs in.

        Raises:
            KernelError: the kernel refuses.
            Conflict: another engine has this place: its data root is called as ours in another mount namespace.
        """
        _make_room()
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            self._home = mounted().directories(file.read())
        engine = self._group("engine")
        create_with_room(engine)
        self._held = _hold(engine.directories()[0], self._scope)
        engine.add(os.getpid())
        monitors = self._group("monitors")
        monitors.create(None)
        containers = self._group("containers")
        try:
            containers.create({"pids": {"limit": most_processes()}})
        except NotSupported:
            containers.create(None)  # no such controller here: then a limit that is asked for fails the start
        return tuple(monitors.directories())

    def leave(self) -> None:
        """Go back, and remove the branch as far as it is empty; with containers alive it stays."""
        for directory in self._home:
            try:
                with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
                    file.write(str(os.getpid()))
            except OSError:
                continue  # it was removed meanwhile: then we stay where we are in this hierarchy
        for name in ("engine", "monitors", "containers", "helpers", ""):
            try:
                self._group(name).remove(seconds=0.2)
            except WherryError:
                continue

    def _group(self, name: str) -> Cgroup:
        return open_cgroup(f"/{self._scope}/{name}" if name else f"/{self._scope}")


def create_with_room(group: Cgroup) -> None:
    """Make the first group below a container's top. Blocks, for two seconds at most.

    Whoever comes into the top after room was made (an `exec` into the container does) keeps the kernel from handing
    controllers down: room is made again.

    Raises:
        KernelError: the kernel refuses; EBUSY: somebody stays in the top.
    """
    deadline = time.monotonic() + _ROOM_WITHIN
    while True:
        try:
            group.create(None)
        except KernelError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                raise
        else:
            return
        time.sleep(_PAUSE)
        _make_room()


def _hold(directory: str, scope: str) -> int:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Conflict(
            f"another wherryd has the control group /{scope}, whose data root is called as this one's in another "
            "mount namespace: give this one a --data-root of another name"
        ) from None
    return fd


def most_processes() -> int:
    """How many processes all containers together may have: an eighth of what the machine can is not theirs.

    A fork bomb in a container without a limit must leave the engine and its monitors room to end it.
    """
    limits = []
    for name in ("pid_max", "threads-max"):
        with open(f"/proc/sys/kernel/{name}", encoding="ascii") as file:
            limits.append(int(file.read()))
    return min(limits) * 7 // 8


def _make_room() -> None:
    """Move whoever is in the top of a container's unified tree one level down, to `init`.

    Only the machine's real top may hold processes and hand controllers down at once (the kernel's cgroup-v2 document,
    "no internal processes"); a container without an init system has its processes in what it sees as the top, and then
    nothing could be limited in it. Who is not seen from here cannot be moved: delegating fails then, and says so.
    """
    found = mounted()
    top = found.v2
    if top is None or not os.path.exists(f"{top}/cgroup.type"):
        return  # the real top has no type
    if found.mode == "hybrid" and not found.v2_controllers & _LIMITING:
        return  # v1 does all the limiting: nothing is handed down here
    for _ in range(_ROUNDS):
        try:
            with open(f"{top}/cgroup.procs", encoding="ascii") as file:
                pids = [pid for pid in file.read().split() if pid != "0"]
            if not pids:
                return
            os.makedirs(f"{top}/init", exist_ok=True)
        except OSError:
            return
        for pid in pids:
            try:
                with open(f"{top}/init/cgroup.procs", "w", encoding="ascii") as file:
                    file.write(pid)
            except OSError:
                continue  # it has ended, or may not be moved
