"""State of `wherry-runtime`'s containers, one directory each.

    <root>/<id>/state.json    what was created, and which process it is (pid with start time)
    <root>/<id>/exec.fifo     there until `start`

Status is not stored but seen: the process lives or not, the FIFO is there or not.
"""

import errno
import json
import os

from wherry.errors import Conflict, InvalidArgument, KernelError, NotFound
from wherry.linux.files import write_atomic
from wherry.linux.process import is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATED, RUNNING, PAUSED, STOPPED = "created", "running", "paused", "stopped"
OCI_VERSION = "1.2.0"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class ContainerState:
    """One container. `config` is its whole `config.json`, `cgroup` its path."""

    __slots__ = (
        "bundle",
        "cgroup",
        "config",
        "container_id",
        "created",
        "directory",
        "paused",
        "pid",
        "start_time",
    )

    def __init__(self, directory: str, container_id: str, bundle: str, config: "dict[str, Any]", cgroup: str) -> None:
        self.directory = directory
        self.container_id = container_id
        self.bundle = bundle
        self.config = config
        self.cgroup = cgroup
        self.pid = 0
        self.start_time = 0
        self.created = ""
        self.paused = False

    @property
    def fifo(self) -> str:
        return f"{self.directory}/exec.fifo"

    def status(self) -> str:
        """`created`, `running`, `paused` or `stopped`, as it is now."""
        if not self.pid or not is_alive(self.pid, self.start_time):
            return STOPPED
        if self.paused:
            return PAUSED
        return CREATED if os.path.exists(self.fifo) else RUNNING

    def save(self) -> None:
        """Write state.json. The run root is volatile: no fsync."""
        value = {
            "v": 1,
            "id": self.container_id,
            "bundle": self.bundle,
            "cgroup": self.cgroup,
            "pid": self.pid,
            "start_time": self.start_time,
            "created": self.created,
            "paused": self.paused,
            "config": self.config,
        }
        write_atomic(f"{self.directory}/state.json", json.dumps(value).encode(), durable=False)

    def remove(self) -> None:
        """Forget the container."""
        for name in os.listdir(self.directory):
            os.unlink(f"{self.directory}/{name}")
        os.rmdir(self.directory)

    def document(self) -> "dict[str, Any]":
        """What `state` and `list` print (runtime-spec's state, with what runc adds)."""
        status = self.status()
        root = self.config.get("root", {}).get("path", "")
        return {
            "ociVersion": OCI_VERSION,
            "id": self.container_id,
            "pid": 0 if status == STOPPED else self.pid,
            "status": status,
            "bundle": self.bundle,
            "rootfs": os.path.normpath(os.path.join(self.bundle, root)),
            "created": self.created,
            "annotations": self.config.get("annotations") or {},
            "owner": "",
        }


def check_id(container_id: str) -> str:
    """Return a container id that is safe as a file name. Raises `InvalidArgument`."""
    if not container_id or container_id in (".", "..") or not _LETTERS.issuperset(container_id):
        raise InvalidArgument(f"invalid container id format: {container_id!r}")
    return container_id


def create(root: str, container_id: str, bundle: str, config: "dict[str, Any]", cgroup: str) -> ContainerState:
    """Claim the id. Raises `Conflict` if it is taken."""
    check_id(container_id)
    directory = f"{root}/{container_id}"
    try:
        os.makedirs(root, 0o711, exist_ok=True)
        os.mkdir(directory, 0o711)
    except FileExistsError:
        raise Conflict("container with given ID already exists") from None
    except OSError as error:
        raise KernelError("mkdir", error.errno or 0, directory) from None
    return ContainerState(directory, container_id, bundle, config, cgroup)


def load(root: str, container_id: str) -> ContainerState:
    """Read a container's state. Raises `NotFound`."""
    directory = f"{root}/{check_id(container_id)}"
    try:
        with open(f"{directory}/state.json", encoding="utf-8") as file:
            value = json.load(file)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound("container does not exist") from None
        raise KernelError("read state", error.errno or 0, directory) from None
    found = ContainerState(directory, value["id"], value["bundle"], value["config"], value["cgroup"])
    found.pid, found.start_time = value["pid"], value["start_time"]
    found.created, found.paused = value["created"], value["paused"]
    return found


def every(root: str) -> "list[ContainerState]":
    """All containers below `root`, by id; one that goes meanwhile is left out."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            found.append(load(root, name))
        except (NotFound, InvalidArgument):
            continue
    return found
