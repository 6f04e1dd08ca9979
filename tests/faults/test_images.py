"""`kill -9` of a whole engine, and a full disk, at each step of what is done to images: each kind of step once.

The exhaustive walks over every single system call are those of the stores (`test_store`, `test_wire`), where a run
costs a fork; here are wherryd, spawner and workers as they are. `WHERRY_FAULT_STEPS` says at how many steps of an
operation the engine is killed (spread over all of them; `all`: at each).
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.harness import until
from tests.faults.whole_engine import Answer, WholeEngine, trapped
from tests.images import image_archives as make
from tests.images.test_pull_peer import Peer

pytestmark = pytest.mark.root

_ASKED = os.environ.get("WHERRY_FAULT_STEPS", "3")
KILLS = 0 if _ASKED == "all" else int(_ASKED)
_LAYERS = [make.tar({f"l{number}/a": bytes([65 + number]) * 300_000, "x": b"y"}) for number in range(2)]
_KEPT = make.config(_LAYERS[:1])
_APP = make.config(_LAYERS)


def archive(config: bytes, layers: list[bytes], *names: str) -> bytes:
    """A docker-archive of one image."""
    return make.tar(make.docker20([(config, layers, list(names))]))


APP = archive(_APP, _LAYERS, "app:1")
NAMELESS = archive(_APP, _LAYERS)


class Operation:
    """Something that is done to images.

    Args:
        call: does it.
        undo: brings back what was before.
        name: which image there is when it is done (`app:1`), or is none any more (`-app:1`).
        prepare: what must be there before.
    """

    def __init__(
        self,
        call: Callable[[WholeEngine], Answer],
        undo: Callable[[WholeEngine], object],
        name: str,
        prepare: Callable[[WholeEngine], object] = lambda _: None,
    ) -> None:
        self.call = call
        self.undo = undo
        self.prepare = prepare
        self._name = name

    def done(self, engine: WholeEngine) -> bool:
        """Whether its effect is visible."""
        name = self._name.removeprefix("-")
        there = engine.call("GET", f"/images/{quote(name)}/json").status == 200
        return there != self._name.startswith("-")


def load(body: bytes) -> Callable[[WholeEngine], Answer]:
    """Load an archive."""
    return lambda engine: engine.call("POST", "/images/load", body)


def delete(name: str) -> Callable[[WholeEngine], Answer]:
    """Remove a name."""
    return lambda engine: engine.call("DELETE", f"/images/{quote(name)}")


def create(query: str, body: bytes | None = None) -> Callable[[WholeEngine], Answer]:
    """Pull or import."""
    return lambda engine: engine.call("POST", f"/images/create?{query}", body)


def prune(engine: WholeEngine) -> Answer:
    """Remove nameless images."""
    return engine.call("POST", "/images/prune?filters=" + quote('{"dangling":["true"]}'))


def commit(engine: WholeEngine) -> Answer:
    """Make an image of the container."""
    return engine.call("POST", "/commit?container=cc&repo=made&tag=1", b"")


def tag(engine: WholeEngine) -> Answer:
    """Give the kept image another name."""
    return engine.call("POST", "/images/kept:1/tag?repo=other&tag=1", b"")


def operation(what: str, registry: str) -> Operation:
    """The operation of that name."""
    return {
        "load": lambda: Operation(load(APP), delete("app:1"), "app:1"),
        "rmi": lambda: Operation(delete("app:1"), load(APP), "-app:1", load(APP)),
        "prune": lambda: Operation(prune, load(NAMELESS), f"-{make.sha(_APP)}", load(NAMELESS)),
        "tag": lambda: Operation(tag, delete("other:1"), "other:1"),
        "import": lambda: Operation(
            create("fromSrc=-&repo=brought&tag=1", make.tar({"a": b"x" * 200_000})), delete("brought:1"), "brought:1"
        ),
        "commit": lambda: Operation(commit, delete("made:1"), "made:1"),
        "pull": lambda: Operation(
            create(f"fromImage={quote(registry)}/app&tag=1"), delete(f"{registry}/app:1"), f"{registry}/app:1"
        ),
    }[what]()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry with the image `app:1`; gives its name."""
    peer = Peer(tmp_path_factory.mktemp("registry"))
    peer.start()
    try:
        image = archive(_APP, _LAYERS, f"{peer.name}/app:1")
        with trapped(load(image)) as engine:
            assert engine.call("POST", f"/images/{quote(peer.name)}/app/push?tag=1").good
        yield peer.name
    finally:
        peer.kill()


@pytest.fixture
def work(what: str, request: pytest.FixtureRequest) -> Operation:
    """The operation of that name."""
    return operation(what, request.getfixturevalue("registry") if what == "pull" else "")


def prepare(engine: WholeEngine) -> None:
    """What is there whatever happens: an image, and a container of it that has changed something."""
    assert engine.call("POST", "/images/load", archive(_KEPT, _LAYERS[:1], "kept:1")).good
    config = json.dumps({"Image": "kept:1", "Cmd": ["true"]}).encode()
    assert engine.call("POST", "/containers/create?name=cc", config, "application/json").good
    files = io.BytesIO()
    with tarfile.open(fileobj=files, mode="w") as tar:
        info = tarfile.TarInfo("new")
        info.size = 200_000
        tar.addfile(info, io.BytesIO(b"n" * info.size))
    assert engine.call("PUT", "/containers/cc/archive?path=/", files.getvalue()).good


def stored(engine: WholeEngine) -> set[str]:
    """The names of all blobs and layers."""
    layers = {name for name in os.listdir(engine.roots.snapshots) if name != "empty"}
    return layers.union(*(os.listdir(path) for path in Path(engine.roots.blobs).iterdir()))


def whole(engine: WholeEngine) -> None:
    """All that is visible is whole, and nothing is staged or empty."""
    answer = engine.call("POST", "/wherry/v1/check")
    report = json.loads(answer.body.splitlines()[-1])["aux"]
    assert report["Findings"] == [], report["Findings"]
    names = {name for image in json.loads(engine.call("GET", "/images/json").body) for name in image["RepoTags"] or ()}
    assert "kept:1" in names
    assert not [name for name in os.listdir(engine.roots.ingest) if name.startswith("layer-")]
    states = [*Path(engine.roots.data).glob("*.*"), *Path(engine.roots.blobs).glob("*/*")]
    states += [*Path(engine.roots.snapshots).glob("*/meta.json"), *Path(engine.roots.containers).glob("*/*.json")]
    assert [str(path) for path in states if not path.stat().st_size and path.suffix != ".db-wal"] == []


OPERATIONS = ["pull", "commit", "load", "rmi", "prune", "tag", "import"]


def steps_of(engine: WholeEngine, work: Operation) -> list[str]:
    """Do it once and undo it; gives the kinds of its steps."""
    work.prepare(engine)
    with engine.watched() as steps:
        assert work.call(engine).good
        assert work.done(engine)
        until(lambda: not os.listdir(engine.roots.trash), "the trash is emptied")
    work.undo(engine)
    assert len(steps) > 1
    return steps


@pytest.mark.parametrize("what", OPERATIONS)
def test_killed(work: Operation, what: str) -> None:
    """The next engine has all of it or nothing; what was there before is whole, and the second attempt succeeds."""
    with trapped(prepare) as engine:
        steps = steps_of(engine, work)
        before = stored(engine)
        hits = 0
        seen = set()
        every = max(1, len(steps) // KILLS) if KILLS else 1
        for step in steps[::every]:
            engine.arm("kill", step)
            answer = work.call(engine)
            if not engine.hit:
                # in the background, or not this time
                until(lambda: engine.hit or not os.listdir(engine.roots.trash), "nothing goes on")
            if engine.hit:
                hits += 1
                engine.dead()
                engine.disarm()
                engine.start()
            engine.disarm()
            whole(engine)
            done = work.done(engine)
            seen.add(done)
            assert done or not answer.good, step
            if not done:
                if what != "pull":  # which keeps what came, for the next attempt
                    assert stored(engine) == before, step
                    assert os.listdir(engine.roots.ingest) == [], step
                again = work.call(engine)
                assert again.good, (step, again.error)
            assert work.done(engine)
            work.undo(engine)
            assert stored(engine) == before, step
        assert hits >= min(KILLS or len(steps), len(steps)) // 2
        assert False in seen
        whole(engine)


@pytest.mark.parametrize("what", OPERATIONS)
def test_full_disk(work: Operation) -> None:
    """It says so, or succeeds; the engine goes on, what was there is whole, and with room again it succeeds."""
    with trapped(prepare) as engine:
        steps = steps_of(engine, work)
        before = stored(engine)
        refused = 0
        for step in steps:
            engine.arm("full", step)
            answer = work.call(engine)
            hit = engine.hit
            engine.disarm()
            assert answer.status, (step, "the engine must not end")
            if answer.error:
                assert hit, answer.error
                assert "no space left" in answer.error.lower() or "disk" in answer.error, (step, answer.error)
                refused += 1
                again = work.call(engine) if not work.done(engine) else answer
                assert again is answer or again.good, (step, again.error)
            assert work.done(engine), step
            work.undo(engine)
        assert refused, steps
        whole(engine)
        engine.stop()
        engine.start()
        whole(engine)
        assert stored(engine) == before
        assert os.listdir(engine.roots.ingest) == []
