"""The json-file log: written, rotated, read."""

import gzip
import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.monitor import logfiles, logreader
from wherry.monitor.logformat import Formatter, fixed_time
from wherry.monitor.logwriter import JsonFileLog, compress_file, encode, split_long


def fail(error: OSError) -> None:
    raise error


def compress_now(source: int, target: str, done: Callable[[bool], None]) -> None:
    """Compress in this process: what the monitor's child does."""
    compress_file(source, target)
    done(True)


def make_log(tmp_path: Path, *, max_size: int = 0, max_files: int = 3, compress: bool = False) -> JsonFileLog:
    return JsonFileLog(
        str(tmp_path / "c-json.log"),
        max_size=max_size,
        max_files=max_files,
        compress=compress_now if compress else None,
        on_error=fail,
    )


def records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def read_back(path: Path, **args: object) -> list[tuple[int, bytes]]:
    """Frames that the `logs` worker sends."""
    ours, theirs = socket.socketpair()
    received = bytearray()

    def receive() -> None:
        while data := ours.recv(1 << 20):
            received.extend(data)

    thread = threading.Thread(target=receive)
    thread.start()
    fd = theirs.detach()
    try:
        logreader.worker({"path": str(path), **args}, {"client": fd})
    finally:
        thread.join()
        ours.close()
    frames = []
    position = 0
    while position < len(received):
        stream, length = struct.unpack_from(">BxxxI", received, position)
        frames.append((stream, bytes(received[position + 8 : position + 8 + length])))
        position += 8 + length
    return frames


def test_times_are_compared_in_one_form() -> None:
    """UTC with nine digits; Docker's trimmed ones are padded."""
    assert fixed_time("2026-01-02T03:04:05Z") == "2026-01-02T03:04:05.000000000Z"
    assert fixed_time("2026-01-02T03:04:05.12Z") == "2026-01-02T03:04:05.120000000Z"


@pytest.mark.parametrize(
    "text",
    ["2026-01-02T05:04:05.123456789+02:00", "2026-01-01T22:04:05.123456789-05:00", "2026-01-02T03:04:05.123456789Z"],
)
def test_a_time_with_an_offset_is_shown_in_utc(text: str) -> None:
    """Another program's log may have local times: they are compared with `--since` as the moments that they are."""
    record = json.dumps({"log": "a\n", "stream": "stdout", "time": text}, separators=(",", ":")).encode() + b"\n"
    shown = b"2026-01-02T03:04:05.123456789Z a\n"
    assert Formatter(timestamps=True, framed=False).feed(record) == shown
    assert Formatter(since="2026-01-02T03:04:05.000000000Z", framed=False).feed(record) == b"a\n"
    assert Formatter(since="2026-01-02T03:04:06.000000000Z", framed=False).feed(record) == b""


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\n", exclude_categories=["Cs"])), min_size=1))
def test_encode_any_text(lines: list[str]) -> None:
    """Whatever is printed comes back from JSON, one record a line, by whichever path it was encoded."""
    data = "".join(f"{line}\n" for line in lines).encode()
    out = encode(data, '","stream":"stdout","time":"T"}')
    assert [json.loads(line)["log"] for line in out[:-1].split(b"\n")] == [f"{line}\n" for line in lines]


@pytest.mark.parametrize("text", ["a\\nb", "a\\", "\\n", '"', "\x7f", "\\\x7f", "\x00\x1b[0m", "é😀"])
def test_encode_awkward(text: str) -> None:
    """Backslashes, quotes and the marker itself do not confuse the batch encoder."""
    out = encode(f"{text}\n{text}\n".encode(), '","stream":"stdout","time":"T"}')
    assert [json.loads(line)["log"] for line in out.splitlines()] == [f"{text}\n"] * 2


def test_invalid_utf8(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 become U+FFFD."""
    log = make_log(tmp_path)
    log.write(1, b"\xff\xfeok\n")
    log.close()
    assert records(tmp_path / "c-json.log")[0]["log"] == "\ufffd\ufffdok\n"


def test_lines_are_put_together(tmp_path: Path) -> None:
    """A line that comes in pieces is one record; its end without a newline is recorded at the end, as it is."""
    log = make_log(tmp_path)
    log.write(1, b"he")
    log.write(2, b"err\n")
    log.write(1, b"llo\nworld")
    log.close()
    got = [(record["stream"], record["log"]) for record in records(tmp_path / "c-json.log")]
    assert got == [("stderr", "err\n"), ("stdout", "hello\n"), ("stdout", "world")]


def test_long_lines_are_split(tmp_path: Path) -> None:
    """A line over 16 KiB makes several records, and no character is cut in two."""
    text = ("é" * 10_000 + "x" * 30_000 + "\nshort\n" + "😀" * 9_000 + "\n").encode()
    log = make_log(tmp_path)
    for start in range(0, len(text), 65_536):
        log.write(1, text[start : start + 65_536])
    log.close()
    got = records(tmp_path / "c-json.log")
    assert "".join(record["log"] for record in got).encode() == text
    assert max(len(record["log"].encode()) for record in got) <= 16_385
    assert len(got) > 6


@given(st.binary(max_size=300), st.integers(1, 50))
@settings(max_examples=50)
def test_split_long_keeps_everything(data: bytes, repeat: int) -> None:
    """The pieces of any data are the data, and none is over the limit."""
    whole = data * repeat * 20
    pieces = split_long(whole)
    assert b"".join(piece for piece, _ in pieces) == whole
    for piece, _ in pieces:
        assert max(len(line) for line in piece.split(b"\n")) <= 16_384


def test_rotation_is_capped(tmp_path: Path) -> None:
    """No file is over its limit, no more files than allowed, old ones compressed, and the newest text is all there."""
    log = make_log(tmp_path, max_size=10_000, max_files=3, compress=True)
    for start in range(0, 3_000, 100):
        log.write(1, b"".join(b"line %d\n" % number for number in range(start, start + 100)))
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["c-json.log", "c-json.log.1.gz", "c-json.log.2.gz"]
    texts = []
    for name in reversed(names):
        raw = (tmp_path / name).read_bytes()
        plain = gzip.decompress(raw) if name.endswith(".gz") else raw
        assert len(plain) <= 10_000
        texts += [json.loads(line)["log"] for line in plain.splitlines()]
    numbers = [int(text.split()[1]) for text in texts]
    assert numbers == list(range(numbers[0], 3_000))


def test_rotation_with_one_file(tmp_path: Path) -> None:
    """With a single file allowed the log begins anew."""
    log = make_log(tmp_path, max_size=1_000, max_files=1)
    log.write(1, b"".join(b"line %d\n" % number for number in range(100)))
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["c-json.log"]
    assert records(tmp_path / "c-json.log")[-1]["log"] == "line 99\n"


def test_slow_compressor(tmp_path: Path) -> None:
    """Rotations that overtake the compressor rename what it works on, and its result goes to the right place."""
    waiting: list[tuple[int, str, Callable[[bool], None]]] = []
    log = JsonFileLog(
        str(tmp_path / "c-json.log"),
        max_size=1_000,
        max_files=4,
        compress=lambda source, target, done: waiting.append((os.dup(source), target, done)),
        on_error=fail,
    )
    lines = b"".join(b"line %d\n" % number for number in range(14))
    log.write(1, lines)
    ((source, target, done),) = waiting
    log.write(1, lines)
    assert (tmp_path / "c-json.log.2").exists()
    compress_file(source, target)
    os.close(source)
    done(True)
    assert (tmp_path / "c-json.log.2.gz").exists()
    assert not (tmp_path / "c-json.log.2").exists()
    assert len(waiting) == 2
    for _ in range(6):
        log.write(1, lines)
    assert len(waiting) == 2, "one at a time, also when what is compressed has been dropped"
    source, target, done = waiting[1]
    compress_file(source, target)
    os.close(source)
    done(True)
    assert not (tmp_path / "c-json.log.compressing").exists()
    log.close()
    for source, _, _ in waiting[2:]:
        os.close(source)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["c-json.log", "c-json.log.1", "c-json.log.2", "c-json.log.3"]


def test_full_disk_is_survived(tmp_path: Path) -> None:
    """A log that cannot be written is told once, and nothing is raised."""
    errors: list[OSError] = []
    log = JsonFileLog(str(tmp_path / "missing" / "log"), max_size=0, max_files=1, on_error=errors.append)
    log.write(1, b"a\n")
    log.write(1, b"b\n")
    log.close()
    assert len(errors) == 1


def test_read_back(tmp_path: Path) -> None:
    """All records come back, each in a frame of its stream."""
    log = make_log(tmp_path)
    for number in range(300):
        log.write(1 if number % 3 else 2, f'line "{number}" \\ é\n'.encode() * (number % 5 + 1))
    log.close()
    expected = [
        (1 if number % 3 else 2, f'line "{number}" \\ é\n'.encode())
        for number in range(300)
        for _ in range(number % 5 + 1)
    ]
    assert read_back(tmp_path / "c-json.log") == expected
    only = read_back(tmp_path / "c-json.log", stdout=False)
    assert only == [frame for frame in expected if frame[0] == 2]


def test_read_back_over_rotated_files(tmp_path: Path) -> None:
    """Rotated and compressed files are read before the current one; a tail crosses their borders."""
    log = make_log(tmp_path, max_size=4_000, max_files=5, compress=True)
    for number in range(150):
        log.write(1, b"line %d\n" % number)
    log.close()
    assert (tmp_path / "c-json.log.2.gz").exists()
    whole = read_back(tmp_path / "c-json.log")
    assert whole == [(1, b"line %d\n" % number) for number in range(150 - len(whole), 150)]
    for tail in (0, 1, 10, 49, 50, 51, 70, 101, 1000):
        assert read_back(tmp_path / "c-json.log", tail=tail) == (whole[-tail:] if tail else [])


def test_other_writers_records(tmp_path: Path) -> None:
    """Records with a time each, with attributes, in another order, and broken ones are read as far as they can be."""
    path = tmp_path / "x-json.log"
    path.write_text(
        '{"log":"a\\n","stream":"stdout","time":"2026-01-01T00:00:01Z"}\n'
        '{"log":"b\\u003c\\n","stream":"stderr","attrs":{"k":"v","stream":"x"},"time":"2026-01-01T00:00:02.5Z"}\n'
        '{"stream":"stdout","log":"c\\n","time":"2026-01-01T00:00:03Z"}\n'
        '{"log":"cut\n'
        '{"log":"no newline","stream":"stdout","time":"2026-01-01T00:00:04Z"}\n'
        '{"log":"\x7f\\n","stream":"stdout","time":"2026-01-01T00:00:05Z"}\n'
    )
    expected = [(1, b"a\n"), (2, b"b<\n"), (1, b"c\n"), (1, b"no newline"), (1, b"\x7f\n")]
    assert read_back(path) == expected
    stamped = read_back(path, timestamps=True, details=True, tail=5)
    assert stamped[0] == (2, b"2026-01-01T00:00:02.500000000Z k=v,stream=x b<\n")
    base = 1_767_225_600_000_000_000
    assert read_back(path, since=base + 3 * 10**9) == expected[2:]
    assert read_back(path, until=base + 3 * 10**9) == expected[:3]
    assert read_back(path, since=base + 2 * 10**9, until=base + 4 * 10**9) == expected[1:4]


def test_formatter_unframed() -> None:
    """A terminal's log is sent as it was printed."""
    line = b'{"log":"a\\r\\n","stream":"stdout","time":"2026-01-01T00:00:01Z"}\n'
    assert Formatter(framed=False).feed(line * 3) == b"a\r\n" * 3


def test_interleaved_streams_of_one_time() -> None:
    """Records that end alike but are not neighbours keep their order."""
    one = b'{"log":"o\\n","stream":"stdout","time":"2026-01-01T00:00:01Z"}\n'
    two = b'{"log":"e\\n","stream":"stderr","time":"2026-01-01T00:00:01Z"}\n'
    assert Formatter(framed=False).feed(one + two + one + one) == b"o\ne\no\no\n"


def test_damaged_gzip(tmp_path: Path) -> None:
    """A compressed file that a crash cut is read as far as it goes."""
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(os.urandom(50_000).hex().encode())[:20_000])
    fd = logfiles.inflated(os.open(path, os.O_RDONLY))
    assert os.fstat(fd).st_size > 1_000
    os.close(fd)
