"""`kill -9` and a full disk at every step of a container's start: in wherryd, the spawner, the monitor, its helper and
process 1 (section G).

One of each kind of step is taken; with `WHERRY_FAULT_STEPS=all` it is every step there is.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import cmdline, until
from tests.faults.engine import Step, TrappedEngine
from tests.faults.tree import MAY_BE_FULL
from wherry.network.device import PORT

pytestmark = pytest.mark.root

ALL = os.environ.get("WHERRY_FAULT_STEPS") == "all"
REQUEST = {
    "Image": "busybox",
    "Cmd": ["sleep", "1000"],
    "ExposedPorts": {"80/tcp": {}},
    "HostConfig": {
        "NetworkMode": "net1",
        "Binds": ["vol1:/data"],
        "Tmpfs": {"/scratch": ""},
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
    },
}


class Scene:
    """An engine with a network, a volume and a container `kept` that runs; each turn starts another one."""

    def __init__(self, engine: TrappedEngine) -> None:
        self.engine = engine
        engine.start()
        engine.wherry("image", "bootstrap", "busybox")
        engine.docker("network", "create", "net1")
        self.create("kept")
        assert engine.call("POST", "/containers/kept/start") == (204, None)
        self.kept = self.state("kept")["Pid"]
        # so that the first turn finds what any other finds: the volume, netd, the seccomp program
        self.turn("")
        # what the turn ended may still be dying: what stays is `kept`, its monitor, netd and netd's monitor
        until(lambda: len(self.processes()) == 4, "only what stays is there")
        self.around = self.processes()

    def create(self, name: str) -> str:
        """Make a container; its id."""
        status, answer = self.engine.call("POST", f"/containers/create?name={name}", REQUEST)
        assert status == 201, answer
        return str(answer["Id"])

    def state(self, name: str) -> dict[str, Any]:
        """What `inspect` says of its state."""
        status, answer = self.engine.call("GET", f"/containers/{name}/json")
        assert status == 200, answer
        return dict(answer["State"])

    def processes(self) -> set[int]:
        """The engine's, without itself, its spawner, and workers that come and go."""
        assert self.engine.process is not None
        return {pid for pid in self.engine.processes() if _lasts(pid)}

    def turn(self, kind: str, step: Step | None = None, *, ran: bool = False) -> list[Step]:
        """Start a container, with a fault or without, and hold that all is as it should be afterwards.

        Args:
            kind, step: the fault, and where.
            ran: it has run before, and ended with 137.
        """
        engine = self.engine
        id_ = self.create("web")
        if ran:
            self._run_once(id_)
        engine.arm(id_, kind, step)
        status, answer = engine.call("POST", f"/containers/{id_}/start")
        seen, hit = engine.disarm()
        if step is None:
            assert status == 204, answer
        elif not hit:
            engine.call("DELETE", f"/containers/{id_}?force=1")
            return seen
        self._told(kind, status, answer)
        if kind == "kill" and step is not None and step[0] == "spawner":
            # another takes its place, whether it had forked the monitor or not
            assert status == 204, (step, answer)
        if status == 0:
            assert engine.process is not None
            engine.process.wait(20)
            engine.start()
        self._whole(id_, status)
        if ran:
            self._remembers(id_)
        self._again(id_)
        return seen

    def orderly(self) -> bool:
        """Whether `kept` is there alone, and engine and supervisor live."""
        status, answer = self.engine.call("GET", "/containers/json?all=1")
        return self.engine.supervised() and status == 200 and [one["Names"] for one in answer] == [["/kept"]]

    def _run_once(self, id_: str) -> None:
        assert self.engine.call("POST", f"/containers/{id_}/start") == (204, None)
        assert self.engine.call("POST", f"/containers/{id_}/kill") == (204, None)
        until(lambda: self.state(id_)["Status"] == "exited", "its first run has ended")
        self._nothing_left(id_)

    def _remembers(self, id_: str) -> None:
        """That it ran before is not forgotten, whatever came of this start."""
        state = self.state(id_)
        assert state["Status"] in ("exited", "running"), state
        assert not state["StartedAt"].startswith("0001"), state
        if not state["Running"] and not state["Error"]:
            assert state["ExitCode"] == 137, state
            assert not state["FinishedAt"].startswith("0001"), state

    def _told(self, kind: str, status: int, answer: Any) -> None:
        """Who asked hears of it, in words, unless nobody is there to say so."""
        if status == 0:
            assert kind == "kill"
            return
        assert status == 204 or answer["message"], (status, answer)
        if kind == "full" and status != 204:
            # what process 1 could not mount is answered as a mistake of the request, as by dockerd
            assert status in (400, 500), answer
            assert "no space left on device" in answer["message"].lower(), answer

    def _whole(self, id_: str, status: int) -> None:
        """It runs, or nothing of the start is left; what was there before is untouched."""
        roots, state = self.engine.roots, self.state(id_)
        if status > 204:
            assert state["Status"] in ("created", "exited"), state
            assert state["Error"], state
        if state["Running"]:
            assert cmdline(state["Pid"]).startswith(b"sleep\0")
        else:
            assert state["Status"] in ("created", "exited"), state
            self._nothing_left(id_)
        for directory in (roots.container(id_), roots.sandbox(id_)):
            for name in os.listdir(directory) if os.path.isdir(directory) else ():
                path = Path(directory, name)
                assert not name.endswith(".json") or json.loads(path.read_text()), name
        assert not self.engine.mounts()
        kept = self.state("kept")
        assert (kept["Pid"], kept["Running"]) == (self.kept, True)

    def _again(self, id_: str) -> None:
        """It can be started, and when it is removed nothing is left."""
        if not self.state(id_)["Running"]:
            status, answer = self.engine.call("POST", f"/containers/{id_}/start")
            assert status == 204, answer
        assert cmdline(self.state(id_)["Pid"]).startswith(b"sleep\0")
        status, answer = self.engine.call("DELETE", f"/containers/{id_}?force=1")
        assert status == 204, answer
        self._nothing_left(id_)
        until(lambda: id_ not in os.listdir(self.engine.roots.containers), "its directory is gone")

    def _nothing_left(self, id_: str) -> None:
        engine = self.engine
        until(lambda: not [path for path in engine.cgroups() if id_ in path], "its cgroups are gone")
        links = f"{PORT}{id_[:4]}"
        until(
            lambda: not [name for name in os.listdir("/sys/class/net") if name.startswith(links)], "its links are gone"
        )
        until(lambda: id_ not in os.listdir(engine.roots.sandboxes), "its sandbox is gone")
        if hasattr(self, "around"):
            until(lambda: self.processes() == self.around, "its processes are gone")


def _lasts(pid: int) -> bool:
    """Whether a process stays: a monitor, netd, a container's; not wherryd, nor a spawner and its workers."""
    try:
        words = cmdline(pid)
    except OSError:
        return False
    return words.startswith((b"wherry-monitor", b"wherry-netd", b"sleep\0"))


_FAMILIES = {
    **dict.fromkeys(("chmod", "fchmod", "fchmodat", "openat", "openat2", "write"), "write"),
    **dict.fromkeys(("open_tree", "mount_setattr", "move_mount"), "move_mount"),
    **dict.fromkeys(("mknodat", "symlinkat"), "mknodat"),
}


def kinds(steps: list[Step]) -> list[Step]:
    """The steps to take, each once: all of them, or the first of each kind."""
    wanted: dict[object, Step] = {}
    for role, what, nth in steps:
        call, _, where = what.partition(" ")
        place = where.split("/")[1] if where.startswith("/") else where if call.startswith("send") else ""
        key = (role, what, nth) if ALL else (role, _FAMILIES.get(call, call), place)
        wanted.setdefault(key, (role, what, nth))
    return list(wanted.values())


class Stage:
    """Where the scene is; it is set anew when a test left it in disorder."""

    def __init__(self) -> None:
        self._scene: Scene | None = None

    def scene(self) -> Scene:
        """The engine and its inhabitants."""
        if self._scene is not None and not self._scene.orderly():
            self.clear()
        if self._scene is None:
            engine = TrappedEngine()
            try:
                self._scene = Scene(engine)
            except BaseException:
                engine.destroy()
                raise
        return self._scene

    def clear(self) -> None:
        """End the engine; nothing of it is left."""
        if self._scene is not None:
            engine, self._scene = self._scene.engine, None
            engine.destroy()
            engine.assert_clean()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Give the stage, which is empty at first and afterwards."""
    stage = Stage()
    try:
        yield stage
    finally:
        stage.clear()


@pytest.fixture
def scene(stage: Stage) -> Scene:
    """Give the engine and its inhabitants, as no test before has left them otherwise."""
    return stage.scene()


@pytest.mark.parametrize("ran", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("kind", ["kill", "full"])
def test_every_step_of_a_start(scene: Scene, kind: str, ran: bool) -> None:
    """Whoever is killed, or finds no room: the container runs or does not, says why, and starts when asked again."""
    steps = kinds(scene.turn("", ran=ran))
    assert {role for role, _, _ in steps} >= {"wherryd", "spawner", "monitor", "launch", "process 1"}
    if kind == "full":
        steps = [step for step in steps if step[1].partition(" ")[0] in MAY_BE_FULL]
    met = 0
    for step in steps:
        try:
            seen = scene.turn(kind, step, ran=ran)
        except Exception as error:
            raise AssertionError(f"{kind} at {step}") from error
        met += step in seen
    assert met > len(steps) * 0.8
    assert scene.engine.docker("exec", "kept", "cat", "/etc/hostname").out


def test_an_exec_on_a_full_disk(scene: Scene) -> None:
    """What cannot be noted down runs all the same, ends, and its code is known."""
    id_ = scene.engine.docker("inspect", "-f", "{{.Id}}", "kept").out.strip()
    step = ("monitor", "openat /run/containers/N/.state.json.N.tmp", 1)
    scene.engine.arm(id_, "full", step)
    done = scene.engine.docker("exec", "kept", "sh", "-c", "echo said; exit 7", code=7)
    seen, hit = scene.engine.disarm()
    assert hit, seen
    assert done.out == "said\n"
