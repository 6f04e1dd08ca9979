"""Multi-platform images on their way: an index is kept with what is here of it, and pushed as it came."""

import io
import json
import random
import shutil
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.images import image_archives as make
from wherry.distribution import destination
from wherry.errors import NotFound, Unavailable
from wherry.images import push as pushing
from wherry.oci import image as documents
from wherry.oci.digest import Digest
from wherry.oci.platform import parse
from wherry.oci.reference import parse_normalized

from .conftest import Store
from .test_pull_peer import Peer, bring, peer, pull, push, settings, statuses  # noqa: F401 (a fixture)

pytestmark = pytest.mark.root

PLATFORMS = ("amd64", "arm64")
LAYERS = {name: make.tar({name: name.encode() * 1000}) for name in PLATFORMS}
CONFIGS = {name: make.config([LAYERS[name]], architecture=name) for name in PLATFORMS}
MANIFESTS = {name: make.manifest(CONFIGS[name], [LAYERS[name]]) for name in PLATFORMS}
INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": make.INDEX,
        "manifests": [
            make.descriptor(MANIFESTS[name], make.MANIFEST, platform={"os": "linux", "architecture": name})
            for name in PLATFORMS
        ],
    }
).encode()


def archive(name: str, *platforms: str) -> bytes:
    """An OCI layout whose index has two platforms; only those that are named are in it."""
    blobs = [INDEX]
    for platform in platforms:
        blobs += [MANIFESTS[platform], CONFIGS[platform], LAYERS[platform]]
    return make.tar(make.layout([make.named(INDEX, name, make.INDEX)], blobs))


def fetch(there: Peer, path: str) -> bytes:
    """What the registry serves under `/v2/`."""
    accept = f"{documents.OCI_INDEX}, {documents.OCI_MANIFEST}"
    request = urllib.request.Request(f"http://{there.name}/v2/{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return bytes(answer.read())


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Store]:
    """Another engine's store."""
    made = Store(f"{tmp_path}/second")
    yield made
    made.close()
    made.run(made.loop.shutdown_default_executor())
    made.loop.close()


def test_an_index_that_was_loaded_is_pushed_whole(store: Store, second: Store, peer: Callable[..., Peer]) -> None:  # noqa: F811
    """All platforms of a loaded archive go to the registry under the digest of their index, and come back from it."""
    there = peer()
    name = f"{there.name}/many:1"
    store.load(archive("many:1", *PLATFORMS), platform="linux/amd64")
    store.check()
    store.run(store.images.tag("many:1", f"{there.name}/many", "1"))
    assert push(store, name) == make.sha(INDEX)
    assert fetch(there, "many/manifests/1") == INDEX
    assert store.images.resolve(name).repo_digests == [f"{there.name}/many@{make.sha(INDEX)}"]
    for platform in PLATFORMS:
        assert fetch(there, f"many/manifests/{make.sha(MANIFESTS[platform])}") == MANIFESTS[platform]
    store.messages.clear()
    push(store, name)
    assert statuses(store) == ["Layer already exists"] * 2
    store.run(store.images.tag(name, f"{there.name}/mounted", "1"))
    store.messages.clear()
    push(store, f"{there.name}/mounted:1")
    assert statuses(store) == ["Mounted from many"] * 2
    (found,) = second.run(
        second.images.pull(settings(), parse_normalized(name), second.messages.append, platform="linux/arm64")
    )
    assert found.id == make.sha(CONFIGS["arm64"])
    second.check()


def test_an_index_is_saved_whole(store: Store, second: Store) -> None:
    """`index.json` leads to it, `manifest.json` to the image of one platform; what loads it keeps it again."""
    store.load(archive("many:1", *PLATFORMS), platform="linux/amd64")
    saved = store.run(store.save("many:1"))
    with tarfile.open(fileobj=io.BytesIO(saved)) as file:
        names = [member.name for member in file]
        ways_in = {name: json.load(file.extractfile(name) or io.BytesIO()) for name in ("index.json", "manifest.json")}
    assert len(names) == len(set(names))
    (descriptor,) = ways_in["index.json"]["manifests"]
    assert (descriptor["digest"], descriptor["mediaType"]) == (make.sha(INDEX), make.INDEX)
    assert [entry["Config"] for entry in ways_in["manifest.json"]] == [
        f"blobs/sha256/{make.sha(CONFIGS['amd64']).partition(':')[2]}"
    ]
    for platform in PLATFORMS:
        for blob in (MANIFESTS[platform], CONFIGS[platform], LAYERS[platform]):
            assert f"blobs/sha256/{make.sha(blob).partition(':')[2]}" in names
    second.load(saved)
    second.check()
    assert second.images.resolve("many:1").id == make.sha(CONFIGS["amd64"])
    assert second.run(second.save("many:1")) == saved


def test_of_an_index_that_is_not_whole_one_image_is_saved(store: Store, second: Store) -> None:
    """A layout that promised more than it has would stop who copies all of it."""
    store.load(archive("many:1", "amd64"), platform="linux/amd64")
    saved = store.run(store.save("many:1"))
    with tarfile.open(fileobj=io.BytesIO(saved)) as file:
        (descriptor,) = json.load(file.extractfile("index.json") or io.BytesIO())["manifests"]
    assert descriptor["digest"] == make.sha(MANIFESTS["amd64"])
    second.load(saved)
    second.check()


def test_what_an_index_needs_goes_with_its_last_name(store: Store) -> None:
    """Untagging leaves what another name stands for; the last one takes the other platforms' blobs along."""
    store.load(archive("many:1", *PLATFORMS), platform="linux/amd64")
    store.run(store.images.tag("many:1", "other", "2"))
    store.remove("many:1")
    store.check()
    assert store.blobs.exists(Digest(make.sha(LAYERS["arm64"])))
    store.close()
    store.open()
    store.run(store.images.collect())
    assert store.blobs.exists(Digest(make.sha(LAYERS["arm64"])))
    store.load(archive("other:2", "amd64"), platform="linux/amd64")
    store.run(store.images.collect())
    store.check()
    store.remove("other:2")
    store.check()
    assert list(store.blobs.walk()) == []


def test_what_is_not_whole_is_pushed_as_one_image(store: Store, second: Store, peer: Callable[..., Peer]) -> None:  # noqa: F811
    """Of an index that was pulled for one platform that image goes, and the user is told; with both, the index."""
    there = peer()
    store.load(archive("many:1", *PLATFORMS), platform="linux/amd64")
    store.run(store.images.tag("many:1", f"{there.name}/many", "1"))
    push(store, f"{there.name}/many:1")
    assert pull(second, f"{there.name}/many:1") == make.sha(CONFIGS["amd64"])
    second.run(second.images.tag(f"{there.name}/many:1", f"{there.name}/copy", "1"))
    second.messages.clear()
    assert push(second, f"{there.name}/copy:1") == make.sha(MANIFESTS["amd64"])
    (aux,) = [m["aux"] for m in second.messages if "originalIndex" in m.get("aux", ())]
    assert aux["manifestPushedInsteadOfIndex"]
    assert aux["originalIndex"] == make.descriptor(INDEX, make.INDEX)
    assert aux["selectedManifest"] == make.descriptor(MANIFESTS["amd64"], make.MANIFEST)
    name = parse_normalized(f"{there.name}/many:1")
    second.run(second.images.pull(settings(), name, second.messages.append, platform="linux/arm64"))
    second.run(second.images.tag(f"{there.name}/many:1", f"{there.name}/copy", "2"))
    assert push(second, f"{there.name}/copy:2") == make.sha(INDEX)
    assert fetch(there, "copy/manifests/2") == INDEX
    second.check()


def test_one_platform_of_many(store: Store, peer: Callable[..., Peer]) -> None:  # noqa: F811
    """`--platform` pushes that image alone, also one that this machine does not run; others are not there."""
    there = peer()
    store.load(archive(f"{there.name}/many:1", *PLATFORMS), platform="linux/amd64")
    name = parse_normalized(f"{there.name}/many:1")
    for platform in PLATFORMS:
        ((_, digest),) = store.run(
            store.images.push(settings(), name, store.messages.append, platform=parse(f"linux/{platform}"))
        )
        assert digest == make.sha(MANIFESTS[platform])
        assert fetch(there, "many/manifests/1") == MANIFESTS[platform]
    words = (
        rf"image with reference {there.name}/many:1 was found but does not provide the specified platform "
        r"\(linux/s390x\)"
    )
    with pytest.raises(NotFound, match=words):
        store.run(store.images.push(settings(), name, store.messages.append, platform=parse("linux/s390x")))
    store.check()


def test_all_tags_of_a_repository(store: Store, peer: Callable[..., Peer]) -> None:  # noqa: F811
    """`push -a` pushes every tag, indexes and images alike, and no tag of another repository."""
    there = peer()
    store.load(archive(f"{there.name}/all:many", *PLATFORMS), platform="linux/amd64")
    id_ = bring(store, make.tar({"one": b"1"}))
    store.run(store.images.tag(id_, f"{there.name}/all", "one"))
    store.run(store.images.tag(id_, f"{there.name}/another", "one"))
    pushed = store.run(store.images.push(settings(), parse_normalized(f"{there.name}/all"), store.messages.append))
    assert [(str(name.tag), digest) for name, digest in pushed] == [
        ("many", make.sha(INDEX)),
        ("one", store.images.resolve(id_).manifest),
    ]
    assert sorted(json.loads(fetch(there, "all/tags/list"))["tags"]) == ["many", "one"]
    assert json.loads(fetch(there, "_catalog"))["repositories"] == ["all"]


class Ours(Peer):
    """A wherry-registry on a port of its own."""

    command: tuple[str, ...] = (sys.executable, "-m", "wherry.registry", "serve")

    def arguments(self, directory: Path) -> list[str]:
        """What it is executed as."""
        return [*self.command, "--root", str(directory / "ours"), "--addr", self.name]


@pytest.mark.parametrize("kind", [Peer, Ours])
def test_a_push_goes_on_where_it_broke_off(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Peer]
) -> None:
    """The registry is killed in the middle of a blob; once it is back the next push brings the rest.

    Debian's docker-registry throws an upload away that it was killed in the middle of; ours goes on from its byte.
    """
    monkeypatch.setattr(destination, "PIECE", 1 << 20)
    monkeypatch.setattr(pushing, "_TOLD", 0)
    there = kind(tmp_path)
    there.start()
    try:
        id_ = bring(store, make.tar({"big": random.Random(7).randbytes(8 << 20)}))
        store.run(store.images.tag(id_, f"{there.name}/big", "1"))

        def kill(message: dict[str, Any]) -> None:
            if message.get("progressDetail", {}).get("current", 0) > 3 << 20:
                there.kill()

        with pytest.raises(Unavailable):
            store.run(store.images.push(settings(), parse_normalized(f"{there.name}/big:1"), kill))
        there.start()
        push(store, f"{there.name}/big:1")
        sent = [m["progressDetail"]["current"] for m in store.messages if m.get("status") == "Pushing"]
        assert sent[0] >= (3 << 20 if kind is Ours else 0)
        store.remove(id_, force=True)
        assert pull(store, f"{there.name}/big:1") == id_
    finally:
        there.kill()


@pytest.mark.parametrize("kind", [Peer, Ours])
def test_a_push_goes_on_after_a_restart(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Peer]
) -> None:
    """The next engine knows where the upload is; where the registry has forgotten it, it begins anew."""
    monkeypatch.setattr(destination, "PIECE", 1 << 20)
    monkeypatch.setattr(pushing, "_TOLD", 0)
    send = destination.Destination._piece

    class Killed(Exception):
        """Nothing of the engine goes on."""

    async def some(self: destination.Destination, place: Any, fd: int, offset: int, *rest: Any) -> Any:
        if offset == 3 << 20:
            raise Killed
        return await send(self, place, fd, offset, *rest)

    there = kind(tmp_path)
    there.start()
    try:
        for forgotten in (False, True):
            id_ = bring(store, make.tar({"big": random.Random(forgotten).randbytes(6 << 20)}))
            name = f"{there.name}/big{int(forgotten)}:1"
            store.run(store.images.tag(id_, name.rpartition(":")[0], "1"))
            with monkeypatch.context() as patch:
                patch.setattr(destination.Destination, "_piece", some)
                with pytest.raises(Killed):
                    push(store, name)
            store.close()
            store.open()
            if forgotten:
                for uploads in tmp_path.glob("*/**/_uploads"):
                    shutil.rmtree(uploads)
                for uploads in tmp_path.glob("ours/uploads"):
                    shutil.rmtree(uploads)
            store.messages.clear()
            push(store, name)
            sent = [m["progressDetail"]["current"] for m in store.messages if m.get("status") == "Pushing"]
            assert sent[0] == (0 if forgotten else 3 << 20)
            assert store.database.read("SELECT * FROM uploads") == []
            store.check()
    finally:
        there.kill()


def test_a_registry_that_is_back_soon_is_waited_for(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One push goes on by itself when the registry comes back in the meantime, and from the byte where it was."""
    monkeypatch.setattr(destination, "PIECE", 1 << 20)
    monkeypatch.setattr(pushing, "_TOLD", 0)
    there = Ours(tmp_path)
    there.start()
    told: list[int] = []
    kills: list[int] = []
    try:
        id_ = bring(store, make.tar({"big": random.Random(7).randbytes(8 << 20)}))
        store.run(store.images.tag(id_, f"{there.name}/big", "1"))

        def again(message: dict[str, Any]) -> None:
            told.append(message.get("progressDetail", {}).get("current", 0))
            if told[-1] > 3 << 20 and not kills:
                kills.append(told[-1])
                there.kill()
                there.start()

        store.run(store.images.push(settings(), parse_normalized(f"{there.name}/big:1"), again))
        assert kills
        assert sum(1 for value in told if value == 1 << 20) == 1
        store.remove(id_, force=True)
        assert pull(store, f"{there.name}/big:1") == id_
    finally:
        there.kill()
