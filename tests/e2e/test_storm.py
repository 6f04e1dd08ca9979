"""Containers run, stop and go while wherryd, the spawner and monitors are killed at random: nothing is stuck or lost.

Each container writes the code that it will exit with to a bind mount. What is recorded must be that code, or 137 where
somebody killed it, or say that it is lost, where its monitor was killed. `WHERRY_STORM=100` makes it a long one,
`WHERRY_SEED` another one.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Done, EngineProcess, children, titles, until

pytestmark = pytest.mark.root

CYCLES = int(os.environ.get("WHERRY_STORM", "24"))
SEED = int(os.environ.get("WHERRY_SEED", "7"))
SECONDS = 60.0
KINDS = ("wherryd", "wherryd twice", "spawner", "monitor", "helper")
# of each kind; the storm goes on until it had them
KILLS = 2


class Killer(threading.Thread):
    """Kills something every now and then, and starts wherryd again when that was it.

    Args:
        engine: whose processes.
        seed: of the choice.
    """

    def __init__(self, engine: EngineProcess, seed: int) -> None:
        super().__init__(daemon=True)
        self.engine = engine
        self.dice = random.Random(seed)
        self.over = threading.Event()
        self.monitors: set[str] = set()
        self.counts = Counter[str]()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while True:
                # in an order of chance, but each in its turn; monitors, that are many, twice
                for kind in self.dice.sample((*KINDS, "monitor"), len(KINDS) + 1):
                    if self.over.wait(self.dice.uniform(0.05, 0.5)):
                        return
                    self.strike(kind)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error

    def enough(self) -> bool:
        """Whether every kind of process was killed often enough."""
        return all(self.counts[kind] >= KILLS for kind in KINDS)

    def strike(self, what: str) -> None:
        engine = self.engine
        if what == "wherryd":
            engine.kill()
            time.sleep(self.dice.uniform(0, 0.2))
            engine.start()
        elif what == "wherryd twice":
            engine.kill()
            engine.launch()
            # in the midst of taking over what the first one left
            time.sleep(self.dice.uniform(0.05, 0.6))
            engine.kill()
            engine.start()
        elif what == "spawner":
            for pid in children(engine.pid):
                os.kill(pid, signal.SIGKILL)
        else:
            # a helper: whatever starts a process, removes a tree, or waits to become a monitor
            found = [line for line in titles(engine) if (line[1] == "wherry-monitor") == (what == "monitor")]
            found = [line for line in found if line[1] != "wherry-spawner"]
            if not found:
                return
            pid, _, id_ = self.dice.choice(found)
            # named before it is done: whoever looks at the exit must find it here
            self.monitors.add(id_)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        self.counts[what] += 1


class Cycle:
    """One container from its creation to its removal, whatever dies meanwhile."""

    def __init__(self, engine: EngineProcess, number: int, out: Path, killer: Killer) -> None:
        self.engine = engine
        self.number = number
        self.name = f"storm-{number}"
        self.code = number % 120 + 1
        self.file = out / self.name
        self.out = out
        self.killer = killer
        self.stopped = False

    def docker(self, *argv: str) -> Done:
        done = subprocess.run(
            ["docker", *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.engine.env,
            timeout=SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def inspect(self) -> dict[str, Any] | None:
        """The container, or None where it is not there; waits for a wherryd."""
        assert self.killer.error is None
        deadline = time.monotonic() + SECONDS
        while True:
            done = self.docker("inspect", "--type", "container", self.name)
            if done.code == 0:
                value: dict[str, Any] = json.loads(done.out)[0]
                return value
            if "No such container" in done.err:
                return None
            assert time.monotonic() < deadline, f"{self.name}: {done}"
            time.sleep(0.05)

    def until_started(self) -> dict[str, Any]:
        flags = ["-d", "--name", self.name, "-v", f"{self.out}:/out"]
        if self.number % 3 == 0:
            flags += ["-p", "127.0.0.1::80"]
        how = ("", "sleep 0.2;", "sleep 0.5;", "sleep 1000;", "trap 'exit 143' TERM; sleep 1000 & wait;")[
            self.number % 5
        ]
        script = f"{how} echo {self.code} >/out/{self.name}; exit {self.code}"
        deadline = time.monotonic() + SECONDS
        done = None
        while time.monotonic() < deadline:
            shown = self.inspect()
            if shown is None:
                done = self.docker("run", *flags, "busybox", "sh", "-c", script)
            elif shown["State"]["Status"] == "created":
                done = self.docker("start", self.name)
            else:
                return shown
        raise AssertionError(f"{self.name} does not start: {done} {self.inspect()}")

    def run(self) -> None:
        self.until_started()
        deadline = time.monotonic() + SECONDS
        while True:
            shown = self.inspect()
            assert shown is not None, f"{self.name} has vanished"
            if shown["State"]["Status"] == "exited":
                break
            assert time.monotonic() < deadline, f"{self.name} is stuck: {shown['State']}"
            if self.number % 5 >= 3 or self.number % 7 == 0:
                self.stopped = True
                self.docker("stop", "-t", "0" if self.number % 2 else "1", self.name)
        self.judge(shown["Id"], shown["State"])
        while self.inspect() is not None:
            assert time.monotonic() < deadline, f"{self.name} cannot be removed"
            self.docker("rm", *(["-f"] if self.number % 2 else []), self.name)

    def judge(self, id_: str, state: dict[str, Any]) -> None:
        wrote = int(self.file.read_text()) if self.file.exists() and self.file.read_text() else None
        code, error = state["ExitCode"], state["Error"]
        allowed: set[tuple[int, bool]] = set()
        if wrote is not None:
            allowed.add((wrote, False))
        if self.stopped:
            allowed |= {(137, False), (143, False)}
        if id_ in self.killer.monitors:
            allowed |= {(137, False), (255, True)}
        if code == 255 and error:
            assert "not known" in error, state
        assert (code, bool(error)) in allowed, f"{self.name}: wrote {wrote}, stopped {self.stopped}, {state}"


def test_a_storm(own_engine: EngineProcess) -> None:
    """Many cycles, three at a time, under fire: each kind of process is killed."""
    engine = own_engine
    out = engine.base / "out"
    out.mkdir()
    killer = Killer(engine, SEED)
    numbers = itertools.count()
    began = time.monotonic()

    def keep_going() -> None:
        while (number := next(numbers)) < CYCLES or (not killer.enough() and time.monotonic() < began + 2 * SECONDS):
            Cycle(engine, number, out, killer).run()

    killer.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            for future in [pool.submit(keep_going) for _ in range(3)]:
                future.result()
    finally:
        killer.over.set()
        killer.join(60)
        took = time.monotonic() - began
        print(f"\n{next(numbers) - 3} cycles in {took:.1f} s, killed {dict(killer.counts)}, seed {SEED}")
    assert killer.error is None, repr(killer.error)
    assert killer.enough(), f"too few were killed: {dict(killer.counts)}"
    assert engine.docker("ps", "-aq").out == ""
    engine.assert_nothing_runs()
    assert not os.listdir(engine.roots.containers)
    until(lambda: not os.listdir(engine.roots.trash), "the trash is emptied")
    until(lambda: not [line for line in titles(engine) if line[2]], "no monitor is left")
    until(lambda: len(children(engine.pid)) == 1, "wherryd has no zombies")
    table = engine.run("nft", "list", "table", "ip", engine.roots.scope).out
    assert "127.0.0.1 ." not in table, table
    assert not [name for name in os.listdir(engine.roots.run) if ".tmp" in name]
    engine.assert_no_traceback()
