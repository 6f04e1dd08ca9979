"""An engine whose API is reached by TLS, too, with its certificates; fixtures for the tests of it."""

import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import SERVER, Authority, Pair
from tests.e2e.harness import Done, EngineProcess, children, running
from tests.e2e.shared import lent


class Secured(EngineProcess):
    """An engine that is reached by TLS, too.

    Args:
        flags: instead of `--tlsverify`.
    """

    def __init__(self, *flags: str) -> None:
        super().__init__()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.tcp = f"tcp://127.0.0.1:{self.port}"
        own = (f"--tlscacert={self.authority.path}", f"--tlscert={self.server.certificate}")
        self.flags = (
            "-H",
            self.host,
            "-H",
            self.tcp,
            *(flags or ("--tlsverify",)),
            *own,
            f"--tlskey={self.server.key}",
        )

    def _place(self) -> None:
        super()._place()
        self.files = self.base / "certificates"
        self.files.mkdir()
        self.authority = Authority(self.files)
        self.server = self.authority.sign("server", SERVER)
        self.client = self.authority.sign("client")
        # by their default names, for DOCKER_CERT_PATH
        shutil.copy(self.client.certificate, self.files / "cert.pem")
        shutil.copy(self.client.key, self.files / "key.pem")

    def words(self, pair: Pair | None = None, authority: Path | None = None) -> list[str]:
        """Flags of a client, by default the good one's."""
        shown = pair or self.client
        return [
            *("-H", self.tcp, "--tlsverify", f"--tlscacert={authority or self.authority.path}"),
            *(f"--tlscert={shown.certificate}", f"--tlskey={shown.key}"),
        ]

    def over(self, *argv: str, stdin: bytes | None = None, code: int | None = 0, program: str = "docker") -> Done:
        """Run a client's command over TLS."""
        return self.run(program, *self.words(), *argv, stdin=stdin, code=code)

    @property
    def secure_env(self) -> dict[str, str]:
        """The environment of a client of TLS."""
        return {
            **{name: text for name, text in os.environ.items() if not name.startswith(("DOCKER_", "WHERRY_"))},
            "DOCKER_HOST": self.tcp,
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(self.files),
        }

    @property
    def front(self) -> int:
        """The pid of the process that speaks TLS."""
        (found,) = [pid for pid in children(self.pid) if Path(f"/proc/{pid}/comm").read_text() == "wherry-tls\n"]
        return found

    def connect(self) -> socket.socket:
        """A TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def context(self) -> ssl.SSLContext:
        """Of a good client."""
        made = ssl.create_default_context(cafile=str(self.authority.path))
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
        made.load_cert_chain(self.client.certificate, self.client.key)
        return made


@pytest.fixture(scope="session")
def secured_engine() -> Iterator[Secured]:
    """One engine for the tests of TLS."""
    with running(Secured()) as made:
        assert isinstance(made, Secured)
        yield made


@pytest.fixture
def engine(secured_engine: Secured) -> Iterator[Secured]:
    """That engine; what the test made is removed after it."""
    with lent(secured_engine):
        yield secured_engine


@pytest.fixture
def own() -> Iterator[Secured]:
    """An engine of the test's own."""
    with running(Secured()) as made:
        assert isinstance(made, Secured)
        yield made
