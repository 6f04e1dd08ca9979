"""What an image says and what the request says, joined as dockerd joins them."""

import posixpath
from typing import Any

import msgspec

from wherry.errors import InvalidArgument
from wherry.wire.containers import Config, CreateRequest, Healthcheck


def as_list(value: list[str] | str | None) -> list[str] | None:
    """`Cmd` and `Entrypoint` may be a string; a string is one word."""
    return [value] if isinstance(value, str) else value


def merge(request: CreateRequest, image: dict[str, Any]) -> Config:
    """Make the container's own `Config`.

    Args:
        request: the create request; it wins.
        image: the image configuration's `config` object (Docker's JSON keys), may be empty.

    Raises:
        InvalidArgument: neither names a command, in dockerd's words.
    """
    config = fill(Config(**{name: getattr(request, name) for name in Config.__struct_fields__}), image)
    if config.entrypoint == [""]:
        config.entrypoint = None
    config.on_build = None
    if not command(config):
        raise InvalidArgument("no command specified")
    return config


def fill(config: Config, image: dict[str, Any]) -> Config:
    """Fill in what a configuration leaves open from the one below it, as dockerd does for create and for commit.

    Args:
        config: it wins; changed in place, and returned.
        image: Docker's JSON keys, may be empty.
    """
    config.cmd, config.entrypoint = as_list(config.cmd), as_list(config.entrypoint)
    if not config.user:
        config.user = image.get("User") or ""
    config.exposed_ports = _union(image.get("ExposedPorts"), config.exposed_ports)
    config.volumes = _union(image.get("Volumes"), config.volumes)
    config.labels = {**(image.get("Labels") or {}), **(config.labels or {})}
    config.env = _environment(config.env, image.get("Env"))
    if not config.entrypoint:
        if not config.cmd:
            config.cmd = as_list(image.get("Cmd"))
        if config.entrypoint is None:
            config.entrypoint = as_list(image.get("Entrypoint"))
    config.working_dir = config.working_dir or image.get("WorkingDir") or ""
    if config.working_dir.startswith("/"):
        config.working_dir = posixpath.normpath(config.working_dir).replace("//", "/")
    config.stop_signal = config.stop_signal or image.get("StopSignal")
    config.shell = config.shell or image.get("Shell")
    config.healthcheck = _healthcheck(config.healthcheck, image.get("Healthcheck"))
    return config


def as_json(config: Config) -> dict[str, Any]:
    """A container's configuration as Docker writes it: what is optional and not set is left out."""
    shown: dict[str, Any] = msgspec.to_builtins(config)
    for absent in (
        *("Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress"),
        *("StopSignal", "StopTimeout", "Shell", "ExposedPorts"),
    ):
        if shown.get(absent) is None:
            shown.pop(absent, None)
    return shown


def settings_of(raw_config: bytes) -> dict[str, Any]:
    """The `config` object of a (checked) image configuration; empty where it has none."""
    settings: dict[str, Any] | None = msgspec.json.decode(raw_config).get("config")
    return settings or {}


def command(config: Config) -> list[str]:
    """The words of process 1: entrypoint, then command."""
    return [*(as_list(config.entrypoint) or []), *(as_list(config.cmd) or [])]


def _healthcheck(asked: Healthcheck | None, image: dict[str, Any] | None) -> Healthcheck | None:
    """What is not asked for is the image's."""
    below = msgspec.convert(image, Healthcheck) if image else None
    if asked is None or below is None:
        return asked or below
    return Healthcheck(
        test=asked.test or below.test,
        interval=asked.interval or below.interval,
        timeout=asked.timeout or below.timeout,
        start_period=asked.start_period or below.start_period,
        start_interval=asked.start_interval or below.start_interval,
        retries=asked.retries or below.retries,
    )


def _union(below: dict[str, Any] | None, above: dict[str, Any] | None) -> dict[str, Any] | None:
    return {**(below or {}), **(above or {})} or None


def _environment(asked: list[str] | None, image: list[str] | None) -> list[str]:
    env = list(asked or [])
    names = {entry.partition("=")[0] for entry in env}
    env.extend(entry for entry in image or [] if entry.partition("=")[0] not in names)
    return env
