"""A whole engine under a fault: wherryd, its spawner and its workers, all under one filter (`trap`).

    with trapped() as engine:
        with engine.watched() as seen:              # the steps of an operation
            engine.call("POST", "/images/load", body)
        engine.arm("kill", seen[3])                 # the next time it comes to that step all of them are killed
        engine.call("POST", "/images/load", body)   # breaks off
        engine.start()

A step is a system call that changes a file below the data root, in words without what differs from run to run. `kill`
ends every process of the engine before the call is made; `full` fails it with ENOSPC, and every later one that asks for
room, until `disarm`.
"""

import array
import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.harness import BIN, EngineProcess, children, until
from tests.faults import trap
from tests.unix_http import UnixConnection

_RANDOM = re.compile(r"[0-9a-f]{8,}")


class Answer:
    """What a call came to: `status` (0: it broke off), `body`, `error` (in the engine's words, or empty)."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body
        self.error = ""
        if status >= 400:
            self.error = str(json.loads(body)["message"])
        elif body[:1] == b"{":
            lines = [json.loads(line) for line in body.splitlines() if line[:1] == b"{"]
            self.error = next((str(line["error"]) for line in lines if "error" in line), "")

    @property
    def good(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300 and not self.error


class WholeEngine(EngineProcess):
    """A wherryd whose changes of its data root pass by a supervisor, a thread of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []
        self.hit = ""
        self._kind = self._wanted = ""
        self._full = False
        self._calls = trap.numbers((*trap.BY_FD, *trap.BY_PATH, *trap.OPENS))
        self._program = trap.program(self._calls)
        self._listener = -1
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    # -- its life

    def launch(self) -> None:
        """Execute wherryd under the filter."""
        self._join()
        ours, theirs = socket.socketpair()

        def enter() -> None:
            listener = trap.install(self._program)
            rights = array.array("i", [listener]).tobytes()
            theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            os.close(listener)

        with open(self.log, "ab") as log, ours:
            self.process = subprocess.Popen(
                [str(BIN / "wherryd"), "--data-root", self.roots.data, "--exec-root", self.roots.run],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=enter,
            )
            theirs.close()
            _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
        self._listener = int.from_bytes(ancillary[0][2][:4], "little")
        self._thread = threading.Thread(target=self._supervise, args=(self.pid,))
        self._thread.start()

    def start(self) -> None:
        """Execute wherryd and wait until it answers."""
        self.launch()

        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"wherryd ended: {self.log.read_text()[-3000:]}"
            return self.call("GET", "/_ping").status == 200

        until(answers, "wherryd answers", 60)

    def destroy(self) -> None:
        """End it, and whatever it left."""
        self.disarm()
        super().destroy()
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            os.close(self._listener)

    def call(self, method: str, path: str, body: bytes | None = None, media_type: str = "application/x-tar") -> Answer:
        """Make one request; a connection that breaks off is an answer too."""
        connection = UnixConnection(self.roots.socket, 60, "localhost")
        try:
            connection.request(method, path, body, {"Content-Type": media_type} if body is not None else {})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException):
            return Answer(0, b"")
        finally:
            connection.close()

    # -- the fault

    def arm(self, kind: str, step: str) -> None:
        """Let it happen when the engine next comes to that step."""
        with self._lock:
            self._kind, self._wanted, self.hit, self._full = kind, step, "", False

    def disarm(self) -> None:
        """There is room again, and nothing happens any more."""
        self.arm("", "")

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """Give a list that has the steps, each once, when the block ends."""
        self.steps.clear()
        seen: list[str] = []
        yield seen
        seen += dict.fromkeys(self.steps)

    def dead(self) -> None:
        """Wait until the engine that was killed is gone."""
        assert self.process is not None
        self.process.wait(20)
        self.process = None
        self._join()

    def _supervise(self, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        try:
            while True:
                ready = dict(poll.poll())
                if self._listener in ready and ready[self._listener] & select.POLLIN:
                    notice = trap.receive(self._listener)
                    if notice is not None:
                        self._decide(pid, *notice)
                elif pidfd in ready:
                    return
        finally:
            os.close(pidfd)

    def _decide(self, pid: int, id_: int, who: int, number: int, arguments: tuple[int, ...]) -> None:
        name = self._calls[number]
        step = _RANDOM.sub("…", trap.describe(who, name, arguments, self.roots.data))
        with self._lock:
            refuse = False
            if step:
                self.steps.append(step)
                refuse = self._full and name in trap.ALLOCATES
                if step == self._wanted and not self.hit:
                    self.hit = step
                    if self._kind == "kill":
                        for process in _family(pid):
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(process, signal.SIGKILL)
                        return
                    self._full = True
                    refuse = name in trap.MAY_BE_FULL
        trap.answer(self._listener, id_, refuse)


def _family(pid: int) -> list[int]:
    """A process and all below it, itself first."""
    found = [pid]
    for one in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += children(one)
    return found


@contextmanager
def trapped(prepare: Callable[[WholeEngine], Any]) -> Iterator[WholeEngine]:
    """Give such an engine, started, with what `prepare` puts into it; nothing of it is left."""
    engine = WholeEngine()
    try:
        engine.start()
        prepare(engine)
        yield engine
        engine.assert_no_traceback()
    finally:
        engine.destroy()
    engine.assert_clean()
