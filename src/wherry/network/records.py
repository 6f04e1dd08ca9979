"""What is kept of a network (`networks/<name>.json` in the data root), and how it is shown to Docker's clients.

Kept is what must not change over a restart: the id, when it was made, and for a bridge the subnet that it chose.
"""

import json
import os
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from wherry.errors import NewerSchema, StoreCorrupt
from wherry.paths import Roots
from wherry.store.atomic import write_atomic

_VERSION = 1


class NetworkRecord:
    """One network's file.

    Args:
        path: where it is kept.
        id_: 64 hexadecimal digits.
        created: RFC 3339 with nanoseconds.
        settings: what the driver keeps, plain JSON.
    """

    __slots__ = ("_path", "created", "id", "settings")

    def __init__(self, path: str, id_: str, created: str, settings: dict[str, Any]) -> None:
        self._path = path
        self.id = id_
        self.created = created
        self.settings = settings

    def save(self) -> None:
        """Write the record durably."""
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        value = {"v": _VERSION, "id": self.id, "created": self.created, "settings": self.settings}
        write_atomic(self._path, json.dumps(value).encode())


def load_record(roots: Roots, name: str) -> NetworkRecord:
    """Read the record of the built-in network `name`; where there is none, make one with a fresh id and keep it.

    Raises:
        StoreCorrupt: the file is not what `save` writes.
        NewerSchema: a newer version wrote it.
    """
    path = f"{roots.data}/networks/{name}.json"
    try:
        with open(path, "rb") as file:
            text = file.read(1 << 20)
    except FileNotFoundError:
        record = NetworkRecord(path, secrets.token_hex(32), _now(), {})
        record.save()
        return record
    try:
        value = json.loads(text)
        version = int(value["v"])
        if version <= _VERSION:
            return NetworkRecord(path, str(value["id"]), str(value["created"]), dict(value["settings"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"network record {path} is damaged: {error!r}", path=path) from error
    raise NewerSchema(f"network record {path} was written by a newer version (schema {version})", path=path)


def describe(
    name: str,
    record: NetworkRecord,
    driver: str,
    *,
    ipam: list[dict[str, str]] | None = None,
    containers: dict[str, dict[str, str]] | None = None,
    options: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Write a network as Docker's API shows it (`GET /networks/{id}`)."""
    return {
        "Name": name,
        "Id": record.id,
        "Created": record.created,
        "Scope": "local",
        "Driver": driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": ipam},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": containers or {},
        "Options": options or {},
        "Labels": {},
    }


class PlainNetwork:
    """`host` or `none`: a network that nothing has to be done for. Containers on it are shown, without addresses.

    Args:
        roots: where its record is kept.
        name: `host` or `none`.
    """

    __slots__ = ("_record", "driver", "name")

    def __init__(self, roots: Roots, name: str) -> None:
        self.name = name
        self.driver = "null" if name == "none" else name
        self._record = load_record(roots, name)

    @property
    def id(self) -> str:
        """64 hexadecimal digits, the same over restarts."""
        return self._record.id

    def inspect(self, containers: dict[str, dict[str, str]] | None = None) -> dict[str, Any]:
        """Docker's JSON; `containers` maps a container id to `member`."""
        return describe(self.name, self._record, self.driver, containers=containers)


def member(name: str, endpoint_id: str, mac: str = "", address: str = "") -> dict[str, str]:
    """Write one entry of a network's `Containers`; `address` with its prefix length."""
    return {
        "Name": name,
        "EndpointID": endpoint_id,
        "MacAddress": mac,
        "IPv4Address": address,
        "IPv6Address": "",
    }


def _now() -> str:
    nanoseconds = time.time_ns()
    whole = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"
