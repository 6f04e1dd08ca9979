"""What every kind of cgroup can do, and the parts that do not depend on the kind."""

import errno
import os
import time

from wherry.errors import InvalidSpec, KernelError, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Resources = Mapping[str, Any]

SIGKILL = 9
REMOVE_SECONDS = 5.0
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.02


class Cgroup:
    """One container's branch. Values only, until `create`: a second process may open the same path.

    Attributes:
        path: relative to each hierarchy's root.
        paths: controller -> absolute directory (v2: the one directory under `""`).
    """

    __slots__ = ("path", "paths")

    def __init__(self, path: str, paths: "dict[str, str]") -> None:
        self.path = path
        self.paths = paths

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    # what a kind must say

    def create(self, resources: "Resources | None" = None) -> None:
        """Make the directories and apply limits and device rules; an existing branch is taken over.

        Args:
            resources: an OCI `linux.resources` object.

        Raises:
            NotSupported: a limit was asked for and its controller or file is not there.
            KernelError: the kernel refuses a value, or the branch cannot be made.
            InvalidSpec: the resources are not what the specification says.
        """
        raise NotImplementedError

    def update(self, resources: "Resources") -> None:
        """Apply limits to a branch that runs. Raises as `create`."""
        raise NotImplementedError

    def add(self, pid: int, beside: int | None = None) -> None:
        """Move a process (all its threads) into the branch, in every hierarchy.

        Args:
            pid: the process.
            beside: a process of the branch. Where the top of the branch may hold no process, `pid` goes into the
                cgroup of this one (`place_beside`).

        Raises:
            KernelError: it is gone (ESRCH), or the kernel refuses.
        """
        raise NotImplementedError

    def freeze(self, on: bool) -> None:
        """Stop every process where it is, or let them go on; returns when all are.

        Raises:
            NotSupported: there is no freezer.
            KernelError: not all froze in time (EBUSY).
        """
        raise NotImplementedError

    def frozen(self) -> bool:
        """Whether nothing runs in it at present, by its own freezer or by that of a cgroup above."""
        freezer, unified = self.paths.get("freezer"), self.paths.get("unified") or self.paths.get("")
        return (freezer is not None and _has(f"{freezer}/freezer.state", "FROZEN", "FREEZING")) or (
            unified is not None and _has(f"{unified}/cgroup.events", "frozen 1")
        )

    def kill(self) -> None:
        """SIGKILL for every process of the branch and of branches below; none can fork itself out of reach."""
        raise NotImplementedError

    def directory_fd(self, beside: int | None = None) -> "int | None":  # noqa: ARG002 - as of v2
        """A descriptor of the v2 directory for CLONE_INTO_CGROUP, the caller closes it; None where v1 rules.

        Args:
            beside: a process of the branch: its cgroup is opened, not the top of the branch.
        """
        return None

    def oom_count(self) -> int:
        """How many processes the kernel killed here for want of memory; 0 where it cannot say."""
        raise NotImplementedError

    def stats(self) -> "dict[str, Any]":
        """What is used now; see `stats.py` for the shape."""
        raise NotImplementedError

    # what all share

    def directories(self) -> "list[str]":
        """Every directory of the branch, once."""
        return list(dict.fromkeys(self.paths.values()))

    def exists(self) -> bool:
        """Whether any hierarchy has the branch."""
        return any(os.path.isdir(path) for path in self.directories())

    def pids(self) -> "list[int]":
        """Processes of the branch and of branches below, in no order; empty when it is not there."""
        for directory in self.directories():
            if os.path.isdir(directory):
                return pids_below(directory)
        return []

    def occupied(self) -> bool:
        """Whether a process is in the branch or below, also one that this pid namespace does not see (`pids` does not
        tell of it)."""
        return any(_listed_below(directory) for directory in self.directories())

    def remove(self, seconds: float = REMOVE_SECONDS) -> None:
        """Remove the branch, children first; absent parts are no error.

        Raises:
            KernelError: EBUSY when processes are still in it at the deadline.
        """
        deadline = time.monotonic() + seconds
        for directory in self.directories():
            self._remove_tree(directory, deadline)

    def _remove_tree(self, directory: str, deadline: float) -> None:
        pause = _FIRST_PAUSE
        late = False
        while True:
            try:
                os.rmdir(directory)
                return
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise KernelError("remove cgroup", error.errno or 0, directory) from None
            children = _children(directory)
            for child in children:
                self._remove_tree(f"{directory}/{child}", deadline)
            left = deadline - time.monotonic()
            if left <= 0 and children and not late:
                late = True  # they were what kept it
                continue
            if left <= 0:
                held = pids_below(directory)
                text = f"remove cgroup (processes {held[:8]} are in it)" if held else "remove cgroup"
                raise KernelError(text, errno.EBUSY, directory)
            self._await_empty(directory, min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _await_empty(self, _directory: str, seconds: float) -> None:
        """Wait until the directory may have become empty, at most `seconds`."""
        time.sleep(seconds)


def _has(path: str, *lines: str) -> bool:
    """Whether one of `lines` is a line of a file; a file that is not there has none."""
    try:
        with open(path, encoding="ascii") as file:
            return any(line.rstrip("\n") in lines for line in file)
    except OSError:
        return False


def pids_below(directory: str) -> "list[int]":
    """Process ids in a cgroup directory and in those below; a directory that vanishes meanwhile is empty."""
    return [pid for pid in _listed_below(directory) if pid]


def _listed_below(directory: str) -> "list[int]":
    """As `pids_below`, with a 0 for each process that this pid namespace does not see."""
    try:
        with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            found = [int(line) for line in file]
        below = os.stat(directory).st_nlink > 2
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EOPNOTSUPP):
            return []  # removed while being read; or a threaded one, whose processes its domain shows
        raise KernelError("list cgroup processes", error.errno or 0, directory) from None
    if below:
        for child in _children(directory):
            found += _listed_below(f"{directory}/{child}")
    return found


def holds_no_process(error: KernelError) -> bool:
    """Whether the kernel refused a process because of where a v2 cgroup is: it has controllers handed down to cgroups
    below ("no internal processes"), or belongs to a threaded one."""
    return error.errno in (errno.EBUSY, errno.EOPNOTSUPP)


def place_beside(directory: str, pid: int) -> str:
    """Find the cgroup of a process in a v2 directory and those below it.

    The path of `/proc/<pid>/cgroup` is not what is mounted here where a container with the host's cgroup namespace
    sees its own part of the tree.

    Raises:
        KernelError: EBUSY: it is in none of them.
    """
    waiting = [directory]
    while waiting:
        here = waiting.pop()
        try:
            with open(f"{here}/cgroup.procs", encoding="ascii") as file:
                if any(int(line) == pid for line in file):
                    return here
        except OSError:
            pass  # it has been removed, or is a threaded one, whose domain shows its processes
        try:
            waiting += [f"{here}/{child}" for child in _children(here)]
        except OSError:
            continue
    raise KernelError(f"find the cgroup of process {pid}", errno.EBUSY, directory)


def kill_all(directories: "Iterable[str]") -> bool:
    """SIGKILL every process found; whether there was any."""
    seen: set[int] = set()
    for directory in directories:
        for pid in pids_below(directory):
            if pid in seen:
                continue
            seen.add(pid)
            try:
                os.kill(pid, SIGKILL)
            except ProcessLookupError:
                continue
    return bool(seen)


def _children(directory: str) -> "list[str]":
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def make_directory(root: str, path: str) -> "list[str]":
    """Make `root + path` and what is missing above it.

    Returns:
        the directories that were made, outermost first (empty: it was there).

    Raises:
        KernelError: it cannot be made.
    """
    target = root + path
    try:
        os.mkdir(target, 0o755)
        return [target]
    except FileExistsError:
        return []
    except FileNotFoundError:
        parent = path.rpartition("/")[0]
        if not parent:
            raise KernelError("make cgroup", errno.ENOENT, target) from None
        made = make_directory(root, parent)
        return made + make_directory(root, path)
    except OSError as error:
        raise KernelError("make cgroup", error.errno or 0, target) from None


def checked(resources: "Resources | None") -> "Resources":
    """The resources as an object; None is empty."""
    if resources is None:
        return {}
    if not isinstance(resources, dict):
        raise InvalidSpec("linux.resources: not an object")
    return resources


def no_controller(name: str, what: str) -> NotSupported:
    """The error for a controller that this host lacks."""
    return NotSupported(
        f"{what} cannot be applied: this host does not offer the {name} cgroup controller", controller=name
    )
