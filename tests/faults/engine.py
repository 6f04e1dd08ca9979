"""An engine under the trap (`tree`), as tests use it."""

import contextlib
import json
import socket
import subprocess
import sys
from typing import Any

from tests.api import raw
from tests.e2e.harness import ROOT, EngineProcess, until

Step = tuple[str, str, int]
"""Who does it, what it is, and which one of its like in this start."""


class TrappedEngine(EngineProcess):
    """A wherryd in which one step of a start can be made to fail. What it starts is under the trap too."""

    def __init__(self) -> None:
        super().__init__()
        self._path = str(self.base / "supervisor")
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.tree", self._path], cwd=ROOT, stdin=subprocess.DEVNULL
        )
        trap = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.faults.tree", self._path)
        self.program = (*trap, *self.program)
        self._control = socket.socket(socket.AF_UNIX)

        def connected() -> bool:
            with contextlib.suppress(OSError):
                self._control.connect(self._path)
                return True
            return False

        until(connected, "the supervisor answers")

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request: status and JSON; the status is 0 where the engine is not there to answer."""
        with contextlib.suppress(OSError, AssertionError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(self.roots.socket)
            answer = raw.ask(sock, method, path, None if body is None else json.dumps(body))
            return answer.status, answer.json if answer.body else None
        return 0, None

    def supervised(self) -> bool:
        """Whether the supervisor lives."""
        return self._supervisor.poll() is None

    def arm(self, id_: str, kind: str = "", step: Step | None = None) -> None:
        """From now on steps of that container's start are counted; `kill` or `full` comes at that step."""
        fault = {"kind": kind, "step": step} if step else None
        self._ask({"op": "arm", "id": id_, "base": str(self.base), "fault": fault})

    def disarm(self) -> tuple[list[Step], bool]:
        """The steps that were seen, and whether the fault was met; there is room on the disk again."""
        told = self._ask({"op": "disarm"})
        return [(role, what, nth) for role, what, nth in told["steps"]], told["hit"]

    def _ask(self, message: dict[str, Any]) -> Any:
        self._control.sendall(json.dumps(message).encode() + b"\n")
        return json.loads(raw.Reader(self._control).until(b"\n"))

    def destroy(self) -> None:
        """End it all, the supervisor last."""
        if self.process is not None and not self.supervised():
            self.process.kill()  # no call of it would be answered
        try:
            super().destroy()
        finally:
            self._control.close()
            try:
                self._supervisor.wait(20)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()
