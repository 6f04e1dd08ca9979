"""Users of a chaos run: each a thread with the docker command, and containers, networks and more of its own."""

import http.client
import random
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.chaos.journal import Journal
from tests.chaos.killer import Killer
from tests.chaos.model import ABSENT, LIVE, Box, Thing, differences, place_of
from tests.e2e.harness import Done, EngineProcess
from tests.e2e.shared import ask

SHARED_NETWORK = "chaos-shared"
_BOXES, _THINGS = 4, 2
# of one command, and of one look at the engine (seconds)
_COMMAND_SECONDS = 120
_LOOK_SECONDS = 60.0
_PAUSE = 0.05
# a process of the container was killed with the container, and its client was told so
_KILLED = 137
_UNKNOWN = 255
_NOT_BEGUN = 126
_EXEC_FAILED = "OCI runtime exec failed"
_SHAMEFUL = ("internal error", "Traceback", "never retrieved")
_KINDS = ("plain", "plain", "port", "network", "network port", "always", "flees", "rm", "served", "none")
SERVE = (
    "echo here $HOSTNAME; echo $HOSTNAME >/index.html; httpd -h / -p 80; "
    "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"
)
FLEE = "echo here $HOSTNAME; sleep 1; exit 1"


class User:
    """See the module. Each step's dice depend on the seed, the user and the step's number alone.

    Args:
        engine: which everybody uses.
        number: of this user.
        seed: of the choice.
        journal: is told of each command.
        killer: knows what was killed.
        port: where HAProxy is to listen for this run's service.
        files: a directory for files that are copied and contexts that are built.
    """

    def __init__(
        self, engine: EngineProcess, number: int, seed: str, journal: Journal, killer: Killer, port: int, files: Path
    ) -> None:
        self.thread = threading.Thread(target=self._live, name=f"user {number}", daemon=True)
        self.over = threading.Event()
        self.label = f"u{number}"
        self.boxes = [Box(f"{self.label}-box{index}") for index in range(_BOXES)]
        self.networks = [Thing(f"{self.label}-net{index}") for index in range(_THINGS)]
        self.volumes = [Thing(f"{self.label}-vol{index}") for index in range(_THINGS)]
        self.images = [Thing(f"{self.label}-img{index}:latest") for index in range(_THINGS)]
        self.engine = engine
        self._seed = seed
        self._journal = journal
        self._killer = killer
        self._port = port
        self._files = files / self.label
        self._files.mkdir()
        self._dice = random.Random()
        self._step = 0

    def _live(self) -> None:
        """Take steps until `over` is set."""
        try:
            while not (self.over.is_set() or self._killer.engine_gone):
                self._step += 1
                self._dice = random.Random(f"{self._seed}/{self.label}/{self._step}")
                self._take_step()
        except BaseException:  # noqa: BLE001 - a thread's failure is a finding
            self.find(traceback.format_exc())

    def find(self, text: str) -> None:
        """Record a finding."""
        self._journal.find(self.label, text)

    # ---- commands

    def docker(self, *argv: str, what: Iterable[Box] = (), speaks: bool = True, quiet: bool = False) -> Done:
        """Run the docker command and judge how it fails.

        Args:
            argv: its words.
            what: the containers that it is about: a kill of their monitors excuses a failure.
            speaks: the exit code is not that of a container's process.
            quiet: a failure is no finding where nothing was killed.
        """
        began = time.monotonic()
        try:
            process = subprocess.run(
                ["docker", *argv],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**self.engine.env, "DOCKER_BUILDKIT": "0"},
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            self.find(f"docker {' '.join(argv)} hangs: {error.stderr!r}")
            return Done(-1, b"", b"hangs")
        done = Done(process.returncode, process.stdout, process.stderr)
        ended = time.monotonic()
        words = " ".join(argv)
        # an exec that does not begin is told where its output would be, by dockerd too
        told = done.out if done.code == _NOT_BEGUN and _EXEC_FAILED in done.out else ""
        said = f"{done.err}{told}".strip().replace("\n", " | ")
        self._journal.say(
            self.label, f"docker {words} -> {done.code} ({ended - began:.2f} s) {said if done.code else ''}"
        )
        self._journal.command(failed=done.code != 0)
        for shame in _SHAMEFUL:
            if shame in done.err or shame in done.out:
                self.find(f"docker {words}: {done}")
        if done.code == 0:
            return done
        hit = any(box.loose or self._killer.hit(box.id, box.started) for box in what)
        # the docker command asks for the exit code of an exec at its end; where nothing answers, it says no word
        mute = done.code == _KILLED or (done.code == _UNKNOWN and self._killer.near(began, ended, "wherryd"))
        if not said and (speaks or not mute):
            self.find(f"docker {words} fails without a word: {done}")
        if not (quiet or hit or self._killer.near(began, ended)):
            self.find(f"docker {words} fails, and nothing was killed: {done}")
        return done

    # ---- looks

    def ask(self, path: str) -> Any:
        """GET from the engine's API, with patience while wherryd is away; None for 404.

        Raises:
            TimeoutError: the engine does not answer.
        """
        deadline = time.monotonic() + _LOOK_SECONDS
        while True:
            try:
                answer = ask(self.engine, "GET", path)
            except (OSError, http.client.HTTPException):
                answer = {"message": "away"}
            if not (isinstance(answer, dict) and answer.keys() == {"message"}):
                return answer
            if str(answer["message"]).lower().startswith(("no such", "network ", "get ", "container ")):
                return None
            if time.monotonic() > deadline or self._killer.engine_gone:
                raise TimeoutError(f"{path}: {answer}")
            time.sleep(_PAUSE)

    def look(self, box: Box) -> None:
        """Compare a container with what it must be, and remember what it is."""
        deadline = time.monotonic() + _LOOK_SECONDS
        while True:
            began = time.monotonic()
            shown = self.ask(f"/containers/{box.name}/json")
            status = shown["State"]["Status"] if shown is not None else ABSENT
            may = box.may | (LIVE if box.may & LIVE and box.policy else frozenset())
            if box.loose:
                may |= LIVE | {"exited"}
            if self._killer.hit(box.id, box.started):
                may |= box.after_a_kill()
            # what is on its way gets its time: an end that is being recorded, a removal
            passing = status == "removing" or (box.removed and status == "exited")
            if status in may and not passing:
                break
            if time.monotonic() > deadline:
                self.find(f"{box.name} is {status}, not {sorted(may)}: {shown and shown['State']}")
                break
            time.sleep(_PAUSE)
        if shown is not None and box.id and shown["Id"] != box.id and ABSENT not in box.may:
            self.find(f"{box.name} was {box.id}, is {shown['Id']}")
        self._compare(box, shown, status, began)
        box.may = frozenset({status})
        box.id = shown["Id"] if shown is not None else ""

    def _compare(self, box: Box, shown: dict[str, Any] | None, status: str, began: float) -> None:
        live = shown is not None and status in ("running", "paused")
        now = place_of(shown) if shown is not None and live else None
        before = box.place
        hit = self._killer.hit(box.id, box.started)
        if now is not None and before is not None and not (hit and box.policy):
            wrong = differences(before, now, box.moving)
            if wrong:
                self.find(f"{box.name}: {'; '.join(wrong)}")
        if shown is not None and live and shown["State"]["Error"]:
            self.find(f"{box.name}: {shown['State']['Error']}")
        if now is not None and now["Networks"].keys() - box.moving != box.networks - box.moving:
            self.find(f"{box.name} is on {sorted(now['Networks'])}, not on {sorted(box.networks)}")
        if hit and before is not None and now is not None and now["Pid"] != before["Pid"]:
            box.started = began  # its policy has started it again: from here on that run counts
        if now is not None:
            # what came of a connect that was cut while it ended is only told when it runs again
            box.networks = set(now["Networks"])
            box.moving = set()
        box.place = now if not box.flees else None

    def look_at(self, thing: Thing, path: str) -> None:
        """Compare a network, a volume or an image with what it must be."""
        shown = self.ask(path)
        status = ABSENT if shown is None else "present"
        if status not in thing.may:
            self.find(f"{thing.name} is {status}, not {sorted(thing.may)}")
        if shown is not None and thing.id and shown.get("Id", thing.id) != thing.id and thing.may == {"present"}:
            self.find(f"{thing.name} was {thing.id}, is {shown.get('Id')}")
        thing.may = frozenset({status})
        thing.id = shown.get("Id", "") if shown is not None else ""

    def look_at_all(self) -> None:
        """Look at everything of this user."""
        for box in self.boxes:
            self.look(box)
        for network in self.networks:
            self.look_at(network, f"/networks/{network.name}")
        for volume in self.volumes:
            self.look_at(volume, f"/volumes/{volume.name}")
        for image in self.images:
            self.look_at(image, f"/images/{image.name}/json")

    def removal(self) -> list[tuple[str, ...]]:
        """Commands that remove all that this user has."""
        boxes = [("rm", "-f", one.name) for one in self.boxes if one.here]
        networks = [("network", "rm", one.name) for one in self.networks if one.here]
        volumes = [("volume", "rm", one.name) for one in self.volumes if one.here]
        return [*boxes, *networks, *volumes, *(("rmi", one.name) for one in self.images if one.here)]

    # ---- steps

    def _take_step(self) -> None:
        box = self._dice.choice(self.boxes)
        roll = self._dice.random()
        if roll < 0.2:
            self._dice.choice((self._network, self._network, self._volume, self._image))()
            return
        if roll < 0.27:
            self._foreground()
            return
        status = next(iter(box.may))
        verbs = _FLEEING if box.flees and status in LIVE else _VERBS[status]
        self._dice.choice(verbs)(self, box)

    def _change(
        self, box: Box, after: Iterable[str], *argv: str, between: Iterable[str] = (), starts: bool = False
    ) -> Done:
        """Run a command that brings a container from one status to another, and look at it."""
        before, began = box.may, time.monotonic()
        if starts:
            # an older run's place and kills say nothing of the new one
            box.place = None
        done = self.docker(*argv, what=[box])
        if starts and done.code == 0:
            box.started, box.loose = began, False
        elif box.policy and done.code != 0:
            box.loose = True
        box.may = frozenset(after) if done.code == 0 else before | frozenset(after) | frozenset(between)
        self.look(box)
        return done

    def _run(self, box: Box) -> None:
        dice = self._dice
        kind = dice.choice(
            ("plain", "plain", "port", "network", "network port", "always", "flees", "rm", "served", "none")
        )
        networks = [one.name for one in self.networks if one.here] + [SHARED_NETWORK]
        images = [one.name for one in self.images if one.here] + ["busybox", "busybox"]
        volumes = [one.name for one in self.volumes if one.here]
        network = dice.choice(networks) if "network" in kind else ("none" if kind == "none" else "bridge")
        box.policy, box.flees, box.loose = (
            "unless-stopped" if kind in ("always", "flees") else "",
            kind == "flees",
            False,
        )
        box.removed, box.served = kind == "rm", kind == "served"
        box.networks, box.image = {network}, dice.choice(images)
        box.volume = dice.choice(volumes) if volumes and dice.random() < 0.5 else ""
        flags = ["--name", box.name, "--hostname", box.name, "--network", network]
        flags += ["--restart", box.policy] if box.policy else []
        flags += ["--rm"] if box.removed else []
        flags += ["-p", dice.choice(("127.0.0.1::80", "80"))] if "port" in kind else []
        flags += ["-v", f"{box.volume}:/data"] if box.volume else []
        if box.served:
            labels = {"": "chaos", ".port": "80", ".publish": f"127.0.0.1:{self._port}", ".drain": "1"}
            flags += [word for key, value in labels.items() for word in ("--label", f"wherry.service{key}={value}")]
        box.started, box.id, box.place = time.monotonic(), "", None
        command = ("sh", "-c", FLEE if kind == "flees" else SERVE)
        if kind != "flees" and dice.random() < 0.25:
            if self._change(box, {"created"}, "create", *flags, box.image, *command).code == 0:
                self._start(box)
            return
        # a start that fails leaves `created`, with --rm nothing; what was cut may have got as far as an end
        between = {"created", "exited", "restarting"} if box.policy else {"created", "exited"}
        self._change(box, {"running"}, "run", "-d", *flags, box.image, *command, between=between, starts=True)

    def _start(self, box: Box) -> None:
        self._change(box, {"running"}, "start", box.name, between={"exited", "restarting"}, starts=True)

    def _restart(self, box: Box) -> None:
        self._change(
            box, {"running"}, "restart", "-t", "1", box.name, between={"exited", "restarting", ABSENT}, starts=True
        )

    def _stop(self, box: Box) -> None:
        self._change(box, self._ended(box), "stop", "-t", self._dice.choice("012"), box.name, between=LIVE)

    def _kill(self, box: Box) -> None:
        self._change(box, self._ended(box), "kill", box.name, between=LIVE)

    def _ended(self, box: Box) -> frozenset[str]:
        return frozenset({ABSENT}) if box.removed else frozenset({"exited"})

    def _rm(self, box: Box) -> None:
        self._change(box, {ABSENT}, "rm", box.name)

    def _rm_force(self, box: Box) -> None:
        self._change(box, {ABSENT}, "rm", "-f", box.name, between=self._ended(box) | LIVE)

    def _pause(self, box: Box) -> None:
        self._change(box, {"paused"}, "pause", box.name)

    def _unpause(self, box: Box) -> None:
        self._change(box, {"running"}, "unpause", box.name)

    def _exec(self, box: Box) -> None:
        word = f"{self._step}-{self._dice.randrange(10**9)}"
        done = self.docker("exec", box.name, "echo", word, what=[box], speaks=False)
        if done.code == 0 and done.out != f"{word}\n":
            self.find(f"docker exec {box.name} echo {word} gives {done}")
        self.look(box)

    def _logs(self, box: Box) -> None:
        done = self.docker("logs", box.name, what=[box])
        if done.code == 0 and f"here {box.name}" not in done.out:
            self.find(f"docker logs {box.name} gives {done}")

    def _cp(self, box: Box) -> None:
        word = f"{self._step}-{self._dice.randrange(10**9)}"
        (self._files / "in").write_text(word)
        (self._files / "out").unlink(missing_ok=True)
        # a container that flees may be between two runs: its files are the same
        if self.docker("cp", str(self._files / "in"), f"{box.name}:/copied", what=[box]).code != 0:
            self.look(box)
            return
        done = self.docker("cp", f"{box.name}:/copied", str(self._files / "out"), what=[box])
        if done.code == 0 and (self._files / "out").read_text() != word:
            self.find(f"docker cp {box.name}: {(self._files / 'out').read_text()!r}, not {word!r}")

    def _commit(self, box: Box) -> None:
        absent = [one for one in self.images if not one.here]
        if absent:
            image = self._dice.choice(absent)
            self._make(image, f"/images/{image.name}/json", "commit", box.name, image.name)
            self.look(box)

    def _connect(self, box: Box) -> None:
        others = [one.name for one in self.networks if one.here and one.name not in box.networks]
        if SHARED_NETWORK not in box.networks:
            others.append(SHARED_NETWORK)
        if not others or "none" in box.networks:
            return
        name = self._dice.choice(others)
        box.moving.add(name)
        if self.docker("network", "connect", name, box.name, what=[box]).code == 0:
            box.networks.add(name)
            self._settle_move(box, name)
        self.look(box)

    def _disconnect(self, box: Box) -> None:
        if len(box.networks) < 2:
            return
        name = self._dice.choice(sorted(box.networks))
        box.moving.add(name)
        if self.docker("network", "disconnect", name, box.name, what=[box]).code == 0:
            box.networks.discard(name)
            self._settle_move(box, name)
        self.look(box)

    def _settle_move(self, box: Box, name: str) -> None:
        """The place on that network is known by the next look; what it was says nothing."""
        if box.place is None:
            return
        shown = self.ask(f"/containers/{box.name}/json")
        now = place_of(shown)["Networks"] if shown is not None else {}
        box.place["Networks"].pop(name, None)
        box.place["Ports"] = place_of(shown)["Ports"] if shown is not None else {}
        if name in now and name in box.networks:
            box.place["Networks"][name] = now[name]
        box.moving.discard(name)

    def _make(self, thing: Thing, path: str, *argv: str, quiet: bool = False) -> None:
        done = self.docker(*argv, quiet=quiet)
        thing.may = frozenset({"present"}) if done.code == 0 else thing.may | {"present"}
        self.look_at(thing, path)

    def _unmake(self, thing: Thing, path: str, *argv: str) -> None:
        done = self.docker(*argv)
        thing.may = frozenset({ABSENT}) if done.code == 0 else thing.may | {ABSENT}
        self.look_at(thing, path)

    def _network(self) -> None:
        network = self._dice.choice(self.networks)
        path = f"/networks/{network.name}"
        if not network.here:
            self._make(network, path, "network", "create", network.name)
        elif not any(network.name in box.networks for box in self.boxes if ABSENT not in box.may):
            self._unmake(network, path, "network", "rm", network.name)

    def _volume(self) -> None:
        volume = self._dice.choice(self.volumes)
        path = f"/volumes/{volume.name}"
        if not volume.here:
            self._make(volume, path, "volume", "create", volume.name)
        elif not any(box.volume == volume.name for box in self.boxes if ABSENT not in box.may):
            self._unmake(volume, path, "volume", "rm", volume.name)

    def _image(self) -> None:
        image = self._dice.choice(self.images)
        path = f"/images/{image.name}/json"
        if not image.here:
            context = self._files / "context"
            context.mkdir(exist_ok=True)
            word = f"{self.label} {self._step}"
            (context / "file").write_text(word)
            (context / "Dockerfile").write_text(f"FROM busybox\nRUN echo {word} >/ran\nCOPY file /file\n")
            self._make(image, path, "build", "-q", "-t", image.name, str(context))
        elif not any(box.image == image.name for box in self.boxes if ABSENT not in box.may):
            self._unmake(image, path, "rmi", image.name)

    def _foreground(self) -> None:
        """A short container whose output is what counts."""
        word = f"{self._step}-{self._dice.randrange(10**9)}"
        name = f"{self.label}-brief{self._step}"
        done = self.docker("run", "--rm", "--name", name, "busybox", "echo", word, speaks=False)
        if done.code == 0 and done.out != f"{word}\n":
            self.find(f"docker run --rm busybox echo {word} gives {done}")
        if done.code != 0:
            self._clear_brief(name)

    def _clear_brief(self, name: str) -> None:
        """What a failed `run --rm` has left is the user's to remove; if it ends, it removes itself."""
        deadline = time.monotonic() + _LOOK_SECONDS
        while (shown := self.ask(f"/containers/{name}/json")) is not None and time.monotonic() < deadline:
            if shown["State"]["Status"] == "created":
                self.docker("rm", name, quiet=True)
            time.sleep(_PAUSE)
        if shown is not None:
            self.find(f"{name} does not go: {shown['State']}")


Verb = Callable[[User, Box], None]
_RUNNING: tuple[Verb, ...] = (
    *(User._stop, User._stop, User._kill, User._rm_force, User._restart, User._pause),
    *(User._exec, User._exec, User._logs, User._cp, User._commit, User._connect, User._connect, User._disconnect),
)
_VERBS: dict[str, tuple[Verb, ...]] = {
    ABSENT: (User._run,),
    "created": (User._start, User._rm),
    "running": _RUNNING,
    "restarting": (User._stop, User._rm_force, User._logs),
    "paused": (User._unpause, User._unpause, User._rm_force, User._stop),
    "exited": (User._start, User._start, User._rm, User._logs, User._cp, User._commit),
}
# it may end at any moment
_FLEEING: tuple[Verb, ...] = (User._stop, User._rm_force, User._restart, User._logs)
