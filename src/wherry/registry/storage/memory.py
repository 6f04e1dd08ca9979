"""Values in memory: for tests, and for a registry that is meant to forget."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from wherry.errors import Conflict, StoreCorrupt
from wherry.registry.storage.driver import Missing, Stat, check_key


class _Value:
    __slots__ = ("busy", "data", "links", "modified", "number")

    def __init__(self, data: bytearray, number: int) -> None:
        self.data = data
        self.modified = time.time_ns()
        self.number = number
        self.links = 1
        self.busy = False


class MemoryReader:
    """A value, as it was when it was opened; see `Reader`."""

    __slots__ = ("_data", "size", "stat")

    def __init__(self, data: bytearray, stat: Stat) -> None:
        self._data = data
        self.stat = stat
        self.size = stat.size

    def fileno(self) -> int:
        return -1

    def read_at(self, offset: int, count: int) -> bytes:
        return bytes(self._data[offset : offset + count])

    def close(self) -> None:
        self._data = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MemoryWriter:
    """A value that grows; see `Writer`."""

    def __init__(self, driver: "Memory", key: str, value: _Value) -> None:
        self._driver = driver
        self._key = key
        self._value: _Value | None = value
        self.size = len(value.data)

    def _open(self) -> _Value:
        if self._value is None:
            raise Missing(f"{self._key} is closed")
        return self._value

    def write(self, data: "bytes | bytearray | memoryview") -> None:
        value = self._open()
        value.data += data
        value.modified = time.time_ns()
        self.size = len(value.data)

    def truncate(self, size: int) -> None:
        del self._open().data[size:]
        self.size = size

    def read_at(self, offset: int, count: int) -> bytes:
        return bytes(self._open().data[offset : offset + count])

    def sync(self) -> None:
        self._open()

    def commit(self, target: str) -> None:
        value = self._open()
        self._driver.commit(self._key, target, value)
        self.close()

    def cancel(self) -> None:
        self._driver.delete(self._key)
        self.close()

    def close(self) -> None:
        if self._value is not None:
            self._value.busy = False
            self._value = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Memory:
    """The driver; see `Driver`."""

    def __init__(self) -> None:
        self._values: dict[str, _Value] = {}
        self._growing: dict[str, _Value] = {}
        self._lock = threading.RLock()
        self._locks: dict[str, threading.Lock] = {}
        self._number = 0

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _stat(self, value: _Value) -> Stat:
        return Stat(len(value.data), value.modified, str(value.number), str(value.number), value.links)

    def stat(self, key: str) -> Stat | None:
        check_key(key)
        with self._lock:
            value = self._values.get(key) or self._growing.get(key)
            return self._stat(value) if value is not None else None

    def open(self, key: str) -> MemoryReader:
        check_key(key)
        with self._lock:
            value = self._values.get(key)
            if value is None:
                raise Missing(f"no such value: {key}")
            return MemoryReader(value.data, self._stat(value))

    def read(self, key: str, limit: int) -> tuple[bytes, Stat]:
        with self.open(key) as reader:
            if reader.size > limit:
                raise StoreCorrupt(f"{key} has {reader.size} bytes, more than {limit}")
            return reader.read_at(0, reader.size), reader.stat

    def _set(self, key: str, value: _Value) -> None:
        old = self._values.get(key)
        if old is not None:
            old.links -= 1
        self._values[key] = value

    def put(self, key: str, data: bytes) -> Stat:
        check_key(key)
        with self._lock:
            value = _Value(bytearray(data), self._next())
            self._set(key, value)
            return self._stat(value)

    def create(self, key: str) -> MemoryWriter:
        check_key(key)
        with self._lock:
            if key in self._growing or key in self._values:
                raise Conflict(f"{key} is there")
            value = self._growing[key] = _Value(bytearray(), self._next())
            value.busy = True
            return MemoryWriter(self, key, value)

    def append(self, key: str) -> MemoryWriter:
        check_key(key)
        with self._lock:
            value = self._growing.get(key)
            if value is None:
                raise Missing(f"no such value: {key}")
            if value.busy:
                raise Conflict(f"{key} is being written")
            value.busy = True
            return MemoryWriter(self, key, value)

    def commit(self, key: str, target: str, value: _Value) -> None:
        """What a writer's commit does here."""
        check_key(target)
        with self._lock:
            if self._growing.get(key) is not value:
                raise Missing(f"no such value: {key}")
            del self._growing[key]
            value.modified = time.time_ns()
            self._set(target, value)

    def link(self, source: str, target: str) -> None:
        check_key(target)
        with self._lock:
            value = self._values.get(check_key(source))
            if value is None:
                raise Missing(f"no such value: {source}")
            if self._values.get(target) is not value:
                self._set(target, value)
                value.links += 1

    def touch(self, key: str) -> None:
        with self._lock:
            value = self._values.get(check_key(key)) or self._growing.get(key)
            if value is None:
                raise Missing(f"no such value: {key}")
            value.modified = time.time_ns()

    def delete(self, key: str) -> bool:
        check_key(key)
        with self._lock:
            if self._growing.pop(key, None) is not None:
                return True
            value = self._values.pop(key, None)
            if value is not None:
                value.links -= 1
            return value is not None

    def list(self, prefix: str) -> list[str]:
        start = f"{check_key(prefix)}/" if prefix else ""
        with self._lock:
            keys = [*self._values, *self._growing]
        return sorted({key[len(start) :].partition("/")[0] for key in keys if key.startswith(start)})

    def prune(self, prefix: str) -> None:
        check_key(prefix)  # a prefix without values is none already

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        with self._lock:
            lock = self._locks.setdefault(check_key(key), threading.Lock())
        with lock:
            yield

    def sweep(self, before: int) -> int:  # noqa: ARG002 — nothing survives a crash here
        return 0
