"""Upload sessions: data that grows until its digest makes it a blob.

A session is one growing value below its repository; its id says what it is hashed with, and nothing else is kept about
it, so that it outlives the server. While a process serves it, the hash goes with it; otherwise the data is read again.
"""

import threading
from collections import OrderedDict
from typing import Any

from wherry.errors import Conflict
from wherry.registry import names
from wherry.registry.content.digesting import catch_up, new_hash
from wherry.registry.content.repositories import Repositories
from wherry.registry.errors import BlobTooLarge, DigestInvalid, UploadBusy, UploadUnknown
from wherry.registry.storage.driver import Missing, Writer

_KEPT_HASHES = 2048


class Uploads:
    """All upload sessions. Blocks; may be used from any thread.

    Args:
        repositories: where finished ones go.
        limit: bytes that a blob may have, or 0.
    """

    def __init__(self, repositories: Repositories, limit: int = 0) -> None:
        self.repositories = repositories
        self.limit = limit
        self._hashes: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, name: str, algorithm: str = "sha256") -> "Upload":
        """Begin a session."""
        session = names.new_session(algorithm)
        writer = self.repositories.driver.create(names.session_key(name, session))
        return Upload(self, name, session, writer, new_hash(algorithm), 0)

    def resume(self, name: str, session: str) -> "Upload":
        """Continue one.

        Raises:
            UploadUnknown: the repository has no such session.
            UploadBusy: another request is writing to it.
        """
        key = names.session_key(name, session)
        try:
            writer = self.repositories.driver.append(key)
        except Missing:
            raise UploadUnknown("upload session unknown") from None
        except Conflict:
            raise UploadBusy("another request is writing to this upload") from None
        with self._lock:
            hasher, hashed = self._hashes.pop(session, (None, 0))
        if hasher is None or hashed > writer.size:
            hasher, hashed = new_hash(session.partition(".")[0]), 0
        return Upload(self, name, session, writer, hasher, hashed)

    def size(self, name: str, session: str) -> int:
        """How many bytes a session has. Raises `UploadUnknown`."""
        stat = self.repositories.driver.stat(names.session_key(name, session))
        if stat is None:
            raise UploadUnknown("upload session unknown")
        return stat.size

    def keep(self, session: str, hasher: Any, hashed: int) -> None:
        """Remember how far a session is hashed."""
        with self._lock:
            self._hashes[session] = (hasher, hashed)
            while len(self._hashes) > _KEPT_HASHES:
                self._hashes.popitem(last=False)


class Upload:
    """One session, open for writing by this request alone."""

    def __init__(self, uploads: Uploads, name: str, session: str, writer: Writer, hasher: Any, hashed: int) -> None:
        self._uploads = uploads
        self._writer = writer
        self._hasher = hasher
        self._hashed = hashed
        self._ended = False
        self.name = name
        self.session = session

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._writer.size

    def write(self, data: "bytes | bytearray | memoryview") -> None:
        """Append.

        Raises:
            BlobTooLarge: the configured limit is exceeded.
            OutOfSpace: the device is full.
        """
        if self._uploads.limit and self.size + len(data) > self._uploads.limit:
            raise BlobTooLarge(f"blob is larger than {self._uploads.limit} bytes")
        along = self._hashed == self.size
        self._writer.write(data)
        if along:
            self._hasher.update(data)
            self._hashed += len(data)

    def truncate(self, size: int) -> None:
        """Take back what was written behind `size`."""
        self._writer.truncate(size)
        if self._hashed > size:
            self._hasher, self._hashed = new_hash(self.session.partition(".")[0]), 0

    def finish(self, expected: str) -> None:
        """Verify, store durably, end the session.

        Raises:
            DigestInvalid: the data has another digest; the session is gone with it.
        """
        algorithm = expected.partition(":")[0]
        if algorithm != self._hasher.name:
            self._hasher, self._hashed = new_hash(algorithm), 0
        catch_up(self._hasher, self._writer, self._hashed, self.size)
        found = f"{algorithm}:{self._hasher.hexdigest()}"
        if found != expected:
            self.cancel()
            raise DigestInvalid("provided digest did not match uploaded content", digest=expected, found=found)
        self._uploads.repositories.add_blob(self.name, expected, self._writer)
        self._ended = True

    def cancel(self) -> None:
        """Delete the data, end the session."""
        self._writer.cancel()
        self._ended = True

    def close(self) -> None:
        """Leave the session, where it did not end, to be continued."""
        self._writer.close()
        if not self._ended:
            self._uploads.keep(self.session, self._hasher, self._hashed)
