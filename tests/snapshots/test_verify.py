"""A layer's tree compared with its archive: what is equal, and every kind of damage that leaves no length changed."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.errors import DigestMismatch, HostileInput, StoreCorrupt
from wherry.snapshots import verify
from wherry.snapshots.archive import write_archive
from wherry.snapshots.unpack import apply_layer
from wherry.snapshots.verify import verify_layer

from .layer_archives import CHARACTER, DIRECTORY, FIFO, HARDLINK, SYMLINK, archive, gz, member

pytestmark = pytest.mark.root

_SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "3145728", "GNU.sparse.name": "d/s"}
_MAP = b"2\n1048576\n512\n3145728\n0\n"
LAYER = archive(
    member("./", DIRECTORY, mode=0o751),
    member("d/", DIRECTORY, mode=0o1777, uid=5),
    member("d/f", data=b"content" * 100_000, mode=0o4755, gid=7, pax={"SCHILY.xattr.user.note": "kept"}),
    member("d/hard", HARDLINK, link="d/f"),
    member("d/l", SYMLINK, link="f", uid=9),
    member("d/c", CHARACTER, devmajor=1, devminor=3, mode=0o666),
    member("d/p", FIFO),
    member("d/.wh.gone"),
    member("o/", DIRECTORY),
    member("o/.wh..wh..opq"),
    member("GNUSparseFile.0/s", data=_MAP + bytes(512 - len(_MAP)) + b"x" * 512, pax=_SPARSE),
    member(".wh..wh.plnk/1.2", data=b"a note of aufs"),
)


def opened(path: Path) -> int:
    """A descriptor of a directory or a file."""
    return os.open(path, os.O_RDONLY)


def unpacked(tmp_path: Path, data: bytes, name: str = "tree") -> Path:
    """Unpack an archive."""
    tree = tmp_path / name
    tree.mkdir(mode=0o755)
    tree.chmod(0o755)
    (tmp_path / "layer").write_bytes(data)
    source, target = opened(tmp_path / "layer"), opened(tree)
    try:
        apply_layer(source, target, sync=False)
    finally:
        os.close(source)
        os.close(target)
    return tree


def difference(tmp_path: Path, tree: Path, data: bytes, diff_id: str | None = None) -> str:
    """Compare a tree with an archive."""
    (tmp_path / "layer").write_bytes(data)
    source, target = opened(tmp_path / "layer"), opened(tree)
    before = len(os.listdir("/proc/self/fd"))
    try:
        return verify_layer(source, target, expect_diff_id=diff_id)
    finally:
        assert len(os.listdir("/proc/self/fd")) == before
        os.close(source)
        os.close(target)


@pytest.mark.parametrize("pack", [bytes, gz])
def test_equal(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """What was unpacked is what the archive says, and what nobody archives does not count."""
    tree = unpacked(tmp_path, LAYER)
    assert difference(tmp_path, tree, pack(LAYER)) == ""
    os.mknod(tree / "d/socket", stat.S_IFSOCK | 0o600)
    os.setxattr(tree / "d", "trusted.overlay.impure", b"y")
    assert difference(tmp_path, tree, pack(LAYER)) == ""


def flip(path: Path) -> None:
    """Change a byte, and nothing else."""
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(found.st_size // 2)
        old = file.read(1)
        file.seek(found.st_size // 2)
        file.write(bytes([old[0] ^ 1]))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def instead(path: Path, make: Callable[[], object]) -> None:
    """Put something else in the place of a file."""
    path.unlink(missing_ok=True)
    make()


def hole(path: Path) -> None:
    """Write into a hole; the length stays."""
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(2 << 20)
        file.write(b"x")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "bit": (lambda tree: flip(tree / "d/f"), "content of 'd/f'"),
    "hole": (lambda tree: hole(tree / "d/s"), "content of 'd/s'"),
    "mode": (lambda tree: (tree / "d/f").chmod(0o755), "permissions of 'd/f'"),
    "directory's mode": (lambda tree: (tree / "d").chmod(0o777), "permissions of 'd'"),
    "root's mode": (lambda tree: tree.chmod(0o755), "permissions of '/'"),
    "owner": (lambda tree: os.chown(tree / "d/c", 1, 0), "owner of 'd/c'"),
    "link's owner": (lambda tree: os.lchown(tree / "d/l", 1, 0), "owner of 'd/l'"),
    "time": (lambda tree: os.utime(tree / "d/c"), "time of 'd/c'"),
    "attribute changed": (lambda tree: os.setxattr(tree / "d/f", "user.note", b"lost"), "attributes of 'd/f'"),
    "attribute gone": (lambda tree: os.removexattr(tree / "d/f", "user.note"), "attributes of 'd/f'"),
    "attribute new": (lambda tree: os.setxattr(tree / "d", "user.new", b""), "attributes of 'd'"),
    "capability": (
        lambda tree: os.setxattr(tree / "d/f", "security.capability", bytes.fromhex("0000000220000000" + "00" * 12)),
        "attributes of 'd/f'",
    ),
    "target": (lambda tree: instead(tree / "d/l", lambda: os.symlink("g", tree / "d/l")), "'d/l'"),
    "device": (lambda tree: instead(tree / "d/c", lambda: os.mknod(tree / "d/c", 0o20666, 0x105)), "'d/c'"),
    "kind": (lambda tree: instead(tree / "d/p", lambda: (tree / "d/p").touch()), "type of 'd/p'"),
    "link in place of a file": (lambda tree: instead(tree / "d/f", lambda: os.symlink("/x", tree / "d/f")), "'d/f'"),
    "link in place of a directory": (
        lambda tree: os.symlink("d/o", (tree / "o").rename(tree / "d/o").parent.parent / "o"),
        "'o' is no directory",
    ),
    "hard link cut": (lambda tree: instead(tree / "d/hard", lambda: (tree / "d/hard").touch()), "'d/hard'"),
    "missing": (lambda tree: instead(tree / "d/p", lambda: None), "'d/p' is missing"),
    "extra": (lambda tree: instead(tree / "d/new", lambda: (tree / "d/new").touch()), "'d/new' is there"),
    "extra below": (lambda tree: os.makedirs(tree / "o/x/y"), "'o/x'"),
    "whiteout gone": (lambda tree: instead(tree / "d/gone", lambda: None), "'d/gone' is missing"),
    "whiteout filled": (lambda tree: instead(tree / "d/gone", lambda: (tree / "d/gone").touch()), "'d/gone'"),
    "not opaque": (lambda tree: os.removexattr(tree / "o", "trusted.overlay.opaque"), "whiteouts of 'o'"),
    "opaque": (lambda tree: os.setxattr(tree / "d", "trusted.overlay.opaque", b"y"), "'d' hides"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage(tmp_path: Path, how: str) -> None:
    """It is found, and named."""
    tree = unpacked(tmp_path, LAYER)
    change, words = DAMAGE[how]
    change(tree)
    assert words in difference(tmp_path, tree, LAYER)


def test_a_mount_in_the_way(tmp_path: Path) -> None:
    """What is mounted on a directory of the layer is not taken for it."""
    layer = archive(member("d/", DIRECTORY))
    tree = unpacked(tmp_path, layer)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tree / "d"], check=True)
    try:
        assert "'d' is no directory" in difference(tmp_path, tree, layer)
    finally:
        subprocess.run(["umount", tree / "d"], check=True)


# what only unpacking settles: a file that comes twice, directories that no entry makes, links on the way
AMBIGUOUS = {
    "twice": archive(member("f", data=b"one"), member("f", data=b"another")),
    "equal twice": archive(member("d/", DIRECTORY), member("d/", DIRECTORY)),
    "implied": archive(member("a/b/c", data=b"x")),
    "through a link": archive(member("lib/", DIRECTORY), member("l", SYMLINK, link="lib"), member("l/f", data=b"x")),
    "deleted and brought": archive(member(".wh.d"), member("d/", DIRECTORY), member("d/f", data=b"x")),
}


@pytest.mark.parametrize("how", AMBIGUOUS)
def test_ambiguous(tmp_path: Path, how: str) -> None:
    """Such an archive is never taken for equal; that of its tree, unpacked, is, and tells a tree that was changed."""
    tree = unpacked(tmp_path, AMBIGUOUS[how])
    assert difference(tmp_path, tree, AMBIGUOUS[how])
    fd = opened(tree)
    with (tmp_path / "canonical").open("wb") as out:
        write_archive(fd, out.fileno())
    os.close(fd)
    canonical = (tmp_path / "canonical").read_bytes()
    assert difference(tmp_path, tree, canonical) == ""
    (tree / "added").touch()
    assert "'added'" in difference(tmp_path, tree, canonical)


def test_a_damaged_archive(tmp_path: Path) -> None:
    """It says nothing about the tree: that is an error, also where the tree differs."""
    tree = unpacked(tmp_path, LAYER)
    for mode in (0o1777, 0o700):
        (tree / "d").chmod(mode)
        with pytest.raises(DigestMismatch):
            difference(tmp_path, tree, LAYER, "sha256:" + "0" * 64)
        with pytest.raises(StoreCorrupt):
            difference(tmp_path, tree, gz(LAYER)[:-9])


def test_a_tree_that_is_too_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused where it is walked that far, and no descriptor is left."""
    monkeypatch.setattr(verify, "_NAMED", 0)
    tree = unpacked(tmp_path, archive(member("f")))
    fd = opened(tree)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(HostileInput, match="deep"):
        difference(tmp_path, tree, archive(member("f"), member("d/", DIRECTORY)))
