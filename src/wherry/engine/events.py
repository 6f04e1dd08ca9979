"""Events: what happened, for those who watch, and a capped memory of it for those who ask later."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

REMEMBERED = 1024
QUEUE = 4096


class Events:
    """The event stream of one engine. Events are Docker's JSON, times in nanoseconds since the epoch."""

    def __init__(self) -> None:
        self._past: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._watchers: set[asyncio.Queue[dict[str, Any] | None]] = set()

    def publish(self, kind: str, action: str, id_: str, attributes: dict[str, str]) -> None:
        """Add an event now."""
        at = time.time_ns()
        event: dict[str, Any] = {
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
        self._past.append(event)
        for watcher in self._watchers:
            if watcher.qsize() < QUEUE:
                watcher.put_nowait(event)

    def close(self) -> None:
        """End every stream."""
        for watcher in self._watchers:
            watcher.put_nowait(None)

    async def subscribe(
        self, since: int | None, until: int | None, filters: dict[str, list[str]]
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield events.

        Args:
            since: from then on, what is remembered (nanoseconds; None: only what comes).
            until: end then (nanoseconds; None: never).
            filters: Docker's: type, event, container, image, label, scope, daemon.
        """
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        past = [] if since is None else [event for event in self._past if event["timeNano"] >= since]
        self._watchers.add(queue)
        try:
            for event in past:
                if until is not None and event["timeNano"] > until:
                    return
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


def _fits(event: dict[str, Any], filters: dict[str, list[str]]) -> bool:
    return all(_TESTS[name](event, values) for name, values in filters.items() if values and name in _TESTS)


def _by_type(event: dict[str, Any], values: list[str]) -> bool:
    return event["Type"] in values


def _by_action(event: dict[str, Any], values: list[str]) -> bool:
    action = event["Action"]
    return any(action == value or action.startswith(f"{value}:") for value in values)


def _by_actor(kind: str, event: dict[str, Any], values: list[str]) -> bool:
    actor = event["Actor"]
    if event["Type"] != kind:
        return kind == "image" and any(value == actor["Attributes"].get("image") for value in values)
    name = actor["Attributes"].get("name", "")
    return any(value in (actor["ID"], name) or actor["ID"].startswith(value) for value in values)


def _by_container(event: dict[str, Any], values: list[str]) -> bool:
    return _by_actor("container", event, values)


def _by_image(event: dict[str, Any], values: list[str]) -> bool:
    return _by_actor("image", event, values)


def _by_label(event: dict[str, Any], values: list[str]) -> bool:
    attributes = event["Actor"]["Attributes"]

    def matches(value: str) -> bool:
        key, equals, wanted = value.partition("=")
        return key in attributes and (not equals or attributes[key] == wanted)

    return all(matches(value) for value in values)


def _by_scope(event: dict[str, Any], values: list[str]) -> bool:
    return event["scope"] in values


_TESTS = {
    "type": _by_type,
    "event": _by_action,
    "container": _by_container,
    "image": _by_image,
    "label": _by_label,
    "scope": _by_scope,
}
