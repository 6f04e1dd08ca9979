"""Which mounts of a running container are external to it: they come from the host, and criu must be told of them."""

import re

from wherry.errors import KernelError, NotSupported
from wherry.runtime.plan import CGROUP, FILESYSTEM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.runtime.plan import MountStep


def external_mounts(steps: "Sequence[MountStep]", pid: int) -> "list[tuple[str, str, str]]":
    """Read a container's mounts, and sort out those that are not its own.

    Args:
        steps: the mounts of its configuration.
        pid: its process 1.

    Returns:
        (mount point, destination of the step that it belongs to, path below that) of each: binds and all that is
        mounted below them, and the cgroup hierarchies.

    Raises:
        NotSupported: the name of a mount point is one that criu's options cannot hold.
    """
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise KernelError("read", error.errno or 0, f"/proc/{pid}/mountinfo") from None
    by_length = sorted(steps, key=lambda step: -len(step.destination))
    found = []
    for line in lines:
        fields = line.split(" ")
        point, kind = _unescape(fields[4]), fields[fields.index("-") + 1]
        for step in by_length:
            if point == step.destination or point.startswith(f"{step.destination}/"):
                # the tmpfs that the hierarchies of cgroup v1 are mounted in is the container's own
                own = step.kind == FILESYSTEM or (step.kind == CGROUP and kind == "tmpfs")
                if not own:
                    if "]" in point or not point.isprintable():
                        raise NotSupported(f"checkpoint: criu cannot be told of a mount on {point!r}")
                    found.append((point, step.destination, point[len(step.destination) + 1 :]))
                break
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
