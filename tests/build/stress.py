"""Many small builds with cache mounts at once, while monitors and helpers of others are killed: none may hang.

    python -m tests.build.stress [--builds 5000] [--at-once 8] [--seconds 20] [--no-kills]

Where a build takes longer, the engine writes its stacks. They are printed with what the kernel says of every process of
the engine, and the exit code is 1.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.build.conftest import tar_of
from tests.e2e.harness import EngineProcess, running, until
from tests.e2e.shared import ask
from tests.unix_http import UnixConnection

_BUILDS = (
    "RUN --mount=type=cache,id=new-{n},target=/c echo {n} >/c/f && echo out-{n}\n",
    "RUN --mount=type=cache,id=locked,sharing=locked,target=/c echo {n} >>/c/f && echo out-{n}\n",
    "RUN --mount=type=cache,id=private,sharing=private,target=/c echo {n} >/c/f && echo out-{n}\n",
    "RUN --mount=type=cache,id=filled-{n},target=/c,from=busybox,source=/etc cat /c/passwd >/dev/null; echo out-{n}\n",
    "RUN --mount=type=cache,id=shared,target=/c sleep 1000 & echo out-{n}\n",
    "RUN --mount=type=cache,id=shared,target=/c seq 20000 && echo out-{n}\n",
    "RUN --mount=type=cache,id=shared,target=/c echo out-{n}\nRUN --mount=type=cache,id=shared,target=/c : {n}\n",
    "RUN {one} {other} echo out-{n}\n",
    "RUN {other} {one} echo out-{n}\n",
    "RUN {one} --mount=type=cache,id=locked,sharing=locked,target=/e echo out-{n}\n",
    "RUN --mount=type=cache,id=locked,sharing=locked,target=/c echo out-{n}; exit 3\n",
)
_ALONE = {
    "one": "--mount=type=cache,id=locked,sharing=locked,target=/c",
    "other": "--mount=type=cache,id=other,sharing=locked,target=/d",
}
_FAILS = len(_BUILDS) - 1
_LEAVES = 13  # the client of each thirteenth build leaves at its first output


class Hung(AssertionError):
    """A build took too long; the message says what everybody did at that moment."""


class Stress:
    """The builds, and what came of them.

    Args:
        engine: has busybox; nobody else uses it.
        seconds: how long a build may take.
        kills: also kill monitors, spare processes and the spawner.
        seed: of the choices.

    Attributes:
        done: outcome -> how many builds ended so.
    """

    def __init__(self, engine: EngineProcess, *, seconds: float, kills: bool, seed: int = 0) -> None:
        self.engine = engine
        self.seconds = seconds
        self.kills = kills
        self.done: dict[str, int] = {}
        self.slowest = 0.0
        self._numbers = itertools.count()
        self._chance = random.Random(seed)
        self._failure: BaseException | None = None
        self._over = threading.Event()

    def run(self, builds: int, at_once: int) -> None:
        """Do that many builds.

        Raises:
            Hung: one took too long.
            AssertionError: one ended with something else than it should.
        """
        workers = [threading.Thread(target=self._work, args=(builds,)) for _ in range(at_once)]
        beside = [threading.Thread(target=self._kill)] if self.kills else []
        for thread in (*workers, *beside):
            thread.start()
        for thread in workers:
            thread.join()
        self._over.set()
        for thread in beside:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self, builds: int) -> None:
        try:
            while self._failure is None and (number := next(self._numbers)) < builds:
                began = time.monotonic()
                outcome = self._build(number)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.done[outcome] = self.done.get(outcome, 0) + 1
                if number % 500 == 499:
                    ask(self.engine, "POST", "/build/prune?all=1")
        except BaseException as error:  # noqa: BLE001 - the caller of `run` gets it
            self._failure = self._failure or error

    def _build(self, number: int) -> str:
        kind = number % len(_BUILDS)
        dockerfile = "FROM busybox\n" + _BUILDS[kind].format(n=number, **_ALONE)
        network = "none" if number % 3 else "default"
        connection = UnixConnection(self.engine.roots.socket, self.seconds)
        text = b""
        try:
            # what a build may take all in all, not each read
            deadline = time.monotonic() + self.seconds
            path = f"/build?q=0&rm=1&networkmode={network}"
            connection.request(
                "POST", path, tar_of({"Dockerfile": dockerfile.encode()}), {"Content-Type": "application/x-tar"}
            )
            response = connection.getresponse()
            while piece := response.read1(65536):
                text += piece
                if number % _LEAVES == 0 and b"Running in" in text:
                    return "client left"
                if time.monotonic() > deadline:
                    raise TimeoutError
        except TimeoutError:
            raise Hung(
                f"build {number} takes over {self.seconds} s: {dockerfile}{text.decode()}\n{self._look()}"
            ) from None
        finally:
            connection.close()
        last = json.loads(text.strip().splitlines()[-1])
        if error := last.get("error", ""):
            if kind == _FAILS and "returned a non-zero code: 3" in error:
                return "failed as it should"
            assert self.kills, f"build {number}: {error}"
            assert "internal error" not in error, f"build {number}: {error}"
            return "killed"
        assert kind != _FAILS, f"build {number} did not fail"
        assert f"out-{number}".encode() in text, text.decode()
        return "built"

    def _kill(self) -> None:
        while not self._over.wait(self._chance.uniform(0.05, 0.5)):
            victims = self.engine.group("monitors")
            if not victims:
                continue
            victim = self._chance.choice(victims)
            # the spawner, a spare, a monitor, or what starts a process; a worker's error has no words of its own
            with contextlib.suppress(OSError):
                if Path(f"/proc/{victim}/comm").read_text().strip() in _VICTIMS:
                    os.kill(victim, signal.SIGKILL)

    def _look(self) -> str:
        parts = []
        with contextlib.suppress(Exception):
            os.kill(self.engine.pid, signal.SIGUSR1)
            run = Path(self.engine.roots.run)
            until(lambda: list(run.glob("stacks-*.log")), "the engine writes its stacks", 10)
            time.sleep(1)  # a file that is being written
            parts += [path.read_text() for path in run.glob("stacks-*.log")]
        for pid in self.engine.processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parts.append(f"{pid} {words}: {Path(f'/proc/{pid}/wchan').read_text()}")
                parts.append("  " + Path(f"/proc/{pid}/stack").read_text().replace("\n", "\n  "))
                parts.append("  " + " ".join(os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()))
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            parts.append(f"system info: {ask(self.engine, 'GET', '/info')}"[:2000])
        return "\n".join([*parts, self.engine.log_tail()])


_VICTIMS = ("wherry-spawner", "wherry-spare", "wherry-monitor", "wherry-launch")


def main() -> int:
    """Run it on an engine of its own; returns the exit code."""
    given = argparse.ArgumentParser(description="builds with cache mounts, none of which may hang")
    given.add_argument("--builds", type=int, default=5000)
    given.add_argument("--at-once", type=int, default=8)
    given.add_argument("--seconds", type=float, default=20.0)
    given.add_argument("--no-kills", action="store_true")
    given.add_argument("--seed", type=int, default=0)
    flags = given.parse_args()
    with running(EngineProcess()) as engine:
        stress = Stress(engine, seconds=flags.seconds, kills=not flags.no_kills, seed=flags.seed)
        began = time.monotonic()
        try:
            stress.run(flags.builds, flags.at_once)
        except AssertionError as error:
            print(error)
            return 1
        finally:
            print(f"{stress.done} in {time.monotonic() - began:.0f} s, the slowest {stress.slowest:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
