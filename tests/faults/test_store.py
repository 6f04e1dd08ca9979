"""Load, commit and removal under `kill -9` and a full disk at every step: the next start has a whole store."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bodies import opened
from tests.faults.inject import Injector
from tests.images import image_archives as make

pytestmark = pytest.mark.root

_LAYERS = [make.tar({f"l{number}/a": os.urandom(1000), "x": b"y"}) for number in range(2)]
_CONFIG = make.config(_LAYERS)
_KEPT = make.config(_LAYERS[:1])


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    """The warm process."""
    with Injector() as made:
        yield made


class Case:
    """A data root that each run finds in the same state: one image `kept`, and perhaps `app` on top of its layer."""

    def __init__(self, base: Path, *, app: bool) -> None:
        self.root = base / "data"
        self._template = base / "template"
        self.archive = base / "app.tar"
        self.archive.write_bytes(make.tar(make.docker20([(_CONFIG, _LAYERS, ["app:latest"])])))
        with opened(str(self._template)) as store:
            store.load(make.tar(make.docker20([(_KEPT, _LAYERS[:1], ["kept:latest"])])))
            if app:
                store.load(self.archive.read_bytes())

    def prepare(self) -> None:
        """Put the data root back."""
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", self._template, self.root], check=True)

    def names(self) -> list[str]:
        """Start again, hold that the store is whole and holds nothing over, and return its names."""
        with opened(str(self.root)) as store:
            store.check()
            for digest, _ in store.blobs.walk():
                assert stat.S_IMODE(os.stat(store.blobs.path(digest)).st_mode) == 0o444
            for record in store.images._stores.records.by_id.values():
                for chain_id, layer in zip(record.chain_ids, record.layers, strict=True):
                    store.overlay.check(chain_id)
                    assert store.overlay.size(chain_id) == layer.unpacked
            assert os.listdir(store.roots.trash) == []
            return store.names()

    @property
    def arguments(self) -> dict[str, Any]:
        """What bodies are given."""
        return {"root": str(self.root), "archive": str(self.archive), "name": "app"}


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_load(injector: Injector, tmp_path: Path, kind: str) -> None:
    """The image is there, whole, or it is not; what was there stays; a second attempt succeeds."""
    case = Case(tmp_path, app=False)
    seen = set()
    for at, outcome in injector.every(kind, "tests.faults.bodies:load", case.arguments, case.prepare):
        names = case.names()
        seen.add(tuple(names))
        assert "kept:latest" in names
        if outcome.ended == "returned":
            assert names == ["app:latest", "kept:latest"], (at, outcome.hit)
        elif kind == "full":
            assert outcome.ended == "raised", (at, outcome.hit)
            assert "no space left" in outcome.error.lower() or "disk" in outcome.error, (outcome.hit, outcome.error)
        if at % 10 == 0:
            assert injector.run("tests.faults.bodies:load", case.arguments).ended == "returned"
            assert case.names() == ["app:latest", "kept:latest"]
    assert seen == {("kept:latest",), ("app:latest", "kept:latest")}


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_remove(injector: Injector, tmp_path: Path, kind: str) -> None:
    """The image is there, whole, or gone with all that only it needed; the layer that another one has stays."""
    case = Case(tmp_path, app=True)
    seen = set()
    steps = injector.every(kind, "tests.faults.bodies:remove", case.arguments, case.prepare, start=kind == "kill")
    for at, outcome in steps:
        names = case.names()
        seen.add(tuple(names))
        assert "kept:latest" in names
        if outcome.ended == "returned":
            assert names == ["kept:latest"], (at, outcome.hit)
    # a removal needs room for its record only; the store was full when it began
    assert ("kept:latest",) in seen


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_commit(injector: Injector, tmp_path: Path, kind: str) -> None:
    """The image is there, whole, or nothing of it is; the container's files are as they were."""
    case = Case(tmp_path, app=False)
    upper = tmp_path / "upper"
    upper.mkdir(mode=0o755)
    (upper / "new").write_bytes(b"content")
    os.mknod(upper / "x", stat.S_IFCHR, 0)
    arguments = {**case.arguments, "upper": str(upper), "base": "kept", "name": "app"}
    seen = set()
    for at, outcome in injector.every(kind, "tests.faults.bodies:commit", arguments, case.prepare):
        names = case.names()
        seen.add(tuple(names))
        if outcome.ended == "returned":
            assert names == ["app:latest", "kept:latest"], (at, outcome.hit)
        elif kind == "full":
            assert "no space left" in outcome.error.lower() or "disk" in outcome.error, (outcome.hit, outcome.error)
        assert (upper / "new").read_bytes() == b"content"
    assert seen == {("kept:latest",), ("app:latest", "kept:latest")}
