"""Layers that try to leave their place, or to fill the machine."""

import bz2
import lzma
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard

from wherry.errors import DigestMismatch, HostileInput, StoreCorrupt, WherryError
from wherry.snapshots.limits import Limits

from .layer_archives import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    END,
    FIFO,
    HARDLINK,
    SYMLINK,
    Place,
    archive,
    gz,
    member,
)

pytestmark = pytest.mark.root


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A data root beside a host; whatever the archive did, the host is as before."""
    place = Place(tmp_path)
    yield place
    assert place.unchanged()


def refused(place: Place, data: bytes, error: type[WherryError] = HostileInput, limits: Limits | None = None) -> str:
    """Unpack what must be refused; nothing remains of it. Returns the message."""
    with pytest.raises(error) as caught:
        place.unpack(data, limits)
    assert place.nothing_left()
    return str(caught.value)


# the same without the attack: what is refused below is not refused for another reason
_HARMLESS = {
    "dots in a name": [member("a", DIRECTORY), member("./a/..b", data=b"x"), member("a/...", data=b"x")],
    "a root's own entry": [member("./", DIRECTORY), member("f", data=b"x")],
    "below a link": [member("d", DIRECTORY), member("door", SYMLINK, link="d"), member("door/f", data=b"x")],
    "below a link for an absolute path": [
        member("d", DIRECTORY),
        member("door", SYMLINK, link="/d"),
        member("door/f", data=b"x"),
    ],
    "below links of links": [
        member("a", SYMLINK, link="b"),
        member("b", SYMLINK, link="c"),
        member("c", DIRECTORY),
        member("a/x", data=b"x"),
    ],
    "a hard link": [member("f", data=b"x"), member("h", HARDLINK, link="./f")],
    "a hard link through a link": [
        member("d/f", data=b"x"),
        member("door", SYMLINK, link="d"),
        member("h", HARDLINK, link="door/f"),
    ],
    "a link to nothing": [member("s", SYMLINK, link="nowhere")],
    "a directory replaced by a link": [
        member("e", DIRECTORY),
        member("d/one", data=b"1"),
        member("d", SYMLINK, link="e"),
        member("d/file", data=b"x"),
    ],
    "long names": [member("x" * 255, data=b"x"), member("/".join(["y" * 200] * 19), data=b"x")],
    "a path of pax": [member("x", pax={"path": "good/evil"})],
    "numbers of pax": [member("f", pax={"uid": "5", "gid": "7", "mtime": "1.5"})],
    "whiteouts": [member("a", DIRECTORY), member("a/.wh.f"), member("a/.wh..wh..opq"), member("door/.wh.passwd")],
    "a sparse file": [
        member(
            "f",
            data=b"0\n".ljust(512, b"\0"),
            pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "0"},
        )
    ],
    "deep directories": [member("a/" * 200 + "f")],
    "a long comment": [member("f", pax={"comment": "x" * (1 << 10)})],
}


@pytest.mark.parametrize("name", _HARMLESS)
def test_the_same_without_the_attack_is_unpacked(place: Place, name: str) -> None:
    """Each form that is refused below is taken where it harms nobody."""
    data = archive(*_HARMLESS[name])
    for packed in (data, gz(data), zstandard.compress(data), lzma.compress(data), bz2.compress(data)):
        tree, _ = place.unpack(packed)
        assert os.listdir(tree)


# -- 25: leaving by name or link


@pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "./../escaped", "..", "a/b/../../../escaped"])
def test_dotdot_is_refused(place: Place, name: str) -> None:
    """A name that leads above the archive's root is refused."""
    assert "leads out" in refused(place, archive(member(name, data=b"x")))
    assert not (place.ingest / "escaped").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "//etc//passwd", "/../../etc/passwd", "etc/x/../passwd"])
def test_absolute_names_start_at_the_layer(place: Place, name: str) -> None:
    """An absolute name is a name below the layer's root, as in Docker."""
    tree, _ = place.unpack(archive(member(name, data=b"evil")))
    assert (tree / "etc/passwd").read_bytes() == b"evil"


@pytest.mark.parametrize("target", ["{host}", "/..{host}", "../../../../../../../../..{host}"])
def test_file_through_symlink_stays_inside(place: Place, target: str) -> None:
    """A file below a link that points out of the layer is made inside the layer, or not at all."""
    link = target.format(host=place.host)
    data = archive(member("door", SYMLINK, link=link), member("door/passwd", data=b"evil"))
    refused(place, data)
    # With the directory there in the layer, the link leads to it, as it will in the container.
    inside = str(place.host).lstrip("/")
    tree, _ = place.unpack(
        archive(member(inside, DIRECTORY), member("door", SYMLINK, link=link), member("door/passwd", data=b"evil"))
    )
    assert (tree / inside / "passwd").read_bytes() == b"evil"


def test_symlink_chain_stays_inside(place: Place) -> None:
    """Links through links, `..` between them, never lead out of the layer."""
    data = archive(
        member("a", DIRECTORY),
        member("a/up", SYMLINK, link=".."),
        member("a/upup", SYMLINK, link="up/../../../../.."),
        member("a/upup/" + str(place.host).lstrip("/") + "/passwd", data=b"evil"),
    )
    tree, _ = place.unpack(data)
    assert (tree / str(place.host).lstrip("/") / "passwd").read_bytes() == b"evil"


def test_symlink_loop_is_refused(place: Place) -> None:
    """A parent that is a loop of links is an error, not an endless walk."""
    refused(place, archive(member("a", SYMLINK, link="b"), member("b", SYMLINK, link="a"), member("a/x", data=b"x")))


def test_file_replaces_the_symlink_not_its_target(place: Place) -> None:
    """An entry with the name of a link replaces the link."""
    link = str(place.host / "passwd")
    tree, _ = place.unpack(archive(member("p", SYMLINK, link=link), member("p", data=b"evil", mode=0o4777)))
    assert not (tree / "p").is_symlink()
    assert (tree / "p").read_bytes() == b"evil"


def test_directory_replaces_the_symlink_not_its_target(place: Place) -> None:
    """A directory entry over a link does not change what the link pointed to, nor do the files in it."""
    data = archive(
        member("d", SYMLINK, link=str(place.host / "dir")),
        member("d", DIRECTORY, mode=0o777),
        member("d/file", data=b"evil"),
    )
    tree, _ = place.unpack(data)
    assert (tree / "d").is_dir()
    assert not (tree / "d").is_symlink()


def test_open_directory_is_forgotten_when_replaced(place: Place) -> None:
    """A directory that was written to and is then replaced by a link is not written to any more."""
    data = archive(
        member("d/one", data=b"1"),
        member("d", SYMLINK, link=str(place.host / "dir")),
        member("d/file", data=b"evil"),
    )
    refused(place, data)


@pytest.mark.parametrize("link", ["../../host/passwd", "{host}/passwd", "..", "a/../../x"])
def test_hardlink_to_outside_is_refused(place: Place, link: str) -> None:
    """A hard link is resolved inside the layer, where its target is not."""
    refused(place, archive(member("h", HARDLINK, link=link.format(host=place.host))))


def test_hardlink_through_symlink_stays_inside(place: Place) -> None:
    """A hard link whose path goes through a link out of the layer finds nothing there."""
    data = archive(member("door", SYMLINK, link=str(place.host)), member("h", HARDLINK, link="door/passwd"))
    assert "not there" in refused(place, data)


def test_hardlink_to_symlink_links_the_link(place: Place) -> None:
    """A hard link to a symbolic link is another name of the link; writing to it replaces the name only."""
    data = archive(
        member("s", SYMLINK, link=str(place.host / "passwd")),
        member("h", HARDLINK, link="s"),
        member("h", data=b"evil"),
    )
    tree, _ = place.unpack(data)
    assert (tree / "s").is_symlink()
    assert (tree / "h").read_bytes() == b"evil"


def test_write_through_hardlink_does_not_change_the_target(place: Place) -> None:
    """An entry over a hard link makes a new file: the other names keep theirs."""
    tree, _ = place.unpack(archive(member("a", data=b"old"), member("b", HARDLINK, link="a"), member("b", data=b"new")))
    assert (tree / "a").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["0", SYMLINK, CHARACTER, FIFO])
@pytest.mark.parametrize("name", ["", ".", "./", "/", "a/.."])
def test_only_a_directory_is_the_root(place: Place, kind: str, name: str) -> None:
    """A name without components is the layer's root: nothing else can take its place."""
    refused(place, archive(member(name, kind, link="/etc" if kind == SYMLINK else "")))


def test_hardlink_to_the_root_or_a_directory_is_refused(place: Place) -> None:
    """Directories have one name."""
    refused(place, archive(member("h", HARDLINK, link=".")))
    refused(place, archive(member("d", DIRECTORY), member("h", HARDLINK, link="d")))


def test_empty_symlink_target_is_refused(place: Place) -> None:
    """A symbolic link to nothing cannot be made, and says so."""
    refused(place, archive(member("s", SYMLINK)))


def test_file_below_a_file_is_refused(place: Place) -> None:
    """A parent that is a file stays one."""
    refused(place, archive(member("f", data=b"x"), member("f/g", data=b"x")))


def test_nul_and_long_names_are_refused(place: Place) -> None:
    """A NUL in a pax path, a component over 255 bytes and a path over 4095 are refused, not cut."""
    refused(place, archive(member("x", pax={"path": "good\0../../evil"})))
    refused(place, archive(member("x" * 256, data=b"x")))
    refused(place, archive(member("/".join(["y" * 200] * 21), data=b"x")))


# -- 26: hard links are links, never copies


def test_hardlink_is_never_a_copy(place: Place) -> None:
    """A hard link that cannot be made is an error; the bytes of another file are never copied in its place."""
    refused(place, archive(member("shm", SYMLINK, link="/dev/shm"), member("h", HARDLINK, link="shm/x")))
    tree, _ = place.unpack(archive(member("a", data=b"1"), member("b", HARDLINK, link="./a")))
    assert os.stat(tree / "a").st_ino == os.stat(tree / "b").st_ino


# -- 27: whiteouts


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh.", "a/.wh...", "a/.wh.."])
def test_whiteout_of_no_file_is_refused(place: Place, name: str) -> None:
    """`.wh.` in front of nothing, `.` or `..` hides no file and deletes nothing."""
    refused(place, archive(member("a", DIRECTORY), member("a/f", data=b"x"), member(name)))


def test_whiteout_through_symlink_stays_inside(place: Place) -> None:
    """A whiteout below a link out of the layer deletes nothing on the host."""
    door = member("door", SYMLINK, link=str(place.host))
    refused(place, archive(door, member("door/.wh.passwd")))
    refused(place, archive(door, member("door/.wh..wh..opq")))
    refused(place, archive(door, member("door/dir/.wh.file")))


def test_whiteout_at_the_root_and_opaque_root(place: Place) -> None:
    """An opaque root carries overlayfs's mark, and the layer's own files stay."""
    tree, _ = place.unpack(archive(member("f", data=b"x"), member(".wh..wh..opq"), member(".wh.gone")))
    assert os.getxattr(tree, "trusted.overlay.opaque") == b"y"
    assert (tree / "f").read_bytes() == b"x"
    gone = os.lstat(tree / "gone")
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0


@pytest.mark.parametrize("order", ["before", "after"])
def test_whiteout_spares_the_same_layer(place: Place, order: str) -> None:
    """A whiteout hides what is below: a file of the same layer stays, a directory of it becomes opaque."""
    whiteouts = [member(".wh.f"), member(".wh.d")]
    files = [member("f", data=b"x"), member("d", DIRECTORY), member("d/in", data=b"y")]
    tree, _ = place.unpack(archive(*(whiteouts + files if order == "before" else files + whiteouts)))
    assert (tree / "f").read_bytes() == b"x"
    assert (tree / "d/in").read_bytes() == b"y"
    assert os.getxattr(tree / "d", "trusted.overlay.opaque") == b"y"


def test_whiteout_then_implied_directory(place: Place) -> None:
    """A deleted directory that the layer fills again, without an entry of its own, is opaque."""
    tree, _ = place.unpack(archive(member(".wh.d"), member("d/in", data=b"y")))
    assert os.getxattr(tree / "d", "trusted.overlay.opaque") == b"y"


def test_aufs_notes_are_ignored(place: Place) -> None:
    """`.wh..wh.plnk` and its like are aufs's own, with whatever is below them."""
    tree, _ = place.unpack(
        archive(
            member(".wh..wh.plnk", DIRECTORY),
            member(".wh..wh.plnk/1.2", data=b"x"),
            member(".wh..wh.plnk/.wh.d"),
            member(".wh..wh.aufs"),
            member("d.wh..wh.x/file", data=b"y"),
        )
    )
    assert os.listdir(tree) == ["d.wh..wh.x"]
    assert (tree / "d.wh..wh.x/file").read_bytes() == b"y"


def test_hardlink_to_a_whiteout_is_refused(place: Place) -> None:
    """A whiteout is no file that could have another name."""
    refused(place, archive(member(".wh.a"), member("b", HARDLINK, link="a")))


# -- 28: overlayfs's own attributes


def test_overlay_attributes_are_dropped(place: Place) -> None:
    """No attribute that overlayfs reads comes out of an archive; others do."""
    pax = {
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.metacopy": "",
        "SCHILY.xattr.trusted.overlay.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.kept": "value",
        "SCHILY.xattr.trusted.kept": "value",
    }
    tree, _ = place.unpack(archive(member("d", DIRECTORY, pax=pax), member("f", data=b"x", pax=pax)))
    for name in ("d", "f"):
        assert sorted(os.listxattr(tree / name)) == ["trusted.kept", "user.kept"]


# -- 29: special files


def test_special_files_are_made_and_never_opened(place: Place) -> None:
    """Devices, FIFOs, setuid bits and file capabilities come out as stored; a FIFO does not block anybody."""
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    tree, _ = place.unpack(
        archive(
            member("null", CHARACTER, devmajor=1, devminor=3, mode=0o666),
            member("loop", BLOCK, devmajor=7, devminor=300, mode=0o600),
            member("pipe", FIFO, mode=0o620, uid=5, gid=6),
            member("su", data=b"x", mode=0o6755, uid=3, gid=4),
            member(
                "ping",
                data=b"x",
                mode=0o755,
                uid=7,
                pax={"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")},
            ),
        )
    )
    assert os.lstat(tree / "null").st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(os.lstat(tree / "null").st_mode) == 0o666
    assert os.lstat(tree / "loop").st_rdev == os.makedev(7, 300)
    assert os.lstat(tree / "pipe").st_mode == stat.S_IFIFO | 0o620
    assert os.lstat(tree / "su").st_mode == stat.S_IFREG | 0o6755
    assert os.lstat(tree / "su").st_uid == 3
    assert os.getxattr(tree / "ping", "security.capability")[:8] == capability[:8]


def test_pax_numbers_that_overflow_are_refused(place: Place) -> None:
    """Owners, sizes and device numbers beyond what a system has are refused, not cut."""
    for pax in ({"uid": str(1 << 32)}, {"uid": "-1"}, {"gid": str((1 << 32) - 1)}, {"size": "-5"}, {"size": "9" * 30}):
        refused(place, archive(member("f", pax=pax)))
    for pax in ({"uid": "1_0"}, {"size": "0x10"}, {"uid": " 1"}, {"mtime": "1.2.3"}):
        refused(place, archive(member("f", pax=pax)))


# -- 30: bombs


def test_gzip_bomb_is_refused(place: Place) -> None:
    """A thousand bytes out of each byte in are refused, however small the archive is."""
    squeeze = zlib.compressobj(9, wbits=31)
    data = squeeze.compress(member("zeros", data=bytes(48 << 20))) + squeeze.flush()
    assert "bomb" in refused(place, data, limits=Limits(ratio_floor=8 << 20))


def test_zstd_bomb_is_refused(place: Place) -> None:
    """The same through zstd, whose ratio has no bound."""
    data = zstandard.ZstdCompressor().compress(member("zeros", data=bytes(48 << 20)))
    assert "bomb" in refused(place, data, limits=Limits(ratio_floor=8 << 20))


def test_many_gzip_members_are_refused(place: Place) -> None:
    """Empty members without end are counted."""
    assert "members" in refused(place, gz(b"") * 2000, limits=Limits(max_entries=1000))


def test_zstd_window_is_bounded(place: Place) -> None:
    """A frame that asks for 2 GiB of history is refused before anything is allocated."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x00, (31 - 10) << 3]) + b"\x01\x00\x00"
    assert "window" in refused(place, frame)


def test_xz_memory_is_bounded(place: Place) -> None:
    """So is an xz stream whose dictionary would not fit."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 64 << 20}]
    data = lzma.compress(archive(member("f", data=b"x")), filters=filters)
    assert "memory" in refused(place, data, limits=Limits(lzma_memory=8 << 20))


def test_sparse_exbibytes_are_refused(place: Place) -> None:
    """A sparse file of 8 EiB counts with its holes."""
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str((1 << 63) - 1)}
    refused(place, archive(member("f", data=b"0\n".ljust(512, b"\0"), pax=pax)))


def test_size_entries_depth_and_headers_have_ceilings(place: Place) -> None:
    """Too many bytes, entries, directories or header bytes are refused by name."""
    assert "entries" in refused(place, archive(*[member(f"f{n}") for n in range(30)]), limits=Limits(max_entries=20))
    assert "larger" in refused(place, archive(member("f", data=bytes(4096))), limits=Limits(max_bytes=2048))
    assert "deep" in refused(place, archive(member("a/" * 2000 + "f")))
    assert "path of" in refused(place, archive(member("a/" * 4096 + "f")))
    assert "extended header" in refused(place, archive(member("f", pax={"comment": "x" * (2 << 20)})))


def test_endless_extended_headers_are_counted(place: Place) -> None:
    """Extended headers without an entry are entries too."""
    header = member("f", pax={"comment": "x"})[:1024]
    refused(place, header * 5000 + END, limits=Limits(max_entries=1000))


# -- 31: content that is not what was promised


@pytest.mark.parametrize("squeeze", ["plain", "gzip", "zstd", "xz", "bzip2"])
def test_truncation_is_refused(place: Place, squeeze: str) -> None:
    """An archive cut anywhere is refused."""
    data = archive(member("f", data=os.urandom(20000)), member("g", data=os.urandom(3000)))
    packed = {
        "plain": lambda: data,
        "gzip": lambda: gz(data),
        "zstd": lambda: zstandard.ZstdCompressor(write_checksum=True).compress(data),
        "xz": lambda: lzma.compress(data),
        "bzip2": lambda: bz2.compress(data),
    }[squeeze]()
    place.unpack(packed)
    for name in os.listdir(place.ingest):
        place.overlay.abandon(f"{place.ingest}/{name}/fs")
    cuts = (1000, 10000, 21100) if squeeze == "plain" else (20, len(packed) // 2, len(packed) - 3, len(packed) - 1)
    for cut in cuts:
        refused(place, packed[:cut], StoreCorrupt)


def test_damage_is_refused(place: Place) -> None:
    """A flipped bit in a checksum of gzip or of a header is seen."""
    data = archive(member("f", data=os.urandom(2000)))
    packed = bytearray(gz(data))
    packed[-6] ^= 1
    refused(place, bytes(packed), StoreCorrupt)
    changed = bytearray(data)
    changed[0] ^= 1
    refused(place, bytes(changed), StoreCorrupt)


def test_bytes_behind_the_compressed_data_are_refused(place: Place) -> None:
    """What follows the last member and is none is refused."""
    data = archive(member("f", data=b"x"))
    refused(place, gz(data) + b"more", StoreCorrupt)
    refused(place, zstandard.compress(data) + b"more", StoreCorrupt)
    refused(place, lzma.compress(data) + b"more", StoreCorrupt)


def test_wrong_diff_id_is_refused(place: Place) -> None:
    """Another digest than the image's configuration names is refused, and the tree removed."""
    data = archive(member("f", data=b"x"))
    good = f"sha256:{sha256(data).hexdigest()}"
    place.unpack(gz(data), expect=good)
    for name in os.listdir(place.ingest):
        place.overlay.abandon(f"{place.ingest}/{name}/fs")
    with pytest.raises(DigestMismatch):
        place.unpack(gz(data), expect=good.replace(good[-1], "0" if good[-1] != "0" else "1"))
    assert place.nothing_left()
    with pytest.raises(DigestMismatch):
        place.unpack(data + bytes(512), expect=good)
    assert place.nothing_left()
