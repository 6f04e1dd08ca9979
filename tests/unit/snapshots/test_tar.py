"""The tar reader and writer, without a file system."""

import io
import os
import tarfile
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import HostileInput, StoreCorrupt, WherryError
from wherry.snapshots.limits import Limits
from wherry.snapshots.tar import CHARACTER, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry, TarReader
from wherry.snapshots.tarfields import decimal, number, pax_records, seconds, shown
from wherry.snapshots.tarwriter import END, headers, padding
from wherry.snapshots.tree import path_of

SMALL = Limits(max_bytes=1 << 20, max_entries=200, max_header=1 << 16)


class Pieces:
    """Bytes in pieces of one size."""

    def __init__(self, data: bytes, size: int = 1 << 16) -> None:
        self._parts = [data[at : at + size] for at in range(0, len(data), size)][::-1]

    def piece(self) -> bytes:
        return self._parts.pop() if self._parts else b""


def read_all(data: bytes, limits: Limits = SMALL, size: int = 1 << 16) -> list[tuple[Entry, bytes]]:
    """Every entry with its data."""
    reader, found = TarReader(Pieces(data, size), limits), []
    while (entry := reader.next()) is not None:
        parts = []
        while entry.sparse is None and (part := reader.read(1000)):
            parts.append(part)
        found.append((entry, b"".join(parts)))
    return found


def block(name: bytes, kind: bytes = b"0", size: bytes = b"00000000000\0", **fields: bytes) -> bytes:
    """A header block by hand; `fields` are the others of ustar, as bytes."""
    parts = {
        "mode": b"0000644\0",
        "uid": b"0000000\0",
        "gid": b"0000000\0",
        "mtime": b"00000000000\0",
        "link": b"",
        "magic": b"ustar\x0000",
        "rest": b"",
    } | fields
    head = name.ljust(100, b"\0") + parts["mode"] + parts["uid"] + parts["gid"] + size + parts["mtime"] + b" " * 8
    head = (head + kind + parts["link"].ljust(100, b"\0") + parts["magic"] + parts["rest"]).ljust(512, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"   644 \0", 0o644),
        (b"\0" * 8, 0),
        (b"        ", 0),
        (b"77777777", 0o77777777),
        (b"\x80" + bytes(6) + b"\x05", 5),
        (b"\x80" + b"\xff" * 7, (1 << 56) - 1),
        (b"\xff" * 12, -1),
        (b"\xff" * 11 + b"\x00", -256),
        (b"\xc0" + bytes(7), -(1 << 62)),
    ],
)
def test_numbers_octal_and_base_256(field: bytes, value: int) -> None:
    """Header numbers are octal, or GNU's signed base 256."""
    assert number(field) == value


@pytest.mark.parametrize(
    "field", [b"0000648\0", b"00-0644\0", b"0x00644\0", b"06_0644\0", b"00\x0000644", b"+000644\0"]
)
def test_numbers_are_strict(field: bytes) -> None:
    """What Python's int would take and tar does not have is refused."""
    with pytest.raises(ValueError, match=r"not a number|invalid literal"):
        number(field)


def test_pax_numbers_and_times() -> None:
    """Decimal numbers and times with any number of digits, rounded down as time goes."""
    assert decimal(b"-12") == -12
    assert seconds(b"1.5") == 1_500_000_000
    assert seconds(b"1700000000.1234567899") == 1_700_000_000_123_456_789
    assert seconds(b"-1.5") == -1_500_000_000
    assert seconds(b"-1.0000000001") == -1_000_000_001
    assert seconds(b"-0.5") == -500_000_000
    for wrong in (b"", b"1e5", b"1.-5", b" 1", b"1_0", b"--1", b"9" * 21, b"."):
        with pytest.raises(ValueError, match=r"not a number|invalid literal"):
            seconds(wrong)


@pytest.mark.parametrize(
    "data",
    [
        b"5 a=b",
        b"6 a=b\n\n",
        b"99 a=b\n",
        b"-6 a=b\n",
        b"6 ab\n\n",
        b"5 =b\n",
        b"0 a=b\n",
        b"06a=b\n",
        b"1_0 a=bcde\n",
        b"17 path=a\0b/../c\n",
        b"8 a\0b=c\n",
        b"30 GNU.sparse.numbytes=1234567\n",
        b"garbage",
    ],
)
def test_broken_pax_records_are_refused(data: bytes) -> None:
    """A record that does not say its length, has no key or ends elsewhere is refused."""
    with pytest.raises(HostileInput):
        pax_records(data, SMALL)


def test_pax_records_hold_any_bytes() -> None:
    """A value may have newlines, equal signs and NULs; the last record of a key wins."""
    assert pax_records(b"12 k=a\nb=\0c\n6 k=z\n14 x=y=y y\n\n\n\n", SMALL) == {b"k": b"z", b"x": b"y=y y\n\n\n"}


def test_names_of_every_format() -> None:
    """The prefix of ustar counts, that of GNU and v7 does not exist, star's is shorter."""
    rest = bytes(64) + b"0000000\x000000000\0"
    prefix = rest + b"some/prefix"
    assert read_all(block(b"n", rest=prefix))[0][0].name == b"some/prefix/n"
    assert read_all(block(b"n", magic=b"ustar  \0", rest=prefix))[0][0].name == b"n"
    assert read_all(block(b"n", magic=bytes(8), rest=prefix))[0][0].name == b"n"
    star = rest + b"p".ljust(131, b"\0") + b"00000000000 00000000000 "
    assert read_all(block(b"n", rest=star.ljust(243, b"\0") + b"tar\0"))[0][0].name == b"p/n"
    full = b"a" * 99 + b"b"
    assert read_all(block(full))[0][0].name == full


def test_types_of_old_archives() -> None:
    """A NUL type is a file, or with a slash a directory; contiguous files are files."""
    entries = read_all(block(b"a", b"\0") + block(b"b/", b"\0") + block(b"c", b"7") + block(b"d/", b"5"))
    assert [entry.type for entry, _ in entries] == [FILE, DIRECTORY, FILE, DIRECTORY]


def test_sizes_of_what_has_no_data() -> None:
    """A link or directory with a size has no data behind it, as old archivers wrote them."""
    entries = read_all(
        block(b"l", b"1", b"00000001000\0", link=b"t") + block(b"d", b"5", b"00000001000\0") + block(b"f", b"0") + END
    )
    assert [(entry.name, entry.size) for entry, _ in entries] == [(b"l", 0), (b"d", 0), (b"f", 0)]


@pytest.mark.parametrize("kind", [b"M", b"V", b"D", b"X", b"N", b"8", b"\x80", b" "])
def test_unknown_types_are_refused(kind: bytes) -> None:
    """What is no file, and nothing that describes one, is refused by name."""
    with pytest.raises(HostileInput, match="unknown type"):
        read_all(block(b"strange", kind))


def test_checksums_signed_and_unsigned() -> None:
    """A header summed as signed bytes is one too; a wrong sum is none."""
    head = bytearray(block(b"\xff\xfe"))
    signed = sum(head[:148] + head[156:]) + 256 - 512
    head[148:156] = b"%06o\0 " % signed
    assert read_all(bytes(head))[0][0].name == b"\xff\xfe"
    head[148:156] = b"%06o\0 " % (signed + 1)
    with pytest.raises(StoreCorrupt, match="invalid tar header"):
        read_all(bytes(head))


def test_sparse_maps_must_fit_their_data() -> None:
    """Segments that overlap, leave the file or do not add up to the data are refused."""
    for segments, size in (([0, 100, 50, 100], 200), ([0, 100], 50), ([0, 10], 1000), ([-5, 200], 1000), ([0], 200)):
        pax = ",".join(map(str, segments))
        info = tarfile.TarInfo("f")
        info.size = 200
        info.pax_headers = {"GNU.sparse.map": pax, "GNU.sparse.size": str(size)}
        with pytest.raises(HostileInput, match="sparse"):
            read_all(info.tobuf(tarfile.PAX_FORMAT) + bytes(512))
    endless = block(b"f", b"S", rest=bytes(121 + 96) + b"\1")
    with pytest.raises((HostileInput, StoreCorrupt)):
        read_all(endless + (b"00000000000\x0000000000000\0" * 21 + b"\1").ljust(512, b"\0") * 500)


def test_long_names_without_end_are_refused() -> None:
    """An archive may not end behind the name of a file that never comes."""
    with pytest.raises(StoreCorrupt):
        read_all(block(b"././@LongLink", b"L", b"00000000005\0") + b"name\0".ljust(512, b"\0"))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a/b", b"a/b"),
        (b"./a//b/", b"a/b"),
        (b"/a/./b", b"a/b"),
        (b"a/../b", b"b"),
        (b"/../../a", b"a"),
        (b"./", b""),
        (b"/", b""),
        (b"..a/b..", b"..a/b.."),
    ],
)
def test_paths_are_cleaned(name: bytes, path: bytes) -> None:
    """A name becomes a path below the root, as Go's filepath.Clean would have it."""
    assert path_of(name, 10) == path


def test_shown_names_cannot_steer_a_terminal() -> None:
    """A name in a message has no control characters and an end."""
    assert shown(b"a\x1b[31m\n\xff") == "a\\x1b[31m\\x0a\\xff"
    assert len(shown(b"x" * 5000)) == 200


_names = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name)
_entries: st.SearchStrategy[dict[str, object]] = st.builds(
    dict,
    name=_names,
    type=st.sampled_from([FILE, FILE, HARDLINK, SYMLINK, CHARACTER, DIRECTORY]),
    linkname=_names,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    mtime_ns=st.integers(-(10**20), 10**20),
    xattrs=st.none()
    | st.dictionaries(_names.filter(lambda key: b"=" not in key), st.binary(max_size=200), min_size=1, max_size=3),
    data=st.binary(max_size=1500),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(_entries, max_size=5), st.integers(1, 1200))
def test_what_is_written_is_read(values: list[dict[str, object]], size: int) -> None:
    """Every entry that can be written comes back the same, in pieces of any size; Python's tarfile reads it too."""
    out = []
    for value in values:
        entry = Entry()
        data = value["data"] if value["type"] == FILE else b""
        assert isinstance(data, bytes)
        for key in ("name", "type", "mode", "uid", "gid", "mtime_ns", "xattrs"):
            setattr(entry, key, value[key])
        if entry.type in (HARDLINK, SYMLINK):
            assert isinstance(value["linkname"], bytes)
            entry.linkname = value["linkname"]
        if entry.type == CHARACTER:
            entry.major, entry.minor = 259, 1_000_000
        entry.size = len(data)
        out.append((entry, data))
    archive = b"".join(headers(entry) + data + padding(len(data)) for entry, data in out) + END
    for (entry, data), (back, content) in zip(out, read_all(archive, size=size), strict=True):
        assert content == data
        for key in Entry.__slots__:
            assert getattr(back, key) == getattr(entry, key)
    with tarfile.open(fileobj=io.BytesIO(archive)) as peer:
        assert [os.fsencode(info.name).rstrip(b"/") for info in peer] == [entry.name.rstrip(b"/") for entry, _ in out]


def _mutated(data: bytes, changes: Iterable[tuple[int, bytes]]) -> bytes:
    changed = bytearray(data)
    for at, new in changes:
        at %= len(changed)
        changed[at : at + len(new)] = new
    # checksums are put right, so that what was changed is looked at
    for at in range(0, len(changed) - 511, 512):
        head = changed[at : at + 512]
        if head[257:262] == b"ustar":
            head[148:156] = b" " * 8
            changed[at + 148 : at + 156] = b"%06o\0 " % sum(head)
    return bytes(changed)


def _sample() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, pax in (
            ("a", {}),
            ("b" * 150, {"mtime": "1.5", "SCHILY.xattr.user.x": "y"}),
            ("c", {"GNU.sparse.map": "0,600"}),
        ):
            info = tarfile.TarInfo(name)
            info.size = 600
            info.pax_headers = dict(pax)
            out.addfile(info, io.BytesIO(bytes(600)))
    return buffer.getvalue()[: 512 * 24]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1 << 14), st.binary(min_size=1, max_size=16)), min_size=1, max_size=6),
    st.sampled_from([100, 512, 1 << 16]),
)
def test_fuzz_changed_archives(changes: list[tuple[int, bytes]], size: int) -> None:
    """Whatever is changed in an archive, it is read or refused with an error of ours, within the ceilings."""
    try:
        entries = read_all(_mutated(_SAMPLE, changes), size=size)
    except WherryError:
        return
    assert sum(entry.size for entry, _ in entries) <= SMALL.max_bytes
    for entry, _ in entries:
        assert len(entry.name) <= SMALL.max_path
        assert entry.sparse is None or all(at + length <= entry.size for at, length in entry.sparse)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=4000))
def test_fuzz_pax_records_and_noise(data: bytes) -> None:
    """Noise is refused with an error of ours, as an archive and as pax records."""
    for call in (lambda: read_all(data), lambda: pax_records(data, SMALL), lambda: path_of(data, 50)):
        try:
            call()
        except (HostileInput, StoreCorrupt):
            continue


_SAMPLE = _sample()


@pytest.mark.parametrize("size", [1, 100, 1 << 16])
def test_an_archive_may_end_without_padding(size: int) -> None:
    """As Go does: behind the last bytes of a file, or in the zeros that follow; never in those bytes or in a header."""
    data = block(b"a", size=b"00000000005\0") + b"hello"
    for cut in (0, 1, 300, 507):
        assert [found for _, found in read_all(data + bytes(cut), size=size)] == [b"hello"]
    for broken in (data[:-1], data + bytes(507) + data[:100]):
        with pytest.raises(StoreCorrupt):
            read_all(broken, size=size)
