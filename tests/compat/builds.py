"""Build many contexts with two engines and compare what comes out.

    python -m tests.compat.builds --reference unix:///r.sock --ours unix:///o.sock [--buildkit] DIR

`DIR` holds contexts of others (they are no part of this project): each Dockerfile or Containerfile below it is built
with its own directory as context (the one above it where both miss a file), by both engines, with the classic builder.
Of two images the file trees are compared (type, mode, owner, link, content, extended attributes; times of what is no
directory: equal, or of the build) and the configurations. What needs another base than busybox or alpine is left out,
by name; both engines must have `busybox`, which stands for alpine too. With `--buildkit` a context that the
reference's classic builder does not understand, or builds otherwise, is compared with its BuildKit.
"""

import argparse
import collections
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.builder.language.instructions import parse_stages
from wherry.builder.language.parser import parse
from wherry.builder.language.stages import plan
from wherry.builder.language.variables import Globals
from wherry.errors import InvalidArgument
from wherry.oci import platform as platforms
from wherry.oci import reference as references

_STANDS_FOR = ("busybox", "alpine", "testimage")
_SECONDS = 45
_START = int(time.time())
# what one builder writes into a configuration and another does not, without any effect
_NO_MATTER: tuple[str, ...] = (
    "Hostname",
    "Domainname",
    "Image",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
)
_NO_MATTER += ("StdinOnce", "ArgsEscaped", "MacAddress", "NetworkDisabled")

# some contexts are meant to be the directory above the Dockerfile's
_ABSENT = "file does not exist"
# what an older reference cannot do at all
_NOT_KNOWN = (
    "unknown flag: exclude",
    "unknown flag: parents",
    "empty export - not implemented",
    "failed to resolve source metadata",  # of a `# syntax=` image
)

Entry = tuple[Any, ...]


@dataclass(slots=True)
class Outcome:
    """What an engine made of a context: a tree and a configuration, or an error."""

    error: str = ""
    tree: dict[str, Entry] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)


class Side:
    """An engine, driven by the docker command."""

    def __init__(self, host: str, scratch: Path, *, buildkit: bool = False) -> None:
        self.env = {**os.environ, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "1" if buildkit else "0"}
        self.scratch = scratch
        self.buildkit = buildkit

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a docker command."""
        return subprocess.run(
            ["docker", *words],
            env=self.env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )

    def build(self, dockerfile: Path, name: str, *, above: bool = False) -> Outcome:
        """Build one context, or the directory above it; the image is removed again."""
        extra = ["--no-cache", *(["--progress=plain", "--provenance=false"] if self.buildkit else ["--rm"])]
        context = dockerfile.parent.parent if above else dockerfile.parent
        try:
            done = self.run("build", *extra, "-t", name, "-f", str(dockerfile), str(context))
        except subprocess.TimeoutExpired:
            return Outcome(f"took longer than {_SECONDS} s")
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return Outcome(lines[-1] if lines else f"code {done.returncode}")
        archive = self.scratch / f"{name}.tar"
        try:
            saved = self.run("save", "-o", str(archive), name)
            if saved.returncode:
                return Outcome(f"save: {saved.stderr}")
            return read_image(archive, _START)
        finally:
            archive.unlink(missing_ok=True)
            self.run("image", "rm", "-f", name)


def read_image(archive: Path, start: int) -> Outcome:
    """The tree and configuration of a saved image; times from `start` on count as made by a build."""
    with tarfile.open(archive) as tar:
        manifest = json.load(_file(tar, "manifest.json"))[0]
        document = json.load(_file(tar, manifest["Config"]))
        tree: dict[str, Entry] = {}
        for layer in manifest["Layers"] or ():
            with tarfile.open(fileobj=_file(tar, layer), mode="r:*") as inner:
                _apply(tree, inner, start)
    config = {
        k: v
        for k, v in (document.get("config") or {}).items()
        if k not in _NO_MATTER and v not in (None, "", [], {}, False)
    }
    if config.get("WorkingDir") == "/":
        del config["WorkingDir"]  # says nothing
    history = [entry.get("created_by", "") for entry in document.get("history") or []]
    return Outcome("", tree, config, history)


def _file(tar: tarfile.TarFile, name: str) -> io.BufferedReader:
    found = tar.extractfile(name)
    if not isinstance(found, io.BufferedReader):
        raise TypeError(name)
    return found


def _apply(tree: dict[str, Entry], layer: tarfile.TarFile, start: int) -> None:
    fresh: set[str] = set()
    for member in layer:
        path = member.name.strip("/").removeprefix("./") or "."
        directory, _, base = path.rpartition("/")
        if base == ".wh..wh..opq":
            _drop(tree, directory, fresh, itself=False)
            continue
        if base.startswith(".wh."):
            _drop(tree, f"{directory}/{base[4:]}".lstrip("/"), fresh, itself=True)
            continue
        if path in tree and not (member.isdir() and tree[path][0] == "dir"):
            _drop(tree, path, fresh, itself=True)
        fresh.add(path)
        if member.islnk():
            tree[path] = tree.get(member.linkname.strip("/").removeprefix("./"), ("dangling", member.linkname))
            continue
        kind = {tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link", tarfile.FIFOTYPE: "fifo"}.get(member.type, "file")
        digest = ""
        if member.isreg():
            found = layer.extractfile(member)
            digest = hashlib.sha256(found.read() if found else b"").hexdigest()[:16]
        xattrs = tuple(sorted((k, v) for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")))
        stamp = "new" if member.mtime >= start - 1 else str(int(member.mtime))
        mode = 0o777 if kind == "link" else member.mode & 0o7777
        tree[path] = (kind, oct(mode), member.uid, member.gid, member.linkname, digest, xattrs, stamp)


def _drop(tree: dict[str, Entry], path: str, fresh: set[str], *, itself: bool) -> None:
    below = path + "/" if path else ""
    for name in [name for name in tree if (name == path and itself) or name.startswith(below)]:
        if name not in fresh:
            del tree[name]


def differences(ours: Outcome, theirs: Outcome) -> Iterator[str]:
    """What differs, a line each."""
    for path in sorted(ours.tree.keys() | theirs.tree.keys()):
        one, other = ours.tree.get(path), theirs.tree.get(path)
        if path == ".":
            continue
        if one is None or other is None:
            yield f"{path}: {'only theirs' if one is None else 'only ours'} {one or other}"
        elif one[:-1] != other[:-1]:
            yield f"{path}: ours {one[:-1]} theirs {other[:-1]}"
        elif one[0] != "dir" and one[-1] != other[-1]:
            yield f"{path}: time ours {one[-1]} theirs {other[-1]}"
    for key in sorted(ours.config.keys() | theirs.config.keys()):
        if ours.config.get(key) != theirs.config.get(key):
            yield f"config {key}: ours {ours.config.get(key)} theirs {theirs.config.get(key)}"


def images_of(dockerfile: Path) -> list[str]:
    """The images that a Dockerfile needs.

    Raises:
        InvalidArgument: it cannot be read.
    """
    document = parse(dockerfile.read_bytes())
    program = parse_stages(document)
    here = platforms.host()
    shared = Globals(build_args={}, build_platform=here, target_platform=here, escape=document.escape)
    shared.declare(program.meta_args)
    return plan(program.stages, shared).images()


def main() -> int:
    """Compare; the exit code is 1 when fewer than 95 % are equal."""
    parser = argparse.ArgumentParser(description="build contexts with two engines and compare")
    parser.add_argument("--reference", required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--buildkit", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("directory", type=Path)
    asked = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="wherry-builds-") as scratch, ThreadPoolExecutor(2) as pool:
        ours = Side(asked.ours, _made(scratch, "o"))
        theirs = Side(asked.reference, _made(scratch, "r"))
        modern = Side(asked.reference, _made(scratch, "k"), buildkit=True)
        tagged: set[str] = set()
        for number, dockerfile in enumerate(_dockerfiles(asked.directory, asked.only)):
            shown = str(dockerfile.relative_to(asked.directory))
            why = _prepare(dockerfile, (ours, theirs), tagged)
            if why:
                counts["left out"] += 1
                print(f"left out: {shown}: {why}")
                continue
            name = f"built-{number}"
            first, second = pool.map(lambda side: side.build(dockerfile, name), (ours, theirs))  # noqa: B023
            above = _ABSENT in first.error and _ABSENT in second.error and dockerfile.parent != asked.directory
            if above:
                first, second = pool.map(lambda side: side.build(dockerfile, name, above=True), (ours, theirs))  # noqa: B023
            kind = "classic"
            if asked.buildkit and second.error and (not first.error or "requires BuildKit" in second.error):
                second, kind = modern.build(dockerfile, name, above=above), "BuildKit"
            if "took longer" in first.error and "took longer" in second.error:
                counts["left out"] += 1
                print(f"left out: {shown}: {first.error}")
                continue
            unknown = next((word for word in _NOT_KNOWN if word in second.error), "")
            if unknown and not first.error:
                counts["left out"] += 1
                print(f"left out: {shown}: the reference says {unknown}")
                continue
            verdict = _judge(shown, kind, first, second)
            if asked.buildkit and kind == "classic" and verdict not in ("equal", "both refuse"):
                # where the two builders of the reference do not agree, BuildKit is right
                second = modern.build(dockerfile, name, above=above)
                lost = any(word in second.error for word in _NOT_KNOWN)
                verdict = "left out" if lost else f"{_judge(shown, 'BuildKit', first, second)}, to BuildKit"
            counts[verdict] += 1
            sys.stdout.flush()
    total = sum(counts.values()) - counts["left out"]
    good = sum(count for verdict, count in counts.items() if verdict.startswith(("equal", "both refuse")))
    print(f"{total} contexts compared: {dict(counts)}; {good / max(total, 1):.1%} agree")
    return int(good < 0.95 * total or total == 0)


def _comparable(history: list[str]) -> list[str]:
    """History without what names content in a way of its own."""
    return [entry for entry in history if "#(nop) COPY" not in entry and "#(nop) ADD" not in entry]


def _made(scratch: str, name: str) -> Path:
    path = Path(scratch) / name
    path.mkdir()
    return path


def _dockerfiles(root: Path, only: str) -> list[Path]:
    found = (p for p in root.rglob("*") if p.is_file() and p.name.lower().startswith(("dockerfile", "containerfile")))
    return sorted(p for p in found if p.suffix != ".in" and not p.name.endswith("ignore") and only in str(p))


def _prepare(dockerfile: Path, sides: tuple[Side, Side], tagged: set[str]) -> str:
    """Give both engines the bases under the names that the file uses; why it cannot be compared, or ""."""
    try:
        names = images_of(dockerfile)
    except InvalidArgument:
        return ""  # both must refuse it
    for name in names:
        reference = references.parse_normalized(name)
        if reference.path.rpartition("/")[2] not in _STANDS_FOR or reference.digest is not None:
            return f"needs {name}"
        if name not in tagged:
            for side in sides:
                side.run("tag", "busybox", name)
            tagged.add(name)
    return ""


def _judge(shown: str, kind: str, ours: Outcome, theirs: Outcome) -> str:
    if ours.error and theirs.error:
        verdict = "both refuse"
        if ours.error.splitlines()[-1] != theirs.error.splitlines()[-1]:
            print(f"both refuse: {shown}\n  ours:   {ours.error}\n  theirs: {theirs.error}")
        else:
            print(f"both refuse: {shown}: {ours.error}")
        return verdict
    if ours.error or theirs.error:
        print(f"differs: {shown}: {'only ours' if ours.error else 'only theirs'} fails: {ours.error or theirs.error}")
        return "only one fails"
    found = list(differences(ours, theirs))
    if found:
        print(f"differs: {shown} ({kind}): {len(found)}\n  " + "\n  ".join(found[:8]))
        return "different"
    if kind == "classic" and ours.history != theirs.history:
        one, other = _comparable(ours.history), _comparable(theirs.history)
        first = next((pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]), None)
        if first is None and len(one) == len(other):
            return "equal"
        first = first or (f"{len(one)} entries", f"{len(other)} entries")
        print(f"history: {shown}\n  ours:   {first[0]}\n  theirs: {first[1]}")
    return "equal"


if __name__ == "__main__":
    sys.exit(main())
