"""The instructions as values: what a Dockerfile says, typed, before any variable is replaced.

All are immutable. Each knows its text and place; `variables` turns one into another with its variables replaced.
"""

from dataclasses import dataclass, field
from typing import Literal

from wherry.builder.language.errors import Location

MountType = Literal["bind", "cache", "tmpfs", "secret", "ssh"]
Sharing = Literal["shared", "private", "locked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Any instruction but FROM.

    Args:
        name: the instruction as written (`RUN`, `run`).
        original: its text, continuation lines joined.
        location: first and last line.
        comments: the comment lines above it.
    """

    name: str
    original: str
    location: Location
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """`key=value` of ENV and LABEL; `legacy` is the old form with a blank."""

    key: str
    value: str
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class ArgPair:
    """A name that ARG declares, its default (None without one), and what the comment above says of it."""

    key: str
    value: str | None
    description: str = ""


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A heredoc as a source of COPY and ADD: its name is the file's name."""

    name: str
    content: str
    expand: bool


@dataclass(frozen=True, slots=True)
class RunFile:
    """A heredoc of RUN, its body as it stands in the file."""

    name: str
    content: str
    chomp: bool


@dataclass(frozen=True, slots=True)
class RunMount:
    """`RUN --mount`. Until its variables are replaced only `from_` is known (it may have none).

    Args:
        type: what is mounted.
        from_: stage, image or context it comes from.
        source: path in there; for a secret its id.
        target: where, as written.
        read_only: nothing can be written.
        size: bytes of a tmpfs, 0 for no limit.
        id: of a cache, secret or agent.
        sharing: how concurrent steps use a cache; None where not said (shared).
        required: the step fails without the secret or agent.
        env: the secret's environment variable; "" for a name made of its id, None for none.
        mode: permission bits of file or directory.
        uid: its owner.
        gid: its group.
    """

    type: MountType = "bind"
    from_: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = True
    size: int = 0
    id: str = ""
    sharing: Sharing | None = None
    required: bool = False
    env: str | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class RunDevice:
    """`RUN --device`: a CDI device."""

    name: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Command):
    """`ARG name[=default]…`."""

    args: tuple[ArgPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired(Command):
    """What ENV and LABEL share: their pairs, in the order of the file."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Paired):
    """`ENV key=value…`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Paired):
    """`LABEL key=value…`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Command):
    """`MAINTAINER text` (deprecated)."""

    author: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellForm(Command):
    """RUN, CMD and ENTRYPOINT: an argument list, or with `shell` one text for the shell (none for an empty line)."""

    cmdline: tuple[str, ...]
    shell: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(ShellForm):
    """`RUN`.

    Args:
        mount_flags: the values of `--mount` as written.
        mounts: one for each; only `from_` is known before `variables.expand`.
        network: `default`, `none` or `host`.
        security: `sandbox` or `insecure`.
        devices: of `--device`.
        files: heredocs.
        flags_used: names of the flags that were given, sorted.
    """

    mount_flags: tuple[str, ...] = ()
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[RunDevice, ...] = ()
    files: tuple[RunFile, ...] = ()
    flags_used: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(ShellForm):
    """`CMD`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(ShellForm):
    """`ENTRYPOINT`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Command):
    """What COPY and ADD share.

    Args:
        sources: paths or URLs, as written.
        files: heredoc sources.
        dest: destination, as written.
        chown: `user[:group]`, or "".
        chmod: octal or symbolic mode, or "".
        link: make a layer of its own that does not depend on what is below.
        exclude: patterns that are left out.
    """

    sources: tuple[str, ...]
    files: tuple[InlineFile, ...]
    dest: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    """`COPY`; `from_` is a stage, image or context, "" for the main context; `parents` keeps directories."""

    from_: str = ""
    parents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    """`ADD`; `keep_git_dir` and `unpack` are None where not said."""

    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Command):
    """`WORKDIR path`."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Command):
    """`USER user[:group]`."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Command):
    """`EXPOSE port…`, sorted; `variables.expand` makes them `80/tcp`."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Command):
    """`VOLUME path…`."""

    volumes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Command):
    """`SHELL ["program", "arg"…]`."""

    shell: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Command):
    """`STOPSIGNAL signal`."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Command):
    """`HEALTHCHECK`.

    Args:
        test: `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
        interval: nanoseconds, 0 where not said; so the others.
        timeout: of one probe.
        start_period: in which failures do not count.
        start_interval: between probes in it.
        retries: failures in a row that make it unhealthy.
    """

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Command):
    """`ONBUILD instruction`; `expression` is the instruction with its heredocs, as it goes into the image."""

    expression: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and what follows it.

    Args:
        name: of `AS`, lower case, or "".
        base_name: what it starts from, as written.
        platform: of `--platform`, as written, or "".
        from_name: FROM as written.
        original: FROM's text.
        location: FROM's lines.
        comments: above FROM.
        description: what the comment above says of it.
        commands: the instructions.
    """

    name: str
    base_name: str
    platform: str
    from_name: str
    original: str
    location: Location
    comments: tuple[str, ...] = ()
    description: str = ""
    commands: tuple[Command, ...] = field(default=())
