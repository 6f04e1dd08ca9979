"""A repository that is pulled from: its registry, and the mirrors before it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import ClientResponse

from wherry.distribution import link, refusals
from wherry.distribution.credentials import NOBODY, Credential
from wherry.distribution.link import Link
from wherry.distribution.settings import Endpoint, Settings
from wherry.distribution.transport import document
from wherry.errors import DigestMismatch, HostileInput, InvalidReference, NotFound, Unavailable, WherryError
from wherry.linux.loopwatch import read_aside
from wherry.oci import digest as digests
from wherry.oci import image as documents
from wherry.oci.digest import Digest, Verifier
from wherry.oci.reference import Reference

if TYPE_CHECKING:
    from yarl import URL

SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
ACCEPT = (
    f"{documents.OCI_INDEX}, {documents.OCI_MANIFEST}, {documents.DOCKER_INDEX}, {documents.DOCKER_MANIFEST}, */*;q=0.5"
)
_PAGE = 1000
_TAGS_LIMIT = 100_000
_TAGS_BYTES = 8 << 20


class Fetched:
    """A manifest or an index as it came, its digest computed or compared."""

    __slots__ = ("digest", "media_type", "raw")

    def __init__(self, raw: bytes, media_type: str, digest: Digest) -> None:
        self.raw = raw
        self.media_type = media_type
        self.digest = digest


class Source:
    """An async context manager.

    Args:
        settings: the engine's.
        name: the repository; tag and digest do not matter.
        credential: the caller's.
    """

    def __init__(
        self,
        settings: Settings,
        name: Reference,
        credential: Credential = NOBODY,
    ) -> None:
        self.path = name.path
        self.delays = settings.delays
        self._domain = name.domain
        self._settings = settings
        self._credential = credential
        self._endpoints = settings.endpoints(name.domain)
        self._links: dict[int, Link | WherryError] = {}
        self._lock = asyncio.Lock()
        self._preferred = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for found in self._links.values():
            if isinstance(found, Link):
                await found.close()

    async def _link(self, number: int) -> Link:
        async with self._lock:
            found = self._links.get(number)
            if found is None:
                endpoint: Endpoint = self._endpoints[number]
                try:
                    found = await link.connect(endpoint, self._settings, self._credential, domain=self._domain)
                except WherryError as error:
                    found = error
                self._links[number] = found
        if isinstance(found, WherryError):
            raise found
        return found

    async def manifest(self, tag_or_digest: str) -> Fetched:
        """Fetch a manifest or an index; the first endpoint that has it gives it, and the blobs too.

        A tag is asked of every endpoint; what a digest names is asked of the one that gave the last tag, and of those
        after it.

        Raises:
            NotFound: with `code` (`MANIFEST_UNKNOWN`, `NAME_UNKNOWN`) among its facts; and what `Link.request` raises.
            DigestMismatch: it is not what was asked for, or not what the registry says it is.
            HostileInput: it is too large.
        """
        first = self._preferred if ":" in tag_or_digest else 0
        for number in range(first, len(self._endpoints)):
            try:
                fetched = await self._manifest(await self._link(number), tag_or_digest)
            except WherryError:
                if number == len(self._endpoints) - 1:
                    raise
                continue  # a mirror may fail in any way
            self._preferred = number
            return fetched
        raise AssertionError("a registry has at least one endpoint")

    async def _manifest(self, found: Link, tag_or_digest: str) -> Fetched:
        url = found.url(self.path, f"manifests/{tag_or_digest}")
        answer = await found.request("GET", url, scope=found.scope(self.path), good=(200,), headers={"Accept": ACCEPT})
        told = answer.headers.get("Docker-Content-Digest", "")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        raw = await document(answer, documents.MANIFEST_LIMIT, "manifest")
        wanted = tag_or_digest if ":" in tag_or_digest else told
        try:
            expected = digests.parse(wanted) if wanted else digests.of(raw)
        except InvalidReference as error:
            raise HostileInput(f"registry {self._domain}: Docker-Content-Digest: {error}") from None
        verifier = Verifier(expected)
        verifier.update(raw)
        try:
            verifier.verify()
        except DigestMismatch as error:
            raise DigestMismatch(f"manifest verification failed for digest {expected}: {error}") from None
        if media_type in ("application/json", "text/plain", "application/octet-stream"):
            media_type = ""
        return Fetched(raw, media_type, expected)

    async def small_blob(self, digest: Digest, size: int, limit: int) -> bytes:
        """Fetch a document (an image's config), and compare it with its digest and size.

        Raises:
            DigestMismatch, HostileInput, and what `Link.request` raises.
        """
        if size > limit:
            raise HostileInput(f"blob {digest} is larger than {limit} bytes")
        parts: list[bytes] = []
        verifier = Verifier(digest)
        async with Download(self, digest, size, 0) as download:
            if download.offset:
                raise HostileInput(f"registry {self._domain}: answers with a part of a blob that was asked for whole")
            async for part in download:
                parts.append(part)
                verifier.update(part)
        verifier.verify(size)
        return b"".join(parts)

    def download(self, digest: Digest, size: int, offset: int) -> "Download":
        """Return a blob's bytes from `offset` on, as an async context manager and iterator."""
        return Download(self, digest, size, offset)

    async def open_blob(self, digest: Digest, offset: int) -> ClientResponse:
        """Ask for a blob's bytes from `offset` on: of the endpoint that gave the manifest, then of the others."""
        for number in range(self._preferred, len(self._endpoints)):
            try:
                found = await self._link(number)
                headers = {"Range": f"bytes={offset}-"} if offset else {}
                return await found.request(
                    "GET",
                    found.url(self.path, f"blobs/{digest}"),
                    scope=found.scope(self.path),
                    good=(200, 206, 416) if offset else (200,),
                    headers=headers,
                )
            except WherryError:
                if number == len(self._endpoints) - 1:
                    raise
                continue
        raise AssertionError("a registry has at least one endpoint")

    async def tags(self) -> list[str]:
        """Return all tags of the repository, page by page; the first endpoint that gives its list is believed.

        Raises:
            HostileInput: it has no end.
        """
        for number in range(len(self._endpoints)):
            try:
                return await self._tags(await self._link(number))
            except WherryError:
                if number == len(self._endpoints) - 1:
                    raise
                continue  # a mirror may fail in any way
        raise AssertionError("a registry has at least one endpoint")

    async def _tags(self, found: Link) -> list[str]:
        url = found.url(self.path, "tags/list").with_query(n=_PAGE)
        tags: list[str] = []
        seen: set[URL] = set()
        while True:
            seen.add(url)
            answer = await found.request("GET", url, scope=found.scope(self.path), good=(200,))
            link_next: Mapping[str, object] = answer.links.get("next", {})
            following = link_next.get("url")
            raw = await document(answer, _TAGS_BYTES, "tag list")
            value = await read_aside(lambda data: documents.read_json(data, _TAGS_BYTES, "tag list"), raw)
            listed = value.get("tags") if isinstance(value, dict) else None
            tags += [tag for tag in listed or () if isinstance(tag, str)]
            if following is None or not listed:
                return list(dict.fromkeys(tags))
            url = found.transport.target(str(following), url, "a tag list")
            if url in seen or len(tags) > _TAGS_LIMIT or url.origin() != found.transport.root:
                raise HostileInput(f"registry {self._domain}: its tag list has no end")


class Download:
    """A blob on its way. `offset` is where its bytes begin: 0 where the registry cannot begin later."""

    def __init__(self, source: Source, digest: Digest, size: int, offset: int) -> None:
        self._source = source
        self._digest = digest
        self._size = size
        self.offset = offset
        self._answer: ClientResponse | None = None

    async def __aenter__(self) -> Self:
        self._answer = answer = await self._source.open_blob(self._digest, self.offset)
        if answer.status == 416 or (answer.status == 206 and not self._begins_right(answer)):
            answer.close()
            self.offset = 0
            self._answer = answer = await self._source.open_blob(self._digest, 0)
        elif answer.status == 200:
            self.offset = 0
        length = answer.content_length
        if length is not None and length != self._size - self.offset:
            answer.close()
            raise DigestMismatch(
                f"blob {self._digest}: the registry sends {length} bytes, expected {self._size - self.offset}"
            )
        return self

    def _begins_right(self, answer: ClientResponse) -> bool:
        unit, _, span = answer.headers.get("Content-Range", "").partition(" ")
        return unit == "bytes" and span == f"{self.offset}-{self._size - 1}/{self._size}"

    async def __aexit__(self, *_: object) -> None:
        if self._answer is not None:
            self._answer.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes.

        Raises:
            Unavailable: it broke off; what came is good for going on.
            DigestMismatch: there is more than there should be.
        """
        answer = self._answer
        assert answer is not None
        left = self._size - self.offset
        try:
            async for part in answer.content.iter_any():
                left -= len(part)
                if left < 0:
                    raise DigestMismatch(f"blob {self._digest}: the registry sends more than {self._size} bytes")
                yield part
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise refusals.from_network("Get", answer.url.with_query(None), error) from None
        if left:
            raise Unavailable(f'Get "{answer.url.with_query(None)}": unexpected EOF', status=0, code="")


def is_missing(error: WherryError) -> bool:
    """Whether the registry says that there is no such thing."""
    return isinstance(error, NotFound)
