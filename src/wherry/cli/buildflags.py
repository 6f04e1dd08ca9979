"""The flags of `build`, and what their words mean."""

import os

from wherry.cli.failure import Failure, file_failure
from wherry.cli.flags import Flag, Invocation
from wherry.cli.run_flags import size_of, ulimit_of
from wherry.values.gotext import quote as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_MAX_SECRET = 500 * 1024

FLAGS = (
    Flag("add-host", "", "list", 'Add a custom host-to-IP mapping (format: "host:ip")'),
    Flag("allow", "", "list", 'Allow extra privileged entitlement (e.g., "network.host", "security.insecure")'),
    Flag("annotation", "", "list", "Add annotation to the image"),
    Flag("attest", "", "list", 'Attestation parameters (format: "type=sbom,generator=image"); none can be made'),
    Flag("build-arg", "", "list", "Set build-time variables"),
    Flag("build-context", "", "list", "Additional build contexts (e.g., name=path)"),
    Flag("cache-from", "", "list", 'External cache sources (e.g., "user/app:cache", "type=local,src=path/to/dir")'),
    Flag("cache-to", "", "list", 'Cache export destinations (e.g., "user/app:cache", "type=local,dest=path/to/dir")'),
    Flag("call", "", "string", 'Set method for evaluating build ("check", "outline", "targets")', "build"),
    Flag("cgroup-parent", "", "string", 'Set the parent cgroup for the "RUN" instructions during build'),
    Flag("check", "", "bool", "Check the Dockerfile, and build nothing"),
    Flag("cpu-period", "", "int", "Limit the CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "", "int", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    Flag("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("debug", "D", "bool", "Open a shell in the step that failed"),
    Flag("file", "f", "string", 'Name of the Dockerfile (default: "PATH/Dockerfile")'),
    Flag("iidfile", "", "string", "Write the image ID to a file"),
    Flag("label", "", "list", "Set metadata for an image"),
    Flag("load", "", "bool", 'Shorthand for "--output=type=docker"'),
    Flag("memory", "m", "bytes", "Memory limit", check=size_of),
    Flag(
        "memory-swap", "", "bytes", "Swap limit equal to memory plus swap: -1 to enable unlimited swap", check=size_of
    ),
    Flag("metadata-file", "", "string", "Write build result metadata to a file"),
    Flag(
        "network",
        "",
        "string",
        'Set the networking mode for the "RUN" instructions during build (default "default")',
        "default",
    ),
    Flag("no-cache", "", "bool", "Do not use cache when building the image"),
    Flag("no-cache-filter", "", "list", "Do not cache specified stages"),
    Flag("output", "o", "list", 'Output destination (format: "type=local,dest=path")'),
    Flag("platform", "", "string", "Set target platform for build"),
    Flag("progress", "", "string", 'Set type of progress output ("auto", "none", "plain", "quiet", "rawjson", "tty")'),
    Flag("provenance", "", "string", 'Shorthand for "--attest=type=provenance"; only "false" is supported'),
    Flag("pull", "", "bool", "Always attempt to pull all referenced images"),
    Flag("push", "", "bool", 'Shorthand for "--output=type=registry"'),
    Flag("quiet", "q", "bool", "Suppress the build output and print image ID on success"),
    Flag("sbom", "", "string", 'Shorthand for "--attest=type=sbom"; only "false" is supported'),
    Flag("secret", "", "list", 'Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")'),
    Flag("shm-size", "", "bytes", "Shared memory size for build containers", check=size_of),
    Flag("squash", "", "bool", "Squash newly built layers into a single new layer"),
    Flag(
        "ssh",
        "",
        "list",
        'SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>[,<key>]]")',
    ),
    Flag("tag", "t", "list", 'Image identifier (format: "[registry/]repository[:tag]")'),
    Flag("target", "", "string", "Set the target build stage to build"),
    Flag("ulimit", "", "ulimit", "Ulimit options (default [])", check=ulimit_of),
)


def csv(text: str, alone: str) -> "dict[str, str]":
    """Read `key=value,…`; a word without `=` is the value of `alone`."""
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals:
            found[key.strip().lower()] = value
        else:
            found[alone] = part
    return found


def cache_place(text: str, directory: str) -> "dict[str, Any]":
    """Read a `--cache-from` or `--cache-to`; `directory` is the key that a local one needs.

    Raises:
        Failure: it is not understood.
    """
    attrs = {"type": "inline"} if text == "inline" else csv(text, "ref") if "=" in text else {"ref": text}
    kind = attrs.pop("type", "registry" if "ref" in attrs else "")
    if not kind:
        raise Failure(f"type required form> {quoted(text)}")
    if kind == "local" and not attrs.get(directory):
        raise Failure(f"{directory} is required for a local cache")
    return {"type": kind, "attrs": attrs}


def annotations(words: "Sequence[str]") -> "dict[str, str]":
    """Annotations of `--annotation`, for the manifest: `key=value`, or `manifest:key=value`.

    Raises:
        Failure: one is not understood, or is of an index.
    """
    if not words:
        return {}
    import re

    kind_of = re.compile(r"([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?")
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise Failure(f"invalid annotation {quoted(word)}, expected key=value")
        kinds, colon, name = key.partition(":")
        for kind in kinds.split(",") if colon else ["manifest"]:
            match = kind_of.fullmatch(kind)
            if match is None:
                raise Failure(
                    f"invalid annotation type {quoted(kind)}, expected type and optional platform in square brackets"
                )
            if match[1] not in ("manifest", "index", "manifest-descriptor", "index-descriptor"):
                raise Failure(f"unknown annotation type {quoted(match[1])}")
            if match[1] != "manifest":
                raise Failure(f"{match[1]} annotations not supported for single platform export")
        found[name if colon else key] = value
    return found


def refuse_attestations(command: Invocation) -> None:
    """`--attest`, `--provenance` and `--sbom`, but for what switches them off.

    Raises:
        Failure: one is asked for.
    """
    asked = [("--attest", csv(word, "type")) for word in command["attest"]]
    for name in ("provenance", "sbom"):
        text = command[name]
        if text and text != "false":
            asked.append((f"--{name}", csv(text, "mode")))
    for flag, attrs in asked:
        if attrs.get("disabled") != "true":
            raise Failure(f"attestations are not supported: {flag} can only be switched off ({flag[2:]}=false)")


def pairs(words: "Sequence[str]", environment: "Mapping[str, str]") -> "dict[str, str]":
    """`NAME=value`; a bare name takes its value from the environment, or is left out."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            found[name] = value
        elif name in environment:
            found[name] = environment[name]
        elif not environment:
            found[name] = ""
    return found


def secrets(words: "Sequence[str]") -> "dict[str, bytes]":
    """Contents of `--secret`s, by id.

    Raises:
        Failure: one has no id, or cannot be read.
    """
    found: dict[str, bytes] = {}
    for word in words:
        attrs = csv(word, "id")
        unknown = set(attrs) - {"id", "src", "source", "env", "type"}
        if unknown:
            raise Failure(f"invalid secret: unexpected key '{sorted(unknown)[0]}' in '{word}'")
        id_ = attrs.get("id", "")
        if not id_:
            raise Failure(f"invalid secret {word!r}: an id is needed")
        path, env = attrs.get("src") or attrs.get("source") or "", attrs.get("env", "")
        kind = attrs.get("type", "")
        if kind not in ("", "file", "env"):
            raise Failure(f'unsupported secret type "{kind}"')
        if kind == "env" and not env:
            env, path = path or id_, ""
        if not path and not env:
            env, path = (id_, "") if kind != "file" and id_ in os.environ else ("", id_)
        if env:
            if env not in os.environ:
                raise Failure(f"secret {id_}: environment variable {env} is not set")
            found[id_] = os.environb[os.fsencode(env)]
            continue
        try:
            with open(path, "rb") as file:
                found[id_] = file.read(_MAX_SECRET + 1)
        except OSError as error:
            raise file_failure("open", path, error) from None
        if len(found[id_]) > _MAX_SECRET:
            raise Failure(f"secret {id_}: {path} is larger than {_MAX_SECRET} bytes")
    return found


def outputs(command: Invocation) -> "list[dict[str, Any]]":
    """What `--output`, `--push` and `--load` ask for.

    Raises:
        Failure: one is not understood.
    """
    found: list[dict[str, Any]] = []
    for word in command["output"]:
        kind = csv(word, "dest") if "=" in word else {"type": "tar" if word == "-" else "local", "dest": word}
        type_ = kind.pop("type", "")
        if type_ == "local" and not kind.get("dest"):
            raise Failure("dest is required for local output")
        if type_ not in ("image", "registry", "local", "tar", "oci", "docker"):
            raise Failure(f'invalid output: unknown type "{type_}" in "{word}"')
        if type_ == "docker" and not kind.get("dest"):
            type_ = "image"
        if type_ in ("tar", "oci") and kind.get("dest", "-") == "-" and os.isatty(1):
            raise Failure("dest file is required for tar exporter. refusing to write to console")
        found.append({"type": type_, "attrs": kind})
    if command["push"]:
        found.append({"type": "registry", "attrs": {}})
    if command["load"] or (not found):
        found.append({"type": "image", "attrs": {}})
    return found


_LIMITS = (
    ("memory", "Memory"),
    ("memory-swap", "MemorySwap"),
    ("cpu-shares", "CpuShares"),
    ("cpu-period", "CpuPeriod"),
    ("cpu-quota", "CpuQuota"),
    ("cpuset-cpus", "CpusetCpus"),
    ("cpuset-mems", "CpusetMems"),
    ("cgroup-parent", "CgroupParent"),
    ("shm-size", "ShmSize"),
)


def limits(command: Invocation) -> "dict[str, Any]":
    """Limits of the steps, by Docker's names."""
    found: dict[str, Any] = {name: command[flag] for flag, name in _LIMITS if command[flag]}
    if command["ulimit"]:
        found["Ulimits"] = command["ulimit"]
    return found
