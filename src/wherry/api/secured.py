"""TLS for the API: its certificates, and the process that speaks it (`api/tlsfront.py`), kept alive."""

import asyncio
import fcntl
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

from wherry.errors import DescriptorsLost, InvalidArgument, Unavailable
from wherry.linux.channel import Channel, close_all, pair
from wherry.linux.tls import server_context, words

log = logging.getLogger("wherry.api")

_FILE_LIMIT = 1 << 20
_FIRST_BACKOFF = 0.02
_LONGEST_BACKOFF = 0.8
_STABLE_SECONDS = 5.0
_ADD_SEALS = 1033  # fcntl(2)
_EVERY_SEAL = 0x1 | 0x2 | 0x4 | 0x8
_CODE = "import sys; sys.path[:] = {path!r}; from wherry.api.tlsfront import main; main({fd})"


class Certificates:
    """The files of a server, as dockerd names them.

    Args:
        certificate, key: paths of PEM files (`--tlscert`, `--tlskey`).
        authority: path of the PEM file with the authorities of clients (`--tlscacert`); None lets every client in.
    """

    def __init__(self, certificate: str, key: str, authority: str | None) -> None:
        self.certificate = certificate
        self.key = key
        self.authority = authority

    def read(self) -> dict[str, int]:
        """Read and check the files.

        Returns:
            Descriptors of copies in memory, which the caller closes: `certificate`, `key`, and perhaps `authority`.

        Raises:
            InvalidArgument: a file cannot be read, or is not what it should be.
        """
        copies: dict[str, int] = {}
        try:
            for name, path in (
                ("certificate", self.certificate),
                ("key", self.key),
                *([("authority", self.authority)] if self.authority is not None else []),
            ):
                copies[name] = _copy(path)
            self._check({name: f"/proc/self/fd/{fd}" for name, fd in copies.items()})
        except BaseException:
            close_all(list(copies.values()))
            raise
        return copies

    def check(self) -> None:
        """Read the files, and forget them; raises as `read` does."""
        close_all(list(self.read().values()))

    def _check(self, paths: dict[str, str]) -> None:
        try:
            server_context(paths["certificate"], paths["key"], None)
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f'invalid TLS configuration: could not load X509 key pair (cert: "{self.certificate}", '
                f'key: "{self.key}"): {words(error)}'
            ) from None
        try:
            server_context(paths["certificate"], paths["key"], paths.get("authority"))
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f'invalid TLS configuration: could not read CA certificate "{self.authority}": {words(error)}'
            ) from None


def _copy(path: str) -> int:
    try:
        # a FIFO in its place must not stop the engine
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(_FILE_LIMIT)
    except OSError as error:
        raise InvalidArgument(
            f"invalid TLS configuration: open {path}: {(error.strerror or str(error)).lower()}"
        ) from None
    copy = os.memfd_create("certificate", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(copy, "wb", closefd=False) as file:
        file.write(data or b"")
    # the process that reads it talks to strangers: what the next one gets is not its to change
    fcntl.fcntl(copy, _ADD_SEALS, _EVERY_SEAL)
    return copy


class Front:
    """The process, executed now and again whenever it dies. All calls belong to the event loop's thread.

    Args:
        certificates: read at the start, and by `renew`.
        take: called with each connection whose handshake succeeded; a connected unix socket, not blocking.
    """

    def __init__(self, certificates: Certificates, take: Callable[[socket.socket], None]) -> None:
        self._certificates = certificates
        self._take = take
        self._files: dict[str, int] = {}
        self._listeners: list[socket.socket] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._backoff = _FIRST_BACKOFF
        self._born = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self, listeners: Sequence[socket.socket]) -> None:
        """Execute it.

        Args:
            listeners: TCP sockets that listen; owned.

        Raises:
            InvalidArgument: the certificates cannot be used.
            Unavailable: it cannot be executed.
        """
        self._listeners = list(listeners)
        self._files = self._certificates.read()
        try:
            self._execute()
        except OSError as error:
            raise Unavailable(f"the process for TLS cannot be executed: {error}") from None

    def renew(self) -> None:
        """Read the certificates anew, for new connections; those that are there stay.

        Raises:
            InvalidArgument: they cannot be used; the ones before are kept.
        """
        files = self._certificates.read()
        close_all(list(self._files.values()))
        self._files = files
        if self._channel is not None:
            try:
                self._channel.send({"op": "renew"}, files)
            except OSError:
                self._died()  # the next one gets them

    async def close(self) -> None:
        """Stop listening; connections that were handed over go on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for listener in self._listeners:
            listener.close()
        close_all(list(self._files.values()))
        self._listeners, self._files = [], {}
        self._hang_up()
        process, self._process = self._process, None
        if process is not None:
            # it ends with its last connection, which may be long after us
            process.returncode = 0

    # ---- inner

    def _execute(self) -> None:
        ours, theirs = pair()
        try:
            path = [os.path.abspath(entry) for entry in sys.path if entry]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _CODE.format(path=path, fd=theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
                start_new_session=True,
            )
            ours.sock.setblocking(False)
            named = {str(number): listener.fileno() for number, listener in enumerate(self._listeners)}
            ours.send({"op": "serve"}, {**self._files, **named})
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        loop = asyncio.get_running_loop()
        self._born = loop.time()
        self._channel = ours
        loop.add_reader(ours.fileno(), self._read)

    def _read(self) -> None:
        while self._channel is not None:
            try:
                received = self._channel.receive()
            except BlockingIOError:
                return
            except DescriptorsLost:
                continue  # that connection is closed with it, others go on
            except (OSError, InvalidArgument):
                received = None
            if received is None:
                self._died()
                return
            message, fds = received
            if message.get("op") == "connection" and "plain" in fds:
                plain = socket.socket(fileno=fds["plain"])
                plain.setblocking(False)
                self._take(plain)
            elif message.get("op") == "refused":
                unsaid = f" ({message['unsaid']} before it)" if message.get("unsaid") else ""
                log.warning("TLS handshake error from %s: %s%s", message.get("client"), message.get("reason"), unsaid)

    def _hang_up(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel.fileno())
            channel.close()

    def _died(self) -> None:
        self._hang_up()
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # its socket is closed: it is dead, or as good as
            process.wait()
        if self._closed:
            return
        log.error("the process for TLS died; it is executed again")
        loop = asyncio.get_running_loop()
        if loop.time() - self._born > _STABLE_SECONDS:
            self._backoff = _FIRST_BACKOFF
        self._timer = loop.call_later(self._backoff, self._again)
        self._backoff = min(self._backoff * 2, _LONGEST_BACKOFF)

    def _again(self) -> None:
        try:
            self._execute()
        except OSError as error:
            log.error("the process for TLS cannot be executed: %s", error)
            self._timer = asyncio.get_running_loop().call_later(_LONGEST_BACKOFF, self._again)
