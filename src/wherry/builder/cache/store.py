"""What steps have made before: found again by what they do and what they stand on, never by when.

A key is a digest of content: the operation's definition, the chain of the layers below, the files that it takes. Only
steps that this engine has carried out itself are found here, and never those of a pulled image (CVE-2024-24557) or of
an imported cache. The layers of an imported cache are held (`hold`) under names that no step asks for, so that the next
build that names the cache does not fetch them again.

A record holds its layer: its snapshot and its blob are not collected. When all of them are larger than the limit, those
that were not used for the longest time go.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from wherry.builder.cache.space import Rule, Space, free_bytes
from wherry.errors import InvalidArgument
from wherry.images.stores import Stores
from wherry.oci import digest as digests
from wherry.store.database import Database, Write
from wherry.store.images import LayerRecord
from wherry.values import times

EMPTY = ""
"""The `chain` of a step that changed nothing."""
_SOON = 0.5
_HELD = "imported:"
_ENCODER = msgspec.json.Encoder()
_ALL = Space()


class Record(Struct, frozen=True):
    """One step's result.

    Args:
        id: 24 hex digits and up, what people see.
        layer: the layer; None where nothing was changed.
        chain: its chain id on what it was made on; "" where nothing was changed.
        parent: chain id of what it was made on, or "".
        description: for people.
        kind: `regular`, `source.local`, `exec.cachemount`.
        created_at: nanoseconds.
        used_at: when it last was a hit.
        uses: how often.
    """

    id: str
    layer: LayerRecord | None
    chain: str
    parent: str
    description: str
    kind: str = "regular"
    created_at: int = 0
    used_at: int = 0
    uses: int = 0

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return self.layer.unpacked if self.layer is not None else 0


_DECODER = msgspec.json.Decoder(Record)


class Cache:
    """The records of one data root; all in memory, written through.

    Args:
        database: open.
        stores: where layers are.
        rules: what goes by itself.
    """

    def __init__(self, database: Database, stores: Stores, rules: Sequence[Rule] = ()) -> None:
        self._database = database
        self._stores = stores
        self.rules = list(rules)
        self._records: dict[str, Record] = {}
        self._used: set[str] = set()
        self._writing_down: asyncio.TimerHandle | None = None
        for key, text in database.read("SELECT key, record FROM build_cache"):
            self._records[key] = _DECODER.decode(text)

    def find(self, key: str) -> Record | None:
        """The record of a key, if what it names is all there."""
        record = self._records.get(key)
        if record is None or not self._whole(record):
            return None
        return record

    def _whole(self, record: Record) -> bool:
        if record.layer is None:
            return True
        return self._stores.overlay.exists(record.chain) and self._stores.blobs.exists(digests.parse(record.layer.blob))

    async def put(self, keys: Iterable[str], record: Record) -> None:
        """Write a result down under its keys; durable when this returns."""
        entries = dict.fromkeys(keys, record)
        self._records.update(entries)
        await self._write(entries)

    async def hold(self, record: Record) -> None:
        """Hold the layer of a record that an imported cache has brought. No key leads to it."""
        if record.layer is not None:
            name = f"{_HELD}{record.chain}"
            known = self._records.get(name)
            now = time.time_ns()
            if known is not None:
                record = msgspec.structs.replace(known, used_at=now, uses=known.uses + 1)
            await self.put([name], record)

    def touch(self, keys: Iterable[str]) -> None:
        """Count a use. It is written down a moment later, with those of the next steps: a crash loses a count."""
        now = time.time_ns()
        for key in keys:
            record = self._records.get(key)
            if record is not None:
                self._records[key] = msgspec.structs.replace(record, used_at=now, uses=record.uses + 1)
                self._used.add(key)
        if self._used and self._writing_down is None:
            self._writing_down = asyncio.get_running_loop().call_later(_SOON, self.write_uses)

    def write_uses(self) -> None:
        """Write down what `touch` has counted; before the database is closed, too."""
        if self._writing_down is not None:
            self._writing_down.cancel()
            self._writing_down = None
        entries = {key: self._records[key] for key in self._used if key in self._records}
        self._used.clear()
        if entries:
            self._database.submit(_writing(entries))

    async def _write(self, entries: dict[str, Record]) -> None:
        await self._database.write(_writing(entries))

    async def drop(self, keys: Iterable[str]) -> None:
        """Forget records."""
        gone = list(keys)
        for key in gone:
            self._records.pop(key, None)

        def change(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM build_cache WHERE key = ?", [(key,) for key in gone])

        await self._database.write(change)

    # -- what is held

    name = "the build cache"

    def layers(self) -> list[tuple[str, LayerRecord, str | None]]:
        """Chain id, record and parent of each layer that records need."""
        found = {record.chain: record for record in self._records.values() if record.layer is not None}
        return [(chain, record.layer, record.parent or None) for chain, record in found.items() if record.layer]

    def busy(self) -> tuple[str, ...]:
        """Nothing runs on a record; a build says so itself."""
        return ()

    async def forget(self, chain_id: str) -> None:
        """Do without a layer, which is lost: its step is carried out again when it is asked for."""
        await self.drop([key for key, record in self._records.items() if record.chain == chain_id])

    def chains(self) -> set[str]:
        """Snapshots that records need."""
        return {record.chain for record in self._records.values() if record.chain}

    def blobs(self) -> set[str]:
        """Blobs that records need."""
        return {record.layer.blob for record in self._records.values() if record.layer is not None}

    def records(self) -> dict[str, tuple[Record, list[str]]]:
        """Every record once, with its keys."""
        found: dict[str, tuple[Record, list[str]]] = {}
        for key, record in list(self._records.items()):
            known = found.get(record.id)
            if known is None:
                found[record.id] = (record, [key])
            else:
                known[1].append(key)
                if record.used_at > known[0].used_at:
                    found[record.id] = (record, known[1])
        return found

    def keys_of(self, ids: set[str]) -> dict[str, list[str]]:
        """The keys of some records, by their id."""
        found: dict[str, list[str]] = {}
        for key, record in self._records.items():
            if record.id in ids and not key.startswith(_HELD):
                found.setdefault(record.id, []).append(key)
        return found

    def size(self) -> int:
        """Bytes of all layers that only the cache knows, each once."""
        shared = self._shared()
        seen = {record.chain: record.size for record in self._records.values() if record.chain not in shared}
        return sum(seen.values())

    def _shared(self) -> set[str]:
        found: set[str] = set(self._stores.layers_in_use())
        for image in list(self._stores.records.by_id.values()):
            found.update(image.chain_ids)
        return found

    def listing(self, in_use: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Docker's `BuildCache` entries (`/system/df`), newest use first.

        Args:
            in_use: chain ids that a running build stands on.
        """
        shared, used = self._shared(), set(in_use)
        by_chain = {record.chain: record.id for record, _ in self.records().values() if record.chain}
        entries = []
        for record, _ in sorted(self.records().values(), key=lambda pair: -pair[0].used_at):
            parent = by_chain.get(record.parent)
            entries.append(
                {
                    "ID": record.id,
                    **({"Parents": [parent]} if parent else {}),
                    "Type": record.kind,
                    "Description": record.description,
                    "InUse": record.chain in used,
                    "Shared": record.chain in shared,
                    "Size": record.size,
                    "CreatedAt": times.exact(record.created_at),
                    "LastUsedAt": times.exact(record.used_at) if record.uses else None,
                    "UsageCount": record.uses,
                }
            )
        return entries

    async def prune(
        self,
        filters: dict[str, list[str]],
        *,
        everything: bool = False,
        space: Space = _ALL,
        in_use: Iterable[str] = (),
        beside: Sequence[Record] = (),
    ) -> tuple[list[str], int]:
        """Forget records, those unused for the longest time first.

        Args:
            filters: `id`, `until`/`unused-for` (a Go duration: not used since), `type`, `description`, `inuse`,
                `shared`, `private`.
            everything: also those whose layers an image has too.
            space: stop when no more than this is left; with nothing said in it, all goes.
            in_use: chain ids that a running build stands on; those stay.
            beside: what the caller has and removes itself (cache mounts), which counts too.

        Returns:
            (ids, bytes that only the cache held).
        """
        used, shared = set(in_use), self._shared()
        chosen: list[str] = []
        gone: list[str] = []
        freed = 0
        left = self.size() + sum(record.size for record in beside)
        keep = space.keep(left, free_bytes(self._stores.roots.data) if space.min_free else 0)
        tests = _tests(filters)
        every = [*self.records().values(), *((record, []) for record in beside)]
        for record, keys in sorted(every, key=lambda pair: pair[0].used_at or pair[0].created_at):
            if space.limited and left <= keep:
                break
            if record.chain in used or (record.chain in shared and not everything and not filters):
                continue
            if not all(test(record, record.chain in shared) for test in tests):
                continue
            chosen.append(record.id)
            gone += keys
            if record.chain not in shared:
                freed += record.size
                left -= record.size
        if gone:
            await self.drop(gone)
        return chosen, freed

    async def shrink(self, in_use: Iterable[str] = (), beside: Sequence[Record] = ()) -> tuple[list[str], int]:
        """Keep to the rules; returns what went, and its bytes."""
        gone: list[str] = []
        freed = 0
        for rule in self.rules:
            if rule.space.limited:
                used = self.size() + sum(record.size for record in beside)
                if used <= rule.space.reserved or (used <= rule.space.max_used and not rule.space.min_free):
                    continue
            elif not rule.filters:
                continue
            ids, some = await self.prune(
                rule.filters, everything=rule.everything, space=rule.space, in_use=in_use, beside=beside
            )
            gone += ids
            freed += some
            beside = [record for record in beside if record.id not in ids]
        return gone, freed


def _writing(entries: dict[str, Record]) -> Write[None]:
    rows = [(key, _ENCODER.encode(record).decode()) for key, record in entries.items()]

    def change(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT OR REPLACE INTO build_cache VALUES (?, ?)", rows)

    return change


def _tests(filters: dict[str, list[str]]) -> list[Any]:
    found: list[Any] = []
    for written, values in filters.items():
        name = written.replace("unused-for", "until")
        if name == "until":
            if len(values) != 1:
                raise InvalidArgument("more than one until filter specified")
            try:
                before = times.parse_filter(values[0], time.time_ns())
            except ValueError:
                raise InvalidArgument(
                    "\"until\" filter expects a duration (e.g., '24h') or a timestamp: "
                    f'failed to parse value as time or duration: "{values[0]}"'
                ) from None
            found.append(lambda record, _s, before=before: (record.used_at or record.created_at) < before)
        elif name == "id":
            found.append(lambda record, _s, values=values: any(record.id.startswith(value) for value in values))
        elif name == "type":
            found.append(lambda record, _s, values=values: record.kind in values)
        elif name == "description":
            found.append(lambda record, _s, values=values: any(value in record.description for value in values))
        elif name == "inuse":
            wanted = values[:1] == ["true"] or values[:1] == ["1"]
            found.append(lambda _r, _s, wanted=wanted: not wanted)
        elif name in ("shared", "private"):
            wanted = (name == "shared") == (values[:1] in (["true"], ["1"], [""]))
            found.append(lambda _r, shared, wanted=wanted: shared == wanted)
        elif name == "label":
            # `system prune --filter label=…` asks it of everything: a step's result has none
            found.append(lambda _r, _s: False)
        elif name != "label!":
            raise InvalidArgument(f"invalid filter '{name}'")
    return found
