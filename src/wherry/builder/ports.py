"""What a build needs of others, as Protocols: `engine/` hands the real ones in."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from socket import socket
from typing import Any, Protocol

from wherry.images.model import Image
from wherry.oci.mount import Mount

Output = Callable[[int, bytes], None]


class RunWorker(Protocol):
    """Run a short worker to its end; returns its result, raises its error."""

    def __call__(self, kind: str, args: dict[str, Any], fds: Mapping[str, int], /) -> Awaitable[dict[str, Any]]: ...


class Task:
    """One program to be run on a root.

    Args:
        id: 64 hex digits, the sandbox's name.
        args, env, cwd, user: the process.
        root: the mount that makes the root.
        mounts: further mounts, in the OCI runtime specification's form.
        data: descriptors of the content of files in `mounts`, by the name that those give as their source; `env`: more
            variables, each ended by NUL, which are written to no file.
        network: `default`, `none`, `host`, or a network's name.
        hosts: `name:address`.
        insecure: with all that a privileged container has.
        limits: Docker's HostConfig keys (`Memory`, `CpuShares`, `Ulimits`, `ShmSize`, `CgroupParent`…).
        hostname: or "" for one made of the id.
    """

    __slots__ = (
        "args",
        "cwd",
        "data",
        "env",
        "hostname",
        "hosts",
        "id",
        "insecure",
        "limits",
        "mounts",
        "network",
        "root",
        "user",
    )

    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        args: list[str],
        env: list[str],
        cwd: str,
        user: str,
        root: list[Mount],
        mounts: list[dict[str, Any]],
        data: dict[str, int],
        network: str,
        hosts: list[str],
        insecure: bool,
        limits: dict[str, Any],
        hostname: str = "",
    ) -> None:
        self.id = id
        self.args = args
        self.env = env
        self.cwd = cwd
        self.user = user
        self.root = root
        self.mounts = mounts
        self.data = data
        self.network = network
        self.hosts = hosts
        self.insecure = insecure
        self.limits = limits
        self.hostname = hostname

    def shell(self) -> "Task":
        """The same with a shell in place of its program."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return Task(**{**fields, "id": secrets.token_hex(32), "args": ["/bin/sh"]})


class Terminal:
    """Somebody who watches a task and types.

    Args:
        socket: their connection, closed by its owner.
        first: bytes that were already read from it.
        size: rows and columns; None where it is no terminal but two streams.
    """

    __slots__ = ("first", "size", "socket")

    def __init__(self, socket: socket, first: bytes, size: tuple[int, int] | None) -> None:
        self.socket = socket
        self.first = first
        self.size = size


class RunTask(Protocol):
    """Run a task in a sandbox of its own to its end; returns its exit code.

    With a terminal its streams go there, and `output` gets nothing.

    The sandbox ends when the caller is cancelled, and when this process dies; nothing of it is left.

    Raises:
        CommandNotFound, CommandNotExecutable, KernelError…: it could not be started.
    """

    def __call__(self, task: Task, output: Output, terminal: Terminal | None = None) -> Awaitable[int]: ...


class FindImage(Protocol):
    """Find an image by name, or pull it.

    Args:
        name: as a Dockerfile has it.
        platform: as written, or "".
        pull: ask the registry even where it is here.
        tell: takes progress lines of a pull.

    Raises:
        ImageNotFound, InvalidReference…: there is none.
    """

    def __call__(
        self, name: str, platform: str, pull: bool, tell: Callable[[dict[str, Any]], None]
    ) -> Awaitable[Image]: ...
