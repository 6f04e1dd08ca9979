"""`load`: every archive that `docker save` and others write, verified before anything of it is visible."""

import bz2
import gzip
import json
import lzma
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import zstandard

from tests.images import image_archives as make
from tests.images.conftest import Store, chunks
from wherry.errors import DigestMismatch, HostileInput, InvalidArgument, InvalidReference, StoreCorrupt, WherryError

pytestmark = pytest.mark.root

BASE = make.tar({"bin/": b"", "bin/sh": b"#!shell" * 100})
TOP = make.tar({"etc/": b"", "etc/motd": b"hello"})
BIG = make.tar({"big": os.urandom(400_000)})
ONE = make.config([BASE])
TWO = make.config([BASE, TOP])
THREE = make.config([BIG])


def simple(*tags: str) -> bytes:
    """An archive of one image."""
    return make.tar(make.docker20([(TWO, [BASE, TOP], list(tags))]))


def test_an_archive_of_docker_20(store: Store) -> None:
    """An archive of 20.10 brings its images with all names; a layer that is a link to another image's is that layer."""
    archive = make.docker20([(ONE, [BASE], ["one:latest", "x/one:2"]), (TWO, [BASE, TOP], ["localhost:5000/two:t"])])
    assert any(isinstance(member, tuple) for member in archive.values())
    assert store.load(make.tar(archive)) == [make.sha(ONE), make.sha(TWO)]
    assert store.stream == [
        "Loaded image: one:latest\n",
        "Loaded image: x/one:2\n",
        "Loaded image: localhost:5000/two:t\n",
    ]
    image = store.images.resolve("localhost:5000/two:t")
    assert image.id == make.sha(TWO)
    assert image.config.config.env == ["A=b"]
    assert image.size == 705
    top = store.overlay.path(image.chain_ids[-1])
    with open(f"{top}/etc/motd") as file:
        assert file.read() == "hello"
    assert store.images.resolve("one").names == ["one:latest", "x/one:2"]
    store.check()


def test_link_before_its_target(store: Store) -> None:
    """A layer link may come before what it points at, and hard links work too."""
    members = make.docker20([(ONE, [BASE], ["one:latest"])])
    (path,) = json.loads(members["manifest.json"])[0]["Layers"]
    layer = members.pop(path)
    linked: dict[str, Any] = {
        path: (tarfile.SYMTYPE, "../a/b"),
        "a/b": (tarfile.LNKTYPE, "a/c"),
        **members,
        "a/c": layer,
    }
    store.load(make.tar(linked))
    assert store.names() == ["one:latest"]
    store.check()


def test_an_archive_of_docker_25(store: Store) -> None:
    """An archive with both forms keeps the digest of its own manifest."""
    raw = make.manifest(TWO, [BASE, TOP])
    members = make.layout([make.named(raw, "docker.io/library/two:latest")], [raw, TWO, BASE, TOP])
    manifest = {
        "Config": make.blob(TWO)[0],
        "RepoTags": ["two:latest"],
        "Layers": [make.blob(BASE)[0], make.blob(TOP)[0]],
        "LayerSources": {},
    }
    members["manifest.json"] = json.dumps([manifest]).encode()
    store.load(make.tar(members))
    assert store.stream == ["Loaded image: two:latest\n"]
    assert store.images.resolve("two").manifest == make.sha(raw)
    store.check()


@pytest.mark.parametrize(
    "pack", [gzip.compress, zstandard.compress, lzma.compress, bz2.compress], ids=["gzip", "zstd", "xz", "bzip2"]
)
def test_compressed(store: Store, pack: Callable[[bytes], bytes]) -> None:
    """The archive may be compressed, and so may a layer in it; the image is the same."""
    plain = store.load(simple("two:latest"))
    assert store.load(pack(simple("two:latest"))) == plain
    store.check()
    store.remove("two")
    members = make.docker20([(TWO, [BASE, TOP], ["two:latest"])])
    for path in json.loads(members["manifest.json"])[0]["Layers"]:
        members[path] = pack(members[path])
    assert store.load(make.tar(members)) == plain
    assert store.images.resolve("two").size == 705
    store.check()


def test_oci_layout(store: Store) -> None:
    """An OCI layout: gzip layers under their own digests, containerd's names, standard names, no name."""
    packed = gzip.compress(TOP, mtime=0)
    raw = make.manifest(TWO, [BASE, packed], ["", "+gzip"])
    bare = make.manifest(ONE, [BASE])
    members = make.layout(
        [
            make.named(raw, "docker.io/library/two:latest"),
            make.descriptor(raw, make.MANIFEST, annotations={"org.opencontainers.image.ref.name": "ghcr.io/x/two:3"}),
            make.descriptor(bare, make.MANIFEST, annotations={"org.opencontainers.image.ref.name": "latest"}),
        ],
        [raw, bare, TWO, ONE, BASE, packed],
    )
    store.load(make.tar(members))
    assert store.stream == [
        "Loaded image: two:latest\n",
        "Loaded image: ghcr.io/x/two:3\n",
        f"Loaded image ID: {make.sha(ONE)}\n",
    ]
    assert store.images.resolve("two").manifest == make.sha(raw)
    store.check()


def test_index_of_platforms(store: Store) -> None:
    """Of a multi-platform index this machine's image is taken, or the one that was asked for; attestations are none."""
    arm = make.config([TOP], architecture="arm64", variant="v8")
    here = make.config([BASE], architecture=os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64x"))
    raw_arm, raw_here = make.manifest(arm, [TOP]), make.manifest(here, [BASE])
    attestation = make.manifest(b"{}", [])
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": make.INDEX,
            "manifests": [
                make.descriptor(raw_arm, make.MANIFEST, platform={"os": "linux", "architecture": "arm64"}),
                make.descriptor(raw_here, make.MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
                make.descriptor(b"not here", make.MANIFEST, platform={"os": "linux", "architecture": "s390x"}),
                make.descriptor(
                    attestation, make.MANIFEST, annotations={"vnd.docker.reference.type": "attestation-manifest"}
                ),
            ],
        }
    ).encode()
    members = make.layout(
        [make.named(index, "docker.io/library/many:1", make.INDEX)],
        [index, raw_arm, raw_here, arm, here, BASE, TOP, attestation, b"{}"],
    )
    assert store.load(make.tar(members), platform="linux/amd64") == [make.sha(here)]
    assert store.load(make.tar(members), platform="linux/arm64") == [make.sha(arm)]
    store.check()


def test_twice(store: Store) -> None:
    """The same archive again changes nothing; a name that moves leaves a dangling image and says so."""
    store.load(simple("app:latest"))
    store.load(simple("app:latest"))
    assert store.stream == ["Loaded image: app:latest\n"]
    assert not [message for message in store.messages if "status" in message]
    store.load(make.tar(make.docker20([(ONE, [BASE], ["app:latest"])])))
    assert store.stream == [
        f"The image app:latest already exists, renaming the old one with ID {make.sha(TWO)} to empty string\n",
        "Loaded image: app:latest\n",
    ]
    assert [image["Id"] for image in store.listing({"dangling": ["true"]})] == [make.sha(TWO)]
    store.check()


def test_shared_layer(store: Store) -> None:
    """A layer that is there is not unpacked again, and an archive may leave out what the store has."""
    store.load(make.tar(make.docker20([(ONE, [BASE], ["one:latest"])])))
    raw = make.manifest(TWO, [BASE, TOP])
    store.load(make.tar(make.layout([make.named(raw, "docker.io/library/two:latest")], [raw, TWO, TOP])))
    loaded = [message["id"] for message in store.messages if message.get("status") == "Loading layer"]
    assert set(loaded) == {make.sha(TOP)[7:19]}
    store.check()


def test_quiet_and_no_layers(store: Store) -> None:
    """Quiet says what was loaded and nothing more; an image may have no layer at all."""
    empty = make.config([])
    store.load(make.tar(make.docker20([(empty, [], ["empty:latest"]), (ONE, [BASE], None)])), quiet=True)
    assert store.messages == [
        {"stream": "Loaded image: empty:latest\n"},
        {"stream": f"Loaded image ID: {make.sha(ONE)}\n"},
    ]
    store.check()


def test_repeated_layer(store: Store) -> None:
    """The same layer twice in one image is two snapshots and one blob."""
    twice = make.config([TOP, BASE, TOP])
    store.load(make.tar(make.docker20([(twice, [TOP, BASE, TOP], ["twice:latest"])])))
    assert len(store.images.resolve("twice").chain_ids) == 3
    store.check()


def test_sha512(store: Store) -> None:
    """Blobs may be named by sha512, and are verified so."""
    import hashlib

    digest = "sha512:" + hashlib.sha512(BASE).hexdigest()
    document = json.loads(make.manifest(ONE, [BASE]))
    document["layers"][0]["digest"] = digest
    raw = json.dumps(document).encode()
    members = make.layout([make.named(raw, "docker.io/library/one:latest")], [raw, ONE])
    members["blobs/sha512/" + digest[7:]] = BASE
    store.load(make.tar(members))
    assert store.images.resolve("one").record.layers[0].blob == digest
    store.check()
    members["blobs/sha512/" + digest[7:]] = BASE[:-1] + b"x"
    with pytest.raises(DigestMismatch):
        store.load(make.tar(members))


def _changed(path: str, content: Any) -> bytes:
    members = make.docker20([(TWO, [BASE, TOP], ["two:latest"])])
    layers = json.loads(members["manifest.json"])[0]["Layers"]
    members[{"layer": layers[1], "config": make.sha(TWO)[7:] + ".json"}.get(path, path)] = content
    return make.tar(members)


def _layout(**changes: Any) -> bytes:
    raw = make.manifest(TWO, [BASE, TOP])
    blobs = changes.pop("blobs", [raw, TWO, BASE, TOP])
    members = make.layout([make.named(raw, "docker.io/library/two:latest")], blobs)
    members.update(changes)
    return make.tar(members)


def _nested(depth: int) -> bytes:
    raw = make.manifest(TWO, [BASE, TOP])
    blobs = [raw, TWO, BASE, TOP]
    kind, inner = make.MANIFEST, raw
    for _ in range(depth):
        inner = json.dumps({"schemaVersion": 2, "manifests": [make.descriptor(inner, kind)]}).encode()
        kind = make.INDEX
        blobs.append(inner)
    return make.tar(make.layout([make.named(inner, "docker.io/library/two:latest", kind)], blobs))


def _listed(**entry: Any) -> bytes:
    return _changed("manifest.json", json.dumps([{"Config": CONFIG_NAME, "Layers": [], **entry}]).encode())


def _indexed(digest: str) -> bytes:
    index = {"schemaVersion": 2, "manifests": [{"mediaType": make.MANIFEST, "digest": digest, "size": 1}]}
    return _layout(**{"index.json": json.dumps(index).encode()})


CONFIG_NAME = make.sha(TWO)[7:] + ".json"
EVIL = make.tar({"../../x": b"y"})
MANIFEST = make.docker20([(TWO, [BASE, TOP], ["two:latest"])])["manifest.json"]
LYING = make.config([BASE, BASE])
PACKED = gzip.compress(TOP, mtime=0)
LYING_MANIFEST = make.manifest(LYING, [BASE, PACKED], ["", "+gzip"])
LYING_ARCHIVE = make.tar(
    make.layout([make.named(LYING_MANIFEST, "docker.io/library/x:1")], [LYING_MANIFEST, LYING, BASE, PACKED])
)

HOSTILE: list[tuple[str, bytes, type[WherryError]]] = [
    ("empty", b"", InvalidArgument),
    ("garbage", b"garbage" * 1000, StoreCorrupt),
    ("empty tar", make.tar({}), InvalidArgument),
    ("no image", make.tar({"bin/sh": b"x"}), InvalidArgument),
    ("truncated", simple("two:latest")[:3000], StoreCorrupt),
    ("truncated gzip", gzip.compress(simple("two:latest"))[:-20], StoreCorrupt),
    ("old format", make.tar({"repositories": b"{}"}), InvalidArgument),
    ("manifest is no list", _changed("manifest.json", b"{}"), InvalidArgument),
    ("manifest is no json", _changed("manifest.json", b"["), InvalidArgument),
    (
        "two readings",
        _changed("manifest.json", MANIFEST.replace(b'"Config"', b'"Config":"","Config"')),
        InvalidArgument,
    ),
    ("missing layer", _changed("manifest.json", MANIFEST.replace(b"layer.tar", b"other.tar")), InvalidArgument),
    ("layer outside", _listed(Config="../../etc/passwd"), HostileInput),
    ("absolute config", _listed(Config="/etc/passwd"), HostileInput),
    ("too few layers", _listed(), InvalidArgument),
    ("bad tag", simple("Two:latest"), InvalidReference),
    ("untagged tag", simple("two"), InvalidReference),
    ("tag with digest", simple("two@sha256:" + "a" * 64), InvalidReference),
    ("other layer", _changed("layer", BASE), DigestMismatch),
    ("layer is no tar", _changed("layer", b"x" * 2048), DigestMismatch),
    ("layer as link outside", _changed("layer", (tarfile.SYMTYPE, "../../../etc/passwd")), HostileInput),
    ("layer as absolute link", _changed("layer", (tarfile.SYMTYPE, "/etc/passwd")), HostileInput),
    ("layer as link to itself", _changed("layer", (tarfile.SYMTYPE, "layer.tar")), HostileInput),
    ("layer as dangling link", _changed("layer", (tarfile.SYMTYPE, "nothing")), InvalidArgument),
    ("layer as device", _changed("layer", (tarfile.CHRTYPE, "")), HostileInput),
    ("layer as fifo", _changed("layer", (tarfile.FIFOTYPE, "")), HostileInput),
    ("config by another name", _changed("config", ONE), DigestMismatch),
    ("member outside", make.tar({"../x": b"", **make.docker20([])}), HostileInput),
    ("absolute member", make.tar({"/x": b""}), HostileInput),
    ("member twice", make.tar([("a", b"1"), ("a", b"2")]), HostileInput),
    ("member and link", make.tar([("a", b"1"), ("./a", (tarfile.SYMTYPE, "b"))]), HostileInput),
    ("no layout file", make.tar({"index.json": b'{"schemaVersion":2,"manifests":[]}'}), InvalidArgument),
    ("layout of another age", _layout(**{"oci-layout": b'{"imageLayoutVersion":"9"}'}), InvalidArgument),
    ("index leads nowhere", _layout(blobs=[]), InvalidArgument),
    ("config missing", _layout(blobs=[make.manifest(TWO, [BASE, TOP]), BASE, TOP]), InvalidArgument),
    ("layer missing", _layout(blobs=[make.manifest(TWO, [BASE, TOP]), TWO, BASE]), InvalidArgument),
    ("blob of another content", _layout(**{make.blob(TOP)[0]: TOP[:-1] + b"x"}), DigestMismatch),
    ("blob of another length", _layout(**{make.blob(TOP)[0]: TOP + b"x"}), DigestMismatch),
    ("config of another content", _layout(**{make.blob(TWO)[0]: ONE.ljust(len(TWO))}), DigestMismatch),
    ("indexes too deep", _nested(6), HostileInput),
    ("index as manifest", _layout(**{"index.json": make.manifest(TWO, [])}), InvalidArgument),
    ("digest as path", _indexed("sha256:../../../../etc/passwd"), InvalidArgument),
    ("diff id of another layer", LYING_ARCHIVE, DigestMismatch),
    ("layer that escapes", make.tar(make.docker20([(make.config([EVIL]), [EVIL], ["x:1"])])), HostileInput),
]


@pytest.mark.parametrize(("archive", "error"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_hostile(store: Store, archive: bytes, error: type[WherryError]) -> None:
    """What is not as it should be is refused with a reason, and the store is as it was before."""
    store.load(make.tar(make.docker20([(THREE, [BIG], ["three:latest"])])))
    before = store.names()
    with pytest.raises(error) as caught:
        store.load(archive)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert store.names() == before
    store.check()


def test_nested_index(store: Store) -> None:
    """Indexes in indexes are followed, a few deep."""
    store.load(_nested(3))
    assert store.names() == ["two:latest"]
    store.check()


def test_wrong_diff_id_of_a_known_layer(store: Store) -> None:
    """A compressed blob that claims to be a layer that is there already is read before that is believed."""
    store.load(make.tar(make.docker20([(make.config([BASE, BASE]), [BASE, BASE], ["known:latest"])])))
    with pytest.raises(DigestMismatch):
        store.load(LYING_ARCHIVE)
    assert store.names() == ["known:latest"]
    store.check()


def test_client_goes_away(store: Store) -> None:
    """When the body breaks off, its error is raised and nothing is left."""

    async def broken() -> AsyncIterator[bytes]:
        async for chunk in chunks(simple("two:latest")[:3000], 500):
            yield chunk
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        store.run(store.images.load(broken(), store.messages.append))
    store.check()


def test_many_members(store: Store) -> None:
    """Small members stay in memory up to a limit, and an archive of too many is refused."""
    members = {f"junk/{number}": b"x" for number in range(2000)}
    store.load(make.tar({**members, **make.docker20([(ONE, [BASE], ["one:latest"])])}))
    store.check()
    with pytest.raises(HostileInput, match="entries"):
        store.load(make.tar({"directory/": b""})[:512] * 65_600)
    store.check()


def test_concurrent(store: Store) -> None:
    """The same archive loaded twice at once is one image."""
    import asyncio

    async def both() -> list[list[str]]:
        loads = [store.images.load(chunks(simple("two:latest")), store.messages.append) for _ in range(3)]
        return await asyncio.gather(*loads)

    assert store.run(both()) == [[make.sha(TWO)]] * 3
    store.check()
