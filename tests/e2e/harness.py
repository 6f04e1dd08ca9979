"""One wherryd as a subprocess, and the clients that people use against it."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cgroups import branches, processes
from wherry.paths import Roots

BIN = Path(sys.executable).parent
WHERRYD = str(BIN / "wherryd")
ROOT = Path(__file__).resolve().parent.parent.parent


class Done:
    """A finished command: `code`, and `out` and `err` as text."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")

    def __repr__(self) -> str:
        return f"Done(code={self.code}, out={self.out!r}, err={self.err!r})"


def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Poll `condition` until it is true; fails the test, naming `what`, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        select.select([], [], [], 0.01)


# for an engine to begin or to end, on a machine that does ten other things
_PATIENCE = 120.0


class EngineProcess:
    """A wherryd with unique roots.

    Args:
        flags: further flags of wherryd.
        program: the words that execute it, where that is not this checkout's `wherryd` alone.
    """

    def __init__(self, *flags: str, program: tuple[str, ...] = (WHERRYD,)) -> None:
        self.program = program
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None
        self._place()

    def _place(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="wherry-test-"))
        self.roots = Roots(str(self.base / "data"), str(self.base / "run"))
        self.host = f"unix://{self.roots.socket}"
        self.log = self.base / "wherryd.log"
        self._judged = 0

    def renew(self) -> None:
        """Destroy the engine, and start one with new roots and busybox in its place."""
        old = str(self.base)
        self.destroy()
        self._place()
        self.flags = tuple(flag.replace(old, str(self.base)) for flag in self.flags)
        self.program = tuple(word.replace(old, str(self.base)) for word in self.program)
        self.start()
        self.wherry("image", "bootstrap", "busybox")

    def configure(self, settings: dict[str, object]) -> None:
        """Give it a daemon.json, before it is started."""
        file = self.base / "daemon.json"
        file.write_text(json.dumps(settings))
        self.flags = (*self.flags, "--config-file", str(file))

    @property
    def env(self) -> dict[str, str]:
        """The environment in which `docker` and `wherry` talk to this engine."""
        return {**os.environ, "DOCKER_HOST": self.host, "WHERRY_HOST": self.host}

    @property
    def pid(self) -> int:
        """wherryd's pid."""
        assert self.process is not None
        return self.process.pid

    @property
    def spawner(self) -> int:
        """The spawner's pid."""
        return children(self.pid)[0]

    def start(self) -> None:
        """Execute wherryd and wait until it answers."""
        self.launch()

        def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"wherryd ended: {self.log.read_text()[-3000:]}"
            return self.docker("version", check=False).code == 0

        until(answers, "wherryd answers", _PATIENCE)

    def launch(self) -> None:
        """Execute wherryd; it may not answer yet."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "--data-root", self.roots.data, "--exec-root", self.roots.run, *self.flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )

    def stop(self) -> None:
        """End wherryd by SIGTERM; its containers go on."""
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(_PATIENCE) == 0, self.log.read_text()[-3000:]
            self.process = None

    def kill(self) -> None:
        """`kill -9` wherryd."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def run(
        self,
        *argv: str,
        stdin: bytes | None = None,
        code: int | None = 0,
        env: dict[str, str] | None = None,
        seconds: float = 120,
    ) -> Done:
        """Run a command against this engine; `code` is the wanted exit code (None: any)."""
        done = subprocess.run(
            argv,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**self.env, **(env or {})},
            timeout=seconds,
            check=False,
        )
        result = Done(done.returncode, done.stdout, done.stderr)
        assert code is None or result.code == code, f"{' '.join(argv)}: {result}\n{self.log_tail()}"
        return result

    def docker(self, *argv: str, stdin: bytes | None = None, code: int = 0, check: bool = True) -> Done:
        """Run the docker command."""
        return self.run("docker", *argv, stdin=stdin, code=code if check else None)

    def wherry(self, *argv: str, stdin: bytes | None = None, code: int = 0, check: bool = True) -> Done:
        """Run the wherry command."""
        return self.run(str(BIN / "wherry"), *argv, stdin=stdin, code=code if check else None)

    def log_tail(self) -> str:
        """The end of wherryd's log, for failures."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def remove_all(self) -> None:
        """Remove every container."""
        ids = self.docker("ps", "-aq", "--no-trunc").out.split()
        if ids:
            self.docker("rm", "-f", *ids, check=False)
        until(lambda: not self.docker("ps", "-aq").out.strip(), "all containers are removed")

    def end(self) -> None:
        """End wherryd, by force where it must be: what is removed after it is not made again."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
            self.process = None

    def destroy(self) -> None:
        """End the engine and whatever it left; never raises for what is already gone."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            if self.process is None:
                self.start()
            self.remove_all()
            self.docker("network", "prune", "-f", check=False)  # their bridges would stay
        self.end()
        subprocess.run(["ip", "link", "del", self.roots.bridge], check=False, capture_output=True)
        for family in ("ip", "ip6", "bridge"):
            for table in (self.roots.scope, f"{self.roots.scope}-marks"):
                subprocess.run(["nft", "delete", "table", family, table], check=False, capture_output=True)
        for top in branches(self.roots.scope):
            for state in top.glob("**/freezer.state"):
                with contextlib.suppress(OSError):
                    state.write_text("THAWED")  # what is frozen does not die (cgroup v1)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self.cgroups(remove=True), "cgroups are removed")
        shutil.rmtree(self.base, ignore_errors=True)

    # what an engine may leave

    def processes(self) -> list[int]:
        """Processes in this engine's cgroups."""
        return processes(self.roots.scope)

    def group(self, name: str) -> list[int]:
        """Processes in one cgroup of this engine, such as `monitors`."""
        return processes(f"{self.roots.scope}/{name}")

    def cgroups(self, *, remove: bool = False) -> list[str]:
        """Cgroup directories of this engine's containers; with `remove`, of the whole engine, removed where empty."""
        tops = branches(self.roots.scope)
        if remove:
            for top in tops:
                for directory in sorted((p for p in top.glob("**/") if p.is_dir()), reverse=True):
                    with contextlib.suppress(OSError):
                        directory.rmdir()
            return [str(top) for top in tops if top.exists()]
        return [
            str(path)
            for top in tops
            if (top / "containers").is_dir()
            for path in (top / "containers").iterdir()
            if path.is_dir()
        ]

    def links(self) -> list[str]:
        """Ports of this engine's bridge."""
        directory = Path(f"/sys/class/net/{self.roots.bridge}/brif")
        return [entry.name for entry in directory.iterdir()] if directory.is_dir() else []

    def mounts(self) -> list[str]:
        """Mounts of this engine in the host's mount table."""
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.base) in line]

    def assert_nothing_runs(self) -> None:
        """No container left anything, while the engine goes on."""
        until(lambda: not self.cgroups(), f"no cgroups: {self.cgroups()[:4]}")
        until(lambda: not self.links(), f"no links: {self.links()[:4]}")
        assert not self.mounts()
        until(lambda: not os.listdir(self.roots.sandboxes), "the run root is empty")

    def assert_no_traceback(self) -> None:
        """Neither wherryd nor a monitor met an unexpected error; what a call has seen, the next one does not report."""
        text = self.log.read_text(errors="replace")[self._judged :]
        self._judged += len(text)
        assert "Traceback" not in text, text[max(0, text.index("Traceback") - 500) :][:4000]
        assert "never retrieved" not in text, text[-3000:]

    def assert_clean(self) -> None:
        """Nothing of a destroyed engine is left."""
        assert not self.mounts()
        assert not Path(f"/sys/class/net/{self.roots.bridge}").exists()
        assert not self.processes()
        assert not self.base.exists()


@contextlib.contextmanager
def running(engine: EngineProcess, *, busybox: bool = True) -> Iterator[EngineProcess]:
    """Give an engine that runs and has busybox; at the end it met no unexpected error, and nothing of it is left."""
    try:
        engine.start()
        if busybox:
            engine.wherry("image", "bootstrap", "busybox")
        yield engine
        engine.assert_no_traceback()
    finally:
        engine.destroy()
    engine.assert_clean()


def within(namespace: int, *program: str) -> tuple[str, ...]:
    """The words that execute a program in a network namespace, which is given by a descriptor of this process."""
    return "nsenter", f"--net=/proc/{os.getpid()}/fd/{namespace}", *program


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cmdline(pid: int) -> bytes:
    """The words of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def monitor(engine: EngineProcess, name: str) -> int:
    """The pid of a container's monitor."""
    id_ = engine.docker("inspect", "-f", "{{.Id}}", name).out.strip()
    return int(json.loads(Path(f"{engine.roots.sandbox(id_)}/state.json").read_text())["monitor"]["pid"])


def titles(engine: EngineProcess) -> list[tuple[int, str, str]]:
    """(pid, name, container id) of the processes in the cgroup of monitors."""
    found = []
    for pid in engine.group("monitors"):
        try:
            name, _, id_ = cmdline(pid).rstrip(b"\0").decode(errors="replace").partition(" ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name:
            found.append((pid, name, id_))
    return found
