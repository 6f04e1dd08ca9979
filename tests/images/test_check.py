"""`system check`: what was damaged is found and named, what can be mended is, and the rest is said to be lost."""

import errno
import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.images import image_archives as make
from tests.images.conftest import Store, chunks
from wherry.errors import KernelError, NotFound
from wherry.images.commit import Commit
from wherry.oci import digest as digests
from wherry.oci.reference import Reference
from wherry.store.images import LayerRecord

pytestmark = pytest.mark.root

_LAYERS = [make.tar({"a": b"one" * 1000, "dup": b"x"}), make.tar({"b": b"two" * 500})]
_CONFIG = make.config(_LAYERS)


@pytest.fixture
def loaded(store: Store) -> Store:
    """A store with one image of two layers."""
    store.load(make.tar(make.docker20([(_CONFIG, _LAYERS, ["app:1"])])))
    return store


def check(store: Store, repair: Any = None) -> list[dict[str, Any]]:
    """Check, and return the findings."""
    findings: list[dict[str, Any]] = store.run(store.images.check(lambda _: None, repair))["Findings"]
    return findings


async def nowhere(name: Reference) -> None:
    """A registry that has nothing."""
    raise NotFound(f"manifest for {name} not found")


def blob_path(store: Store, digest: str) -> str:
    """Where a blob lies."""
    return store.blobs.path(digests.parse(digest))


def damage(store: Store, digest: str) -> None:
    """Flip a bit."""
    path = Path(blob_path(store, digest))
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    path.chmod(0o444)


def test_a_whole_store(loaded: Store) -> None:
    """Nothing is found, and it is told what was looked at."""
    report = loaded.run(loaded.images.check(lambda _: None))
    assert report == {"Blobs": 4, "Snapshots": 2, "Images": 1, "Findings": []}


def test_a_layer_that_writes_a_file_twice_is_whole(store: Store) -> None:
    """Its tree holds less than was unpacked: that is looked into, not reported."""
    twice = make.tar({"f": b"a" * 100}).rstrip(b"\0")
    twice += bytes(-len(twice) % 512) + make.tar({"f": b"b" * 50})
    store.load(make.tar(make.docker20([(make.config([twice]), [twice], ["t:1"])])))
    assert check(store) == []


@pytest.mark.parametrize("how", ["bit", "gone"])
def test_a_plain_layer_blob_is_written_again(store: Store, how: str) -> None:
    """A layer that we wrote ourselves comes out of its snapshot with the same bytes."""
    base = store.run(store.images.import_(chunks(make.tar({"bin/": b"", "bin/sh": b"x" * 3000})), "base"))
    store.images.resolve(base)
    upper = Path(store.roots.data) / "upper"
    upper.mkdir(mode=0o755)
    (upper / "new").write_bytes(b"n" * 5000)
    os.mknod(upper / "gone", 0o20000, 0)
    fd = os.open(upper, os.O_RDONLY)
    try:
        id_ = store.run(store.images.commit(base, fd, Commit("c", {}, {})))
    finally:
        os.close(fd)
    blob = store.images.resolve(id_).record.layers[-1].blob
    if how == "bit":
        damage(store, blob)
    else:
        os.unlink(blob_path(store, blob))
    (found,) = check(store)
    assert (found["Kind"], found["Id"], found["Mended"]) == ("blob", blob, False)
    assert found["Problem"] == ("corrupt" if how == "bit" else "missing")
    (mended,) = check(store, nowhere)
    assert mended["Mended"], mended
    assert mended["Outcome"] == "written again from its unpacked layer"
    assert check(store) == []
    store.check()


def test_what_nothing_replaces_is_said_to_be_lost(loaded: Store) -> None:
    """A config without a registry to pull from; the image is named, the listing goes on without it."""
    other = make.config([])
    loaded.load(make.tar(make.docker20([(other, [], ["kept:1"])])))
    id_ = loaded.images.resolve("app:1").id
    damage(loaded, id_)
    (found,) = check(loaded, nowhere)
    assert (found["Id"], found["Images"], found["Mended"]) == (id_, ["app:1"], False)
    assert "not pulled from a registry" in found["Outcome"]
    loaded.close()
    loaded.open()
    assert loaded.names() == ["kept:1"]
    (again,) = check(loaded, nowhere)
    assert again["Problem"] == "missing"
    loaded.load(make.tar(make.docker20([(_CONFIG, _LAYERS, ["app:1"])])))
    assert check(loaded) == []
    assert loaded.names() == ["app:1", "kept:1"]


def test_a_compressed_layer_is_pulled_again(store: Store) -> None:
    """What somebody else compressed does not come out of a snapshot; the registry has it."""
    packed = [gzip.compress(layer, 9, mtime=7) for layer in _LAYERS]
    layout = make.tar(make.docker20([(_CONFIG, packed, ["app:1"])]))
    store.load(layout)
    record = store.images.select()[0].record
    blob = record.layers[0].blob
    asked: list[str] = []

    async def registry(name: Reference) -> None:
        asked.append(str(name))
        await store.images.load(chunks(layout), lambda _: None)

    damage(store, blob)
    lost, untold = check(store, registry)
    assert not lost["Mended"]
    assert (untold["Kind"], untold["Problem"], untold["Mended"]) == ("snapshot", "unverified", False)
    assert "its blob" in untold["Outcome"]
    assert not asked
    digest_name = f"docker.io/library/app@{record.manifest}"
    store.run(store.images.stores.records.put(record, [digest_name]))
    found, told = check(store, registry)
    assert (found["Problem"], found["Mended"], found["Outcome"]) == ("missing", True, "pulled again")
    assert (told["Mended"], told["Outcome"]) == (True, "compared with its mended blob: it is whole")
    assert asked == [digest_name]
    assert check(store) == []
    # both halves damaged: the blob comes from the registry, the tree from the blob
    damage(store, blob)
    os.chmod(f"{store.overlay.path(record.chain_ids[0])}/a", 0o600)
    assert [one["Outcome"] for one in check(store, registry)] == ["pulled again", "unpacked again from its blob"]
    assert check(store) == []
    store.check()


def test_a_snapshot_is_unpacked_again(loaded: Store) -> None:
    """Gone, with a file cut off, with its description damaged: the blob has it all."""
    image = loaded.images.resolve("app:1")
    lower, upper = image.chain_ids
    shutil.rmtree(os.path.dirname(loaded.overlay.path(upper)))
    with open(f"{loaded.overlay.path(lower)}/a", "r+b") as file:
        file.truncate(10)
    found = check(loaded)
    assert [(one["Kind"], one["Id"], one["Problem"]) for one in found] == [
        ("snapshot", lower, "corrupt"),
        ("snapshot", upper, "missing"),
    ]
    assert found[0]["Detail"] == "the size of 'a' changed"
    mended = check(loaded, nowhere)
    assert [one["Outcome"] for one in mended] == ["unpacked again from its blob"] * 2
    assert Path(f"{loaded.overlay.path(lower)}/a").read_bytes() == b"one" * 1000
    meta = Path(os.path.dirname(loaded.overlay.path(lower))) / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "diff_id": "sha256:" + "0" * 64}))
    (one,) = check(loaded, nowhere)
    assert one["Mended"]
    meta.write_text("{")
    (one,) = check(loaded, nowhere)
    assert one["Mended"]
    assert check(loaded) == []
    loaded.check()


def flip(store: Store, chain_id: str, name: str) -> None:
    """Flip a bit of a file of a snapshot; length and time stay."""
    path = Path(store.overlay.path(chain_id)) / name
    found = path.stat()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_a_changed_byte(loaded: Store) -> None:
    """It is found, named and mended; the file's length and time are what they were."""
    lower = loaded.images.resolve("app:1").chain_ids[0]
    flip(loaded, lower, "a")
    (one,) = check(loaded)
    assert (one["Kind"], one["Id"], one["Problem"]) == ("snapshot", lower, "corrupt")
    assert one["Detail"] == "the content of 'a' changed"
    (one,) = check(loaded, nowhere)
    assert one["Mended"]
    assert check(loaded) == []
    loaded.check()


def test_a_changed_byte_where_a_layer_says_things_twice(store: Store) -> None:
    """What only unpacking tells is compared with that; nothing of it stays."""
    twice = make.tar({"f": b"a" * 100}).rstrip(b"\0")
    twice += bytes(-len(twice) % 512) + make.tar({"deep/f": b"c", "f": b"b" * 50})
    store.load(make.tar(make.docker20([(make.config([twice]), [twice], ["t:1"])])))
    assert check(store) == []
    flip(store, store.images.resolve("t:1").chain_ids[0], "f")
    (one,) = check(store, nowhere)
    assert (one["Detail"], one["Mended"]) == ("the content of 'f' changed", True)
    assert check(store) == []
    store.check()


def test_a_layer_that_a_container_runs_on_is_not_swapped(loaded: Store) -> None:
    """It is told to stop that first; under one that does not run it is."""
    lower = loaded.images.resolve("app:1").chain_ids[0]
    os.unlink(f"{loaded.overlay.path(lower)}/a")
    loaded.used = loaded.mounted = {lower}
    (one,) = check(loaded, nowhere)
    assert not one["Mended"]
    assert "something runs on it" in one["Outcome"]
    loaded.mounted = set()
    (one,) = check(loaded, nowhere)
    assert one["Mended"]
    loaded.used = {"sha256:" + "1" * 64}
    found = check(loaded)
    assert [one["Detail"] for one in found if not one["Images"]] == ["a container stands on it, its image is gone"]


def test_a_layer_whose_image_is_gone(loaded: Store) -> None:
    """A container stands on it: what it was is known without its blob, and what happens to it is found."""
    lower, upper = loaded.images.resolve("app:1").chain_ids
    loaded.used = {lower, upper}
    loaded.remove("app:1", force=True)
    assert list(loaded.blobs.walk()) == []
    report = loaded.run(loaded.images.check(lambda _: None))
    assert (report["Snapshots"], report["Findings"]) == (2, [])
    flip(loaded, upper, "b")
    (one,) = check(loaded, nowhere)
    assert (one["Id"], one["Problem"], one["Images"], one["Mended"]) == (upper, "corrupt", [], False)
    loaded.load(make.tar(make.docker20([(_CONFIG, _LAYERS, ["app:1"])])))
    (one,) = check(loaded, nowhere)
    assert one["Mended"]
    assert check(loaded) == []


def test_without_room_nothing_is_called_whole(loaded: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be compared is said to be so."""
    lower = loaded.images.resolve("app:1").chain_ids[0]

    async def full(*_: object, **__: object) -> dict[str, Any]:
        raise KernelError("unpack", errno.ENOSPC, "a")

    os.chmod(f"{loaded.overlay.path(lower)}/a", 0o600)
    with monkeypatch.context() as patch:
        patch.setattr(loaded.images.stores, "unpack", full)
        (one,) = check(loaded, nowhere)
    assert (one["Problem"], one["Mended"]) == ("unverified", False)
    assert "no space left" in one["Detail"].lower()
    (one,) = check(loaded, nowhere)
    assert one["Mended"]


class CacheOf:
    """A holder with one layer."""

    name = "the build cache"

    def __init__(self, chain_id: str, layer: LayerRecord) -> None:
        self._layer: tuple[str, LayerRecord, str | None] | None = (chain_id, layer, None)

    def layers(self) -> "list[tuple[str, LayerRecord, str | None]]":
        return [self._layer] if self._layer else []

    def chains(self) -> set[str]:
        return {chain_id for chain_id, _, _ in self.layers()}

    def blobs(self) -> set[str]:
        return {layer.blob for _, layer, _ in self.layers()}

    def busy(self) -> set[str]:
        return set()

    async def forget(self, chain_id: str) -> None:
        assert self._layer
        assert self._layer[0] == chain_id
        self._layer = None


def test_what_only_the_build_cache_has(store: Store) -> None:
    """It is looked at like an image's; what is lost of it is forgotten."""
    packed = [gzip.compress(layer, 9, mtime=7) for layer in _LAYERS]
    store.load(make.tar(make.docker20([(_CONFIG, packed, ["app:1"])])))
    record = store.images.resolve("app:1").record
    held = CacheOf(record.chain_ids[0], record.layers[0])
    store.images.stores.holders.append(held)
    store.remove("app:1")
    assert check(store) == []
    flip(store, record.chain_ids[0], "a")
    (one,) = check(store, nowhere)
    assert (one["Images"], one["Mended"]) == (["the build cache"], True)
    damage(store, record.layers[0].blob)
    found = check(store, nowhere)
    assert [(one["Kind"], one["Images"], one["Mended"]) for one in found] == [
        ("blob", ["the build cache"], True),
        ("snapshot", ["the build cache"], True),
    ]
    assert "forgotten" in found[0]["Outcome"]
    assert held.layers() == []
    assert check(store) == []
    store.check()


def test_neither_blob_nor_tree(loaded: Store) -> None:
    """Both halves of a layer are gone: both are reported, and neither is invented."""
    image = loaded.images.resolve("app:1")
    shutil.rmtree(os.path.dirname(loaded.overlay.path(image.chain_ids[0])))
    os.unlink(blob_path(loaded, image.record.layers[0].blob))
    found = check(loaded, nowhere)
    assert [one["Mended"] for one in found] == [False, False]
    assert "its blob" in found[1]["Outcome"]


def test_a_blob_that_nobody_needs(loaded: Store) -> None:
    """A damaged left-over is removed."""
    stray = loaded.blobs.write(b"stray content")
    damage(loaded, str(stray))
    (one,) = check(loaded)
    assert one["Images"] == []
    (one,) = check(loaded, nowhere)
    assert one["Mended"]
    assert not loaded.blobs.exists(stray)
    loaded.check()
