"""What is to be done to make a root: operations that stand on one another.

A `Vertex` is one operation with the vertices that it takes; its `digest` is made of nothing but what they say, so that
the same steps are the same vertex, whoever asks for them. Whoever speaks another language than Dockerfiles makes a
graph of these, and the solver does not know the difference.
"""

import hashlib
from collections.abc import Iterator

import msgspec
from msgspec import Struct

_encode = msgspec.json.Encoder(order="deterministic").encode


class ImageSource(Struct, frozen=True, tag="image"):
    """The layers of a stored image.

    Args:
        reference: as it was written, for people.
        id: which image that is.
    """

    reference: str
    id: str


class ContextSource(Struct, frozen=True, tag="context"):
    """A directory that the caller gave (`""`: the build context)."""

    name: str = ""


class HttpSource(Struct, frozen=True, tag="http"):
    """One file from a URL.

    Args:
        url: where.
        name: what the file is called.
        checksum: the digest that it must have, or "".
        mode: permission bits.
    """

    url: str
    name: str
    checksum: str = ""
    mode: int = 0o600


class GitSource(Struct, frozen=True, tag="git"):
    """A checkout.

    Args:
        url: the repository.
        ref: branch, tag or commit; "" for the default branch.
        subdir: what of it is meant.
        keep_git: with its `.git`.
        checksum: the commit that it must be, or "".
    """

    url: str
    ref: str = ""
    subdir: str = ""
    keep_git: bool = False
    checksum: str = ""


class Mount(Struct, frozen=True, tag="mount"):
    """What one step has mounted.

    Args:
        kind: `bind`, `cache`, `tmpfs`, `secret` or `ssh`.
        target: absolute path.
        input: index of the vertex that a bind or a new cache comes from; -1 for none.
        source: path in it.
        read_only: nothing can be written; what is written elsewhere is thrown away, but for a cache.
        size: bytes of a tmpfs, 0 for no limit.
        id: of a cache, secret or agent.
        sharing: `shared`, `private` or `locked`.
        required: fail without it.
        env: the variable that a secret goes into, or "".
        mode, uid, gid: of the file or directory; None for the default.
    """

    kind: str
    target: str
    input: int = -1
    source: str = ""
    read_only: bool = True
    size: int = 0
    id: str = ""
    sharing: str = "shared"
    required: bool = False
    env: str = ""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class Exec(Struct, frozen=True, tag="exec"):
    """Run a program on a root; what it changes is the new layer. Input 0 is the root.

    Args:
        args: its words.
        env: `NAME=value`.
        cwd: where.
        user: `user[:group]` as in the image.
        network: `default`, `none` or `host`.
        security: `sandbox` or `insecure`.
        mounts: what is mounted.
        files: (name, content) of scripts, mounted at `/dev/pipes/<name>`.
        hosts: further lines of `/etc/hosts`, `name:address`.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    network: str = "default"
    security: str = "sandbox"
    mounts: tuple[Mount, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    hosts: tuple[str, ...] = ()


class Copy(Struct, frozen=True, tag="copy"):
    """Copy files. `input` is the index of the vertex that they come from.

    Args:
        sources: patterns in it.
        dest: absolute; with a slash at its end it is a directory.
        owner: `user[:group]`, "" for the source's own.
        chmod: octal or symbolic, or "".
        exclude: (pattern of a whole path, whether it takes back).
        parents: keep the directories above.
        unpack: what is an archive is unpacked.
        context: the source is a context: its files have no owner.
    """

    input: int
    sources: tuple[str, ...]
    dest: str
    owner: str = ""
    chmod: str = ""
    exclude: tuple[tuple[str, bool], ...] = ()
    parents: bool = False
    unpack: bool = False
    context: bool = False


class MakeFile(Struct, frozen=True, tag="mkfile"):
    """Write a file (`dest` with a slash at its end: `name` in it)."""

    dest: str
    data: str
    owner: str = ""
    chmod: str = ""


class MakeDirectory(Struct, frozen=True, tag="mkdir"):
    """Make a directory and what is missing above it; one that is there stays as it is."""

    path: str
    owner: str = ""
    mode: int = 0o755


FileAction = Copy | MakeFile | MakeDirectory


class Files(Struct, frozen=True, tag="files"):
    """Change files of a root; that is the new layer. Input 0 is the root.

    Args:
        actions: in order.
        linked: the layer does not depend on the root below (`--link`): it is made on nothing.
    """

    actions: tuple[FileAction, ...]
    linked: bool = False


Operation = ImageSource | ContextSource | HttpSource | GitSource | Exec | Files
SOURCES = (ImageSource, ContextSource, HttpSource, GitSource)


class Vertex:
    """One operation and what it takes.

    Attributes:
        op: the operation.
        inputs: None is the empty root.
        name: what people read.
        digest: of the operation and all that it stands on.
        stage: which stage it belongs to, for `--no-cache-filter`; may be "".
    """

    __slots__ = ("digest", "inputs", "name", "op", "shown", "stage")

    digest: str

    def __init__(
        self, op: Operation, inputs: "tuple[Vertex | None, ...]" = (), name: str = "", stage: str = "", shown: str = ""
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.name = name
        self.stage = stage
        self.shown = shown
        state = hashlib.sha256(_encode(op))
        for vertex in inputs:
            state.update(b"\0" + (vertex.digest.encode() if vertex is not None else b""))
        self.digest = f"sha256:{state.hexdigest()}"

    def __repr__(self) -> str:
        return f"Vertex({self.name or type(self.op).__name__})"


def definition(op: Operation) -> bytes:
    """The bytes that say what an operation does: the same for the same."""
    return _encode(op)


def walk(ends: "list[Vertex | None]") -> Iterator[Vertex]:
    """Every vertex that these stand on, each once, what it takes before it."""
    seen: set[int] = set()
    stack: list[tuple[Vertex, bool]] = [(vertex, False) for vertex in reversed(ends) if vertex is not None]
    while stack:
        vertex, done = stack.pop()
        if done:
            yield vertex
        elif id(vertex) not in seen:
            seen.add(id(vertex))
            stack.append((vertex, True))
            stack += [(one, False) for one in reversed(vertex.inputs) if one is not None and id(one) not in seen]
