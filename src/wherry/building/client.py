"""Builds as `wherry build` asks for them: BuildKit's progress, several results, files streamed back.

An answer is a line of JSON for each message (`build.progress`), then `{"result": {…}}` or `{"error": …}`. The bytes of
a result that the client writes itself come as `{"chunk": length, "output": n}` lines, so many bytes behind each.
"""

import base64
import binascii
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from wherry.builder.agents import Agents
from wherry.builder.assemble import Built
from wherry.builder.build import DOCKERFILE_LIMIT
from wherry.builder.build import Build as One
from wherry.builder.cache.offers import Offers
from wherry.builder.contexts.sources import Sources
from wherry.builder.executor import Settings
from wherry.builder.failure import StepFailed
from wherry.builder.lint.checking import check
from wherry.builder.lint.outline import CALLS, answer
from wherry.builder.outputs import root_archive
from wherry.builder.ports import Task, Terminal
from wherry.builder.request import Request
from wherry.building.caches import CacheTransfer, checked
from wherry.building.streams import Came
from wherry.distribution.credentials import Credential
from wherry.errors import InvalidArgument, Unavailable, WherryError
from wherry.linux.loopwatch import aside
from wherry.oci.reference import parse_normalized
from wherry.values.jsontypes import Json
from wherry.wire.build import BuildRequest, Output

if TYPE_CHECKING:
    from wherry.builder.contexts.context import Tree
    from wherry.building.build import Build

Write = Callable[[bytes, int], Awaitable[None]]
_KINDS = ("image", "registry", "local", "tar", "oci", "docker")


class ClientBuild:
    """One build of one client.

    Args:
        build: the engine's.
        wire: what is asked.
        auths: credentials by registry.
        send: takes a message.
        write: takes bytes of the n-th output.
    """

    def __init__(
        self, build: "Build", wire: BuildRequest, auths: Json, send: Callable[[Json | msgspec.Raw], None], write: Write
    ) -> None:
        self._build = build
        self._wire = wire
        self._auths = auths
        self._send = send
        self._write = write

    async def run(self) -> None:
        """Build, and give the results.

        Raises:
            WherryError: what is asked is wrong, or a step failed.
        """
        wire, build = self._wire, self._build
        outputs = wire.outputs or [Output("image")]
        for output in outputs:
            if output.type not in _KINDS:
                raise InvalidArgument(f'exporter "{output.type}" could not be found')
        if wire.call not in ("", *CALLS):
            raise InvalidArgument(f"unsupported request frontend.{wire.call}")
        checked(wire.cache_from, to=False)
        checked(wire.cache_to, to=True)
        request = self._request(outputs)
        async with AsyncExitStack() as stack:
            sources = await stack.enter_async_context(build.sources(request, await self._agent(request, stack)))
            context = await self._context(sources, request)
            if wire.check or wire.call:
                self._send(await aside(self._evaluate, request, context))
                return
            offers = Offers(build.builder.stores)
            transfer = CacheTransfer(build, offers, self._send, self._credential, stack)
            one = One(
                build.builder,
                request,
                context,
                self._send,
                fetch=sources.fetch,
                find_image=build.finder(self._auths),
                offers=offers,
            )
            if wire.debug:
                one.debugger = self._shell
            one.finished = lambda built: self._results(one, built, outputs, transfer)
            for place in wire.cache_from:
                await transfer.take(place)
            built = await one.run()
            build.told(built, one)
        self._send({"result": self._result(one, built)})

    async def _agent(self, request: Request, stack: AsyncExitStack) -> str:
        """A socket at which the client's agent answers git, for as long as the build goes on."""
        if request.agents is None or "default" not in request.agents:
            return ""
        directory = f"{self._build.builder.stores.roots.run}/build/{secrets.token_hex(4)}"
        os.makedirs(directory, mode=0o700)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        return await stack.enter_async_context(request.agents.listen("default", directory))

    async def _ask_agent(self, id_: str) -> Came:
        return await self._build.streams.ask(lambda token: self._send({"agent": {"id": id_, "connection": token}}))

    async def _shell(self, task: Task, error: StepFailed) -> None:
        """Ask the client for somebody at a terminal, and run a shell for them."""
        build, size = self._build, self._wire.terminal
        told = {"step": task.id, "vertex": error.facts.get("vertex"), "excerpt": error.facts.get("excerpt")}
        try:
            sock, first = await build.streams.ask(lambda token: self._send({"debug": {**told, "connection": token}}))
        except Unavailable:
            return
        with sock:
            terminal = Terminal(sock, first, (size[0], size[1]) if len(size) == 2 else None)
            try:
                await build.steps.run(task, lambda _stream, _data: None, terminal)
            except WherryError as failure:
                self._send({"warnings": [{"short": f"no shell in the failed step: {failure.message}"}]})

    def _credential(self, domain: str) -> Credential:
        return self._build.credential(self._auths, domain)

    def _evaluate(self, request: Request, context: "Tree | None") -> msgspec.Raw:
        data = request.dockerfile
        if data is None:
            if context is None:
                raise InvalidArgument("the build has neither a context nor a Dockerfile")
            data = context.read(request.path, DOCKERFILE_LIMIT)
        if self._wire.call:
            value, text = answer(
                self._wire.call,
                data,
                request.path,
                build_args=request.build_args,
                target=request.target,
                platform=request.platform,
                contexts=list(request.contexts),
            )
            return msgspec.Raw(msgspec.json.encode({"call": {"document": value, "text": text}}))
        report = check(
            data,
            request.path,
            self._build.images.resolve,
            build_args=request.build_args,
            target=request.target,
            platform=request.platform,
            contexts=list(request.contexts),
            ignore=request.ignore,
        )
        found = {"check": {**report.document(), "text": report.text(), "error": report.error_text()}}
        return msgspec.Raw(msgspec.json.encode(found))

    def _result(self, one: One, built: Built) -> Json:
        names = [str(name) for name in one.names]
        return {
            "containerimage.config.digest": built.id,
            "containerimage.digest": built.manifest,
            **({"image.name": ",".join(names)} if names else {}),
        }

    def _request(self, outputs: list[Output]) -> Request:
        wire = self._wire
        names = list(wire.tags)
        for output in outputs:
            if output.type in ("image", "registry"):
                names += [name for name in output.attrs.get("name", "").split(",") if name and name not in names]
        store = any(output.type in ("image", "registry", "docker", "oci") for output in outputs)
        return Request(
            dockerfile=None if wire.dockerfile is None else wire.dockerfile.encode("utf-8", "surrogateescape"),
            path=wire.path,
            tags=names,
            target=wire.target,
            build_args=wire.build_args,
            labels=wire.labels,
            annotations=wire.annotations | _annotations(outputs),
            no_cache=wire.no_cache,
            no_cache_filter=wire.no_cache_filter,
            pull=wire.pull,
            platform=wire.platform,
            settings=Settings(
                network=wire.network or "default",
                hosts=wire.hosts,
                limits=wire.limits,
                debug=wire.debug,
                may=frozenset(wire.allow) | ({"network.host"} if wire.network == "host" else frozenset()),
            ),
            secrets={id_: _decoded(text) for id_, text in wire.secrets.items()},
            agents=Agents(wire.agents, self._ask_agent) if wire.agents else None,
            style="buildkit",
            ignore=wire.ignore,
            squash=wire.squash,
            inline_cache=any(place.type == "inline" for place in wire.cache_to),
            store=store,
        )

    async def _context(self, sources: Sources, request: Request) -> "Tree | None":
        wire, sent = self._wire, self._build.sent
        for name, given in wire.contexts.items():
            request.contexts[name] = sent.tree(given.removeprefix("sent:")) if given.startswith("sent:") else given
        if wire.remote:
            return await sources.remote_context(wire.remote, wire.path)
        return sent.tree(wire.context) if wire.context else None

    async def _results(self, one: One, built: Built, outputs: list[Output], transfer: CacheTransfer) -> None:
        """Give the results, while everything of the build is still held."""
        build = self._build
        for number, output in enumerate(outputs):
            if output.type in ("local", "tar"):
                newest = one.request.settings.newest
                archive = root_archive(build.builder.stores, build.builder.run_worker, built.root, newest)
                async with aclosing(archive) as pieces:
                    async for piece in pieces:
                        await self._write(piece, number)
            elif output.type in ("oci", "docker"):
                names = [name.familiar() for name in one.names] or [built.id]
                async with aclosing(build.images.save(names)) as pieces:
                    async for piece in pieces:
                        await self._write(piece, number)
            elif output.type == "registry" or output.attrs.get("push") == "true":
                await self._push(one)
        await self._export(one, transfer, len(outputs))

    async def _export(self, one: One, transfer: CacheTransfer, number: int) -> None:
        """Give caches away; the `number`-th output and those after it are local ones."""
        for place in self._wire.cache_to:
            if place.type == "registry":
                await transfer.give(one, place, None)
            elif place.type == "local":
                await transfer.give(one, place, partial(self._piece, number))
                number += 1

    async def _piece(self, number: int, data: bytes) -> None:
        await self._write(data, number)

    async def _push(self, one: One) -> None:
        if not one.names:
            raise InvalidArgument("tag is needed when pushing to registry")
        for name in one.names:
            await self._build.push(parse_normalized(str(name)), self._auths, self._send_push)

    def _send_push(self, message: Json) -> None:
        if message.get("errorDetail"):
            raise WherryError(str(message["errorDetail"].get("message", "")))


def _annotations(outputs: list[Output]) -> dict[str, str]:
    """Annotations that an exporter is told: `annotation.key=value`, with what they are of.

    Raises:
        InvalidArgument: of something that there is not.
    """
    found = {}
    for output in outputs:
        for key, value in output.attrs.items():
            kind, dot, name = key.partition(".")
            if kind in ("annotation", "annotation-manifest") and dot and name:
                found[name] = value
            elif kind.startswith("annotation"):
                raise InvalidArgument("index annotations not supported for single platform export")
    return found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument("a secret is not base64") from None
