"""kill -9 and a full disk at every step of an operation: how to use it.

A body is a function of a module that a fresh process can import; it gets one dictionary of plain values, opens its own
store below `root`, does one operation, and returns. It is run again and again in forks of one warm process, each time
with the fault one step later:

    def body(arguments):                                  # in tests/faults/bodies.py, or a module of your own
        with opened(arguments["root"]) as store:
            begin()
            store.run(store.images.load(…))

    with Injector() as injector:
        for fault, outcome in injector.every("kill", "tests.faults.bodies:body", {"root": root}, prepare):
            ...                                           # open the store again, hold that it is whole

`prepare()` is called before each run and puts the data root back to what the operation begins with. A step is a system
call that changes a file below the root: create, write, fsync, rename, unlink and the like, SQLite's included (`trap`).
`kill` ends the process before the step; `full` fails the step with ENOSPC, and every later one that asks for room.
Threads and workers make the order of steps differ a little from run to run; what a test holds must hold at any of them.
A body that connects to a server of the test's (a scripted registry) finds its port in `arguments`.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from tests.faults.trap import Fault, Outcome

_RANDOM = re.compile(r"[0-9a-f]{8,}")
_REPOSITORY = str(Path(__file__).parents[2])


class Injector:
    """One warm process that runs bodies under a trap. A context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_REPOSITORY,
            env={**os.environ, "PYTHONPATH": f"{_REPOSITORY}/src:{_REPOSITORY}", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def run(self, body: str, arguments: dict[str, Any], fault: Fault | None = None) -> Outcome:
        """Run a body once.

        Args:
            body: `module:function`.
            arguments: plain values; `root` is the data root.
            fault: what happens, and at which step; None counts the steps.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"body": body, "arguments": arguments, "fault": [fault.kind, fault.at] if fault else None}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process that runs bodies has died"
        outcome = Outcome()
        outcome.__dict__.update(json.loads(line))
        return outcome

    def every(
        self,
        kind: str,
        body: str,
        arguments: dict[str, Any],
        prepare: Callable[[], object],
        *,
        start: bool = False,
    ) -> Iterator[tuple[int, Outcome]]:
        """Run a body with the fault at each step, one after the other; gives step and outcome.

        Of steps in a row that do the same to the same file only the first is taken.

        Args:
            kind: `kill` or `full`.
            prepare: called before each run.
            start: also before the body said `begin`: an engine may be killed while it cleans up after the last kill.
        """
        prepare()
        whole = self.run(body, arguments)
        assert whole.ended == "returned", whole.error
        assert whole.steps, "no step was seen"
        before = ""
        for at, step in enumerate(whole.steps, 1):
            if _RANDOM.sub("", step) == before:
                continue
            before = _RANDOM.sub("", step)
            if not start and at <= whole.began:
                continue
            prepare()
            outcome = self.run(body, arguments, Fault(kind, at))
            if outcome.hit:
                yield at, outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)
