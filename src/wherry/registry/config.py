"""The configuration file, and what the command line says over it.

YAML, read with the safe loader; a key that is not known is refused by name. Times are seconds or `90s`, `15m`, `24h`,
`7d`; sizes are bytes or `10MiB`.

    root: /var/lib/wherry-registry
    addr: 127.0.0.1:5000
    workers: 1
    tls: {certificate: /etc/…/cert.pem, key: /etc/…/key.pem}
    storage: {driver: filesystem}
    database: sqlite:////var/lib/wherry-registry/metadata.db
    read_only: false
    delete: true
    log: {level: info, access: true}
    audit: {file: /var/log/wherry-registry/audit.log}
    gc: {interval: 1h, delay: 1h, upload_delay: 24h, untagged: keep}
    limits: {blob: 0, catalog: 1000, connections: 0, connections_per_address: 0}
    timeouts: {head: 30s, body: 60s, idle: 75s}
    metrics: true                       with accounts, for administrators and robots of `wherry-registry token`
    shutdown_timeout: 30s
    without_accounts: false             listen on more than loopback although there are none
    hosts: []                           names, besides local ones, of a registry without accounts on loopback
    accounts: {sign_up: off, …}         see accounts/settings.py
"""

import os
from typing import Any, Final, Literal

import msgspec
import yaml
from msgspec import Struct, field

from wherry.errors import InvalidArgument
from wherry.registry.accounts.settings import AccountSettings
from wherry.registry.units import Amount, seconds, size

DEFAULT_ROOT: Final = "/var/lib/wherry-registry"
DEFAULT_ADDRESS: Final = "127.0.0.1:5000"
_FILE_LIMIT: Final = 1 << 20


class Tls(Struct, forbid_unknown_fields=True):
    """A certificate (with its chain) and its key, PEM."""

    certificate: str
    key: str


class Storage(Struct, forbid_unknown_fields=True):
    """Which driver."""

    driver: Literal["filesystem", "memory"] = "filesystem"


class Log(Struct, forbid_unknown_fields=True):
    """What is logged, as one JSON object a line on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = True


class AuditSettings(Struct, forbid_unknown_fields=True):
    """Where the audit log is written; nowhere if empty."""

    file: str = ""


class Gc(Struct, forbid_unknown_fields=True):
    """When what is collected; `interval: 0` collects only on command."""

    interval_text: Amount = field(default="1h", name="interval")
    delay_text: Amount = field(default="1h", name="delay")
    upload_delay_text: Amount = field(default="24h", name="upload_delay")
    untagged: Literal["keep", "delete"] = "keep"

    @property
    def interval(self) -> float:
        """Seconds between collections."""
        return seconds(self.interval_text)

    @property
    def delay(self) -> float:
        """Seconds for which something unreferenced is kept."""
        return seconds(self.delay_text)

    @property
    def upload_delay(self) -> float:
        """Seconds for which an unfinished upload is kept."""
        return seconds(self.upload_delay_text)


class Limits(Struct, forbid_unknown_fields=True):
    """Ceilings; 0 is none for `blob`.

    Of connections, 0 is as many as the limit of descriptors allows: a third of it, 16384 at most; for one address
    half of that, 1024 at most. Each worker has its own.
    """

    blob: Amount = 0
    catalog: int = 1000
    connections: int = 0
    connections_per_address: int = 0

    @property
    def blob_bytes(self) -> int:
        """Largest blob."""
        return size(self.blob)


class Timeouts(Struct, forbid_unknown_fields=True):
    """How long a client is waited for.

    Attributes:
        head_text: for a request's line and headers, in all.
        body_text: while it sends nothing of a body, or takes nothing of an answer.
        idle_text: for the next request on a connection.
    """

    head_text: Amount = field(default="30s", name="head")
    body_text: Amount = field(default="60s", name="body")
    idle_text: Amount = field(default="75s", name="idle")

    @property
    def head(self) -> float:
        """Seconds."""
        return seconds(self.head_text)

    @property
    def body(self) -> float:
        """Seconds."""
        return seconds(self.body_text)

    @property
    def idle(self) -> float:
        """Seconds."""
        return seconds(self.idle_text)


class Settings(Struct, forbid_unknown_fields=True):
    """Everything that can be set."""

    root: str = DEFAULT_ROOT
    addr: str = DEFAULT_ADDRESS
    workers: int = 1
    tls: Tls | None = None
    storage: Storage = field(default_factory=Storage)
    database: str = ""
    read_only: bool = False
    delete: bool = True
    log: Log = field(default_factory=Log)
    audit: AuditSettings = field(default_factory=AuditSettings)
    gc: Gc = field(default_factory=Gc)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    metrics: bool = True
    shutdown_timeout_text: Amount = field(default="30s", name="shutdown_timeout")
    without_accounts: bool = False
    hosts: list[str] = field(default_factory=list)
    accounts: AccountSettings = field(default_factory=AccountSettings)

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that requests under way get when the server ends."""
        return seconds(self.shutdown_timeout_text)

    @property
    def database_url(self) -> str:
        """Of the metadata: as set, else SQLite below the root."""
        return self.database or f"sqlite:///{os.path.abspath(self.root)}/metadata.db"

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return split_address(self.addr)


def split_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT`, `:PORT` or `[HOST]:PORT`.

    Raises:
        InvalidArgument: it is none.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidArgument(f"invalid address: {address!r}: HOST:PORT is needed")
    return host.strip("[]"), int(port)


def read(path: str | None, **flags: Any) -> Settings:
    """Read the configuration.

    Args:
        path: of the file, or None.
        flags: keys that the command line sets; None is not set.

    Raises:
        InvalidArgument: the file cannot be read, is not YAML, or has a key or value that is not known.
    """
    values: Any = {}
    if path is not None:
        try:
            with open(path, "rb") as file:
                values = yaml.safe_load(file.read(_FILE_LIMIT)) or {}
        except OSError as error:
            raise InvalidArgument(f"{path}: {os.strerror(error.errno or 0).lower()}") from None
        except yaml.YAMLError as error:
            raise InvalidArgument(f"{path}: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise InvalidArgument(f"{path}: not a mapping of keys to values")
    values.update({key: value for key, value in flags.items() if value is not None})
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{path or 'command line'}: {error}") from None
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    _ = (settings.endpoint, settings.shutdown_timeout, settings.limits.blob_bytes)
    _ = (settings.gc.interval, settings.gc.delay, settings.gc.upload_delay)
    for name in ("head", "body", "idle"):
        if not 1 <= getattr(settings.timeouts, name) <= 86_400:
            raise InvalidArgument(f"timeouts.{name}: between 1s and 1d")
    if min(settings.limits.connections, settings.limits.connections_per_address) < 0:
        raise InvalidArgument("limits: a number of connections is 0 or more")
    settings.accounts.check()
    if not 1 <= settings.workers <= 64:
        raise InvalidArgument("workers: between 1 and 64")
    if not 1 <= settings.limits.catalog <= 10_000:
        raise InvalidArgument("limits.catalog: between 1 and 10000")
    if settings.storage.driver == "memory" and settings.workers > 1:
        raise InvalidArgument("storage.driver: memory is not shared between workers")
