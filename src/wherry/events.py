"""Events: what happened, for those who watch, and a journal of it for those who ask later.

The journal is written behind, a batch at a time, so that nothing waits for the disk; `kill -9` may take the last half
second of it, but not of what happened while no engine was there: that is written at once.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from itertools import islice

import msgspec

from wherry.errors import Unavailable
from wherry.store.journal import Entry, Journal
from wherry.values.jsontypes import Json

QUEUE = 4096
FLUSH_SECONDS = 0.5
_BATCH = 256
# how long a monitor may take at the most to tell an engine what it saw (nanoseconds)
_TELLING = 10_000_000_000
_END_OF_TIME = (1 << 63) - 1
_EXEC = "execID"  # of one container several may end


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Events:
    """The event stream of one engine. Events are Docker's JSON, times in nanoseconds since the epoch."""

    def __init__(self) -> None:
        self._journal: Journal | None = None
        self._number = 0
        self._waiting: list[tuple[int, Json]] = []  # until the database has them
        self._handed_over = 0  # the last number that it was given
        self._flushing = False
        self._watchers: set[asyncio.Queue[Json | None]] = set()

    def keep(self, journal: Journal) -> None:
        """Write what happens, and has happened since the engine began, to a journal."""
        self._journal = journal
        self._number += journal.last
        self._waiting = [(number + journal.last, event) for number, event in self._waiting]
        self._flush()

    def publish(
        self, kind: str, action: str, id_: str, attributes: dict[str, str], happened: int | None = None
    ) -> None:
        """Add an event.

        Args:
            happened: when, of what an engine that begins finds out afterwards (nanoseconds; None: now). What the
                journal has already is not told again.
        """
        if happened is not None and self._is_known(action, id_, attributes.get(_EXEC), happened):
            return
        at = time.time_ns() if happened is None else happened
        event: Json = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": id_, "Attributes": attributes},
            "scope": "local",
            "time": at // 1_000_000_000,
            "timeNano": at,
        }
        if kind == "container":
            event |= {"status": action, "id": id_, "from": attributes.get("image", "")}
        elif kind == "image":
            event |= {"status": action, "id": id_}
        self._number += 1
        self._waiting.append((self._number, event))
        loop = asyncio.get_running_loop()
        if happened is not None:
            # what told us of it goes now: the next engine could not find it out again
            loop.call_soon(self._flush)
        elif not self._flushing:
            self._flushing = True
            loop.call_later(FLUSH_SECONDS, self._flush)
        for watcher in self._watchers:
            if watcher.qsize() < QUEUE:
                watcher.put_nowait(event)

    def _is_known(self, action: str, id_: str, exec_id: str | None, since: int) -> bool:
        if self._journal is None:
            return False
        if since < self._journal.until - _TELLING:
            # an engine was there since, which was told, and has written down what came later
            return True
        entries = self._journal.read(since, _END_OF_TIME, self._number + 1)
        events = (_decode(entry.body) for entry in entries)
        actors = (event["Actor"] for event in events if event["Action"] == action)
        return any(actor["ID"] == id_ and actor["Attributes"].get(_EXEC) == exec_id for actor in actors)

    def _flush(self) -> None:
        self._flushing = False
        if self._journal is None:
            # an engine that is just beginning: what it finds out is written when the journal is there
            del self._waiting[:-QUEUE]
            return
        entries = [
            Entry(number, event["timeNano"], _encode(event))
            for number, event in self._waiting
            if number > self._handed_over
        ]
        if not entries:
            return
        try:
            written = self._journal.append(entries)
        except Unavailable:
            return
        last = self._handed_over = entries[-1].number
        loop = asyncio.get_running_loop()
        written.add_done_callback(lambda _: _call_soon(loop, self._forget, last))

    def _forget(self, last: int) -> None:
        """The database has everything up to that number (or never will)."""
        self._waiting = [item for item in self._waiting if item[0] > last]

    @property
    def watching(self) -> int:
        """How many clients follow the stream."""
        return len(self._watchers)

    def close(self) -> None:
        """End every stream, and hand what is not written yet to the database."""
        self._flush()
        for watcher in self._watchers:
            watcher.put_nowait(None)

    async def subscribe(
        self, since: int | None, until: int | None, filters: dict[str, list[str]]
    ) -> AsyncGenerator[Json, None]:
        """Yield events.

        Args:
            since: from then on, what is remembered (nanoseconds; None: only what comes, but with `until` all of it).
            until: end then (nanoseconds; None: never).
            filters: Docker's: type, event, container, image, label, scope, daemon, network, volume, plugin.
        """
        queue: asyncio.Queue[Json | None] = asyncio.Queue()
        waiting = list(self._waiting)
        self._watchers.add(queue)
        try:
            if since is not None or until is not None:
                last = _END_OF_TIME if until is None else until
                async for event in self._past(since or 0, last, waiting):
                    if _fits(event, filters):
                        yield event
            while until is None or (left := (until - time.time_ns()) / 1e9) > 0:
                try:
                    async with asyncio.timeout(None if until is None else left):
                        news = await queue.get()
                except TimeoutError:
                    return
                if news is None or (until is not None and news["timeNano"] > until):
                    return
                if _fits(news, filters):
                    yield news
        finally:
            self._watchers.discard(queue)

    async def _past(self, since: int, until: int, waiting: list[tuple[int, Json]]) -> AsyncGenerator[Json, None]:
        """What the journal holds, and then what was waiting to be written when the caller began to watch."""
        if self._journal is not None:
            before = waiting[0][0] if waiting else self._number + 1
            entries = self._journal.read(since, until, before)
            loop = asyncio.get_running_loop()
            # away from the loop: a long history is read from the disk
            while batch := await loop.run_in_executor(None, lambda: list(islice(entries, _BATCH))):
                for entry in batch:
                    yield _decode(entry.body)
        for _, event in waiting:
            if since <= event["timeNano"] <= until:
                yield event


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[int], None], argument: int) -> None:
    try:
        loop.call_soon_threadsafe(function, argument)
    except RuntimeError:
        return  # the loop has ended, and nobody reads any more


def _fits(event: Json, filters: dict[str, list[str]]) -> bool:
    return all(_TESTS[name](event, values) for name, values in filters.items() if values and name in _TESTS)


def _by_type(event: Json, values: list[str]) -> bool:
    return event["Type"] in values


def _by_action(event: Json, values: list[str]) -> bool:
    action = event["Action"]
    return any(action == value or action.startswith(f"{value}:") for value in values)


def _names(event: Json, values: list[str], *kinds: str) -> bool:
    """Whether a value begins the id or the name of an actor of one of these kinds."""
    actor = event["Actor"]
    name = actor["Attributes"].get("name", "")
    return event["Type"] in kinds and any(actor["ID"].startswith(v) or name.startswith(v) for v in values)


def _by_container(event: Json, values: list[str]) -> bool:
    return _names(event, values, "container")


def _by_image(event: Json, values: list[str]) -> bool:
    actor = event["Actor"]
    if event["Type"] == "container":
        names = {actor["Attributes"].get("image", "")}
    elif event["Type"] == "image":
        names = {actor["ID"], actor["Attributes"].get("name", "")}
    else:
        return False
    known = names | {_without_tag(name) for name in names}
    return any(value in known for value in values)


def _without_tag(name: str) -> str:
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag and not name.startswith("sha256:") else name


def _by_network(event: Json, values: list[str]) -> bool:
    return _names(event, values, "network")


def _by_volume(event: Json, values: list[str]) -> bool:
    return _names(event, values, "volume")


def _by_plugin(event: Json, values: list[str]) -> bool:
    return _names(event, values, "plugin")


def _by_daemon(event: Json, values: list[str]) -> bool:
    return _names(event, values, "daemon")


def _by_label(event: Json, values: list[str]) -> bool:
    attributes = event["Actor"]["Attributes"]

    def matches(value: str) -> bool:
        key, equals, wanted = value.partition("=")
        return key in attributes and (not equals or attributes[key] == wanted)

    return all(matches(value) for value in values)


def _by_scope(event: Json, values: list[str]) -> bool:
    return event["scope"] in values


_TESTS = {
    "type": _by_type,
    "event": _by_action,
    "container": _by_container,
    "image": _by_image,
    "label": _by_label,
    "scope": _by_scope,
    "network": _by_network,
    "volume": _by_volume,
    "plugin": _by_plugin,
    "daemon": _by_daemon,
}
