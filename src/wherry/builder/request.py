"""What a caller asks of a build."""

from dataclasses import dataclass, field

from wherry.builder.agents import Agents
from wherry.builder.contexts.context import Tree
from wherry.builder.executor import Settings
from wherry.builder.graph.config import Style


@dataclass(slots=True, kw_only=True)
class Request:
    """What is asked of a build.

    Args:
        dockerfile: its text, or None: `path` is read from the context.
        path: what it is called, and where it lies in the context.
        tags: names of the result.
        target: the stage to build, "" for the last.
        build_args: `--build-arg`.
        labels: `--label`.
        annotations: of the manifest.
        no_cache: do every step.
        no_cache_filter: do the steps of these stages.
        pull: ask registries for base images that are here.
        platform: what to build for, "" for this machine.
        settings: of the steps.
        secrets: content by id.
        agents: the client's ssh agents.
        contexts: by name: an image's name, an address, or a tree.
        style: whose words history has.
        ignore: patterns of the context's `.dockerignore`, for lint.
        squash: one layer of what the build added.
        store: keep the result as an image.
        cache_from: images that are here and may hold a cache.
        inline_cache: let the image say which step each layer is the result of.
    """

    dockerfile: bytes | None = None
    path: str = "Dockerfile"
    tags: list[str] = field(default_factory=list)
    target: str = ""
    build_args: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    no_cache: bool = False
    no_cache_filter: list[str] = field(default_factory=list)
    pull: bool = False
    platform: str = ""
    settings: Settings = field(default_factory=Settings)
    secrets: dict[str, bytes] = field(default_factory=dict)
    agents: Agents | None = None
    contexts: dict[str, str | Tree] = field(default_factory=dict)
    style: Style = "buildkit"
    ignore: list[str] = field(default_factory=list)
    squash: bool = False
    store: bool = True
    inline_cache: bool = False
    cache_from: list[str] = field(default_factory=list)
