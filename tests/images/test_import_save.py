"""`import` makes an image of a root file system; `save` writes what every engine loads."""

import bz2
import gzip
import json
import lzma
import os
import tarfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
import zstandard

from tests.images import image_archives as make
from tests.images.conftest import Store, chunks
from wherry.errors import DigestMismatch, HostileInput, ImageNotFound, InvalidArgument, InvalidReference, StoreCorrupt

pytestmark = pytest.mark.root

ROOT = make.tar({"bin/": b"", "bin/sh": b"#!shell" * 50_000, "etc/": b"", "etc/motd": b"hello"})
TOP = make.tar({"top": b"x"})


def test_import(store: Store) -> None:
    """The config is what the changes say, and message, platform and name are kept."""
    changes = [
        "CMD foo bar",
        "ENV A=b C=d",
        "EXPOSE 80 90/udp",
        "LABEL x=y",
        "USER u",
        "VOLUME /v /w",
        "WORKDIR /x",
        "WORKDIR y",
        "STOPSIGNAL 9",
        "HEALTHCHECK CMD true",
        "ONBUILD RUN x",
        'ENTRYPOINT ["a"]',
    ]
    id_ = store.run(store.images.import_(chunks(ROOT), "x2", "q", changes, message="hello", platform="linux/arm64"))
    image = store.images.resolve("x2:q")
    assert image.id == id_
    document = json.loads(image.raw_config)
    assert document["config"] == {
        "Cmd": ["/bin/sh", "-c", "foo bar"],
        "Env": ["A=b", "C=d"],
        "ExposedPorts": {"80/tcp": {}, "90/udp": {}},
        "Labels": {"x": "y"},
        "User": "u",
        "Volumes": {"/v": {}, "/w": {}},
        "WorkingDir": "/x/y",
        "StopSignal": "9",
        "Healthcheck": {"Test": ["CMD-SHELL", "true"]},
        "OnBuild": ["RUN x"],
        "Entrypoint": ["a"],
    }
    assert document["architecture"] == "arm64"
    assert document["rootfs"] == {"type": "layers", "diff_ids": [make.sha(ROOT)]}
    assert [(step["Comment"], step["Size"]) for step in store.images.history("x2:q")] == [("hello", 350_005)]
    assert store.inspect("x2:q")["Comment"] == "hello"
    store.check()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lzma.compress, bz2.compress])
def test_import_compressed(store: Store, pack: Callable[[bytes], bytes]) -> None:
    """A compressed root file system is the same layer; it is kept as it came where manifests can say how."""
    store.run(store.images.import_(chunks(pack(ROOT)), "app"))
    image = store.images.resolve("app")
    assert image.diff_ids == [make.sha(ROOT)]
    assert image.size == 350_005
    store.check()
    document = json.loads(store.blobs.read(store.blobs.write(b"{}"), 10))
    assert document == {}
    store.run(store.images.collect())
    store.check()


def test_import_nameless(store: Store) -> None:
    """Without a repository the image has no name."""
    id_ = store.run(store.images.import_(chunks(ROOT)))
    assert store.images.resolve(id_).dangling
    assert store.inspect(id_)["Comment"] == "Imported from -"
    store.check()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"changes": ["CMD foo", "FOO x"]}, InvalidArgument, "FOO is not a valid change command"),
        ({"changes": ["run x"]}, InvalidArgument, "RUN is not a valid change command"),
        ({"changes": ['SHELL ["a"]']}, InvalidArgument, "SHELL is not a valid change command"),
        ({"changes": ["ENV a"]}, InvalidArgument, "ENV must have two arguments"),
        ({"changes": ["EXPOSE zz"]}, InvalidArgument, "Invalid containerPort: zz"),
        ({"repo": "X2"}, InvalidReference, "invalid reference format: repository name (library/X2) must be lowercase"),
        ({"platform": "a/b/c/d"}, InvalidArgument, '"a/b/c/d": cannot parse platform specifier: invalid argument'),
    ],
)
def test_import_refused(store: Store, options: dict[str, Any], error: type[Exception], words: str) -> None:
    """What is wrong is said before the body is read."""
    with pytest.raises(error) as caught:
        store.run(store.images.import_(chunks(ROOT), **options))
    assert str(caught.value) == words
    store.check()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"garbage" * 1000, StoreCorrupt),
        (ROOT[:200_000], StoreCorrupt),
        (gzip.compress(ROOT)[:-9], StoreCorrupt),
        (make.tar({"../../x": b"y"}), HostileInput),
    ],
)
def test_import_hostile(store: Store, body: bytes, error: type[Exception]) -> None:
    """A body that is no root file system leaves nothing."""
    with pytest.raises(error):
        store.run(store.images.import_(chunks(body), "app"))
    assert store.listing() == []
    store.check()


def members(archive: bytes) -> dict[str, bytes]:
    """Files of an archive."""
    with tarfile.open(fileobj=BytesIO(archive)) as opened:
        files = [(member, opened.extractfile(member)) for member in opened if member.isfile()]
        return {member.name: file.read() for member, file in files if file}


def test_save(store: Store, tmp_path: Any) -> None:
    """What is saved has both forms, and loads into another store with ids, manifests and names."""
    packed = gzip.compress(ROOT, mtime=0)
    config = make.config([ROOT, TOP])
    raw = make.manifest(config, [packed, TOP], ["+gzip", ""])
    store.load(make.tar(make.layout([make.named(raw, "docker.io/x/app:1")], [raw, config, packed, TOP])))
    store.run(store.images.import_(chunks(ROOT), "busybox"))
    store.run(store.images.tag("busybox", "busybox:2"))
    archive = store.run(store.save("x/app:1", "busybox"))
    files = members(archive)
    listed = json.loads(files["manifest.json"])
    assert [entry["RepoTags"] for entry in listed] == [["x/app:1"], ["busybox:2", "busybox:latest"]]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])["manifests"]
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index] == [
        "docker.io/x/app:1",
        "docker.io/library/busybox:2",
        "docker.io/library/busybox:latest",
    ]
    assert set(json.loads(files["repositories"])) == {"x/app", "busybox"}
    for entry in listed:
        for path in (entry["Config"], *entry["Layers"]):
            assert make.sha(files[path])[7:] == os.path.basename(path)
    other = Store(f"{tmp_path}/other")
    try:
        other.load(archive)
        assert other.names() == ["busybox:2", "busybox:latest", "x/app:1"]
        assert other.images.resolve("x/app:1").manifest == make.sha(raw)
        assert other.images.resolve("busybox").id == store.images.resolve("busybox").id
        other.check()
    finally:
        other.close()
        other.run(other.loop.shutdown_default_executor())
        other.loop.close()
    store.check()


def test_save_by_id(store: Store) -> None:
    """An image that is asked for by id is saved without names; one tag alone is saved alone."""
    id_ = store.run(store.images.import_(chunks(ROOT), "busybox"))
    store.run(store.images.tag("busybox", "busybox:2"))
    for asked, names in ((id_[7:19], None), (id_, None), ("busybox:2", ["busybox:2"])):
        files = members(store.run(store.save(asked)))
        assert [entry["RepoTags"] for entry in json.loads(files["manifest.json"])] == [names]


def test_save_refused(store: Store) -> None:
    """A name that is not there is said before the first byte."""
    with pytest.raises(ImageNotFound, match=r"^No such image: nope$"):
        store.images.save(["nope"])


def test_save_of_a_damaged_store(store: Store) -> None:
    """A layer blob that was damaged on disk makes an archive that does not load: digests tell."""
    id_ = store.run(store.images.import_(chunks(ROOT), "busybox"))
    path = store.blobs.path(store.blobs.write(TOP)).replace(make.sha(TOP)[7:], make.sha(ROOT)[7:])
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.write(b"\xff")
    archive = store.run(store.save(id_))
    store.remove(id_, force=True)
    with pytest.raises(DigestMismatch):
        store.load(archive)
    assert store.listing() == []
