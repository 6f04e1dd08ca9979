"""What is kept of a predefined network (`networks/<name>.json`), and how any is shown to Docker's clients.

Kept is what must not change over a restart: the id, when it was made, and for a bridge the subnet that it chose.
"""

import json
import os
import secrets
from typing import Any

from wherry.errors import NewerSchema, StoreCorrupt
from wherry.network.spec import NetworkSpec, now
from wherry.paths import Roots
from wherry.store.atomic import write_atomic
from wherry.wire.networks import ipam_shown

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
        record = NetworkRecord(path, secrets.token_hex(32), now(), {})
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
    spec: NetworkSpec,
    *,
    ipam: dict[str, Any],
    containers: dict[str, dict[str, str]] | None = None,
    options: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Write a network as Docker's API shows it (`GET /networks/{id}`)."""
    return {
        "Name": spec.name,
        "Id": spec.id,
        "Created": spec.created,
        "Scope": "local",
        "Driver": spec.driver,
        "EnableIPv6": spec.ipv6,
        "IPAM": ipam,
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": containers or {},
        "Options": options or {},
        "Labels": spec.labels,
    }


class PlainNetwork:
    """`host` or `none`: a network that nothing has to be done for. Containers on it are shown, without addresses.

    Args:
        roots: where its record is kept.
        name: `host` or `none`.
    """

    __slots__ = ("driver", "name", "spec")

    def __init__(self, roots: Roots, name: str) -> None:
        self.name = name
        self.driver = "null" if name == "none" else name
        record = load_record(roots, name)
        self.spec = NetworkSpec(record.id, name, record.created, self.driver)

    @property
    def id(self) -> str:
        """64 hexadecimal digits, the same over restarts."""
        return self.spec.id

    def inspect(self, containers: dict[str, dict[str, str]] | None = None) -> dict[str, Any]:
        """Docker's JSON; `containers` maps a container id to `member`."""
        return describe(self.spec, ipam=ipam_shown("default", None, None), containers=containers)


def member(name: str, endpoint_id: str, mac: str = "", address: str = "", address6: str = "") -> dict[str, str]:
    """Write one entry of a network's `Containers`; addresses with their prefix lengths."""
    return {
        "Name": name,
        "EndpointID": endpoint_id,
        "MacAddress": mac,
        "IPv4Address": address,
        "IPv6Address": address6,
    }
