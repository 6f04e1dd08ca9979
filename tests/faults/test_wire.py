"""Pull and push under `kill -9` and a full disk at every step: nothing is half visible, the next attempt goes on."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.bodies import opened
from tests.faults.inject import Injector
from tests.images import image_archives as make
from tests.images.fake_registry import Registry, digest, layer
from tests.images.test_pull_peer import Peer
from wherry.oci import image as documents

pytestmark = pytest.mark.root

_KEPT = make.tar({"kept": b"k" * 1000})


@pytest.fixture(scope="module")
def injector() -> Iterator[Injector]:
    """The warm process."""
    with Injector() as made:
        yield made


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A scripted registry, in a thread: `a/app:1` is an index with one image of two layers."""
    made = Registry()
    raw = json.dumps(made.add("a/app", "amd64", layer("one", os.urandom(9000)), layer("two"))).encode()
    platform = {"os": "linux", "architecture": "amd64"}
    entry = {"mediaType": documents.OCI_MANIFEST, "digest": digest(raw), "size": len(raw), "platform": platform}
    made.put("a/app", "1", {"schemaVersion": 2, "manifests": [entry]}, documents.OCI_INDEX)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(made.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield made
    asyncio.run_coroutine_threadsafe(made.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Case:
    """A data root that each run finds in the same state, with one image `kept`."""

    def __init__(self, base: Path, name: str) -> None:
        self.root = base / "data"
        self._template = base / "template"
        self.arguments = {"root": str(self.root), "image": name}
        self._config = make.config([_KEPT])
        with opened(str(self._template)) as store:
            store.load(make.tar(make.docker20([(self._config, [_KEPT], ["kept:latest"])])))

    def prepare(self) -> None:
        """Put the data root back."""
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", self._template, self.root], check=True)

    def names(self, *, clean: bool = False) -> list[str]:
        """Start again, hold that all that is visible is whole, and return the names.

        Args:
            clean: nothing of an interrupted pull may be left either.
        """
        with opened(str(self.root)) as store:
            if clean:
                store.check()
            for blob, size in store.blobs.walk():
                data = Path(store.blobs.path(blob)).read_bytes()
                assert (len(data), hashlib.sha256(data).hexdigest()) == (size, blob.hex)
            for record in store.images._stores.records.by_id.values():
                assert record.blobs <= {str(blob) for blob, _ in store.blobs.walk()}
                for chain_id in record.chain_ids:
                    store.overlay.check(chain_id)
            return store.names()


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_pull(injector: Injector, tmp_path: Path, registry: Registry, kind: str) -> None:
    """The image is there, whole, or it is not; what was there verifies; the next pull succeeds and leaves nothing."""
    name = f"{registry.name}/a/app:1"
    case = Case(tmp_path, name)
    seen = set()
    resumed = 0
    for at, outcome in injector.every(kind, "tests.faults.bodies:pull", case.arguments, case.prepare):
        names = case.names()
        seen.add(tuple(names))
        assert "kept:latest" in names
        if outcome.ended == "returned":
            assert names == [name, "kept:latest"], (at, outcome.hit)
        elif kind == "full":
            assert outcome.ended == "raised", (at, outcome.hit)
            assert "no space left" in outcome.error.lower() or "disk" in outcome.error, (outcome.hit, outcome.error)
        if at % 8 == 0:
            before = blobs_asked(registry)
            again = injector.run("tests.faults.bodies:pull", case.arguments)
            assert again.ended == "returned", (at, outcome.hit, again.error)
            assert case.names(clean=True) == [name, "kept:latest"]
            resumed += blobs_asked(registry) - before < 3
    assert seen == {("kept:latest",), (name, "kept:latest")}
    assert resumed  # what had come before the fault was not fetched again


def blobs_asked(registry: Registry) -> int:
    """How many blobs were asked for so far, from their beginning."""
    return sum("/blobs/" in path and "range" not in head for _, path, head in registry.seen)


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_push(injector: Injector, tmp_path: Path, kind: str) -> None:
    """The image stays as it is, and the next push succeeds; what was made for the push only does not stay."""
    there = Peer(tmp_path)
    there.start()
    try:
        name = f"{there.name}/pushed:1"
        case = Case(tmp_path, name)
        with opened(str(tmp_path / "template")) as store:
            store.run(store.images.tag("kept", f"{there.name}/pushed", "1"))
        for at, outcome in injector.every(kind, "tests.faults.bodies:push", case.arguments, case.prepare):
            assert case.names(clean=True) == [name, "kept:latest"]
            if kind == "full" and outcome.ended != "returned":
                assert "no space left" in outcome.error.lower() or "disk" in outcome.error, (outcome.hit, outcome.error)
            if at % 10 == 0:
                assert injector.run("tests.faults.bodies:push", case.arguments).ended == "returned"
                assert case.names(clean=True) == [name, "kept:latest"]
    finally:
        there.kill()
