"""Make a bootstrapped root file system independent of when it was made.

The archive is patched in place, so that nothing moves: every time later than the newest package's becomes that one, and
so does the day in `/etc/shadow` on which a password was last changed. Reads and writes ustar and pax headers (POSIX.1
pax interchange format) of an archive that our own mmdebstrap wrote.
"""

import os

from wherry.errors import StoreCorrupt

_BLOCK = 512
_CHANGELOGS = "usr/share/doc/"
_DAY = 86400


def settle(fd: int, started: int) -> int:
    """Clamp all times in the tar archive `fd`, and give it an empty /dev.

    Args:
        fd: a regular file, read and written by offset.
        started: Unix time at which the bootstrap began, the SOURCE_DATE_EPOCH that it was given.

    Returns:
        the Unix time of the newest package, which is the newest time in the archive now.

    Raises:
        StoreCorrupt: this is not an archive with Debian packages in it.
    """
    headers: list[tuple[int, int]] = []
    shadows: list[tuple[int, int]] = []
    newest = 0
    offset, end = 0, os.fstat(fd).st_size
    while offset + _BLOCK <= end:
        block = os.pread(fd, _BLOCK, offset)
        if block == bytes(_BLOCK):
            break
        size, moment, kind = _octal(block[124:136]), _octal(block[136:148]), block[156:157]
        headers.append((offset, moment))
        name = _name(block)
        if kind in b"0\0":
            if _is_changelog(name) and moment < started:
                newest = max(newest, moment)
            if name in ("etc/shadow", "etc/shadow-"):
                shadows.append((offset + _BLOCK, size))
        offset += _BLOCK + (size + _BLOCK - 1) // _BLOCK * _BLOCK
    if not newest:
        raise StoreCorrupt("the bootstrapped root file system holds no package")
    _add_directory(fd, offset, b"./dev/", newest)
    for at, size in shadows:
        _settle_shadow(fd, at, size, started, newest)
    for at, moment in headers:
        if moment > newest:
            _set_time(fd, at, newest)
    return newest


def _add_directory(fd: int, offset: int, name: bytes, moment: int) -> None:
    """Put a directory behind the last entry: mmdebstrap leaves out /dev, as a whole, with the devices in it."""
    block = bytearray(_BLOCK)
    block[: len(name)] = name
    block[100:108], block[108:116], block[116:124] = b"0000755\0", b"0000000\0", b"0000000\0"
    block[124:136], block[156:157] = b"00000000000\0", b"5"
    block[257:265] = b"ustar\x0000"
    os.pwrite(fd, bytes(block) + bytes(2 * _BLOCK), offset)
    os.ftruncate(fd, offset + 3 * _BLOCK)
    _set_time(fd, offset, moment)


def _settle_shadow(fd: int, offset: int, size: int, started: int, newest: int) -> None:
    text = os.pread(fd, size, offset)
    days = {b":%d:" % day for day in (started // _DAY, started // _DAY + 1)}
    settled = text
    for day in days:
        settled = settled.replace(day, (b":%d:" % (newest // _DAY)).rjust(len(day), b"0"))
    if len(settled) == len(text):
        os.pwrite(fd, settled, offset)


def _set_time(fd: int, offset: int, moment: int) -> None:
    block = bytearray(os.pread(fd, _BLOCK, offset))
    block[136:148] = b"%011o\0" % moment
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    os.pwrite(fd, block, offset)


def _name(block: bytes) -> str:
    name = block[:100].rstrip(b"\0")
    prefix = block[345:500].rstrip(b"\0")
    path = (prefix + b"/" + name if prefix else name).decode("utf-8", "replace")
    return path.removeprefix("./")


def _is_changelog(name: str) -> bool:
    return name.startswith(_CHANGELOGS) and name.rpartition("/")[2].startswith("changelog")


def _octal(field: bytes) -> int:
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise StoreCorrupt("the bootstrapped archive has a header that is none") from None
