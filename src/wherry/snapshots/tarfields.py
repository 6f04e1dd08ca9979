"""The fields of tar headers: numbers, texts, times, pax records. Pure; runs in forked workers."""

from wherry.errors import HostileInput
from wherry.snapshots.limits import Limits


def number(field: bytes) -> int:
    """Read a numeric field: octal digits between spaces and NULs, or GNU's base 256 (first bit set), which has a sign.

    Raises:
        ValueError: anything else stands there.
    """
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if value >> (bits - 1) else value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit():
        raise ValueError(f"not a number: {field!r}")
    return int(digits, 8)


def decimal(value: bytes) -> int:
    """Read a pax number: an optional minus and at most 20 digits. Python's own `int` takes more than that."""
    digits = value[1:] if value[:1] == b"-" else value
    if not digits.isdigit() or len(digits) > 20:
        raise ValueError(f"not a number: {value!r}")
    return int(value)


def seconds(value: bytes) -> int:
    """Read a pax time (`1700000000.123456789`, any number of digits) as nanoseconds, rounded down."""
    whole, dot, fraction = value.partition(b".")
    if dot and fraction and not fraction.isdigit():
        raise ValueError(f"not a number: {value!r}")
    nanoseconds = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    negative = whole[:1] == b"-"
    result = decimal(whole) * 1_000_000_000 + (-nanoseconds if negative else nanoseconds)
    return result - 1 if negative and fraction[9:].strip(b"0") else result


def text(field: bytes) -> bytes:
    """Return what stands before the first NUL."""
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


def shown(name: bytes) -> str:
    """A name as a message may show it: at most 200 characters, nothing that a terminal obeys."""
    decoded = name[:400].decode("utf-8", "backslashreplace")
    plain = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in decoded)
    return plain if len(plain) <= 200 else plain[:197] + "..."


def pax_records(data: bytes, limits: Limits) -> dict[bytes, bytes]:
    """Read the records of an extended header (`<length> <key>=<value>\\n`), the last one of a key winning.

    The repeated `GNU.sparse.offset` and `.numbytes` of sparse form 0.0 come out as one `GNU.sparse.map`, as in 0.1.

    Raises:
        HostileInput: the records break POSIX's grammar.
    """
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 12)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise HostileInput("archive has a pax record without a length")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end < space + 3 or data[end - 1] != 10 or not equals or not key or b"\0" in key:
            raise HostileInput("archive has a pax record that breaks the format", record=shown(data[at : at + 100]))
        if key in (b"path", b"linkpath", b"GNU.sparse.name") and b"\0" in value:
            raise HostileInput("archive has a NUL in a path", record=shown(value))
        if key == b"GNU.sparse.offset" or key == b"GNU.sparse.numbytes":
            # Pairs in this order; anything else makes an odd list, or one whose sum is wrong.
            if (key == b"GNU.sparse.offset") != (len(sparse) % 2 == 0):
                raise HostileInput("archive has a sparse map out of order")
            sparse.append(value)
        records[key] = value
        if len(records) > limits.max_header // 64:
            raise HostileInput("archive has too many pax records for one entry")
        at = end
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records
