"""A build under `kill -9` and a full disk at every step: finished steps are known, and nothing half is."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import builds
from tests.faults.inject import Injector
from tests.images import image_archives as make
from wherry.oci import digest as digests

pytestmark = pytest.mark.root

_BUILD = "tests.faults.builds:build"
_STEPS = ["[2/3] COPY f /0", '[3/3] RUN ["write", "/1"]']


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    """The warm process."""
    with Injector() as made:
        yield made


class Case:
    """A data root that each run finds in the same state: the image `kept`."""

    def __init__(self, base: Path) -> None:
        self.root = base / "data"
        self.log = base / "log"
        self._template = base / "template"
        layers = [make.tar({"x": b"y"})]
        with builds.building(str(self._template)) as (store, _):
            store.load(make.tar(make.docker20([(make.config(layers), layers, ["kept:latest"])])))

    @property
    def arguments(self) -> dict[str, Any]:
        """What the body is given."""
        return {"root": str(self.root), "log": str(self.log)}

    def prepare(self) -> None:
        """Put the data root back."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.log.unlink(missing_ok=True)
        subprocess.run(["cp", "-a", self._template, self.root], check=True)

    def finished(self) -> list[str]:
        """The steps that said so."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [step for step in _STEPS if any(line.endswith(step) for line in lines)]

    def told(self, word: str) -> list[str]:
        """The steps of the last run that were `done` or `cached`."""
        return [step for step in _STEPS if f"{word} {step}" in self.log.read_text().splitlines()]

    def names(self) -> list[str]:
        """Start again; hold that what is known is whole and nothing lies about; return the images' names."""
        with builds.building(str(self.root)) as (store, cache):
            store.run(store.images.close())
            stores = store.images._stores
            for digest, size in store.blobs.walk():
                content = Path(store.blobs.path(digest)).read_bytes()
                assert (len(content), digests.of(content)) == (size, digest)
            known = {chain for image in stores.records.by_id.values() for chain in image.chain_ids}
            for record, _ in cache.records().values():
                if record.layer is None:
                    continue
                assert cache._whole(record), record
                known.add(record.chain)
            assert set(store.overlay.walk()) == known
            for chain in known:
                store.overlay.check(chain)
                for file in Path(store.overlay.path(chain)).glob("[0-9]"):
                    assert file.read_text() == builds.CONTENT, file
            assert os.listdir(store.roots.ingest) == []
            assert os.listdir(store.roots.trash) == []
            return store.names()


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_build(injector: Injector, tmp_path: Path, kind: str) -> None:
    """The next build does what was not finished, and nothing else; the image is there, whole, or it is not."""
    case = Case(tmp_path)
    seen = set()
    for at, outcome in injector.every(kind, _BUILD, case.arguments, case.prepare):
        names = case.names()
        finished = case.finished()
        assert "kept:latest" in names
        if outcome.ended == "returned":
            assert names == ["app:latest", "kept:latest"], (at, outcome.hit)
        elif kind == "full":
            assert "no space left" in outcome.error.lower() or "disk" in outcome.error, (outcome.hit, outcome.error)
        if (len(finished), tuple(names)) in seen and at % 8:
            continue
        seen.add((len(finished), tuple(names)))
        case.log.unlink(missing_ok=True)
        again = injector.run(_BUILD, case.arguments)
        assert again.ended == "returned", (outcome.hit, again.error)
        assert set(finished) <= set(case.told("cached")), outcome.hit
        assert sorted(case.told("cached") + case.told("done")) == _STEPS
        assert case.names() == ["app:latest", "kept:latest"]
    assert {count for count, _ in seen} == {0, 1, 2}
    assert {names for _, names in seen} == {("kept:latest",), ("app:latest", "kept:latest")}
