"""Random input for what reads strangers' bytes: references, documents, archives; the files beside this one have more.

A few seconds of it run with every other test. `make fuzz` runs it for ten minutes (WHERRY_FUZZ_SECONDS, shared by the
targets), each round with other input; what it finds becomes an example below.
"""

import contextlib
import gzip
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wherry.errors import InvalidReference, InvalidSpec, WherryError
from wherry.oci import image as documents
from wherry.oci.reference import parse_any, parse_normalized
from wherry.snapshots.archive import write_archive
from wherry.snapshots.limits import Limits
from wherry.snapshots.remove import remove_tree
from wherry.snapshots.unpack import apply_layer
from wherry.snapshots.verify import verify_layer

pytestmark = pytest.mark.root

SECONDS = float(os.environ.get("WHERRY_FUZZ_SECONDS", "0"))
ROUND = settings(
    max_examples=2000 if SECONDS else 100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TARGETS = 11


def for_a_while(check: Callable[[], None]) -> None:
    """Run a check once, or again and again for this target's share of the time."""
    end = time.monotonic() + SECONDS / TARGETS
    check()
    while time.monotonic() < end:
        check()


# -- references

_PIECES = st.sampled_from(
    (
        *(*"aZ09._-/:@[]", "__", "--", "docker.io", "index.docker.io", "library", "localhost", "sha256:", "sha512:"),
        *(":5000", "a" * 64, "0" * 63, "f" * 128, "[::1]", "::", "Upper", "latest", "\n", "\0", "é", " ", "b" * 255),
    )
)
_NAMES = st.lists(_PIECES, max_size=9).map("".join) | st.text(max_size=30)
# the grammar of github.com/distribution/reference, written down once more
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_GRAMMAR = re.compile(
    rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)


@ROUND
@given(_NAMES)
@example("docker.io/" + "a" * 64)
@example("docker.io/docker.io/a")
@example("docker.io/localhost/a")
def _references(value: str) -> None:
    try:
        reference = parse_normalized(value)
    except InvalidReference:
        return
    assert _GRAMMAR.fullmatch(value), "a name that the grammar does not have"
    assert _GRAMMAR.fullmatch(str(reference))
    assert parse_normalized(str(reference)) == reference
    assert parse_normalized(reference.familiar()) == reference
    assert ".." not in reference.path
    with contextlib.suppress(InvalidReference):
        parse_any(value)


def test_references() -> None:
    """A name is refused, or is of the grammar, and its full and familiar forms mean itself."""
    for_a_while(_references)


# -- documents

_DIGEST = "sha256:" + "a" * 64
_DESCRIPTOR = {"mediaType": documents.OCI_LAYER + "+gzip", "digest": _DIGEST, "size": 3, "annotations": {"a": "b"}}
_MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": documents.OCI_MANIFEST,
    "config": {**_DESCRIPTOR, "mediaType": documents.OCI_CONFIG},
    "layers": [_DESCRIPTOR, _DESCRIPTOR],
}
_INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": documents.OCI_INDEX,
    "manifests": [
        {**_DESCRIPTOR, "mediaType": documents.OCI_MANIFEST, "platform": {"os": "linux", "architecture": "arm64"}}
    ],
}
_CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=b"], "Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Interval": 5}},
    "rootfs": {"type": "layers", "diff_ids": [_DIGEST]},
    "history": [{"created": "2020-01-01T00:00:00Z", "empty_layer": True}],
}
_SAMPLES = [json.dumps(value).encode() for value in (_MANIFEST, _INDEX, _CONFIG)]
_KEYS = st.sampled_from(
    sorted({*_MANIFEST, *_INDEX, *_CONFIG, *_DESCRIPTOR, "Layers", "MANIFESTS", "fsLayers", "urls", "data", "subject"})
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([2, _DIGEST, *documents.MANIFESTS, *documents.INDEXES, _DESCRIPTOR, _MANIFEST, _INDEX, _CONFIG]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
CHANGES = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 4), st.binary(max_size=8)), max_size=6)


def changed(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Data with pieces cut out and others put in."""
    for at, cut, put in changes:
        data = data[:at] + put + data[at + cut :]
    return data


_DOCUMENTS = (
    st.tuples(st.sampled_from(_SAMPLES), CHANGES).map(lambda pair: changed(*pair))
    | st.tuples(st.sampled_from([_MANIFEST, _INDEX, _CONFIG]), st.dictionaries(_KEYS, _VALUES, max_size=4)).map(
        lambda pair: json.dumps({**pair[0], **pair[1]}).encode()
    )
    | st.integers(1, 3000).map(lambda depth: b'{"layers":' * depth + b"1" + b"}" * depth)
)


@ROUND
@given(_DOCUMENTS, st.sampled_from(["", *sorted(documents.MANIFESTS), *sorted(documents.INDEXES)]))
@example(json.dumps({**_MANIFEST, "mediaType": {"a": 1}}).encode(), "")
@example(json.dumps({**_INDEX, "Layers": []}).encode(), "")
@example(json.dumps({**_MANIFEST, "MANIFESTS": []}).encode(), "")
def _documents(raw: bytes, media_type: str) -> None:
    read = []
    for reader in (documents.read_manifest, documents.read_index):
        with contextlib.suppress(WherryError):
            read.append(reader(raw, media_type))
    assert len(read) < 2, "a document that is two"
    for document in read:
        again = documents.encode(document)
        kind = documents.read_manifest if isinstance(document, documents.Manifest) else documents.read_index
        assert kind(again) == document
    try:
        config = documents.read_config(raw)
    except WherryError:
        return
    assert len(documents.chain_ids(config.rootfs.diff_ids)) == len(config.rootfs.diff_ids)
    with contextlib.suppress(InvalidSpec):
        str(config.platform)


def test_documents() -> None:
    """A document is refused or read; what is read is one thing only, and the same when it is written again."""
    for_a_while(_documents)


# -- archives

# where hostile links lead; its name is known before any input is made
OUTSIDE = os.fsencode(f"{tempfile.gettempdir()}/wherry-fuzz-{os.getpid()}/outside")
_SMALL = Limits(max_bytes=4 << 20, max_entries=200, max_header=1 << 16)
_PARTS = st.sampled_from(
    [b"a", b"b", b"c", b"..", b".", b"", b"up", b"abs", b".wh.a", b".wh..wh..opq", b".wh.", b"\xff"]
)
_PATHS = st.builds(
    lambda lead, parts, end: lead + b"/".join(parts) + end,
    st.sampled_from([b"", b"/", b"./", b"../", b"//"]),
    st.lists(_PARTS, min_size=1, max_size=4),
    st.sampled_from([b"", b"/"]),
)
_TYPES = st.sampled_from(list(b"0123456791xgLKSVMDN\0"))
_SIZES = st.sampled_from([0, 1, 5, 511, 512, 513, 1 << 20, (1 << 33) + 1, -1])
_PAX = st.sampled_from(
    (
        *("path", "linkpath", "size", "mtime", "uid", "SCHILY.xattr.user.x", "SCHILY.xattr.trusted.overlay.redirect"),
        *("SCHILY.xattr.security.capability", "GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.realsize"),
    )
)


def _number(value: int, width: int) -> bytes:
    if value < 0:
        return b"\xff" * width
    text = b"%0*o\0" % (width - 1, value)
    return text if len(text) == width else b"\x80" + value.to_bytes(width - 1, "big")


def _entry(name: bytes, link: bytes, kind: int, size: int, mode: int, data: bytes) -> bytes:
    head = name[:100].ljust(100, b"\0") + _number(mode, 8) + _number(0, 8) + _number(7, 8)
    head += _number(size, 12) + _number(1, 12) + b" " * 8 + bytes([kind]) + link[:100].ljust(100, b"\0")
    head = (head + b"ustar\x0000").ljust(512, b"\0")
    head = head[:148] + b"%06o\0 " % sum(head) + head[156:]
    return head + data.ljust(-(-len(data) // 512) * 512, b"\0")


def _pax(records: list[tuple[str, bytes]], kind: int) -> bytes:
    body = b""
    for key, value in records:
        line = b" %b=%b\n" % (key.encode(), value)
        length = len(line) + 1
        while len(b"%d" % length) + len(line) != length:
            length += 1
        body += b"%d%b" % (length, line)
    return _entry(b"pax", b"", kind, len(body), 0o644, body)


_ENTRIES = st.builds(
    lambda name, link, kind, size, mode, data: _entry(name, link, kind, len(data) if size == 0 else size, mode, data),
    _PATHS,
    _PATHS
    | st.sampled_from([b"/", b"../../outside", b"abs/secret", b"up/outside/secret", b"OUTSIDE", b"OUTSIDE/secret"]),
    _TYPES,
    _SIZES,
    st.sampled_from([0o644, 0o755, 0o4755, 0o177777, 0]),
    st.binary(max_size=600),
) | st.builds(
    _pax,
    st.lists(st.tuples(_PAX, _PATHS | st.binary(max_size=12) | st.sampled_from([b"1", b"-1", b"9" * 30])), max_size=4),
    st.sampled_from(list(b"xg")),
)
_ARCHIVES = st.tuples(st.lists(_ENTRIES, max_size=8).map(b"".join), CHANGES, st.booleans()).map(
    lambda made: changed(made[0], made[1] if made[2] else []) + bytes(1024)
)


class _Place:
    """A root to unpack into, and beside it what must stay as it is."""

    def __init__(self) -> None:
        self.outside = Path(os.fsdecode(OUTSIDE))
        self.base = self.outside.parent
        self.outside.mkdir(parents=True)
        (self.outside / "secret").write_bytes(b"secret")
        self.before = self.state()
        self.top = sorted(os.listdir("/"))

    def state(self) -> list[Any]:
        """What is beside the root."""
        found = [(str(path), path.lstat().st_mode, path.lstat().st_nlink) for path in sorted(self.outside.rglob("*"))]
        return [*found, (self.outside / "secret").read_bytes(), sorted(os.listdir(self.base))]

    def unpack(self, data: bytes) -> None:
        """Unpack into an empty root, and hold that nothing else changed."""
        fd = os.memfd_create("layer")
        root = self.base / "root"
        root.mkdir()
        try:
            os.write(fd, data)
            os.lseek(fd, 0, os.SEEK_SET)
            dir_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with contextlib.suppress(WherryError):
                    apply_layer(fd, dir_fd, _SMALL)
                    _compare(dir_fd)
            finally:
                os.close(dir_fd)
        finally:
            os.close(fd)
            base_fd = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY)
            remove_tree(base_fd, b"root")
            os.close(base_fd)
        assert self.state() == self.before
        assert sorted(os.listdir("/")) == self.top

    def close(self) -> None:
        """Take all away."""
        (self.outside / "secret").unlink()
        self.outside.rmdir()
        self.base.rmdir()


def _compare(tree: int) -> None:
    """Whatever tree a layer gives, it is the one that its own archive says."""
    fd = os.memfd_create("archive")
    try:
        write_archive(tree, fd, root=True)
        os.lseek(fd, 0, os.SEEK_SET)
        assert verify_layer(fd, tree) == ""
    finally:
        os.close(fd)


_place: list[_Place] = []


@ROUND
@given(_ARCHIVES)
@example(_entry(b"up", b"../../outside", ord("2"), 0, 0o777, b"") + _entry(b"up/new", b"", ord("0"), 1, 0o644, b"x"))
@example(
    _entry(b"abs", b"OUTSIDE".ljust(60, b"\0"), ord("2"), 0, 0o777, b"") + _entry(b"abs/new", b"", ord("5"), 0, 0, b"")
)
def _archives(data: bytes) -> None:
    _place[0].unpack(data)


@ROUND
@given(_ARCHIVES, st.sampled_from(["gzip", "zstd"]), CHANGES)
def _compressed(data: bytes, form: str, changes: list[tuple[int, int, bytes]]) -> None:
    packed = gzip.compress(data, 1, mtime=0) if form == "gzip" else zstandard.compress(data, 1)
    _place[0].unpack(changed(packed, changes))


@pytest.mark.parametrize("check", [_archives, _compressed])
def test_archives(check: Callable[[], None]) -> None:
    """An archive is refused or unpacked below its root, whatever its names, links, sizes and attributes say."""
    _place.append(_Place())
    try:
        for_a_while(check)
    finally:
        _place.pop().close()
