"""Archives cross between this engine and dockerd, in both directions, with the same ids and trees."""

import json
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import peers
from tests.e2e import dockerd
from tests.images import image_archives as make
from tests.images import test_push_index as many
from tests.images.conftest import Store, chunks
from tests.snapshots.layer_archives import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARDLINK,
    SYMLINK,
    archive,
    listing,
    member,
)

pytestmark = [pytest.mark.root, pytest.mark.slow]

ROOT = make.tar({"bin/": b"", "bin/sh": b"#!shell" * 100, "bin/ln": b"x"})


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A dockerd without network in a network namespace of its own; gives the command that speaks to it."""
    with dockerd.dockerd(tmp_path_factory.mktemp("peer"), *dockerd.ALONE, enter=("unshare", "-n")) as peer:
        yield [peers.docker(), "-H", peer.host]


def run(command: list[str], *arguments: str, data: bytes | None = None) -> bytes:
    """Run docker and return what it printed."""
    return subprocess.run([*command, *arguments], input=data, capture_output=True, check=True, timeout=60).stdout


def test_from_docker(docker: list[str], store: Store) -> None:
    """What `docker save` writes is loaded with Docker's ids and names."""
    run(docker, "import", "-c", 'CMD ["sh"]', "-", "one:1", data=ROOT)
    run(docker, "import", "-", "x/two:2", data=make.tar({"other": b"x"}))
    run(docker, "tag", "one:1", "one:latest")
    store.load(run(docker, "save", "one", "x/two:2"))
    assert store.names() == ["one:1", "one:latest", "x/two:2"]
    for name in store.names():
        found = json.loads(run(docker, "inspect", name))[0]
        assert store.images.resolve(name).id == found["Id"]
        assert store.inspect(name)["RootFS"] == found["RootFS"]
        ours = store.inspect(name)["Config"]
        assert {key: value for key, value in found["Config"].items() if value} == {
            key: value for key, value in ours.items() if value
        }
    store.check()


def test_to_docker(docker: list[str], store: Store) -> None:
    """What we save is loaded by Docker with our ids and names."""
    store.run(store.images.import_(chunks(ROOT), "ours", "1", ['CMD ["sh"]', "ENV A=b"], message="hello"))
    store.run(store.images.tag("ours:1", "x/ours:2"))
    said = run(docker, "load", data=store.run(store.save("ours:1", "x/ours:2"))).decode()
    assert said.splitlines() == ["Loaded image: ours:1", "Loaded image: x/ours:2"]
    found = json.loads(run(docker, "inspect", "ours:1"))[0]
    assert found["Id"] == store.images.resolve("ours:1").id
    assert found["Config"]["Env"] == ["A=b"]
    assert store.load(run(docker, "save", "ours:1")) == [found["Id"]]
    store.check()


def test_an_index_to_docker(docker: list[str], store: Store) -> None:
    """Docker takes this machine's image out of an archive that has an index with all platforms."""
    store.load(many.archive("many:1", *many.PLATFORMS), platform="linux/amd64")
    said = run(docker, "load", data=store.run(store.save("many:1"))).decode()
    assert said == "Loaded image: many:1\n"
    found = json.loads(run(docker, "inspect", "many:1"))[0]
    assert (found["Id"], found["Architecture"]) == (store.images.resolve("many:1").id, "amd64")


def capability(permitted: int) -> str:
    """A `security.capability` attribute of version 2, as a pax record holds it."""
    return struct.pack("<IIIII", 0x02000001, permitted, 0, 0, 0).decode("latin-1")


def gnu_tar(root: Path, *options: str) -> bytes:
    """What GNU tar makes of a directory."""
    return subprocess.run(
        ["tar", *options, "--sort=name", "--numeric-owner", "-C", root, "-c", "."], check=True, capture_output=True
    ).stdout


def sparse_tree(root: Path) -> Path:
    """A directory with a file of holes."""
    root.mkdir()
    with open(root / "holes", "wb") as file:
        file.write(b"begin")
        file.seek(1 << 20)
        file.write(b"middle")
        file.truncate(3 << 20)
    return root


def tricky_layers(base: Path) -> list[bytes]:
    """Layers with all that a tree can hold, and with all that one layer can do to another."""
    at = 1_600_000_000
    lower = archive(
        member("bin", DIRECTORY, mode=0o755, mtime=at),
        member("bin/su", data=b"setuid" * 50, mode=0o4755, mtime=at + 1),
        member("bin/sg", data=b"setgid", mode=0o2711, uid=7, gid=8, mtime=at + 2),
        member("bin/hard", HARDLINK, link="bin/su", mode=0o4755, mtime=at + 1),
        member(
            "bin/ping",
            data=b"caps",
            mode=0o755,
            mtime=at,
            pax={"SCHILY.xattr.security.capability": capability(1 << 13)},
        ),
        member("tmp", DIRECTORY, mode=0o1777, mtime=at + 3),
        member("dev", DIRECTORY, mtime=at),
        member("dev/null", CHARACTER, devmajor=1, devminor=3, mode=0o666, mtime=at),
        member("dev/sda", BLOCK, devmajor=8, devminor=0, mode=0o660, gid=6, mtime=at),
        member("dev/big", CHARACTER, devmajor=4095, devminor=200_000, mtime=at),
        member("dev/pipe", FIFO, mode=0o620, mtime=at),
        member("links", DIRECTORY, mtime=at + 9),
        member("links/abs", SYMLINK, link="/etc/passwd", mtime=at + 4),
        member("links/up", SYMLINK, link="../../../../etc", mtime=at + 4),
        member("links/long", SYMLINK, link="x/" * 120 + "y", mtime=at + 4),
        member("links/hardsym", HARDLINK, link="links/abs", mtime=at + 4),
        member("n" * 180, data=b"long name", mtime=at),
        member("d" * 120 + "/" + "e" * 200, data=b"long path", mtime=at),
        member("big-ids", data=b"x", uid=3_000_000, gid=2_500_000, mtime=at),
        member("attrs", data=b"x", mtime=at, pax={"SCHILY.xattr.user.note": "value"}),
        member("old", data=b"x", mtime=0),
        member("new", data=b"x", mtime=4_000_000_000),
        member("gone-file", data=b"x", mtime=at),
        member("gone-dir", DIRECTORY, mtime=at),
        member("gone-dir/in", data=b"x", mtime=at),
        member("opaque", DIRECTORY, mtime=at),
        member("opaque/below", data=b"x", mtime=at),
        member("file-to-dir", data=b"x", mtime=at),
        member("dir-to-file", DIRECTORY, mtime=at),
        member("dir-to-file/in", data=b"x", mtime=at),
        member("implied/parents/of/this", data=b"x", mtime=at),
    )
    upper = archive(
        member(".wh.gone-file"),
        member(".wh.gone-dir"),
        member("opaque", DIRECTORY, mode=0o700, mtime=at + 6),
        member("opaque/.wh..wh..opq"),
        member("opaque/above", data=b"y", mtime=at),
        member("file-to-dir", DIRECTORY, mode=0o750, mtime=at + 7),
        member("file-to-dir/in", data=b"y", mtime=at),
        member("dir-to-file", data=b"y", mtime=at + 8),
        member("bin", DIRECTORY, mode=0o700, mtime=at),
        member("bin/.wh.sg"),
        member("bin/.wh.never-there"),
        member("links", DIRECTORY, mtime=at + 9),
        member("links/abs", data=b"a file now", mtime=at),
        member("tmp", DIRECTORY, mode=0o1770, uid=5, mtime=at + 3),
    )
    # dockerd takes holes in pax only
    return [lower, upper, gnu_tar(sparse_tree(base / "sparse"), "--format=pax", "--sparse")]


def test_trees_are_dockers(docker: list[str], store: Store, tmp_path: Path) -> None:
    """Whiteouts, opaque directories, hard links, devices, setuid, attributes, file capabilities, sparse files, pax.

    Each unpacked layer is what dockerd's overlay2 has, but for the root's own entry and for fractions of a second.
    """
    layers = tricky_layers(tmp_path)
    data = make.tar(make.docker20([(make.config(layers), layers, ["tricky:1"])]))
    store.load(data)
    run(docker, "load", data=data)
    graph = json.loads(run(docker, "image", "inspect", "-f", "{{json .GraphDriver.Data}}", "tricky:1"))
    theirs = [graph["UpperDir"], *graph["LowerDir"].split(":")][::-1]
    ours = store.images.resolve("tricky:1").layers
    assert len(ours) == len(theirs) == len(layers)
    for own, other in zip(ours, theirs, strict=True):
        assert whole_seconds(Path(own)) == whole_seconds(Path(other))
    size = json.loads(run(docker, "image", "inspect", "-f", "{{json .Size}}", "tricky:1"))
    assert store.images.resolve("tricky:1").size == size


def whole_seconds(root: Path) -> list[tuple[object, ...]]:
    """The listing of a layer without its root, times cut to seconds, and without what overlayfs notes for itself."""
    found: list[tuple[object, ...]] = []
    for name, mode, uid, gid, mtime, links, content, xattrs in listing(root):
        if name == ".":
            continue
        assert isinstance(mtime, int)
        assert isinstance(xattrs, dict)
        kept = {key: value for key, value in xattrs.items() if key != "trusted.overlay.origin"}
        # no layer has an entry for whiteouts and for parents that are only implied: theirs is the time of unpacking
        timeless = content == 0 or (str(name).startswith(("implied", "d" * 120)) and stat.S_ISDIR(int(str(mode))))
        found.append((name, mode, uid, gid, 0 if timeless else mtime // 10**9, links, content, kept))
    return found
