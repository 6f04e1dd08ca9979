"""What happens during a build, as it happens: BuildKit's status messages (`rawjson`), which every door shows its way.

{"vertexes": [{"digest", "inputs", "name", "started", "completed", "cached", "error"}],
 "statuses": [{"id", "vertex", "name", "current", "total", "timestamp", "started", "completed"}],
 "logs": [{"vertex", "stream", "data" (base64), "timestamp"}], "warnings": […]}
"""

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from wherry.builder.graph.operations import Vertex
from wherry.values import times
from wherry.values.jsontypes import Json

Sink = Callable[[Json], None]
LOG_LIMIT = 2 << 20
"""Bytes of one step's output that are shown; the rest is counted."""


class Step:
    """One vertex on its way.

    Args:
        vertex: which.
        sink: gets the messages.
    """

    def __init__(self, vertex: Vertex, sink: Sink) -> None:
        self.vertex = vertex
        self._sink = sink
        self._started = ""
        self._shown = 0
        self.hidden = 0
        self.cached = False
        self.task = ""
        self.listener: Callable[[int, bytes], None] | None = None
        self.decided = asyncio.Event()
        """Set when it is known whether it has to be done."""

    def _tell(self, **changes: Any) -> None:
        known = {
            "digest": self.vertex.digest,
            "inputs": [one.digest for one in self.vertex.inputs if one is not None],
            "name": self.vertex.shown or self.vertex.name,
        }
        if self._started:
            known["started"] = self._started
        self._sink({"vertexes": [{**known, **changes}]})

    def announce(self) -> None:
        """It will be looked at."""
        self._tell()

    def start(self) -> None:
        """Its work begins."""
        self.decided.set()
        self._started = times.exact(time.time_ns())
        self._tell()

    def complete(self, *, cached: bool = False, error: str = "") -> None:
        """It is done."""
        self.cached = cached
        self.decided.set()
        now = times.exact(time.time_ns())
        self._started = self._started or now
        self._tell(completed=now, **({"cached": True} if cached else {}), **({"error": error} if error else {}))

    def output(self, stream: int, data: bytes) -> None:
        """It wrote something: 1 is its standard output, 2 its standard error."""
        if self.listener is not None:
            self.listener(stream, data)
        room = LOG_LIMIT - self._shown
        if room <= 0:
            self.hidden += len(data)
            return
        self._shown += len(data)
        self._sink(
            {
                "logs": [
                    {
                        "vertex": self.vertex.digest,
                        "stream": stream,
                        "data": b64encode(data[:room]).decode(),
                        "timestamp": times.exact(time.time_ns()),
                    }
                ]
            }
        )

    def status(self, id_: str, current: int, total: int, *, done: bool = False) -> None:
        """How far a part of it is."""
        now = times.exact(time.time_ns())
        value = {
            "id": id_,
            "vertex": self.vertex.digest,
            "current": current,
            "total": total,
            "timestamp": now,
            "started": self._started or now,
        }
        if done:
            value["completed"] = now
        self._sink({"statuses": [value]})
