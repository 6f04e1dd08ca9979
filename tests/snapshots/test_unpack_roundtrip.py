"""Layers unpacked here and by GNU tar are the same tree; the worker is confined and says what it found."""

import bz2
import json
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pytest
import zstandard

from wherry.snapshots.remove import remove_tree

from .layer_archives import DIRECTORY, HARDLINK, SYMLINK, Place, archive, gz, listing, member

pytestmark = pytest.mark.root
SRC = str(Path(__file__).parents[2] / "src")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A data root."""
    return Place(tmp_path / "place")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with every kind of file, odd names, odd times and modes."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "plain").write_bytes(os.urandom(70_000))
    (root / "empty").touch()
    (root / "long").mkdir()
    (root / "long" / ("n" * 255)).write_text("long name")
    deep = root / "deep" / Path(*["directory-with-a-name"] * 12)
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    (root / "ünï\nco de").write_text("name")
    os.close(os.open(os.fsencode(root) + b"/not-\xff-utf8", os.O_CREAT | os.O_WRONLY))
    os.link(root / "plain", root / "deep" / "hard")
    (root / "link").symlink_to("plain")
    (root / "longlink").symlink_to("t/" * 150)
    os.link(root / "link", root / "hard-to-link", follow_symlinks=False)
    os.mknod(root / "device", stat.S_IFCHR | 0o640, os.makedev(1, 7))
    os.mkfifo(root / "fifo", 0o611)
    with (root / "sparse").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"middle" * 1000)
        file.truncate(7 << 20)
    with (root / "many-holes").open("wb") as file:
        for n in range(60):
            file.seek(n * 65536)
            file.write(b"%d" % n * 100)
    os.chown(root / "plain", 3_000_000, 70_000)
    os.chmod(root / "plain", 0o6751)
    os.chown(root / "link", 12, 13, follow_symlinks=False)
    os.chmod(root / "deep", 0o3775)
    os.setxattr(root / "empty", "user.note", b"with\0nul\n=")
    os.setxattr(root / "deep", "trusted.note", b"dir")
    os.setxattr(root / "link", "trusted.note", b"link", follow_symlinks=False)
    for n, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        moment = 1_600_000_000_123_456_789 + n * 1_000_000_001
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    os.utime(root, ns=(1_500_000_000_999_999_999, 1_500_000_000_999_999_999))
    os.chmod(root, 0o2711)
    return root


@pytest.mark.parametrize(
    "options",
    [
        ["--format=pax", "--xattrs", "--xattrs-include=*"],
        ["--format=pax", "--sparse", "--sparse-version=0.0"],
        ["--format=pax", "--sparse", "--sparse-version=0.1"],
        ["--format=pax", "--sparse", "--sparse-version=1.0"],
        ["--format=gnu"],
        ["--format=gnu", "--sparse"],
        ["--format=oldgnu", "--sparse"],
    ],
    ids=lambda options: "-".join(option.strip("-").split("=")[-1] for option in options),
)
def test_same_tree_as_gnu_tar(place: Place, tree: Path, tmp_path: Path, options: list[str]) -> None:
    """Whatever GNU tar writes comes out as GNU tar itself extracts it."""
    name = tmp_path / "a.tar"
    subprocess.run(["tar", *options, "--numeric-owner", "-C", tree, "-cf", name, "."], check=True)
    peer = tmp_path / "peer"
    peer.mkdir()
    subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-xpf", name, "--numeric-owner", "-C", peer], check=True)
    ours, applied = place.unpack(name.read_bytes())
    assert list(listing(ours)) == list(listing(peer))
    assert applied.diff_id == f"sha256:{sha256(name.read_bytes()).hexdigest()}"
    if "--sparse" in options:
        assert os.stat(ours / "sparse").st_blocks < 100


@pytest.mark.parametrize("squeeze", ["gzip", "gzip-members", "zstd", "zstd-frames", "xz", "bzip2"])
def test_compressed_layers(place: Place, tree: Path, squeeze: str) -> None:
    """Every compression gives the same tree, the digest of the archive and that of what was read."""
    data = subprocess.run(
        ["tar", "--format=pax", "--sort=name", "-C", tree, "-c", "."], check=True, capture_output=True
    ).stdout
    half = len(data) // 2
    skippable = b"\x53\x2a\x4d\x18\x05\x00\x00\x00notes"
    packed = {
        "gzip": lambda: gz(data),
        "gzip-members": lambda: gz(data[:half]) + gz(b"") + gz(data[half:]),
        "zstd": lambda: zstandard.ZstdCompressor(write_checksum=True).compress(data),
        "zstd-frames": lambda: (
            zstandard.compress(data[:half]) + skippable + zstandard.compress(data[half:]) + skippable
        ),
        "xz": lambda: (
            lzma.compress(data[:half]) + bytes(8) + lzma.compress(data[half:], check=lzma.CHECK_CRC32) + bytes(4)
        ),
        "bzip2": lambda: bz2.compress(data[:half]) + bz2.compress(data[half:]),
    }[squeeze]()
    plain, of_plain = place.unpack(data)
    ours, applied = place.unpack(packed)
    assert list(listing(ours)) == list(listing(plain))
    assert (applied.diff_id, applied.size, applied.entries) == (of_plain.diff_id, of_plain.size, of_plain.entries)
    assert applied.compressed_digest == f"sha256:{sha256(packed).hexdigest()}"
    assert applied.compressed_size == len(packed)


@pytest.mark.parametrize("encoding", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_between_a_hundred_bytes_and_the_end_of_ustar(place: Place, encoding: Literal[0, 1, 2]) -> None:
    """Prefixes, long names and pax paths all give the whole name."""
    name = "p" * 90 + "/" + "n" * 99
    tree, _ = place.unpack(archive(member(name, data=b"x", encoding=encoding)))
    assert (tree / name).read_bytes() == b"x"


def test_entries_replace_one_another(place: Place) -> None:
    """The last entry of a name wins, whatever was there; two directories are one."""
    tree, _ = place.unpack(
        archive(
            member("a", data=b"1"),
            member("a", DIRECTORY, mode=0o700),
            member("a/in", data=b"2"),
            member("a", DIRECTORY, mode=0o711, uid=9),
            member("b/in", data=b"3"),
            member("b", SYMLINK, link="a"),
            member("b/through", data=b"4"),
            member("c", data=b"5"),
            member("c", HARDLINK, link="c"),
        )
    )
    assert (tree / "a/in").read_bytes() == b"2"
    assert stat.S_IMODE((tree / "a").stat().st_mode) == 0o711
    assert (tree / "a").stat().st_uid == 9
    assert (tree / "b").is_symlink()
    assert (tree / "a/through").read_bytes() == b"4"
    assert (tree / "c").read_bytes() == b"5"


def test_global_records_hold_until_the_entry_says_otherwise(place: Place) -> None:
    """A global pax header gives a default; an entry's own records win."""
    shared = tarfile.TarInfo.create_pax_global_header({"uid": "77", "comment": "by git"})
    tree, _ = place.unpack(archive(shared, member("a", uid=5), member("b", pax={"uid": "8"})))
    assert ((tree / "a").stat().st_uid, (tree / "b").stat().st_uid) == (77, 8)


def test_times_of_more_directories_than_are_remembered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories keep their times though files come later, and however many there are."""
    monkeypatch.setattr("wherry.snapshots.tree._REMEMBERED", 5)
    monkeypatch.setattr("wherry.snapshots.tree._OPEN_DIRECTORIES", 4)
    names = [f"d{n}" for n in range(40)]
    late = [member(f"{name}/late") for name in (*names[::-1], *names[::3])]
    tree, _ = place.unpack(
        archive(
            member("./", DIRECTORY, mtime=7),
            *[member(name, DIRECTORY, mtime=100 + n) for n, name in enumerate(names)],
            *late,
        )
    )
    assert [(tree / name).stat().st_mtime for name in names] == [100 + n for n in range(40)]
    assert tree.stat().st_mtime == 7


def test_the_root_entry_gives_the_root_its_metadata(place: Place) -> None:
    """`./` is the layer's root: mode, owner and time are its own, and others still cannot reach it."""
    tree, _ = place.unpack(archive(member("./", DIRECTORY, mode=0o751, uid=4, mtime=1_234_567_890), member("./f")))
    found = tree.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime) == (0o751, 4, 1_234_567_890)
    assert stat.S_IMODE(tree.parent.stat().st_mode) == 0o700


def test_an_archive_without_end_or_without_entries(place: Place) -> None:
    """An empty stream, two zero blocks and a missing end are layers too, as for Docker."""
    for data in (b"", bytes(1024), bytes(10240), member("f", data=b"x")):
        assert place.unpack(data)[1].diff_id == f"sha256:{sha256(data).hexdigest()}"


_WORKER = """
import json, os, sys
sys.path[:0] = [sys.argv[1]] + sys.argv[3:]
from wherry.snapshots import unpack
source, target = os.open(sys.argv[2], os.O_RDONLY), os.open(".", os.O_RDONLY)
result = unpack.worker({"limits": {}, "expect_diff_id": None}, {"source": source, "target": target})
status = open  # nothing is opened by path below: the process has no path to anything but the layer
outside = [name for name in ("/proc", "/etc/hostname", sys.argv[1], "/../etc") if os.path.exists(name)]
try:
    import sqlite3
except ImportError:
    outside.append("import refused")
try:
    os.setuid(1)
except PermissionError:
    outside.append("setuid refused")
try:
    os.open(b"d", os.O_RDONLY | os.O_DIRECTORY)
    outside.append("d")
except OSError:
    pass
os.write(1, json.dumps([result, outside, sorted(os.listdir("/"))]).encode())
os._exit(0)
"""


@pytest.mark.parametrize("squeeze", ["plain", "gzip", "zstd"])
def test_the_worker_sees_nothing_but_the_layer(tmp_path: Path, squeeze: str) -> None:
    """A worker reports what it unpacked; afterwards it finds no file of the host, no module, no user to become."""
    data = archive(
        member("d", DIRECTORY), member("d/f", data=b"x" * 5000), member("d/.wh.gone"), member("d/.wh..wh..opq")
    )
    packed = {"plain": data, "gzip": gz(data), "zstd": zstandard.compress(data)}[squeeze]
    (tmp_path / "layer").write_bytes(packed)
    target = tmp_path / "target"
    target.mkdir()
    site = [path for path in sys.path if path.endswith("site-packages")]
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WORKER, SRC, str(tmp_path / "layer"), *site],
        check=True,
        capture_output=True,
        cwd=target,
    )
    applied, outside, names = json.loads(run.stdout)
    assert applied["diff_id"] == f"sha256:{sha256(data).hexdigest()}"
    assert applied["entries"] == 4
    assert outside == ["import refused", "setuid refused", "d"]
    assert names == ["d"]
    assert os.getxattr(target / "d", "trusted.overlay.opaque") == b"y"


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    """Where there is no room the error is the kernel's, names the entry, and the partial tree can be removed."""
    (tmp_path / "layer").write_bytes(archive(member("small", data=b"x"), member("big", data=bytes(3 << 20))))
    script = (
        "import os, subprocess, sys; sys.path[:0] = sys.argv[1:]\n"
        "from wherry.errors import KernelError\n"
        "from wherry.paths import Roots\n"
        "from wherry.snapshots.overlay import Overlay\n"
        "from wherry.snapshots.unpack import apply_layer\n"
        "os.mkdir('data')\n"
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', 'data'], check=True)\n"
        "overlay = Overlay(Roots('data', 'data'))\n"
        "staging = overlay.stage()\n"
        "try:\n    apply_layer(os.open('layer', os.O_RDONLY), os.open(staging, os.O_RDONLY))\n"
        "except KernelError as error:\n    print(error.errno, error.facts['entry'], len(os.listdir('/proc/self/fd')))\n"
        "overlay.abandon(staging)\n"
        "print(os.listdir('data/ingest'))\n"
    )
    run = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script, SRC], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert run.stdout.splitlines() == ["28 big 6", "[]"]


def test_memory_stays_flat(tmp_path: Path) -> None:
    """A layer of 96 MB costs less than 20 MB, from plain and from gzip."""
    name = tmp_path / "big.tar"
    block = os.urandom(1 << 20)
    with name.open("wb") as file:
        for n in range(96):
            file.write(member(f"f{n}", data=block))
        file.write(bytes(1024))
    subprocess.run(["gzip", "-1", "-k", name], check=True)
    script = (
        "import os, sys, resource; sys.path[:0] = sys.argv[3:]\n"
        "from wherry.snapshots.unpack import apply_layer\n"
        "from isal import igzip_lib\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "apply_layer(os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDONLY))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    site = [path for path in sys.path if path.endswith("site-packages")]
    for source in (name, name.with_suffix(".tar.gz")):
        target = tmp_path / "target"
        target.mkdir()
        run = subprocess.run(
            [sys.executable, "-I", "-S", "-c", script, source, target, SRC, *site], check=True, capture_output=True
        )
        assert int(run.stdout) < 20_000
        shutil.rmtree(target)


def test_remove_tree_of_any_depth(tmp_path: Path) -> None:
    """A tree deeper than paths and descriptors reach is removed; what a link in it points to stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    (tmp_path / "tree").mkdir()
    fd = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        os.symlink(outside, "link", dir_fd=fd)
        os.close(os.open(".deep-1", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    above = os.open(tmp_path, os.O_RDONLY)
    try:
        remove_tree(above, "tree")
        remove_tree(above, "tree")
        remove_tree(above, b"nothing")
        with pytest.raises(ValueError, match="outside"):
            remove_tree(above, "../outside")
    finally:
        os.close(above)
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert (outside / "file").read_text() == "stays"


def test_remove_tree_does_not_enter_a_mount(tmp_path: Path) -> None:
    """A mount inside the tree stops the removal; what is mounted is not touched."""
    script = (
        "import os, subprocess, sys; sys.path[:0] = [sys.argv[1]]\n"
        "from wherry.errors import KernelError\n"
        "from wherry.snapshots.remove import remove_tree\n"
        "os.makedirs('tree/a/mnt'); os.mkdir('data'); open('data/file', 'w').close()\n"
        "subprocess.run(['mount', '--bind', 'data', 'tree/a/mnt'], check=True)\n"
        "try:\n    remove_tree(os.open('.', os.O_RDONLY), 'tree')\n"
        "except KernelError as error:\n    print(error)\n"
    )
    run = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script, SRC], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "mount" in run.stdout
    assert (tmp_path / "data/file").exists()


_STEP = """
import json, os, socket, sys
sys.path[:0] = [sys.argv[1]] + sys.argv[3:]
from wherry.snapshots import adding, copying
source, root = os.open(sys.argv[2], os.O_RDONLY), os.open(".", os.O_RDONLY)
told, unpack = [], adding.plain_entries
def watched(*args):
    told.extend(name for name in ("/proc", "/etc/hostname", sys.argv[1], "/../etc") if os.path.exists(name))
    try:
        os.setuid(1)
    except PermissionError:
        told.append("setuid refused")
    told.extend(name for _, name in socket.if_nameindex())
    unpack(*args)
adding.plain_entries = watched
action = {"copy": ["packed"], "source": 0, "dest": "/into", "unpack": True}
args = {"root": None, "sources": [{"fd": "source"}], "actions": [action]}
copying.worker(args, {"source": source, "root": root})
os.write(1, json.dumps([told, sorted(os.listdir("/into"))]).encode())
os._exit(0)
"""


@pytest.mark.parametrize("squeeze", ["plain", "gzip", "zstd", "xz", "bzip2"])
def test_attack_an_archive_of_add_meets_a_confined_worker(tmp_path: Path, squeeze: str) -> None:
    """What takes it apart has no file of the host, no network but a loopback of its own, and no user to become."""
    data = archive(member("d", DIRECTORY), member("d/f", data=b"x" * 5000), member("e", data=b"y"))
    squeezed = {
        "plain": lambda: data,
        "gzip": lambda: gz(data),
        "zstd": lambda: zstandard.compress(data),
        "xz": lambda: lzma.compress(data),
        "bzip2": lambda: bz2.compress(data),
    }
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "packed").write_bytes(squeezed[squeeze]())
    root = tmp_path / "root"
    root.mkdir()
    site = [path for path in sys.path if path.endswith("site-packages")]
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _STEP, SRC, str(tmp_path / "source"), *site],
        check=True,
        capture_output=True,
        cwd=root,
    )
    told, names = json.loads(run.stdout)
    assert told == ["setuid refused", "lo"]
    assert names == ["d", "e"]
    assert (root / "into" / "d" / "f").read_bytes() == b"x" * 5000
