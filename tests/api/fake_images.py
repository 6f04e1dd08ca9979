"""The fake engine's one image, and its builder."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from wherry.api.facade import Ticket
from wherry.builder.cache.space import Space
from wherry.builder.contexts.sent import SentContexts
from wherry.builder.request import Request
from wherry.errors import (
    ImageNotFound,
    NotFound,
    Unauthorized,
)
from wherry.oci.platform import Platform
from wherry.wire.build import BuildRequest
from wherry.wire.copies import Blob, Missing, Offer

from .fake_containers import ID, Filters, Json, JsonList, Names

Missings = list[Missing]


class FakeImage:
    """What an image shows."""

    id = "sha256:" + "4" * 64
    names = ("busybox:latest", "hub.c.163.com/public/ubuntu:14.04")
    repo_digests: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    size = 1982298
    parent = ""
    named_at = 1795508412764338873
    raw_config = (
        b'{"architecture":"amd64","os":"linux","created":"2026-11-24T08:20:12.751308442Z","comment":"Imported from -",'
        b'"docker_version":"26.1.5+dfsg1","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:41"]},'
        b'"history":[]}'
    )


Found = list[FakeImage]


class FakeImages:
    """One image with two names."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.received = b""
        self.raises: Exception | None = None

    async def resolve(self, ref: str) -> FakeImage:
        if ref not in (*FakeImage.names, FakeImage.id, "busybox"):
            raise ImageNotFound(f"No such image: {ref}:latest")
        return FakeImage()

    async def list(self, filters: Filters, all: bool) -> Found:  # noqa: A002
        return [FakeImage()]

    async def tag(self, source: str, repo: str, tag: str) -> None:
        self.calls.append(("tag", source, repo, tag))

    async def remove(self, ref: str, force: bool, noprune: bool) -> JsonList:
        self.calls.append(("remove", ref, force, noprune))
        return [{"Untagged": ref}]

    async def history(self, ref: str) -> JsonList:
        await self.resolve(ref)
        return [{"Id": FakeImage.id, "Created": 1, "CreatedBy": "", "Tags": None, "Size": 1, "Comment": ""}]

    async def load(self, chunks: AsyncIterator[bytes], progress: Callable[[Any], None], quiet: bool) -> None:
        async for chunk in chunks:
            self.received += chunk
        progress({"stream": "Loaded image: busybox:latest\n"})
        if self.raises is not None:
            raise self.raises

    async def save(self, names: Names) -> AsyncGenerator[bytes, None]:
        self.calls.append(("save", *names))
        for name in names:
            await self.resolve(name)
        yield b"a" * 100000
        if self.raises is not None:
            raise self.raises
        yield b"b" * 1000

    async def import_from(self, address: str, *rest: object) -> str:
        self.calls.append(("import from", address, *rest[:-1]))
        return FakeImage.id

    async def commit(self, ref: str, *rest: object) -> str:
        self.calls.append(("commit", ref, *rest))
        return f"sha256:{ID}"

    async def import_(
        self, chunks: AsyncIterator[bytes], repo: str, tag: str, changes: Names, message: str, platform: str
    ) -> str:
        async for chunk in chunks:
            self.received += chunk
        self.calls.append(("import", repo, tag, changes, message, platform))
        return FakeImage.id

    async def pull(self, image: str, tag: str, platform: str, auth: str, progress: Callable[[Any], None]) -> None:
        if image.endswith("missing"):
            raise ImageNotFound("pull access denied for missing")
        progress({"status": f"Pulling from {image}", "id": tag})

    async def push(
        self, image: str, tag: str, auth: str, progress: Callable[[Any], None], platform: Platform | None
    ) -> None:
        progress({"status": f"The push refers to repository [{image}]"})

    async def offer(self, ref: str) -> Offer:
        return Offer([ref], FakeImage.id, [Blob(FakeImage.id, 3)])

    async def missing(self, offered: Offer) -> Missings:
        return [Missing(blob.digest, 1) for blob in offered.blobs]

    async def read_blob(self, digest: str, offset: int) -> AsyncGenerator[bytes, None]:
        yield b"abc"[offset:]

    async def receive_blob(self, digest: str, size: int, offset: int, chunks: AsyncIterator[bytes]) -> None:
        self.calls.append(("blob", digest, size, offset, b"".join([chunk async for chunk in chunks])))

    async def assemble(self, offered: Offer, progress: Callable[[Any], None]) -> str:
        progress({"status": "Pull complete"})
        return FakeImage.id

    async def login(self, auth: dict[str, Any]) -> dict[str, Any]:
        if auth.get("password") != "right":
            raise Unauthorized("unauthorized: incorrect username or password")
        return {"Status": "Login Succeeded", "IdentityToken": ""}

    async def distribution(self, image: str, auth: str) -> dict[str, Any]:
        return {"Descriptor": {"digest": FakeImage.id}, "Platforms": []}

    async def search(self, term: str, limit: int, filters: Any, auth: str) -> Any:
        return [{"name": term, "description": str(limit)}]

    async def check(self, repair: bool, auth: str, progress: Callable[[Any], None]) -> dict[str, Any]:
        return {"Findings": [], "repair": repair}

    async def shared_sizes(self) -> dict[str, int]:
        return {FakeImage.id: 7}

    async def local_manifests(self, ref: str) -> Any:
        return [{"ID": ref}]

    async def manifests(self, image: str, auth: str, insecure: bool, verbose: bool) -> Any:
        return {"Ref": image, "insecure": insecure, "verbose": verbose}

    async def remote_tags(self, image: str, auth: str) -> Any:
        return ["1", "2"]

    async def bootstrap(self, name: str, progress: Callable[[Any], None]) -> str:
        progress({"status": f"making {name}"})
        return FakeImage.id

    async def prune(self, filters: Filters) -> dict[str, Any]:
        return {"ImagesDeleted": None, "SpaceReclaimed": 0}


class FakeBuild:
    """A builder without anything in it."""

    sent: SentContexts

    async def client(
        self,
        wire: BuildRequest,
        auths: Json,
        send: Callable[[Json], None],
        write: Callable[[bytes, int], Awaitable[None]],
    ) -> None:
        send({"path": wire.path})

    async def archive(self, chunks: AsyncIterator[bytes]) -> str:
        return str(sum([len(chunk) async for chunk in chunks]))

    def connected(self, token: str) -> Ticket:
        raise NotFound(f"no build waits for {token}")

    async def resize(self, step: str, rows: int, columns: int) -> None:
        raise NotFound(f"no such step runs: {step}")

    async def classic(
        self,
        request: Request,
        chunks: AsyncIterator[bytes],
        remote: str,
        auths: Json,
        quiet: bool,
        progress: Callable[[Json], None],
    ) -> None:
        size = sum([len(chunk) async for chunk in chunks])
        progress({"stream": f"{request.path} {request.tags} {size} {remote} {sorted(auths)} {quiet}"})

    async def prune(self, filters: Filters, everything: bool, space: Space) -> Json:
        return {"CachesDeleted": None, "SpaceReclaimed": 0}
