"""daemon.json: dockerd's keys, read once, checked, and nothing unknown accepted.

`daemon_keys` says of each key whether it is honoured, ignored with a warning, or refused by name; an unknown one is
refused as dockerd does. A key given in the file and on the command line is an error, as dockerd's.
"""

import json
import os

from wherry import config_checks, paths
from wherry.daemon_keys import IGNORED, KEYS, REFUSED
from wherry.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_JSON_TYPES: "dict[type, str]" = {
    str: "a string",
    int: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    float: "a fraction",
}
_LISTS_OF_OBJECTS = ("default-address-pools",)


class EngineConfig:
    """One engine's settings, after file and command line were joined.

    Attributes are the keys of daemon.json with underscores; `roots` is where this engine's files lie.
    """

    def __init__(self) -> None:
        self.data_root = paths.DEFAULT_DATA_ROOT
        self.exec_root = paths.DEFAULT_RUN_ROOT
        self.hosts: list[str] = []
        self.tls = False
        # None: not given; given, it switches TLS on, whatever its value, as dockerd's
        self.tlsverify: bool | None = None
        self.tlscacert = ""
        self.tlscert = ""
        self.tlskey = ""
        # ours: the API may listen at tcp:// without client certificates
        self.insecure_plain_tcp = False
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
        # ours: whether containers on bridges can use only their own source addresses, where a network does not say it
        self.spoof_protection = ""
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
        self.init_path = ""
        self.cgroup_parent = ""
        self.default_cgroupns_mode = ""
        self.default_ipc_mode = ""
        self.default_ulimits: dict[str, dict[str, Any]] = {}
        self.default_runtime = ""
        self.log_format = "text"
        self.proxies: dict[str, str] = {}
        self.max_concurrent_downloads = 3
        self.max_concurrent_uploads = 5
        self.max_download_attempts = 5
        self.ip = ""
        self.ip_masq = True
        self.ip_forward = True
        self.ipv6 = False
        self.fixed_cidr = ""
        self.fixed_cidr_v6 = ""
        self.mtu = 0
        self.default_network_opts: dict[str, dict[str, str]] = {}
        self.default_address_pools: list[dict[str, Any]] = []
        self.host_gateway_ip = ""
        # messages about keys that were ignored
        self.warnings: list[str] = []
        # what clients are told: the docker command offers `checkpoint` and `build --squash` then
        self.experimental = False
        # Docker's: `{"gc": {"enabled": true, "defaultKeepStorage": "20GB"}}`
        self.builder: dict[str, Any] = {}

    @property
    def roots(self) -> paths.Roots:
        """The data and run roots."""
        return paths.Roots(self.data_root, self.exec_root)

    @property
    def speaks_tls(self) -> bool:
        """Whether TCP listeners of the API speak TLS."""
        return self.tls or self.tlsverify is not None

    def update(self, values: "dict[str, Any]", origin: str) -> None:
        """Take `values` (keys as in daemon.json).

        Raises:
            InvalidArgument: a key that is unknown or cannot be honoured, a wrong type or an impossible value;
                `origin` and the key are named.
        """
        for name, value in values.items():
            key = KEYS.get(name)
            if key is None:
                raise InvalidArgument(
                    f"{origin}: the following directives don't match any configuration option: {name}{_hint(name)}"
                )
            if not isinstance(value, key.kinds) or (isinstance(value, bool) and bool not in key.kinds):
                wanted = " or ".join(_JSON_TYPES[kind] for kind in key.kinds)
                raise InvalidArgument(
                    f"{origin}: {name}: expected {wanted}, got {_JSON_TYPES.get(type(value), 'null')}"
                )
            texts = value if isinstance(value, list) and name not in _LISTS_OF_OBJECTS else []
            if not all(isinstance(item, str) for item in texts):
                raise InvalidArgument(f"{origin}: {name}: expected a list of strings")
            if key.verdict == REFUSED and not key.harmless(value):
                raise InvalidArgument(f"{origin}: {name} is not supported: {key.reason}")
            if key.verdict == IGNORED and not key.harmless(value):
                self.warnings.append(f"{origin}: {name} has no effect: {key.reason}")
            if key.attribute:
                setattr(self, key.attribute, value)
        config_checks.check(self, origin)


def _hint(name: str) -> str:
    """The key that was probably meant: the same letters, but for case, hyphens and underscores."""
    bare = name.lower().replace("_", "").replace("-", "")
    near = [key for key in KEYS if key.replace("-", "") == bare]
    return f' (did you mean "{near[0]}"?)' if near else ""


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
