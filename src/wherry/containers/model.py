"""A container: what is durable (`container.json`), what is live (its monitor), and what is derived from both.

Durable is what was asked and what is wanted. Whether it runs is never stored: it is read from the monitor, and
from the exit record that the monitor left.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from wherry.containers.points import Point
from wherry.proxy.labels import Service
from wherry.wire.containers import Config, ExecConfig, HostConfig

if TYPE_CHECKING:
    from wherry.containers.ports import SandboxNetwork
    from wherry.sandbox.ports import Monitor

RECORD_VERSION = 1


class Record(Struct):
    """`container.json`: everything about a container that must outlive the machine's power.

    `wanted` is `running` or `stopped`: what the user last asked for. It is written before any signal is sent, so that
    a restart never races a stop.
    """

    id: str
    name: str
    created: str
    image: str
    """Image id (`sha256:…`)."""
    image_name: str
    """The name the image was asked by."""
    chain_ids: list[str]
    """Layers below, oldest first."""
    config: Config
    host_config: HostConfig
    path: str
    args: list[str]
    networking: dict[str, Any] | None = None
    userns: list[int] | None = None
    """First host uid, first host gid, and how many, of a container in a user namespace (`userns`)."""
    mounts: list[Point] | None = None
    """What is mounted besides the root; None in records of versions without volumes (`data.points` reads both)."""
    service: Service | None = None
    """What the create request's own labels say about load balancing; never what an image's say."""
    wanted: str = "stopped"
    restart_count: int = 0
    started_once: bool = False
    version: int = RECORD_VERSION


class ExitRecord(Struct):
    """`exit.json`, written by the monitor; by us for a monitor that was killed, and after a start that failed."""

    code: int = 0
    signal: int | None = None
    oom: bool = False
    started_at: int = 0
    """Nanoseconds since the epoch, as all times here."""
    finished_at: int = 0
    pid: int | None = None
    error: dict[str, Any] | None = None
    """As `errors.to_wire` writes it."""
    restart_count: int = 0
    """The count of the run that ended: written with its exit, a crash of the engine cannot lose it."""
    v: int = 1

    @property
    def message(self) -> str:
        """The error's words, or nothing."""
        return str(self.error.get("message", "")) if self.error else ""


class Exec:
    """One process that was, or will be, started inside a running container. Kept in memory only, as dockerd's are."""

    __slots__ = ("config", "container_id", "exit_code", "id", "pid", "process", "ready", "running", "started")

    def __init__(self, id_: str, container_id: str, config: ExecConfig, process: dict[str, Any]) -> None:
        self.id = id_
        self.container_id = container_id
        self.config = config
        self.process = process
        self.pid = 0
        self.running = False
        self.started = False
        self.exit_code: int | None = None
        self.ready = asyncio.Event()
        """Set when it runs, or will not."""


class PendingClient:
    """An attached client of a container that has not started: its socket is held until the monitor exists."""

    __slots__ = ("fd", "request")

    def __init__(self, fd: int, request: dict[str, Any]) -> None:
        self.fd = fd
        self.request = request


class Container:
    """One container as the engine holds it. `status` moves only along the table in `states.py`."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.status = "created"
        self.exit = ExitRecord()
        self.pid = 0
        self.started_at = 0
        self.error = ""
        self.monitor: Monitor | None = None
        self.network: SandboxNetwork | None = None
        self.network_lost = False
        """It runs, and an engine that came later could not take its place on its networks back."""
        # where it was last: name to id
        self.past_networks: dict[str, str] = {}
        self.netns_fd: int | None = None
        """The descriptor by which the monitor holds the network namespace."""
        self.lock = asyncio.Lock()
        self.copies: set[asyncio.Future[dict[str, Any]]] = set()
        """Workers that have its root before them: it is not mounted anew while they do."""
        self.execs: dict[str, Exec] = {}
        self.pending: list[PendingClient] = []
        self.exit_waiters: list[asyncio.Future[dict[str, Any]]] = []
        self.removal_waiters: list[asyncio.Future[dict[str, Any]]] = []
        self.health_waiters: list[asyncio.Future[dict[str, Any]]] = []
        self.health: dict[str, Any] | None = None
        """What its check found (`status`, `streak`, `log`), where it has one and was started."""
        self.settled = asyncio.Event()
        """Set while nothing is left to do after an exit: the monitor is gone, addresses and ports are given back."""
        self.settled.set()
        self.stopping = False
        self.kept = False
        """It is being stopped in order to be started again: this end is not what `--rm` waits for."""
        self.ailing = False
        """It is being ended because it is unhealthy."""
        self.restart_delay = 0.0
        self.restart_task: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def running(self) -> bool:
        """Whether process 1 exists (a paused container runs)."""
        return self.status in ("running", "paused")
