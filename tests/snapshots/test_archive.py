"""Trees written as archives come back as the same trees; an upper directory tells what was changed."""

import os
import socket
import stat
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import HostileInput, InvalidArgument
from wherry.snapshots.archive import Written, write_archive
from wherry.snapshots.diff import diff_upper, usage
from wherry.snapshots.remove import remove_tree

from .layer_archives import Place, listing

pytestmark = pytest.mark.root


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A data root."""
    return Place(tmp_path / "place")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with every kind of file that an archive can hold."""
    root = tmp_path / "tree"
    (root / "d/e").mkdir(parents=True)
    (root / "plain").write_bytes(os.urandom(300_001))
    os.link(root / "plain", root / "d/hard")
    os.link(root / "plain", root / "z-hard")
    (root / "link").symlink_to("plain")
    (root / "longlink").symlink_to("t/" * 150)
    os.link(root / "link", root / "d/link", follow_symlinks=False)
    (root / ("n" * 101)).write_text("long")
    (root / "d" / ("m" * 255)).write_text("longer")
    os.close(os.open(os.fsencode(root) + b"/not-\xff-utf8", os.O_CREAT | os.O_WRONLY))
    os.mknod(root / "device", stat.S_IFBLK | 0o640, os.makedev(259, 1_000_000))
    os.mkfifo(root / "fifo", 0o611)
    os.chown(root / "plain", 3_000_000, 2**32 - 2)
    os.chmod(root / "plain", 0o6751)
    os.setxattr(root / "d/e", "user.note", b"with\0nul\n=")
    os.setxattr(root / "link", "trusted.note", b"link", follow_symlinks=False)
    for n, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        moment = 1_600_000_000_123_456_789 + n * 1_000_000_001
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    os.utime(root / "fifo", ns=(0, 5_000_000_000_000_000_000))
    os.chmod(root, 0o2711)
    return root


def write(tree: Path, out: Path, **options: Any) -> Written:
    """Write the archive of a directory to a file."""
    directory = os.open(tree, os.O_RDONLY)
    file = os.open(out, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    try:
        return write_archive(directory, file, **options)
    finally:
        os.close(file)
        os.close(directory)


def test_a_tree_comes_back(place: Place, tree: Path, tmp_path: Path) -> None:
    """Written and unpacked again, by us and by GNU tar, it is the same tree with the same links and times."""
    written = write(tree, tmp_path / "a.tar", root=True)
    data = (tmp_path / "a.tar").read_bytes()
    assert written.diff_id == written.digest == f"sha256:{sha256(data).hexdigest()}"
    assert written.size == written.compressed_size == len(data)
    os.utime(tree, ns=(tree.stat().st_mtime_ns,) * 2)
    ours, applied = place.unpack(data)
    assert list(listing(ours)) == list(listing(tree))
    assert applied.diff_id == written.diff_id
    assert applied.entries == written.entries
    (tmp_path / "peer").mkdir()
    options = ["--xattrs", "--xattrs-include=*", "--numeric-owner"]
    subprocess.run(["tar", *options, "-xpf", tmp_path / "a.tar", "-C", tmp_path / "peer"], check=True)
    assert list(listing(tmp_path / "peer")) == list(listing(tree))


def test_the_same_tree_gives_the_same_bytes(place: Place, tree: Path, tmp_path: Path) -> None:
    """An archive depends on the tree alone, compressed or not; later times can be held to a moment."""
    first = write(tree, tmp_path / "a.tar")
    copy, _ = place.unpack((tmp_path / "a.tar").read_bytes())
    assert write(copy, tmp_path / "b.tar").diff_id == first.diff_id
    squeezed = [write(root, tmp_path / "c.tar.gz", gzip=True) for root in (tree, copy)]
    assert squeezed[0].digest == squeezed[1].digest
    assert squeezed[0].diff_id == first.diff_id
    assert squeezed[0].digest == f"sha256:{sha256((tmp_path / 'c.tar.gz').read_bytes()).hexdigest()}"
    assert (
        subprocess.run(["gzip", "-dc", tmp_path / "c.tar.gz"], check=True, capture_output=True).stdout
        == (tmp_path / "a.tar").read_bytes()
    )
    held = write(tree, tmp_path / "d.tar", newest=10**18)
    for path in tree.rglob("*"):
        os.utime(path, ns=(10**18 + 5, 10**18 + 5), follow_symlinks=False)
    assert write(tree, tmp_path / "d.tar", newest=10**18).diff_id == held.diff_id


def test_whiteouts_go_out_as_the_image_has_them(place: Place, tmp_path: Path) -> None:
    """overlayfs's whiteouts and opaque directories become `.wh.` files, and come back; its attributes stay behind."""
    upper = tmp_path / "upper"
    (upper / "opaque").mkdir(parents=True)
    (upper / "opaque/new").write_text("x")
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(upper / "opaque/new", "trusted.overlay.origin", b"machine")
    os.mknod(upper / "gone", stat.S_IFCHR, 0)
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(upper, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        write(upper, tmp_path / "a.tar")
    names = subprocess.run(["tar", "-tf", tmp_path / "a.tar"], check=True, capture_output=True, text=True).stdout
    assert names.split() == [".wh.gone", "opaque/", "opaque/.wh..wh..opq", "opaque/new"]
    ours, _ = place.unpack((tmp_path / "a.tar").read_bytes())
    assert os.getxattr(ours / "opaque", "trusted.overlay.opaque") == b"y"
    assert os.listxattr(ours / "opaque/new") == []
    assert (ours / "gone").lstat().st_rdev == 0


def test_what_a_layer_cannot_say_is_refused(tmp_path: Path) -> None:
    """A file named like a whiteout cannot be in a layer; in a plain archive it can. A tree may not be endless."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/.wh.file").write_text("x")
    with pytest.raises(InvalidArgument, match=r"\.wh\."):
        write(tmp_path / "tree", tmp_path / "a.tar")
    assert write(tmp_path / "tree", tmp_path / "a.tar", whiteouts=False).entries == 1
    assert write(tmp_path / "tree", tmp_path / "a.tar", exclude=[b".wh.file"]).entries == 0
    (tmp_path / "tree/.wh.file").unlink()
    (tmp_path / "tree" / Path(*["d"] * 300)).mkdir(parents=True)
    with pytest.raises(HostileInput, match="deep"):
        write(tmp_path / "tree", tmp_path / "a.tar")


def test_links_in_the_tree_are_not_followed(tmp_path: Path) -> None:
    """A link to a directory of the host is written as a link."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/door").symlink_to("/etc")
    assert write(tmp_path / "tree", tmp_path / "a.tar").entries == 1


def test_diff_of_a_real_overlay(tmp_path: Path) -> None:
    """What a shell does in an overlay is listed as added, changed and deleted, parents of a change as changed."""
    for name in ("old", "new", "upper", "work", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "old/etc/sub").mkdir(parents=True)
    (tmp_path / "old/etc/conf").write_text("1")
    (tmp_path / "old/etc/sub/deep").write_text("1")
    (tmp_path / "old/gone").write_text("1")
    (tmp_path / "old/dir").mkdir()
    (tmp_path / "old/dir/a").write_text("1")
    (tmp_path / "old/dir/b").write_text("1")
    (tmp_path / "new/dir").mkdir()
    (tmp_path / "new/dir/c").write_text("1")
    os.mknod(tmp_path / "new/dir/b", stat.S_IFCHR, 0)
    (tmp_path / "new/kind").write_text("1")
    script = (
        "mount -t overlay overlay root -o lowerdir=new:old,upperdir=upper,workdir=work"
        ",index=off,redirect_dir=off,metacopy=off; cd root;"
        "echo 2 >> etc/sub/deep; rm gone; rm -r dir; mkdir dir; touch dir/c dir/d; rm kind; mkdir kind; touch kind/x;"
        "mkdir fresh; touch fresh/f; touch brief; rm brief; chmod 700 etc/conf"
    )
    subprocess.run(["unshare", "-m", "sh", "-ec", script], cwd=tmp_path, check=True)
    fds = [os.open(tmp_path / name, os.O_RDONLY) for name in ("upper", "new", "old")]
    try:
        assert diff_upper(fds[0], fds[1:]) == [
            ("C", "/dir"),
            ("D", "/dir/a"),
            ("C", "/dir/c"),
            ("A", "/dir/d"),
            ("C", "/etc"),
            ("C", "/etc/conf"),
            ("C", "/etc/sub"),
            ("C", "/etc/sub/deep"),
            ("A", "/fresh"),
            ("A", "/fresh/f"),
            ("D", "/gone"),
            ("C", "/kind"),
            ("A", "/kind/x"),
        ]
    finally:
        for fd in fds:
            os.close(fd)


def test_usage_counts_each_file_once(tmp_path: Path) -> None:
    """Bytes are what files say; hard links count once; a tree deeper than descriptors reach is no trouble."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(bytes(1000))
    os.link(tmp_path / "d/f", tmp_path / "hard")
    (tmp_path / "link").symlink_to("/etc")
    fd = os.open(tmp_path, os.O_RDONLY)
    top = os.dup(fd)
    try:
        for _ in range(1500):
            os.mkdir("x", dir_fd=fd)
            below = os.open("x", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        assert usage(top) == (1000 + len("/etc"), 3 + 1500)
        remove_tree(top, "x")
    finally:
        os.close(fd)
        os.close(top)
