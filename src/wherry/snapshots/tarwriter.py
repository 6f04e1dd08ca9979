"""Write tar entries: ustar headers, with a pax header (IEEE 1003.1) in front where a value does not fit.

The same entries give the same bytes, whoever writes them and when. Nothing is looked up: owners are numbers.
"""

from wherry.snapshots.tar import BLOCK, CHARACTER, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

END = bytes(1024)
_OCTAL_7 = 0o7777777
_OCTAL_11 = 0o77777777777
_SECOND = 1_000_000_000


def padding(size: int) -> bytes:
    """Return the zeros that follow `size` bytes of data."""
    return bytes(-size % 512)


def headers(entry: Entry) -> bytes:
    """Return the blocks in front of an entry's data; `entry.sparse` is not looked at.

    Names that fit are written as they are, whatever their bytes: every reader takes them so.
    """
    records: dict[bytes, bytes] = {}
    name, link = entry.name, entry.linkname
    if len(name) > 100:
        records[b"path"] = name
    if len(link) > 100:
        records[b"linkpath"] = link
    size = _fitting(records, b"size", entry.size, _OCTAL_11)
    uid = _fitting(records, b"uid", entry.uid, _OCTAL_7)
    gid = _fitting(records, b"gid", entry.gid, _OCTAL_7)
    seconds, nanoseconds = divmod(entry.mtime_ns, _SECOND)
    if nanoseconds or not 0 <= seconds <= _OCTAL_11:
        records[b"mtime"] = _time(entry.mtime_ns)
        seconds = min(max(seconds, 0), _OCTAL_11)
    for key, value in sorted((entry.xattrs or {}).items()):
        records[b"SCHILY.xattr." + key] = value
    header = _header(name[:100], entry.type, link[:100], entry.mode, uid, gid, size, seconds, _device(entry))
    return (_pax(records) + header) if records else header


def _fitting(records: dict[bytes, bytes], key: bytes, value: int, most: int) -> int:
    if value <= most:
        return value
    records[key] = b"%d" % value
    return 0


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, rest = divmod(abs(nanoseconds), _SECOND)
    text = b"%s%d.%09d" % (sign, seconds, rest)
    return text.rstrip(b"0").rstrip(b".")


def _device(entry: Entry) -> bytes:
    if entry.type in (CHARACTER, BLOCK):
        return b"%07o\0%07o\0" % (entry.major, entry.minor)
    return b"0000000\x000000000\0"


def _pax(records: "Mapping[bytes, bytes]") -> bytes:
    data = b"".join(_record(key, value) for key, value in records.items())
    header = _header(b"././@PaxHeader", b"x", b"", 0o644, 0, 0, len(data), 0, b"0000000\x000000000\0")
    return header + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """`<length> <key>=<value>\\n`, the length counting its own digits."""
    bare = len(key) + len(value) + 3
    length = bare + len(b"%d" % bare)
    if len(b"%d" % length) != length - bare:
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _header(
    name: bytes, kind: bytes, link: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, device: bytes
) -> bytes:
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime),
            b"        ",
            kind,
            link.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            device,
            bytes(167),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
