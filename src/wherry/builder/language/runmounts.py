"""`RUN --mount` and `RUN --device`: comma-separated fields, as a line of CSV.

Read twice. When the Dockerfile is parsed only `from` counts: it names a stage, so it may hold no variable. When the
step's turn comes, each value is expanded, and then everything is judged.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from wherry.builder.language.commands import MountType, RunDevice, RunMount, Sharing
from wherry.builder.language.errors import DockerfileError
from wherry.builder.language.suggestions import did_you_mean
from wherry.values.gotext import parse_bool, quote
from wherry.values.sizes import ram_in_bytes

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_KEYS = (
    "type from source target readonly id sharing required size mode uid gid src dst destination ro rw readwrite env"
).split()
_SAME = {"src": "source", "dst": "target", "destination": "target"}
_OWNED = ("secret", "ssh", "cache")  # what may be given a mode and an owner
_MAX_UINT32 = 2**32 - 1


def mount_source(flag: str) -> RunMount:
    """What is known of a mount before its variables are: where it comes from.

    Raises:
        DockerfileError: not CSV, or a variable in `from`.
    """
    source = ""
    for item in _fields(flag, "mounts"):
        key, equals, value = item.partition("=")
        if not equals or key.lower() != "from":
            continue
        at = value.find("$")
        if at not in (-1, len(value) - 1):
            raise DockerfileError(f"'{key.lower()}' doesn't support variable expansion, define alias stage instead")
        source = value
    return RunMount(from_=source)


def parse_mount(flag: str, expand: Callable[[str], str]) -> RunMount:
    """A mount with everything in it.

    Args:
        flag: the value of `--mount`.
        expand: replaces variables in one value.

    Raises:
        DockerfileError: an unknown key, type or value, or keys that this type of mount does not have.
        InvalidArgument: from `expand`.
    """
    draft = _Draft()
    for item in _fields(flag, "mounts"):
        key, equals, value = item.partition("=")
        key = key.lower()
        if equals:
            draft.assign(key, expand(value), item)
        else:
            draft.mention(key, item)
    return draft.finish()


@dataclass(slots=True)
class _Draft:
    type: str = "bind"
    values: dict[str, Any] = field(default_factory=dict)
    read_only: bool | None = None

    def mention(self, key: str, item: str) -> None:
        """A key without `=`."""
        if key in ("readonly", "ro"):
            self.read_only = True
        elif key in ("readwrite", "rw"):
            self.read_only = False
        elif key == "required":
            self._only(key, "secret", "ssh")
            self.values["required"] = True
        else:
            raise DockerfileError(f"invalid field '{item}' must be a key=value pair")

    def assign(self, key: str, value: str, item: str) -> None:
        name = _SAME.get(key, key)
        if name in ("source", "target", "id", "env"):
            self.values[name] = value
        elif name == "from":
            self.values["from_"] = value
        elif name == "type":
            self.type = _one_of(value, _TYPES, "mount type")
        elif name == "sharing":
            self.values["sharing"] = _one_of(value, _SHARING, "sharing value")
        elif name in ("readonly", "ro"):
            self.read_only = _bool(key, value)
        elif name in ("readwrite", "rw"):
            self.read_only = not _bool(key, value)
        elif name == "required":
            self._only(key, "secret", "ssh")
            self.values["required"] = _bool(key, value)
        elif name == "size":
            self._only(key, "tmpfs")
            try:
                self.values["size"] = ram_in_bytes(value)
            except ValueError:
                raise DockerfileError(f"invalid value for {key}: {value}") from None
        elif name in ("mode", "uid", "gid"):
            self.values[name] = _number(name, value, 8 if name == "mode" else 10)
        else:
            raise DockerfileError(did_you_mean(f"unexpected key '{key}' in '{item}'", key, _KEYS))

    def _only(self, key: str, *types: str) -> None:
        if self.type not in types:
            raise DockerfileError(f"unexpected key '{key}' for mount type '{self.type}'")

    def finish(self) -> RunMount:
        values = self.values
        if self.type not in _OWNED:
            for name in ("mode", "uid", "gid"):
                if name in values:
                    raise DockerfileError(f"{name} not allowed for {quote(self.type)} type mounts")
        if self.type == "secret":
            self._check_secret()
        if values.get("sharing") and self.type != "cache":
            raise DockerfileError(f"invalid cache sharing set for {self.type} mount")
        read_only = self.type not in ("cache", "tmpfs") if self.read_only is None else self.read_only
        return RunMount(
            type=cast(MountType, self.type),
            from_=values.get("from_", ""),
            source=values.get("source", ""),
            target=values.get("target", ""),
            read_only=read_only,
            size=values.get("size", 0),
            id=values.get("id", ""),
            sharing=cast("Sharing | None", values.get("sharing")),
            required=values.get("required", False),
            env=values.get("env"),
            mode=values.get("mode"),
            uid=values.get("uid"),
            gid=values.get("gid"),
        )

    def _check_secret(self) -> None:
        values = self.values
        if values.get("from_"):
            raise DockerfileError("secret mount should not have a from")
        if values.get("sharing"):
            raise DockerfileError("secret mount should not define sharing")
        if not (values.get("source") or values.get("target") or values.get("id")):
            raise DockerfileError("invalid secret mount. one of source, target required")
        if values.get("source") and values.get("id"):
            raise DockerfileError("both source and id can't be set")


def parse_device(flag: str) -> RunDevice:
    """A device of `--device`: `name`, or `name=…,required`.

    Raises:
        DockerfileError: an unknown key, a second name, a wrong value.
    """
    name, required = "", False
    for item in _fields(flag, "devices"):
        key, equals, value = item.partition("=")
        key = key.lower()
        if key == "required":
            required = _bool(key, value) if equals else True
        elif equals and key == "name":
            if name:
                raise DockerfileError(f"device name already set to {name}")
            name = value
        elif not name:
            name = item
        elif not equals:
            raise DockerfileError(f"invalid field '{item}' must be a key=value pair")
        else:
            raise DockerfileError(did_you_mean(f"unexpected key '{key}' in '{item}'", key, ("name", "required")))
    return RunDevice(name, required)


def _one_of(value: str, choices: tuple[str, ...], what: str) -> str:
    lowered = value.lower()
    if lowered not in choices:
        raise DockerfileError(did_you_mean(f"unsupported {what} {quote(value)}", value, choices))
    return lowered


def _bool(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError:
        raise DockerfileError(f"invalid value for {key}: {value}") from None


def _number(name: str, value: str, base: int) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    if not value or len(value) > 11 or value.strip(digits) or int(value, base) > _MAX_UINT32:
        raise DockerfileError(f"invalid value {value} for {name}")
    return int(value, base)


def _fields(text: str, what: str) -> list[str]:
    """One line of CSV."""
    try:
        return list(_csv(text))
    except ValueError as error:
        raise DockerfileError(f"failed to parse csv {what}: {error}") from None


def _csv(text: str) -> "list[str]":
    out: list[str] = []
    position = 0
    while True:
        if text.startswith('"', position):
            parts: list[str] = []
            start = position + 1
            while True:
                end = text.find('"', start)
                if end < 0:
                    raise ValueError(
                        f'parse error on line 1, column {len(text) + 1}: extraneous or missing " in quoted-field'
                    )
                parts.append(text[start:end])
                if not text.startswith('""', end):
                    break
                parts.append('"')
                start = end + 2
            out.append("".join(parts))
            position = end + 1
            if position < len(text) and text[position] != ",":
                raise ValueError(f'parse error on line 1, column {position}: extraneous or missing " in quoted-field')
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            bare = text.find('"', position, end)
            if bare >= 0:
                raise ValueError(f'parse error on line 1, column {bare + 1}: bare " in non-quoted-field')
            out.append(text[position:end])
            position = end
        if position >= len(text):
            return out
        position += 1
