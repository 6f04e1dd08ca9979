"""wherry-registry against Debian's docker-registry: the same machine, the same run, in an order drawn for each round.

    python bench/registry.py [--blob-mb 2048] [--rounds 3]

Wants `docker-registry` and `ab` (apache2-utils). Ratios are what counts; a noisy machine moves both.
"""

import argparse
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PIECE = os.urandom(1 << 20)
REQUESTS, CLIENTS, BIG_MB = 6000, 32, 500


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Server:
    """A registry under test."""

    def __init__(self, name: str, command: list[str], port: int, log: Path) -> None:
        self.name = name
        self.port = port
        with open(log, "wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.ask("GET", "/v2/")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{name} did not start: {log.read_text()[-2000:]}") from None

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    def start_upload(self) -> str:
        """Location of a new upload, ready for `digest=`."""
        answer, _ = self.ask("POST", "/v2/bench/x/blobs/uploads/")
        location = answer.headers["Location"]
        location = location[location.index("/v2/") :]
        return location + ("&" if "?" in location else "?")

    def push(self, megabytes: int, tail: bytes = b"") -> tuple[str, float]:
        """Push random megabytes; returns digest and seconds."""
        head = os.urandom(32) + tail
        digest = hashlib.sha256(head)
        for _ in range(megabytes):
            digest.update(PIECE)
        name = f"sha256:{digest.hexdigest()}"
        location = self.start_upload()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        began = time.perf_counter()
        connection.putrequest("PUT", f"{location}digest={name}")
        connection.putheader("Content-Length", str(len(head) + (megabytes << 20)))
        connection.putheader("Content-Type", "application/octet-stream")
        connection.endheaders()
        connection.send(head)
        for _ in range(megabytes):
            connection.send(PIECE)
        answer = connection.getresponse()
        answer.read()
        took = time.perf_counter() - began
        connection.close()
        if answer.status != 201:
            raise SystemExit(f"{self.name}: push answered {answer.status}")
        return name, took

    def pull(self, digest: str, expected: int) -> float:
        """Pull a blob to nowhere; returns seconds."""
        buffer = bytearray(1 << 20)
        with socket.create_connection(("127.0.0.1", self.port)) as sock:
            began = time.perf_counter()
            sock.sendall(f"GET /v2/bench/x/blobs/{digest} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n".encode())
            got = 0
            # MSG_TRUNC: the kernel throws the bytes away, as copying them costs more than sending them did
            while count := sock.recv_into(buffer, len(buffer), socket.MSG_TRUNC):
                got += count
            took = time.perf_counter() - began
        if got < expected:
            raise SystemExit(f"{self.name}: pull gave {got} bytes")
        return took

    def rate(self, path: str, *headers: str) -> float:
        """Requests a second by `ab -k -c 32`."""
        more = [part for header in headers for part in ("-H", header)]
        url = f"http://127.0.0.1:{self.port}{path}"
        done = subprocess.run(
            ["ab", "-q", "-k", "-c", str(CLIENTS), "-n", str(REQUESTS), *more, url],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
        if lines.get("Failed requests", "0").strip() != "0" or "Non-2xx responses" in lines:
            raise SystemExit(f"{self.name}: ab failed at {path}")
        return float(lines["Requests per second"].split()[0])

    def memory(self, field: str) -> float:
        """`VmRSS` or `VmHWM` in MB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        return 0.0

    def forget_peak(self) -> None:
        """Let the peak begin anew."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def peak(server: Server, megabytes: int) -> tuple[float, float]:
    """Memory before, and its peak while 8 clients push and pull a blob each."""
    idle = server.memory("VmRSS")
    server.forget_peak()

    def work(number: int) -> None:
        digest, _ = server.push(megabytes, b"%d" % number)
        server.pull(digest, megabytes << 20)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return idle, server.memory("VmHWM")


def prepare(server: Server) -> str:
    """A small image; returns the digest of a 4 kB blob."""
    small, config = os.urandom(4000), b"{}"
    layers = []
    for data in (config, small):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        server.ask("PUT", f"{server.start_upload()}digest={digest}", data, {"Content-Type": "application/octet-stream"})
        layers.append({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": len(data)})
    config_of = {**layers[0], "mediaType": "application/vnd.oci.image.config.v1+json"}
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config_of, "layers": layers[1:]}
    answer, body = server.ask(
        "PUT", "/v2/bench/x/manifests/latest", json.dumps(document).encode(), {"Content-Type": MANIFEST}
    )
    if answer.status != 201:
        raise SystemExit(f"{server.name}: {body!r}")
    return str(layers[1]["digest"])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--blob-mb", type=int, default=2048, help="blob of each of the 8 clients (default 2048)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for needed in ("docker-registry", "ab"):
        if shutil.which(needed) is None:
            print(f"skipped: {needed} is not installed")
            return 0
    directory = Path(tempfile.mkdtemp(prefix="wherry-bench-registry-", dir=os.environ.get("WHERRY_BENCH_DIR")))
    ours, theirs = free_port(), free_port()
    config = directory / "peer.yml"
    config.write_text(
        "version: 0.1\nlog: {accesslog: {disabled: true}, level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/peer}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{theirs}'}}\n"
    )
    wherry = [sys.executable, "-m", "wherry.registry", "serve", "--addr", f"127.0.0.1:{ours}"]
    servers = [
        Server("wherry-registry", [*wherry, "--root", f"{directory}/ours"], ours, directory / "ours.log"),
        Server("docker-registry", ["docker-registry", "serve", str(config)], theirs, directory / "peer.log"),
    ]
    figures: dict[str, dict[str, list[float]]] = {}

    def note(what: str, server: Server, value: float) -> None:
        figures.setdefault(what, {}).setdefault(server.name, []).append(value)

    try:
        for server in servers:
            note("idle memory, MB", server, server.memory("VmRSS"))
        small = {server.name: prepare(server) for server in servers}
        order = list(servers)
        draw = random.Random(args.rounds)
        for server in servers:  # both are warm before anything counts
            server.rate("/v2/")
            server.pull(server.push(1)[0], 1 << 20)
        for _ in range(args.rounds):
            draw.shuffle(order)
            for server in order:
                note("/v2/ a second", server, server.rate("/v2/"))
                path = "/v2/bench/x/manifests/latest"
                note("manifest a second", server, server.rate(path, f"Accept: {MANIFEST}"))
                note("4 kB blob a second", server, server.rate(f"/v2/bench/x/blobs/{small[server.name]}"))
            draw.shuffle(order)
            for server in order:
                os.sync()
                digest, took = server.push(BIG_MB)
                note("push of 500 MB, MB/s", server, BIG_MB * 1.048576 / took)
                for _ in range(3):
                    note("pull of 500 MB, MB/s", server, BIG_MB * 1.048576 / server.pull(digest, BIG_MB << 20))
        draw.shuffle(order)
        for server in order:
            idle, most = peak(server, args.blob_mb)
            note(f"growth, 8 clients x {args.blob_mb} MB", server, most - idle)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{'':32}{servers[0].name:>18}{servers[1].name:>18}{'ratio':>8}")
    for what, values in figures.items():
        mine, other = (statistics.median(values[server.name]) for server in servers)
        print(f"{what:32}{mine:18.0f}{other:18.0f}{mine / other if other else 0:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
