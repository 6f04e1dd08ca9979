"""Which values the settings of daemon.json may have, beyond their JSON types."""

import os

from wherry.errors import InvalidArgument
from wherry.values.sizes import ram_in_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.config import EngineConfig

LOG_DRIVERS = ("json-file", "local", "syslog", "journald", "none")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
RUNTIMES = ("", "runc", "io.containerd.runc.v2", "wherry-runtime")
"""Names of the one runtime there is."""
SPOOF_PROTECTIONS = ("on", "strict", "off")
"""Values of `spoof-protection`, and of the option of a network."""
_PROXIES = ("http-proxy", "https-proxy", "no-proxy")
_MOST_POOL_BITS = 30
_MTU_RANGE = range(68, 65536)


def check(config: "EngineConfig", origin: str) -> None:
    """Check every setting.

    Args:
        origin: the file or the flags, for messages.

    Raises:
        InvalidArgument: a value that cannot be; the key is named.
    """

    def need(good: object, words: str) -> None:
        if not good:
            raise InvalidArgument(f"{origin}: {words}")

    need(config.log_level in LOG_LEVELS, f"invalid logging level: {config.log_level}")
    need(config.log_format in ("text", "json"), f"invalid log format: {config.log_format}")
    need(
        config.storage_driver in ("overlay2", "overlay", "overlayfs"),
        f"storage driver not supported: {config.storage_driver}",
    )
    need(
        config.publish_policy in ("", "open", "host-firewall"),
        f"publish-policy: want open or host-firewall, not {config.publish_policy}",
    )
    need(
        config.spoof_protection in ("", *SPOOF_PROTECTIONS),
        f"spoof-protection: expected one of {', '.join(SPOOF_PROTECTIONS)}, got {config.spoof_protection}",
    )
    need(config.log_driver in LOG_DRIVERS, f'logger: no log driver named "{config.log_driver}" is registered')
    need(config.default_runtime in RUNTIMES, f'default-runtime: unknown runtime "{config.default_runtime}"')
    need(
        config.default_cgroupns_mode in ("", "host", "private"),
        f'default cgroup namespace mode ({config.default_cgroupns_mode}) is invalid; use "host" or "private"',
    )
    need(
        config.default_ipc_mode in ("", "private", "shareable"),
        f'IPC mode ("{config.default_ipc_mode}") is invalid: default-ipc-mode is "private" or "shareable"',
    )
    for name in ("max_concurrent_downloads", "max_concurrent_uploads", "max_download_attempts"):
        value = getattr(config, name)
        need(value > 0, f"invalid {name.replace('_', ' ')}: {value}")
    need(config.mtu == 0 or config.mtu in _MTU_RANGE, f"invalid default MTU: {config.mtu}")
    need(not config.init_path or os.access(config.init_path, os.X_OK), f"init-path: no program {config.init_path}")
    for name in config.proxies:
        need(name in _PROXIES and isinstance(config.proxies[name], str), f"proxies: {name}: no such setting")
    _shm_size(config, origin)
    _ulimits(config, origin)
    for driver, options in config.default_network_opts.items():
        fine = isinstance(options, dict) and all(isinstance(value, str) for value in options.values())
        need(fine, f"default-network-opts: {driver}: expected an object of strings")
    _addresses(config, origin)


def shm_bytes(value: "str | int") -> int:
    """Return the size that `default-shm-size` says, in bytes (`64M`, `1g`, 67108864).

    Raises:
        ValueError: it is no size.
    """
    if isinstance(value, int):
        return value
    return ram_in_bytes(value.strip())


def _shm_size(config: "EngineConfig", origin: str) -> None:
    try:
        size = shm_bytes(config.default_shm_size)
    except ValueError:
        raise InvalidArgument(f"{origin}: default-shm-size: invalid size: '{config.default_shm_size}'") from None
    if size <= 0:
        raise InvalidArgument(f"{origin}: default SHM size must be greater than 0")


def _ulimits(config: "EngineConfig", origin: str) -> None:
    for name, limit in config.default_ulimits.items():
        fine = isinstance(limit, dict) and all(isinstance(limit.get(key), int) for key in ("Hard", "Soft"))
        if not fine or limit.get("Name", name) != name:
            raise InvalidArgument(f"{origin}: default-ulimits: {name}: expected Name, Hard and Soft")
        if limit["Hard"] != -1 and (limit["Soft"] == -1 or limit["Soft"] > limit["Hard"]):
            raise InvalidArgument(
                f"{origin}: default-ulimits: {name}: ulimit soft limit must be less than or equal to hard limit: "
                f"{limit['Soft']} > {limit['Hard']}"
            )


def _addresses(config: "EngineConfig", origin: str) -> None:
    from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network, ip_address

    key = ""
    try:
        if config.ip:
            key = "ip"
            IPv4Address(config.ip)
        if config.host_gateway_ip:
            key = "host-gateway-ip"
            ip_address(config.host_gateway_ip)
        if config.fixed_cidr:
            key = "fixed-cidr"
            part = IPv4Network(config.fixed_cidr)
            if part.prefixlen > _MOST_POOL_BITS:
                raise ValueError(f"{part} has no room for containers")
            if config.bip and not part.subnet_of(IPv4Interface(config.bip).network):
                raise ValueError(f"{part} is not in the subnet of bip, {IPv4Interface(config.bip).network}")
        if config.fixed_cidr_v6:
            key = "fixed-cidr-v6"
            if not config.ipv6:
                raise ValueError('it needs "ipv6": true')
            IPv6Network(config.fixed_cidr_v6)
        key = "default-address-pools"
        for pool in config.default_address_pools:
            _pool(pool)
    except ValueError as error:
        raise InvalidArgument(f"{origin}: {key}: {error}") from None


def _pool(pool: "dict[str, Any]") -> None:
    from ipaddress import IPv4Network

    if not isinstance(pool, dict) or set(pool) != {"base", "size"} or not isinstance(pool["size"], int):
        raise ValueError('expected {"base": "10.0.0.0/8", "size": 24}')
    base = IPv4Network(pool["base"])
    if not base.prefixlen <= pool["size"] <= _MOST_POOL_BITS:
        raise ValueError(f"size {pool['size']} does not fit {base}: want {base.prefixlen} to {_MOST_POOL_BITS}")
