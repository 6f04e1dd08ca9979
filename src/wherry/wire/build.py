"""What `wherry build` asks of the engine (`POST /wherry/v1/build`)."""

from typing import Any

from msgspec import Struct, field


class Output(Struct, omit_defaults=True):
    """Where a result goes: `type` is `image`, `local`, `tar`, `oci`, `docker` or `registry`; the rest is its own."""

    type: str = "image"
    attrs: dict[str, str] = field(default_factory=dict)


class Place(Struct, omit_defaults=True):
    """Where a cache comes from or goes to: `registry`, `local`, `inline`, and its own keys."""

    type: str
    attrs: dict[str, str] = field(default_factory=dict)


class BuildRequest(Struct, omit_defaults=True):
    """One build.

    Args:
        context: id of a context that was sent, or "".
        remote: an address in its place.
        dockerfile: the Dockerfile's text; None: `path` in the context.
        path: what it is called.
        secrets: content by id, base64.
        agents: ids of the ssh agents that the client offers; it is asked for a connection to one.
        contexts: `--build-context`: `sent:<id>`, `docker-image://…`, or an address.
        allow: entitlements.
        limits: Docker's HostConfig keys.
        debug: give the caller a shell in the step that failed.
        terminal: rows and columns of the caller's; empty where there is none.
        check: only lint; the answer is `{"check": …}`.
        call: `outline` or `targets`: only tell of the Dockerfile; the answer is `{"call": …}`.
        annotations: of the image's manifest.
        ignore: patterns of the context's `.dockerignore`, for lint.
    """

    context: str = ""
    remote: str = ""
    dockerfile: str | None = None
    path: str = "Dockerfile"
    tags: list[str] = field(default_factory=list)
    target: str = ""
    build_args: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    no_cache: bool = False
    no_cache_filter: list[str] = field(default_factory=list)
    pull: bool = False
    platform: str = ""
    network: str = ""
    hosts: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    agents: list[str] = field(default_factory=list)
    contexts: dict[str, str] = field(default_factory=dict)
    allow: list[str] = field(default_factory=list)
    cache_from: list[Place] = field(default_factory=list)
    cache_to: list[Place] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    squash: bool = False
    limits: dict[str, Any] = field(default_factory=dict)
    debug: bool = False
    terminal: list[int] = field(default_factory=list)
    check: bool = False
    call: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    ignore: list[str] = field(default_factory=list)
