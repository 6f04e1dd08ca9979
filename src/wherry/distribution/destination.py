"""A repository that is pushed to: existence checks, mounts, uploads in pieces that go on where they broke off."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol, Self

from yarl import URL

from wherry.distribution import link
from wherry.distribution.credentials import NOBODY, Credential
from wherry.distribution.settings import Settings
from wherry.errors import DigestMismatch, Forbidden, HostileInput, NotFound, Unavailable, WherryError
from wherry.oci.digest import Digest
from wherry.oci.reference import Reference

PIECE = 32 << 20
_READ = 1 << 20

Told = Callable[[int], None]
"""Takes how many bytes of a blob are on the other side."""


class Places(Protocol):
    """Where uploads are that broke off, by registry, repository and digest (`store.uploads`)."""

    def find(self, key: tuple[str, str, str], /) -> str | None: ...
    def put(self, key: tuple[str, str, str], place: str, /) -> None: ...
    def drop(self, key: tuple[str, str, str], /) -> None: ...


class Destination:
    """An async context manager.

    Args:
        settings: the engine's.
        name: the repository; tag and digest do not matter.
        credential: the caller's.
        sources: paths of repositories on the same registry that blobs may be mounted from.
        places: where uploads are that broke off before; what breaks off now is put into it. None: nothing is kept.
    """

    def __init__(
        self,
        settings: Settings,
        name: Reference,
        credential: Credential = NOBODY,
        *,
        sources: Iterable[str] = (),
        places: "Places | None" = None,
    ) -> None:
        self.path = name.path
        self._domain = name.domain
        self._settings = settings
        self._credential = credential
        self._delays = settings.delays
        self._link: link.Link | None = None
        self._sources = sorted(set(sources) - {name.path})
        self._places = places
        self._scope = ""

    async def __aenter__(self) -> Self:
        (endpoint,) = self._settings.endpoints(self._domain, mirrors=False)
        self._link = found = await link.connect(endpoint, self._settings, self._credential, domain=self._domain)
        self._scope = " ".join(
            (found.scope(self.path, "pull,push"), *(found.scope(source, "pull") for source in self._sources))
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._link is not None:
            await self._link.close()

    @property
    def _open(self) -> link.Link:
        if self._link is None:
            raise RuntimeError("the destination is not open")
        return self._link

    async def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has a blob."""
        answer = await self._open.request(
            "HEAD", self._open.url(self.path, f"blobs/{digest}"), scope=self._scope, good=(200, 404)
        )
        answer.release()
        return answer.status == 200

    async def begin(self, digest: Digest, source: str | None = None) -> URL | None:
        """Begin an upload; returns its place, or None: the registry mounted the blob from repository `source`."""
        url = self._open.url(self.path, "blobs/uploads/")
        if source is not None:
            url = url.with_query({"mount": str(digest), "from": source})
        answer = await self._open.request("POST", url, scope=self._scope, good=(201, 202), headers=_EMPTY)
        answer.release()
        if answer.status == 201:
            return None
        return self._place(answer.headers.get("Location", ""), url)

    async def upload(self, place: URL | None, digest: Digest, fd: int, size: int, told: Told) -> None:
        """Send a blob, in pieces; one that breaks off goes on from where the registry says that it is.

        Args:
            place: of an upload that was begun; None begins one.
            fd: the blob; read by position, stays open.
            told: progress.

        Raises:
            Unavailable: it broke off too often; and what `Link.request` raises.
        """
        if place is None:
            place = self._kept(digest)
            known = place is not None
        else:
            known = False
        offset, failures = 0, 0
        while True:
            try:
                if known and place is not None:
                    place, offset = await self._where(place)
                    told(offset)
                known = True
                if place is None:
                    place, offset = await self.begin(digest), 0
                assert place is not None  # nothing was to be mounted
                self._remember(digest, place)
                while offset < size:
                    end = min(offset + PIECE, size)
                    place = await self._piece(place, fd, offset, end, told)
                    self._remember(digest, place)
                    offset = end
                    failures = 0
                url = place.update_query({"digest": str(digest)})
                answer = await self._open.request(
                    "PUT", url, scope=self._scope, good=(201, 204), headers=_EMPTY, again=False
                )
                answer.release()
                self._remember(digest, None)
                return
            except (Unavailable, NotFound) as error:
                failures += 1
                if failures > len(self._delays) or error.facts.get("code") in ("NAME_UNKNOWN", "DENIED"):
                    raise
                await asyncio.sleep(self._delays[failures - 1])
            except WherryError:
                self._remember(digest, None)  # what is there is no good
                raise

    def _kept(self, digest: Digest) -> URL | None:
        """Where an earlier push has left the upload of a blob; whether it may be followed is asked again."""
        text = self._places.find((self._domain, self.path, str(digest))) if self._places is not None else None
        if text is None:
            return None
        try:
            return self._place(text, self._open.url(self.path, "blobs/uploads/"))
        except (HostileInput, Forbidden):
            self._remember(digest, None)
            return None

    def _remember(self, digest: Digest, place: URL | None) -> None:
        """Keep where the upload of a blob is; None: it is done, or no good."""
        if self._places is None:
            return
        key = (self._domain, self.path, str(digest))
        if place is None:
            self._places.drop(key)
        else:
            self._places.put(key, str(place))

    async def _piece(self, place: URL, fd: int, offset: int, end: int, told: Told) -> URL:
        async def body() -> AsyncIterator[bytes]:
            at = offset
            while at < end:
                data = await asyncio.to_thread(os.pread, fd, min(_READ, end - at), at)
                if not data:
                    raise DigestMismatch("a stored blob became shorter")
                at += len(data)
                yield data
                told(at)

        answer = await self._open.request(
            "PATCH",
            place,
            scope=self._scope,
            good=(202,),
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(end - offset),
                "Content-Range": f"{offset}-{end - 1}",
            },
            body=body,
            again=False,
        )
        answer.release()
        return self._place(answer.headers.get("Location", ""), place)

    async def _where(self, place: URL) -> tuple[URL | None, int]:
        """How far an upload is; one that the registry does not know any more begins anew. Raises `Unavailable`."""
        try:
            answer = await self._open.request("GET", place, scope=self._scope, good=(204,), again=False)
        except Unavailable:
            raise
        except WherryError:
            return None, 0
        answer.release()
        start, _, last = answer.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if start != "0" or not last.isdecimal():
            return None, 0
        # `0-0` is what registries say of an upload without a byte
        offset = int(last) + 1 if last != "0" else 0
        return self._place(answer.headers.get("Location", ""), place), offset

    def _place(self, location: str, base: URL) -> URL:
        return self._open.transport.target(location, base, "an upload") if location else base

    async def put_manifest(self, tag_or_digest: str, raw: bytes, media_type: str, digest: Digest) -> None:
        """Store a manifest or an index under a tag or its digest.

        Raises:
            DigestMismatch: the registry took it for something else.
        """
        answer = await self._open.request(
            "PUT",
            self._open.url(self.path, f"manifests/{tag_or_digest}"),
            scope=self._scope,
            good=(200, 201, 202),
            headers={"Content-Type": media_type},
            body=raw,
        )
        answer.release()
        told = answer.headers.get("Docker-Content-Digest", "")
        if told and told != digest:
            raise DigestMismatch(f"the registry stored the manifest as {told[:128]}, expected {digest}")


_EMPTY = {"Content-Length": "0"}
