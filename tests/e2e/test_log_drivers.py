"""Log drivers and their options: what arrives where it is sent, what is kept here, and what is refused."""

import gzip
import json
import re
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--name", "lg")
SAY = ("busybox", "sh", "-c", "echo out; echo err >&2")


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    """Give a UDP socket on the loopback, where a syslog server would listen."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(20)
        yield sock


@pytest.mark.parametrize(
    ("format_", "head"),
    [
        ("", rb"<%d>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d lg/busybox\[\d+\]: "),
        ("rfc3164", rb"<%d>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ lg/busybox\[\d+\]: "),
        ("rfc5424", rb"<%d>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \S+ lg/busybox \d+ lg/busybox - "),
        ("rfc5424micro", rb"<%d>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ lg/busybox \d+ lg/busybox - "),
    ],
)
def test_syslog_formats(engine: EngineProcess, datagrams: socket.socket, format_: str, head: bytes) -> None:
    """As dockerd sends them: daemon is the facility, stdout informs, stderr is an error, the tag is filled in."""
    where = f"syslog-address=udp://127.0.0.1:{datagrams.getsockname()[1]}"
    options = ("--log-opt", where, "--log-opt", f"syslog-format={format_}", "--log-opt", "tag={{.Name}}/{{.ImageName}}")
    engine.docker(*RUN, "--log-driver", "syslog", *options, *SAY)
    got = sorted(datagrams.recv(1000) for _ in range(2))
    assert re.fullmatch(head % 27 + rb"err\n", got[0]), got
    assert re.fullmatch(head % 30 + rb"out\n", got[1]), got


@pytest.mark.parametrize("scheme", ["tcp", "unix", "unixgram"])
def test_syslog_transports(engine: EngineProcess, tmp_path: Path, scheme: str) -> None:
    """Over streams and local sockets; the facility is as asked; `logs` reads what is kept here, unless it is not."""
    family, kind = (socket.AF_INET if scheme == "tcp" else socket.AF_UNIX), socket.SOCK_STREAM
    if scheme == "unixgram":
        kind = socket.SOCK_DGRAM
    with socket.socket(family, kind) as server:
        server.settimeout(20)
        server.bind(("127.0.0.1", 0) if scheme == "tcp" else str(tmp_path / "log.sock"))
        if kind == socket.SOCK_STREAM:
            server.listen()
        place = f"127.0.0.1:{server.getsockname()[1]}" if scheme == "tcp" else server.getsockname()
        options = ["--log-driver", "syslog", "--log-opt", f"syslog-address={scheme}://{place}"]
        options += ["--log-opt", "syslog-facility=local0"]
        engine.docker("run", "--name", "lg", *options, "busybox", "sh", "-c", "seq 1 2000; printf unfinished")
        peer = server.accept()[0] if kind == socket.SOCK_STREAM else server
        data = b""
        while b"unfinished" not in data:
            more = peer.recv(65536)
            assert more, data[-200:]
            data += more
        assert data.startswith(b"<134>")
        assert data.count(b"<134>") == 2001
        assert engine.docker("logs", "lg").out == "".join(f"{n}\n" for n in range(1, 2001)) + "unfinished"
        assert engine.docker("inspect", "-f", "{{.LogPath}}", "lg").out == "\n"
        engine.docker("rm", "lg")
        if kind == socket.SOCK_DGRAM:
            engine.docker("run", "--name", "lg", *options, "--log-opt", "cache-disabled=true", "busybox", "true")
            assert "does not support reading" in engine.docker("logs", "lg", code=1).err
        peer.close()


def test_a_log_server_that_goes_away(engine: EngineProcess, tmp_path: Path) -> None:
    """Its container is not stalled, whatever it writes, and what it says later arrives where somebody listens again."""
    path = str(tmp_path / "log.sock")

    def listen() -> socket.socket:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.settimeout(20)
        server.bind(path)
        server.listen()
        return server

    server = listen()
    options = ("--log-driver", "syslog", "--log-opt", f"syslog-address=unix://{path}", "--log-opt", "tag=t")
    script = "yes | head -c 8000000; touch /done; until [ -e /go ]; do sleep 0.05; done; echo later"
    engine.docker("run", "-d", "--name", "lg", *options, "busybox", "sh", "-c", script)
    peer, _ = server.accept()
    peer.recv(100)
    # nobody reads: the container ends its work all the same
    until(lambda: engine.docker("exec", "lg", "test", "-e", "/done", check=False).code == 0, "it is not stalled", 90)
    peer.close()
    server.close()
    Path(path).unlink()
    server = listen()
    peer, _ = server.accept()
    peer.settimeout(20)

    def heard(words: bytes) -> None:
        data = b""
        while words not in data:
            more = peer.recv(1 << 20)
            assert more
            data = data[-10_000:] + more

    heard(b"lines were lost: the log server did not take them\n")
    engine.docker("exec", "lg", "touch", "/go")
    heard(b"]: later\n")
    peer.close()
    server.close()
    engine.docker("wait", "lg")
    engine.assert_no_traceback()


def test_a_log_server_that_is_not_there(engine: EngineProcess) -> None:
    """The container is not started, and nothing is left of it."""
    refused = engine.docker(
        *RUN, "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:1", *SAY, code=125
    )
    assert "failed to initialize logging driver: dial tcp 127.0.0.1:1: connect: connection refused" in refused.err
    engine.assert_nothing_runs()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("driver=nope", 'plugin "nope" not found'),
        ("driver=syslog nope=1", "unknown log opt 'nope' for syslog log driver"),
        ("driver=local tag=x", "unknown log opt 'tag' for log driver local"),
        ("driver=syslog syslog-address=foo", "unsupported scheme: ''"),
        ("driver=syslog syslog-address=tcp+tls://h:1", "TLS to a syslog server is not supported"),
        ("driver=syslog syslog-facility=x", "invalid syslog facility"),
        ("driver=syslog syslog-format=x", "Invalid syslog format"),
        ("driver=syslog syslog-address=unix:///nope", "stat /nope: no such file or directory"),
        ("mode=x", "logging mode not supported: x"),
        ("max-buffer-size=1m", "only supported with 'mode=non-blocking'"),
        ("mode=non-blocking max-buffer-size=x", "invalid size: 'x'"),
        ("max-size=x", "invalid size: 'x'"),
        ("max-file=0", "max-file cannot be less than 1"),
        ("max-file=x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("compress=x", 'strconv.ParseBool: parsing "x": invalid syntax'),
        ("compress=true max-file=1", "compress cannot be true when max-file is less than 2"),
        ("tag={{.Nope}}", "can't evaluate field Nope"),
        ("tag={{.Name", "unclosed action"),
        ("labels-regex=[", "error parsing regexp"),
    ],
)
def test_what_is_refused(engine: EngineProcess, options: str, words: str) -> None:
    """In dockerd's words; some of it only when the container starts, and nothing runs then."""
    pairs = [option.partition("=") for option in options.split(" ")]
    flags = [f"--log-driver={value}" if name == "driver" else f"--log-opt={name}={value}" for name, _, value in pairs]
    refused = engine.run("docker", "run", "--name", "lg", *flags, "busybox", code=None)
    assert words in refused.err
    # 127 where the words are those of a program that is missing: the docker command reads no more than that
    assert refused.code == (127 if "no such file" in words else 125)
    assert engine.docker("ps", "-q", "--filter", "name=lg").out == ""
    engine.remove_all()


def says_all(engine: EngineProcess, name: str) -> bool:
    """Whether the last of a thousand lines is in the log."""
    return engine.docker("logs", "--tail", "1", name).out == "1000\n"


def test_local_driver_and_compression(engine: EngineProcess) -> None:
    """`local` keeps its files where dockerd does; rotated files are compressed unless that is declined."""
    for name, flags in (("lg1", ("--log-driver", "local")), ("lg2", ()), ("lg3", ("--log-opt", "compress=false"))):
        sizes = ("--log-opt", "max-size=20k", "--log-opt", "max-file=3", "--log-opt", "mode=non-blocking")
        engine.docker("run", "-d", "--name", name, *flags, *sizes, "busybox", "sh", "-c", "seq 1 1000; sleep 1000")
        until(partial(says_all, engine, name), "it has said all")
        read = engine.docker("logs", name).out.split()
        assert read[-1] == "1000"
        assert read == [str(number) for number in range(1001 - len(read), 1001)]
        assert len(read) > 300
        assert engine.docker("logs", "--tail", "3", name).out == "998\n999\n1000\n"
        assert engine.docker("logs", "--tail", "400", name).out.split()[0] in ("601", read[0])
    data = engine.roots.container(engine.docker("inspect", "-f", "{{.Id}}", "lg1").out.strip())
    until(lambda: list(Path(data).glob("local-logs/container.log.*.gz")), "compressed files of `local`")
    path = Path(engine.docker("inspect", "-f", "{{.LogPath}}", "lg2").out.strip())
    until(lambda: path.with_name(f"{path.name}.1.gz").exists(), "a compressed file")
    with gzip.open(f"{path}.1.gz") as lines:
        assert set(json.loads(lines.readline())) == {"log", "stream", "time"}
    path = Path(engine.docker("inspect", "-f", "{{.LogPath}}", "lg3").out.strip())
    assert path.with_name(f"{path.name}.1").exists()
    assert not list(path.parent.glob("*.gz"))


def test_tag_of_a_record(engine: EngineProcess) -> None:
    """json-file repeats the tag, filled in, with each record; `--details` shows it."""
    engine.docker("run", "--name", "lg", "--log-opt", "tag={{.Name}}-{{.ID}}-{{ .Command }}", "busybox", "echo", "hi")
    id_ = engine.docker("inspect", "-f", "{{.Id}}", "lg").out.strip()
    path = Path(engine.docker("inspect", "-f", "{{.LogPath}}", "lg").out.strip())
    assert json.loads(path.read_text())["attrs"] == {"tag": f"lg-{id_[:12]}-echo hi"}
    assert engine.docker("logs", "--details", "lg").out == f"tag=lg-{id_[:12]}-echo+hi hi\n"


@pytest.mark.parametrize(
    ("options", "attributes"),
    [
        (("labels=one,three",), {"one": "1", "three": "3"}),
        (("labels-regex=^t",), {"two": "2", "three": "3"}),
        (("labels=one", "labels-regex=^two$"), {"one": "1", "two": "2"}),
        (("env=COLOR,NONE", "env-regex=^SI"), {"COLOR": "red", "SIZE": "big"}),
        (("labels=two", "env=SIZE"), {"two": "2", "SIZE": "big"}),
    ],
)
def test_labels_and_variables_of_a_record(
    engine: EngineProcess, options: tuple[str, ...], attributes: dict[str, str]
) -> None:
    """Those that the options choose, by name or expression, and no others, are repeated with each record."""
    words = ["-l", "one=1", "-l", "two=2", "-l", "three=3", "-e", "COLOR=red", "-e", "SIZE=big"]
    words += [f"--log-opt={option}" for option in options]
    engine.docker("run", "--name", "lg", "--net", "none", *words, "busybox", "echo", "hi")
    path = Path(engine.docker("inspect", "-f", "{{.LogPath}}", "lg").out.strip())
    assert json.loads(path.read_text())["attrs"] == attributes
    shown = ",".join(f"{name}={value}" for name, value in sorted(attributes.items()))
    assert engine.docker("logs", "--details", "lg").out == f"{shown} hi\n"
