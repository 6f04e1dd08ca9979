"""daemon.json: dockerd's keys, read once, checked, and nothing unknown accepted.

A key that this engine does not know is refused by name, as dockerd does; a key that it knows and cannot honour is
refused too. The command line wins over the file; a key given in both is an error, as dockerd's.
"""

import json
import os

from wherry import paths
from wherry.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOG_DRIVERS = ("json-file", "local", "syslog", "journald", "none")

# key -> (type, attribute)
_KEYS: "dict[str, tuple[type, str]]" = {
    "data-root": (str, "data_root"),
    "exec-root": (str, "exec_root"),
    "hosts": (list, "hosts"),
    "registry-mirrors": (list, "registry_mirrors"),
    "insecure-registries": (list, "insecure_registries"),
    "registries": (dict, "registries"),
    "bip": (str, "bip"),
    "pidfile": (str, "pidfile"),
    "log-level": (str, "log_level"),
    "live-restore": (bool, "live_restore"),
    "icc": (bool, "icc"),
    "publish-policy": (str, "publish_policy"),
    "dns": (list, "dns"),
    "dns-opts": (list, "dns_options"),
    "dns-search": (list, "dns_search"),
    "storage-driver": (str, "storage_driver"),
    "log-driver": (str, "log_driver"),
    "log-opts": (dict, "log_opts"),
    "group": (str, "group"),
    "debug": (bool, "debug"),
    "init": (bool, "init"),
    "shutdown-timeout": (int, "shutdown_timeout"),
    "labels": (list, "labels"),
    "default-shm-size": (str, "default_shm_size"),
    "seccomp-profile": (str, "seccomp_profile"),
    "no-new-privileges": (bool, "no_new_privileges"),
    "userns-remap": (str, "userns_remap"),
    "builder": (dict, "builder"),
    "experimental": (bool, "experimental"),
}

LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


class EngineConfig:
    """One engine's settings, after file and command line were joined.

    Attributes are the keys of daemon.json with underscores; `roots` is where this engine's files lie.
    """

    def __init__(self) -> None:
        self.data_root = paths.DEFAULT_DATA_ROOT
        self.exec_root = paths.DEFAULT_RUN_ROOT
        self.hosts: list[str] = []
        self.registry_mirrors: list[str] = []
        self.insecure_registries: list[str] = []
        # ours: for each registry its mirrors, whether it is insecure, and where its token servers may be
        self.registries: dict[str, Any] = {}
        self.bip = ""
        self.pidfile = ""
        self.log_level = "info"
        self.live_restore = True
        self.icc = True
        # ours: `host-firewall` has published ports obey the host's own input rules
        self.publish_policy = ""
        self.dns: list[str] = []
        self.dns_options: list[str] = []
        self.dns_search: list[str] = []
        self.storage_driver = "overlay2"
        self.log_driver = "json-file"
        self.log_opts: dict[str, str] = {}
        self.group = "wherry"
        self.debug = False
        self.init = False
        self.shutdown_timeout = 15
        self.labels: list[str] = []
        self.default_shm_size = "64M"
        self.seccomp_profile = ""
        self.no_new_privileges = False
        self.userns_remap = ""
        # what clients are told: the docker command offers `checkpoint` and `build --squash` then
        self.experimental = False
        # Docker's: `{"gc": {"enabled": true, "defaultKeepStorage": "20GB"}}`
        self.builder: dict[str, Any] = {}

    @property
    def roots(self) -> paths.Roots:
        """The data and run roots."""
        return paths.Roots(self.data_root, self.exec_root)

    def update(self, values: "dict[str, Any]", origin: str) -> None:
        """Take `values` (keys as in daemon.json).

        Raises:
            InvalidArgument: an unknown key, a wrong type or an impossible value; `origin` is named.
        """
        for key, value in values.items():
            known = _KEYS.get(key)
            if known is None:
                raise InvalidArgument(f"{origin}: the following directives don't match any configuration option: {key}")
            kind, attribute = known
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise InvalidArgument(f"{origin}: {key}: expected {kind.__name__}, got {type(value).__name__}")
            if isinstance(value, list) and not all(isinstance(item, str) for item in value):
                raise InvalidArgument(f"{origin}: {key}: expected a list of strings")
            setattr(self, attribute, value)
        self._check(origin)

    def _check(self, origin: str) -> None:
        if self.log_level not in LOG_LEVELS:
            raise InvalidArgument(f"{origin}: invalid logging level: {self.log_level}")
        if self.storage_driver not in ("overlay2", "overlay", "overlayfs"):
            raise InvalidArgument(f"{origin}: storage driver not supported: {self.storage_driver}")
        if self.publish_policy not in ("", "open", "host-firewall"):
            raise InvalidArgument(f"{origin}: publish-policy: want open or host-firewall, not {self.publish_policy}")
        if self.log_driver not in LOG_DRIVERS:
            raise InvalidArgument(f'{origin}: logger: no log driver named "{self.log_driver}" is registered')


def read_file(path: str, *, required: bool) -> "dict[str, Any]":
    """Read daemon.json.

    Args:
        path: the file.
        required: False where the path is the default one and may be absent.

    Raises:
        InvalidArgument: the file is missing although required, is not JSON, or is not an object.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(1 << 20)
    except FileNotFoundError:
        if required:
            raise InvalidArgument(f"unable to configure the engine with file {path}: no such file") from None
        return {}
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"unable to configure the engine with file {path}: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"unable to configure the engine with file {path}: not a JSON object")
    return value


def default_config_path() -> str:
    """The default daemon.json."""
    return os.environ.get("WHERRY_CONFIG", paths.DEFAULT_CONFIG_FILE)
