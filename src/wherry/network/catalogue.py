"""The user-defined networks on disk: one directory each, read once at start-up (`networks/<id>/network.json`)."""

import logging
import os
from collections.abc import Callable

import msgspec

from wherry.errors import NewerSchema
from wherry.network.spec import VERSION, NetworkSpec
from wherry.paths import Roots
from wherry.store.atomic import discard, fsync_dir, sweep_temporary, write_atomic

log = logging.getLogger("wherry.network")

_DECODER = msgspec.json.Decoder(NetworkSpec)
_ID = 64


def load(roots: Roots) -> list[NetworkSpec]:
    """Read every network; oldest first. What cannot be read is left as it is, and said in the log.

    Raises:
        NewerSchema: a newer version of this engine wrote one.
    """
    found = []
    os.makedirs(roots.networks, mode=0o700, exist_ok=True)
    for id_ in os.listdir(roots.networks):
        directory = f"{roots.networks}/{id_}"
        if len(id_) != _ID or not os.path.isdir(directory):
            continue
        if not os.path.exists(f"{directory}/network.json"):
            # killed between mkdir and the file: nobody was told of it
            discard(directory, roots.trash)
            continue
        sweep_temporary(directory)
        spec = _read(f"{directory}/network.json")
        if spec is not None and spec.id == id_:
            found.append(spec)
    return sorted(found, key=lambda spec: spec.created)


def _read(path: str) -> NetworkSpec | None:
    try:
        with open(path, "rb") as file:
            spec = _DECODER.decode(file.read(1 << 20))
    except (OSError, msgspec.MsgspecError) as error:
        log.error("network record %s is damaged: %s; left as it is", path, error)
        return None
    if spec.version > VERSION:
        raise NewerSchema(f"network record {path} was written by a newer version (schema {spec.version})", path=path)
    return spec


def save(roots: Roots, spec: NetworkSpec) -> None:
    """Write a network durably."""
    directory = f"{roots.networks}/{spec.id}"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    write_atomic(f"{directory}/network.json", msgspec.json.encode(spec))
    fsync_dir(roots.networks)


def forget(roots: Roots, spec: NetworkSpec, trash: Callable[[str], None]) -> None:
    """Remove a network's directory durably; `trash` takes it, and sees to its deletion."""
    trash(f"{roots.networks}/{spec.id}")
    fsync_dir(roots.networks)
