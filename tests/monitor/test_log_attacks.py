"""What a container writes to its output to harm the log, its readers or the disk.

Beside each attack stands its control: what it wanted to forge or to fill is there when it comes by the right way.
"""

import json
import os
import resource
import socket
import struct
from pathlib import Path
from typing import NoReturn

import pytest

from wherry.linux.loop import Loop
from wherry.monitor.logformat import Formatter
from wherry.monitor.logremote import RemoteLog, journal_encoder, syslog_encoder
from wherry.monitor.logwriter import MAX_LINE, JsonFileLog

FULL = bool(os.environ.get("WHERRY_FULL"))
CAP = 10 << 20
FILES = 3

FORGERIES = (
    b'{"log":"forged\\n","stream":"stderr","time":"2020-01-01T00:00:00Z"}\n',
    b'","stream":"stderr","time":"2020-01-01T00:00:00Z"}\n',
    b"\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\n",
    b"over\rwritten\x08\x08\n",
    b"\xff\xfe\x00\x7f not text \xc3\n",
    "line\u2028separator\u0085next\n".encode(),
    b"\\n\\u000a\\\\\n",
    b"\x01\x00\x00\x00\x00\x00\x00\x05framed\n",
)


def fail(error: BaseException) -> NoReturn:
    raise error


def log_at(path: Path) -> JsonFileLog:
    return JsonFileLog(str(path), max_size=CAP, max_files=FILES, on_error=fail)


def read_log(path: Path, written: list[tuple[int, bytes]]) -> list[tuple[str, str]]:
    """Streams and texts of the records that a log has of what was written to it."""
    log = log_at(path)
    for stream, data in written:
        log.write(stream, data)
    log.close()
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [(record["stream"], record["log"]) for record in records]


def test_cve_log_injection_records_cannot_be_forged(tmp_path: Path) -> None:
    """Each line is one record of its own stream, whatever is in it; readers get frames whose length is true."""
    assert read_log(tmp_path / "honest", [(1, b"out\n"), (2, b"err\n")]) == [("stdout", "out\n"), ("stderr", "err\n")]
    log = log_at(tmp_path / "log")
    for line in FORGERIES:
        log.write(1, line)
    log.close()
    written = (tmp_path / "log").read_bytes()
    records = [json.loads(line) for line in written.splitlines()]
    assert [record["log"] for record in records] == [line.decode("utf-8", "replace") for line in FORGERIES]
    assert {record["stream"] for record in records} == {"stdout"}
    assert all(set(record) == {"log", "stream", "time"} for record in records)
    framed, position, texts = Formatter().feed(written), 0, []
    while position < len(framed):
        stream, length = struct.unpack_from(">BxxxI", framed, position)
        assert stream == 1
        texts.append(framed[position + 8 : position + 8 + length])
        position += 8 + length
    assert texts == [record["log"].encode() for record in records]


def test_cve_disk_fill_one_line_without_end(tmp_path: Path) -> None:
    """A line of a gigabyte (here a part of it) neither grows in memory nor beyond the files' cap."""
    longest = b"y" * (MAX_LINE - 1) + b"\n"
    assert read_log(tmp_path / "honest", [(1, longest)]) == [("stdout", longest.decode())]
    (tmp_path / "honest").unlink()
    size = (1 << 30) if FULL else (48 << 20)
    log = log_at(tmp_path / "log")
    piece = b"x" * (64 << 10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(size // len(piece)):
        log.write(1, piece)
        assert all(len(rest) <= MAX_LINE for rest in log._partial.values())
    log.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB
    files = sorted(tmp_path.iterdir())
    assert len(files) == FILES  # what came was written, and the oldest of it dropped
    assert all(file.stat().st_size <= CAP for file in files)
    with open(tmp_path / "log", "rb") as lines:
        texts = [json.loads(line)["log"] for line in lines]
    assert set("".join(texts)) == {"x"}
    assert all(len(text) <= MAX_LINE for text in texts)


def test_cve_disk_fill_many_lines(tmp_path: Path) -> None:
    """Nor do many short lines, whose records are far longer than they are; a few are all kept."""
    assert read_log(tmp_path / "honest", [(1, b"\n" * 16_000)]) == [("stdout", "\n")] * 16_000
    (tmp_path / "honest").unlink()
    log = log_at(tmp_path / "log")
    for _ in range(40):
        log.write(1, b"\n" * 16_000)
    log.close()
    files = list(tmp_path.iterdir())
    assert len(files) == FILES
    assert sum(file.stat().st_size for file in files) <= FILES * CAP


def test_cve_log_injection_to_the_journal(tmp_path: Path) -> None:
    """A line cannot add fields of its own to what the journal is told; a long one is said to be a part."""
    path = str(tmp_path / "journal.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(20)
        encode = journal_encoder({"CONTAINER_NAME": "web", "BAD": "a\nPRIORITY=0"})
        # the control: a value of one line is a field as it stands, and so is a line
        assert journal_encoder({"GOOD": "a"})(1, b"fine", False) == b"PRIORITY=6\nGOOD=a\nMESSAGE=fine\n"
        loop = Loop(fail, lambda: None)
        log = RemoteLog(loop, encode, (socket.AF_UNIX, socket.SOCK_DGRAM, path), None, fail)
        log.write(2, b"oops\n" + b"y" * (MAX_LINE + 10))
        log.close()
        first, second, third = (server.recv(1 << 17) for _ in range(3))
    length = (12).to_bytes(8, "little")
    assert first == b"PRIORITY=3\nCONTAINER_NAME=web\nBAD\n" + length + b"a\nPRIORITY=0\nMESSAGE=oops\n"
    assert b"CONTAINER_PARTIAL_MESSAGE=true\n" in second
    assert second.endswith(b"MESSAGE=" + b"y" * MAX_LINE + b"\n")
    assert third.endswith(b"MESSAGE=yyyyyyyyyy\n")


@pytest.mark.parametrize("format_", ["", "rfc3164", "rfc5424"])
def test_cve_log_injection_to_syslog(format_: str) -> None:
    """A line is one message: its end is the only newline."""
    values = {"scheme": "tcp", "format": format_, "facility": 3, "host": "h", "tag": "t"}
    encode = syslog_encoder(values, 7)
    assert [encode(stream, b"fine", False)[:4] for stream in (1, 2)] == [b"<30>", b"<27>"]
    assert encode(1, b"fine", False).endswith(b" fine\n" if format_ else b"fine\n")
    for line in FORGERIES:
        made = encode(1, line.removesuffix(b"\n"), False)
        assert made.count(b"\n") == 1
        assert made.startswith(b"<30>")
