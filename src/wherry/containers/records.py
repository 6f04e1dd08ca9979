"""Containers on disk and in memory: written atomically, read once at start-up, found by name or id prefix."""

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from wherry.containers.model import RECORD_VERSION, Container, ExitRecord, Record
from wherry.errors import AmbiguousPrefix, ContainerNotFound, NameInUse, NewerSchema, StoreCorrupt
from wherry.paths import Roots
from wherry.store.atomic import write_atomic

_ENCODER = msgspec.json.Encoder()
_RECORD = msgspec.json.Decoder(Record)


def save(roots: Roots, record: Record) -> None:
    """Write `container.json` durably."""
    write_atomic(f"{roots.container(record.id)}/container.json", _ENCODER.encode(record))


def save_exit(roots: Roots, id_: str, record: ExitRecord) -> None:
    """Write `exit.json` durably: for a monitor that could not, or over its record of a start that failed."""
    write_atomic(f"{roots.container(id_)}/exit.json", _ENCODER.encode(record))


def load(roots: Roots, id_: str) -> Record:
    """Read `container.json`.

    Raises:
        NewerSchema: a newer version of this engine wrote it.
        StoreCorrupt: it is missing or is not what it should be.
    """
    path = f"{roots.container(id_)}/container.json"
    try:
        with open(path, "rb") as file:
            record = _RECORD.decode(file.read())
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreCorrupt(f"container {id_}: cannot read {path}: {error}", path=path) from None
    if record.version > RECORD_VERSION:
        raise NewerSchema(f"container {id_} was written by a newer version (schema {record.version})")
    return record


def load_exit(roots: Roots, id_: str) -> ExitRecord | None:
    """Read `exit.json`; None where no exit was recorded (or what is there is unreadable: then the exit is lost)."""
    return _read_exit(f"{roots.container(id_)}/exit.json")


def load_former_exit(roots: Roots, id_: str) -> ExitRecord | None:
    """Read how the run before the last start ended (`former-exit.json`); None where there is none."""
    return _read_exit(f"{roots.container(id_)}/former-exit.json")


def _read_exit(path: str) -> ExitRecord | None:
    try:
        with open(path, "rb") as file:
            return exit_from(msgspec.json.decode(file.read()))
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def exit_from(value: dict[str, Any]) -> ExitRecord:
    """Make a record of what a monitor tells of an exit (the contents of `exit.json`).

    Raises:
        msgspec.ValidationError: it is not what it should be.
    """
    # a start that failed has no time of its own: null there is our 0
    return msgspec.convert({name: part for name, part in value.items() if part is not None}, ExitRecord)


def put_exit_aside(roots: Roots, id_: str) -> None:
    """Keep the last exit as the former one, before a new start: should that come to nothing, it is still the last."""
    directory = roots.container(id_)
    try:
        os.rename(f"{directory}/exit.json", f"{directory}/former-exit.json")
    except FileNotFoundError:
        return


class Registry:
    """The containers of this engine, by id and by name. Reserving a name is one step: two creates never share one."""

    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def reserve(self, name: str, id_: str) -> None:
        """Give `name` to `id_`.

        Raises:
            NameInUse: in dockerd's words.
        """
        holder = self._by_name.get(name)
        if holder is not None and holder != id_:
            raise NameInUse(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". You have to remove '
                "(or rename) that container to be able to reuse that name."
            )
        self._by_name[name] = id_

    def unreserve(self, name: str) -> None:
        """Take a name back."""
        self._by_name.pop(name, None)

    def named(self, name: str) -> bool:
        """Whether some container has, or is about to have, that name."""
        return name in self._by_name

    def add(self, container: Container) -> None:
        """Add a container whose name is reserved."""
        self._by_id[container.id] = container

    def discard(self, container: Container) -> None:
        """Forget a container and its name."""
        self._by_id.pop(container.id, None)
        if self._by_name.get(container.name) == container.id:
            del self._by_name[container.name]

    def get(self, id_: str) -> Container | None:
        """The container with that full id, if there is one."""
        return self._by_id.get(id_)

    def find(self, reference: str) -> Container:
        """Find a container by full id, name (a leading slash is allowed) or unambiguous id prefix, in that order.

        Raises:
            ContainerNotFound, AmbiguousPrefix: in dockerd's words.
        """
        found = self._by_id.get(reference)
        if found is not None:
            return found
        named = self._by_name.get(reference.removeprefix("/"))
        if named is not None and named in self._by_id:
            return self._by_id[named]
        matches = [c for id_, c in self._by_id.items() if id_.startswith(reference)] if reference else []
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise AmbiguousPrefix(f"multiple IDs found with provided prefix: {reference}")
        raise ContainerNotFound(reference)
