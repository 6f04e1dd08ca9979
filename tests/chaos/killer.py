"""Kills processes of one engine at random, by pid; wherryd is started again."""

import contextlib
import os
import random
import signal
import threading
import time
import traceback
from collections import Counter

from tests.chaos.journal import Journal
from tests.e2e.harness import EngineProcess, children, titles, until

KINDS = (
    *("wherryd", "wherryd twice", "wherryd stopped", "spawner", "worker", "monitor", "monitor"),
    *("netd", "netd's monitor", "haproxy", "haproxy's monitor"),
)
"""What is killed. `worker`: a short-lived process of the spawner, also the spare and the helpers of monitors."""

HELPERS = ("netd", "haproxy")
# how long after a kill a command may still fail because of it (seconds): processes are started again meanwhile
_ECHO = 5.0
_STOP_SECONDS = 60.0
_START_SECONDS = 120.0
# a stop waits for background work; it warns when it has given up on it
DRAIN_WORDS = "did not end"


class Killer:
    """See the module.

    Args:
        engine: whose processes.
        seed: of the choice.
        journal: is told of each kill.
        kinds: what is killed.
        pauses: shortest and longest pause between two kills (seconds).

    Attributes:
        engine_gone: wherryd does not come back: the run is over.
    """

    def __init__(
        self,
        engine: EngineProcess,
        seed: str,
        journal: Journal,
        kinds: tuple[str, ...] = KINDS,
        pauses: tuple[float, float] = (0.1, 1.5),
    ) -> None:
        self.thread = threading.Thread(target=self._live, name="killer", daemon=True)
        self.over = threading.Event()
        self.engine_gone = False
        self.counts = Counter[str]()
        self._engine = engine
        self._seed = seed
        self._journal = journal
        self._kinds = kinds
        self._pauses = pauses
        self._lock = threading.Lock()
        self._hits: dict[str, float] = {}
        self._kills: list[tuple[float, float, str]] = []
        self._judged = 0

    def _live(self) -> None:
        """Kill until `over` is set; each kind in its turn, in an order of chance."""
        try:
            turn = 0
            while True:
                dice = random.Random(f"{self._seed}/killer/{turn}")
                turn += 1
                for kind in dice.sample(self._kinds, len(self._kinds)):
                    if self.over.wait(dice.uniform(*self._pauses)):
                        return
                    self._strike(kind, dice)
        except BaseException:  # noqa: BLE001 - a thread's failure is a finding
            self._journal.find("killer", traceback.format_exc())
            self.engine_gone = True

    def hit(self, id_: str, since: float) -> bool:
        """Whether the monitor of a container was killed after `since`."""
        with self._lock:
            return self._hits.get(id_, -1.0) >= since

    def near(self, began: float, ended: float, kind: str = "") -> bool:
        """Whether a command of that time may have failed because something was killed; `kind` begins what it was."""
        with self._lock:
            kills = [(start, end) for start, end, what in self._kills if what.startswith(kind)]
        return any(start <= ended and began <= end + _ECHO for start, end in kills)

    def _strike(self, kind: str, dice: random.Random) -> None:
        began = time.monotonic()
        with self._lock:
            self._kills.append((began, float("inf"), kind))
        try:
            subject = self._kill(kind, dice)
        finally:
            with self._lock:
                self._kills[-1] = (began, time.monotonic(), kind)
        if subject is None:
            with self._lock:
                self._kills.pop()
            return
        self.counts[kind] += 1
        self._journal.say("killer", f"{kind} {subject} ({time.monotonic() - began:.2f} s)")

    def _kill(self, kind: str, dice: random.Random) -> str | None:
        """Kill one; returns what it was, or None where there is none."""
        engine = self._engine
        if kind.startswith("wherryd"):
            pid = engine.pid
            if kind == "wherryd stopped":
                self._stop()
            else:
                engine.kill()
            time.sleep(dice.uniform(0, 0.3))
            if kind == "wherryd twice":
                engine.launch()
                # in the midst of taking over what the first one left
                time.sleep(dice.uniform(0.05, 0.8))
                engine.kill()
            engine.launch()
            until(lambda: engine.docker("version", check=False).code == 0, "wherryd answers", _START_SECONDS)
            return f"{pid}, now {engine.pid}"
        if kind == "spawner":
            pids = children(engine.pid)
            return _end(dice.choice(pids)) if pids else None
        if kind in HELPERS:
            group = engine.group(f"helpers/{kind}")
            return _end(dice.choice(sorted(group))) if group else None
        if kind == "worker":
            others = [pid for pid, name, _ in titles(engine) if name not in ("wherry-monitor", "wherry-spawner")]
            return _end(dice.choice(sorted(others))) if others else None
        helper = kind.removesuffix("'s monitor")
        found = [
            (id_, pid)
            for pid, name, id_ in titles(engine)
            if name == "wherry-monitor" and (id_ == helper if helper in HELPERS else id_ not in HELPERS)
        ]
        if not found:
            return None
        id_, pid = dice.choice(sorted(found))
        with self._lock:
            # before it is done: whoever looks at the container must find it here
            self._hits[id_] = float("inf")
        told = _end(pid)
        with self._lock:
            self._hits[id_] = time.monotonic()
        return f"{told} of {id_[:12]}"

    def _stop(self) -> None:
        process = self._engine.process
        assert process is not None
        process.terminate()
        code = process.wait(_STOP_SECONDS)
        self._engine.process = None
        if code != 0:
            self._journal.find("killer", f"wherryd ended with code {code} after SIGTERM")
        text = self._engine.log.read_text(errors="replace")
        fresh, self._judged = text[self._judged :], len(text)
        for line in fresh.splitlines():
            if DRAIN_WORDS in line:
                self._journal.find("killer", f"background work at a stop: {line}")


def _end(pid: int) -> str:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return str(pid)
