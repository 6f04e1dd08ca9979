"""Containers behind HAProxy: by host, path and port, with TLS and cookies; no request is lost as they come and go."""

import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root

CONNECTIONS = 8


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def labels(service: str, publish: int, **more: str) -> list[str]:
    """Flags of a container of a service, for which HAProxy listens on a port of 127.0.0.1."""
    values = {"port": "80", "publish": f"127.0.0.1:{publish}", **more}
    found = ["--label", f"wherry.service={service}"]
    for key, value in values.items():
        found += ["--label", f"wherry.service.{key}={value}"]
    return found


def web(engine: EngineProcess, name: str, *flags: str, text: str = "", command: str = "docker") -> None:
    """A container that answers every path with its name."""
    script = f"mkdir /www; echo {text or name} > /www/index.html; cd /www; exec httpd -f -p 80 -h /www"
    run = engine.docker if command == "docker" else engine.wherry
    run("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", script)


def ready(engine: EngineProcess, service: str, count: int) -> None:
    """Wait until so many containers of a service get requests."""

    def look() -> bool:
        rows = {row["Name"]: row["Ready"] for row in rows_of(engine)}
        return bool(rows.get(service) == f"{count}/{rows[service].partition('/')[2]}" if service in rows else False)

    until(look, f"{count} of {service} are ready")


def rows_of(engine: EngineProcess) -> list[dict[str, Any]]:
    """`proxy ls` as JSON."""
    return [json.loads(line) for line in engine.wherry("proxy", "ls", "--format", "json").out.splitlines()]


def get(port: int, path: str = "/", **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    """One request: status, body, headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip(), answer.headers


class Load:
    """wrk against a port, until it is told to end; `failed` is what it counted then."""

    def __init__(self, port: int) -> None:
        program = shutil.which("wrk")
        if program is None:
            pytest.skip("wrk is not installed")
        self._process = subprocess.Popen(
            [program, "-t1", f"-c{CONNECTIONS}", "-d600", "--timeout", "20", f"http://127.0.0.1:{port}/"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.requests = self.failed = 0
        self.report = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self.report = self._process.communicate(timeout=30)[0]
        counted = re.search(r"(\d+) requests in", self.report)
        assert counted is not None, self.report
        self.requests = int(counted[1])
        for words in (r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", r"Non-2xx.*: (\d+)"):
            found = re.search(words, self.report)
            self.failed += sum(map(int, found.groups())) if found is not None else 0


def test_by_host_path_and_port(engine: EngineProcess) -> None:
    """Six services: three share a port by host and path, one is the rest, one another port, one speaks TCP."""
    port, other, raw = free_port(), free_port(), free_port()
    web(engine, "aa", *labels("aa", port, host="a.example,*.b.example"))
    web(engine, "api", *labels("api", port, host="a.example", path="/api"), command="wherry")
    web(engine, "rest", *labels("rest", port))
    web(engine, "other", *labels("other", other))
    web(engine, "raw", *labels("raw", raw, mode="tcp"))
    for name in ("aa", "api", "rest", "other", "raw"):
        ready(engine, name, 1)
    assert get(port, Host="A.example")[1] == "aa"
    assert get(port, Host=f"x.b.example:{port}")[1] == "aa"
    assert get(port, Host="c.example")[1] == "rest"
    assert get(other, Host="a.example")[1] == "other"
    assert get(raw)[1] == "raw"
    # httpd answers 404 for what is not there: it says who was asked
    assert get(port, "/api/nothing", Host="a.example")[0] == 404
    details = json.loads(engine.wherry("proxy", "inspect", "api").out)[0]
    assert details["Members"][0]["Name"] == "api"
    counts = [json.loads(line) for line in engine.wherry("proxy", "stats", "api", "--format", "json").out.splitlines()]
    assert [(row["Member"], row["Total"]) for row in counts] == [("", 1), ("api", 1)]
    engine.docker("rm", "-f", "rest")
    until(lambda: get(port, Host="c.example")[0] == 503, "nobody is there for the rest")
    assert get(port, Host="a.example")[1] == "aa"


def test_an_image_whose_label_says_so_joins_nothing_cve_2026_53488(engine: EngineProcess) -> None:
    """Labels of an image are shown, and steer nothing; the request's own do, whatever the image says beside them."""
    port, bad = free_port(), free_port()
    engine.docker("create", "--name", "base", "busybox", "true")
    changes = [f"--change=LABEL wherry.service=evil wherry.service.port=80 wherry.service.publish={bad}"]
    engine.docker("commit", *changes, "base", "evil")
    web_flags = ["run", "-d", "--name"]
    engine.docker(*web_flags, "victim", "evil", "sleep", "1000")
    engine.docker(*web_flags, "mine", *labels("good", port), "evil", "sleep", "1000")
    shown = json.loads(engine.docker("inspect", "victim").out)[0]["Config"]["Labels"]
    assert shown["wherry.service"] == "evil"
    assert [row["Name"] for row in rows_of(engine)] == ["good"]
    assert engine.wherry("proxy", "inspect", "evil", code=1).err.strip().endswith("No such service: evil")
    with pytest.raises(ConnectionRefusedError):
        get(bad)
    engine.remove_all()
    engine.docker("rmi", "evil")


def test_tls_and_cookies(engine: EngineProcess, tmp_path: Path) -> None:
    """A certificate of the host's serves TLS; a cookie keeps a client with one container of three."""
    port = free_port()
    pem = tmp_path / "site.pem"
    key = tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=site.example", "-addext", "subjectAltName=DNS:site.example"),
            *("-keyout", str(key), "-out", str(pem)),
        ],
        check=True,
        capture_output=True,
    )
    trust = ssl.create_default_context(cadata=pem.read_text())
    with pem.open("a") as file:
        file.write(key.read_text())
    flags = labels("site", port, tls=str(pem), sticky="true")
    for number in range(3):
        web(engine, f"s{number}", *flags)
    ready(engine, "site", 3)
    pem.unlink()  # ours goes on
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        trust.wrap_socket(plain, server_hostname="site.example").close()

    def over_tls(**headers: str) -> tuple[str, str]:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=_unchecked())
        with contextlib.closing(connection):
            connection.request("GET", "/", headers=headers)
            answer = connection.getresponse()
            return answer.read().decode().strip(), answer.headers.get("Set-Cookie", "").partition(";")[0]

    first, cookie = over_tls()
    assert cookie.startswith("WHERRY=")
    assert {over_tls(Cookie=cookie)[0] for _ in range(6)} == {first}
    assert len({over_tls()[0] for _ in range(6)}) == 3
    inspected = engine.docker("inspect", "s0").out
    assert "PRIVATE KEY" not in inspected


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_what_cannot_be_is_refused_at_create(engine: EngineProcess) -> None:
    """Bad labels, services that exclude each other, a port that somebody has: nothing is left behind."""
    port = free_port()
    web(engine, "aa", *labels("aa", port))

    def refused(*flags: str) -> str:
        done = engine.docker("create", "--name", "bb", *flags, "busybox", "true", check=False)
        assert done.code == 1
        return done.err

    assert "wherry.service.port=" in refused(*labels("bb", port, port="x"))
    assert "service aa's" in refused(*labels("bb", port))
    assert "in mode http" in refused(*labels("bb", port, mode="tcp"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "address already in use" in refused(*labels("bb", taken.getsockname()[1]))
    assert engine.docker("ps", "-aq").out.count("\n") == 1
    engine.docker("create", "--name", "bb", *labels("bb", port, host="b.example"), "busybox", "true")


def test_who_is_not_healthy_gets_nothing(engine: EngineProcess) -> None:
    """A container with a check joins when it is healthy, and leaves when it is not any more."""
    port = free_port()
    check = ["--health-cmd", "test -e /tmp/ok", "--health-interval", "200ms", "--health-retries", "1"]
    web(engine, "sick", *labels("h", port), *check)
    web(engine, "well", *labels("h", port))
    ready(engine, "h", 1)
    assert {get(port)[1] for _ in range(4)} == {"well"}
    engine.docker("exec", "sick", "touch", "/tmp/ok")
    ready(engine, "h", 2)
    assert {get(port)[1] for _ in range(4)} == {"sick", "well"}
    engine.docker("exec", "sick", "rm", "/tmp/ok")
    ready(engine, "h", 1)
    assert {get(port)[1] for _ in range(4)} == {"well"}


def test_no_request_fails_while_containers_come_and_go(engine: EngineProcess) -> None:
    """3 containers under load, 10, 2, a service more beside them: no request fails. One killed: those open on it."""
    port = free_port()
    flags = labels("web", port)
    for number in range(3):
        web(engine, f"w{number}", *flags)
    ready(engine, "web", 3)
    with Load(port) as load, ThreadPoolExecutor(4) as together:
        list(together.map(lambda n: web(engine, f"w{n}", *flags), range(3, 10)))
        ready(engine, "web", 10)
        web(engine, "beside", *labels("beside", free_port()))
        ready(engine, "beside", 1)
        list(together.map(lambda n: engine.docker("stop", "-t", "1", f"w{n}"), range(2, 10)))
        ready(engine, "web", 2)
    assert load.failed == 0, load.report
    assert load.requests > 100
    engine.docker("start", "w2")
    ready(engine, "web", 3)
    with Load(port) as load:
        assert {get(port)[0] for _ in range(50)} == {200}
        engine.docker("kill", "w2")
        ready(engine, "web", 2)
        assert {get(port)[0] for _ in range(50)} == {200}
    assert load.failed <= CONNECTIONS, load.report
    assert load.requests > 20
    print(load.report)


def test_nothing_fails_while_wherryd_is_killed_and_started(engine: EngineProcess) -> None:
    """kill -9 of wherryd under load, and its return; HAProxy killed comes back with what it had."""
    port = free_port()
    for number in range(3):
        web(engine, f"w{number}", *labels("web", port))
    ready(engine, "web", 3)
    with Load(port) as load:
        engine.kill()
        for _ in range(20):
            assert get(port)[0] == 200
        engine.start()
        ready(engine, "web", 3)
        engine.stop()
        engine.start()
        ready(engine, "web", 3)
    assert load.failed == 0, load.report

    def master() -> int:
        state = json.loads(Path(engine.roots.helper_run("haproxy"), "state.json").read_text())
        return int(state["init"]["pid"]) if state["init"] else 0

    killed = master()
    subprocess.run(["kill", "-9", str(killed)], check=True)

    def answers() -> bool:
        try:
            return master() not in (0, killed) and get(port)[0] == 200
        except OSError:
            return False

    until(answers, "HAProxy is back")
    assert {get(port)[1] for _ in range(6)} == {"w0", "w1", "w2"}


def test_without_services_nothing_runs(engine: EngineProcess) -> None:
    """When the last container with labels is removed, HAProxy ends; a plain container starts no helper."""
    until(lambda: not Path(engine.roots.helper_run("haproxy")).exists(), "HAProxy has ended")
    engine.docker("run", "--rm", "busybox", "true")
    assert not list(Path(engine.roots.run).glob("helpers/*"))
    assert engine.wherry("proxy", "ls", "-q").out == ""
