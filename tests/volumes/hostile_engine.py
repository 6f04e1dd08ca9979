"""An engine that answers every copy with an archive that wants out."""

import base64
import http.server
import io
import json
import tarfile
import threading
from typing import Any, Self

Entries = list[tuple[str, str, str]]


class HostileEngine:
    """Serves one archive; `host` is its address.

    Args:
        entries: (kind, name, target): `file`, `dir`, `link` and `hard`.
    """

    def __init__(self, entries: Entries) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for kind, name, target in entries:
                entry = tarfile.TarInfo(name)
                if kind == "file":
                    entry.size = 6
                    tar.addfile(entry, io.BytesIO(b"attack"))
                    continue
                entry.type = {"dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}[kind]
                entry.linkname = target
                tar.addfile(entry)
        archive = buffer.getvalue()
        stat = {"name": "x", "size": 0, "mode": (1 << 31) | 0o755, "mtime": "2026-01-01T00:00:00Z", "linkTarget": ""}
        header = base64.b64encode(json.dumps(stat).encode()).decode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(archive)

            def do_HEAD(self) -> None:
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("X-Docker-Container-Path-Stat", header)
                self.send_header("Content-Type", "application/x-tar")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"tcp://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
