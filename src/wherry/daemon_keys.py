"""Every key of dockerd's daemon.json, and whether this engine honours it, ignores it with a warning, or refuses it.

`docs/daemon-json.md` shows this table; a test holds the two together.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

WORKS, IGNORED, REFUSED = "works", "ignored", "refused"


class Key:
    """One key.

    Attributes:
        verdict: WORKS, IGNORED (accepted; a warning says that it means nothing here) or REFUSED.
        kinds: the JSON types that it may have.
        attribute: where `EngineConfig` keeps it; for WORKS only.
        reason: what the key does, or why it is ignored or refused.
        harmless: tells which values ask for nothing that this engine lacks; they pass without a word.
    """

    __slots__ = ("attribute", "harmless", "kinds", "reason", "verdict")

    def __init__(
        self,
        verdict: str,
        kinds: "tuple[type, ...]",
        reason: str,
        attribute: str = "",
        harmless: "Callable[[Any], bool]" = lambda value: not value,
    ) -> None:
        self.verdict = verdict
        self.kinds = kinds
        self.reason = reason
        self.attribute = attribute
        self.harmless = harmless


def _works(kind: "type | tuple[type, ...]", reason: str, attribute: str) -> Key:
    return Key(WORKS, kind if isinstance(kind, tuple) else (kind,), reason, attribute)


def _ignored(kind: type, reason: str, *harmless: "Any") -> Key:
    return Key(IGNORED, (kind,), reason, harmless=lambda value: not value or value in harmless)


def _refused(kind: type, reason: str, *harmless: "Any") -> Key:
    """A key whose `harmless` values pass; none named: those that say no, or nothing."""
    if harmless:
        return Key(REFUSED, (kind,), reason, harmless=lambda value: value in harmless)
    return Key(REFUSED, (kind,), reason)


def _cgroup_driver(options: "Any") -> bool:
    return all(option == "native.cgroupdriver=cgroupfs" for option in options)


_NO_CONTAINERD = "there is no containerd"
_NO_SWARM = "there is no swarm"
_REMOVED = "dockerd has removed this key too"
_OWN_TABLE = "published ports are rules in an nftables table of the engine's own, and it cannot work without them"

KEYS: "Mapping[str, Key]" = {
    # where things are, and who may use them
    "data-root": _works(str, "root of persistent state", "data_root"),
    "exec-root": _works(str, "root of volatile state", "exec_root"),
    "hosts": _works(list, "sockets to listen on", "hosts"),
    "tls": _works(
        bool, "TLS at `tcp://` addresses; alone it needs `insecure-plain-tcp`: any client may connect", "tls"
    ),
    "tlsverify": _works(bool, "TLS at `tcp://` addresses, for clients with a certificate of `tlscacert`", "tlsverify"),
    "tlscacert": _works(str, "authorities of clients' certificates, `~/.docker/ca.pem`", "tlscacert"),
    "tlscert": _works(str, "the API's certificate, `~/.docker/cert.pem`", "tlscert"),
    "tlskey": _works(str, "its key, `~/.docker/key.pem`", "tlskey"),
    "insecure-plain-tcp": _works(
        bool, "Wherry's own: `tcp://` addresses need no client certificates", "insecure_plain_tcp"
    ),
    "pidfile": _works(str, "where the pid is written", "pidfile"),
    "group": _works(str, "group of the unix socket", "group"),
    "labels": _works(list, "labels of the engine, in `info`", "labels"),
    "debug": _works(bool, "debug messages", "debug"),
    "log-level": _works(str, "`debug`, `info`, `warn`, `error`, `fatal`", "log_level"),
    "log-format": _works(str, "`text` or `json`: the engine's own messages", "log_format"),
    "experimental": _works(bool, "the docker command shows `checkpoint` and `build --squash`", "experimental"),
    "live-restore": _works(bool, "containers outlive the engine; true unless it says otherwise", "live_restore"),
    "shutdown-timeout": _works(int, "seconds for containers to stop, where live-restore is off", "shutdown_timeout"),
    # registries
    "registry-mirrors": _works(list, "mirrors; `HOST=URL` for registries other than Docker Hub", "registry_mirrors"),
    "insecure-registries": _works(list, "registries without TLS, or with any certificate", "insecure_registries"),
    "registries": _works(dict, "Wherry's own: mirrors, token servers and security of each registry", "registries"),
    "proxies": _works(dict, "`http-proxy`, `https-proxy`, `no-proxy` for registries and sources", "proxies"),
    "max-concurrent-downloads": _works(int, "layers fetched at a time, 3", "max_concurrent_downloads"),
    "max-concurrent-uploads": _works(int, "layers sent at a time, 5", "max_concurrent_uploads"),
    "max-download-attempts": _works(int, "attempts for each transfer, 5", "max_download_attempts"),
    # networks
    "bip": _works(str, "address of the default bridge", "bip"),
    "fixed-cidr": _works(str, "the part of the default bridge's subnet from which addresses come", "fixed_cidr"),
    "ipv6": _works(bool, "IPv6 on the default bridge", "ipv6"),
    "fixed-cidr-v6": _works(str, "IPv6 subnet of the default bridge; one is chosen without it", "fixed_cidr_v6"),
    "icc": _works(bool, "containers of the default bridge may talk to each other", "icc"),
    "ip": _works(str, "host address of the default bridge's published ports", "ip"),
    "ip-masq": _works(bool, "what leaves the default bridge gets the host's address", "ip_masq"),
    "ip-forward": _works(bool, "the engine switches IP forwarding on", "ip_forward"),
    "mtu": _works(int, "MTU of the default bridge's containers", "mtu"),
    "default-network-opts": _works(dict, "options of new networks, by driver", "default_network_opts"),
    "default-address-pools": _works(list, "where subnets of networks come from", "default_address_pools"),
    "host-gateway-ip": _works(str, "what `--add-host NAME:host-gateway` means", "host_gateway_ip"),
    "dns": _works(list, "name servers of containers", "dns"),
    "dns-opts": _works(list, "resolver options of containers", "dns_options"),
    "dns-search": _works(list, "search domains of containers", "dns_search"),
    "publish-policy": _works(
        str, "Wherry's own: `host-firewall` has published ports obey the host's input rules", "publish_policy"
    ),
    "spoof-protection": _works(
        str,
        "Wherry's own: `on` (default), `strict` or `off`: containers use only their own source addresses",
        "spoof_protection",
    ),
    # containers
    "storage-driver": _works(str, "overlay2, the only one", "storage_driver"),
    "log-driver": _works(str, "log driver of containers that name none", "log_driver"),
    "log-opts": _works(dict, "its options", "log_opts"),
    "init": _works(bool, "`--init` for every container", "init"),
    "init-path": _works(str, "the program of `--init`", "init_path"),
    "cgroup-parent": _works(str, "cgroup of containers that name none", "cgroup_parent"),
    "default-cgroupns-mode": _works(str, "`private` or `host`", "default_cgroupns_mode"),
    "default-ipc-mode": _works(str, "`private` or `shareable`", "default_ipc_mode"),
    "default-shm-size": _works((str, int), "size of /dev/shm, 64M", "default_shm_size"),
    "default-ulimits": _works(dict, "limits of containers that do not name them", "default_ulimits"),
    "default-runtime": _works(str, "`runc` or `wherry-runtime`, the same", "default_runtime"),
    "seccomp-profile": _works(str, "a profile's path, `builtin` or `unconfined`", "seccomp_profile"),
    "no-new-privileges": _works(bool, "set-uid programs gain nothing", "no_new_privileges"),
    "userns-remap": _works(str, "user namespaces for all containers", "userns_remap"),
    "builder": _works(
        dict,
        "`gc`: size of its cache; `allowed-hosts`: what builds may reach; `known-hosts`: keys",
        "builder",
    ),
    # accepted, and without a meaning here
    "exec-opts": Key(IGNORED, (list,), "cgroups are written directly, never through systemd", "", _cgroup_driver),
    "features": Key(IGNORED, (dict,), "no feature is switched by it", "", lambda value: not any(dict(value).values())),
    "runtimes": _ignored(dict, "there is one runtime; a container that asks for another is refused"),
    "userland-proxy": _ignored(bool, "the kernel translates published ports; no proxy process is needed"),
    "userland-proxy-path": _ignored(str, "the kernel translates published ports; no proxy process is needed"),
    "raw-logs": _ignored(bool, "the engine's log has no colours"),
    "ip-forward-no-drop": _ignored(bool, "the engine sets no DROP policy on the host's FORWARD chain"),
    "firewall-backend": _ignored(str, "the engine has one backend, nftables", "nftables"),
    "min-api-version": _ignored(str, "the API answers from 1.24 on", "1.24"),
    "allow-nondistributable-artifacts": _ignored(list, "layers of foreign media types are refused"),
    "cdi-spec-dirs": _ignored(list, "there are no CDI devices"),
    "containerd": _ignored(str, _NO_CONTAINERD),
    "containerd-namespace": _ignored(str, _NO_CONTAINERD),
    "containerd-plugin-namespace": _ignored(str, _NO_CONTAINERD),
    "swarm-default-advertise-addr": _ignored(str, _NO_SWARM),
    "swarm-raft-heartbeat-tick": _ignored(int, _NO_SWARM),
    "swarm-raft-election-tick": _ignored(int, _NO_SWARM),
    "node-generic-resources": _ignored(list, _NO_SWARM),
    "network-control-plane-mtu": _ignored(int, _NO_SWARM),
    "network-diagnostic-port": _ignored(int, "there is no such server"),
    # refused: whoever relies on it would be worse off without a word
    "storage-opts": Key(
        REFUSED,
        (list,),
        "layers have no size limits",
        "",
        lambda value: all(option.startswith("overlay2.override_kernel_check=") for option in value),
    ),
    "iptables": _refused(bool, _OWN_TABLE, True),
    "ip6tables": _refused(bool, _OWN_TABLE, True),
    "bridge": _refused(str, "the default bridge is the engine's own: set its address with bip", "", "docker0"),
    "bip6": _refused(str, "set the IPv6 subnet with fixed-cidr-v6"),
    "default-gateway": _refused(str, "the way out of a container is the bridge"),
    "default-gateway-v6": _refused(str, "the way out of a container is the bridge"),
    "host-gateway-ips": _refused(list, "set one address with host-gateway-ip"),
    "bridge-accept-fwmark": _refused(str, "the engine's rules know no marks"),
    "allow-direct-routing": _refused(bool, "unpublished ports are never reached from outside"),
    "selinux-enabled": _refused(bool, "containers get no SELinux labels"),
    "authorization-plugins": _refused(list, "there are no plugins, and requests would pass without them"),
    "metrics-addr": _refused(str, "there are no metrics yet"),
    "rootless": _refused(bool, "the engine runs as root"),
    "oom-score-adjust": _refused(int, "set OOMScoreAdjust= in the service's unit: dockerd has removed this key too"),
    "cpu-rt-period": _refused(int, "real-time budgets are given to containers (--cpu-rt-period), not to all of them"),
    "cpu-rt-runtime": _refused(int, "real-time budgets are given to containers (--cpu-rt-runtime), not to all of them"),
    "resolv-conf": _refused(str, "set dns, dns-opts and dns-search"),
    "cluster-store": _refused(str, _REMOVED),
    "cluster-store-opts": _refused(dict, _REMOVED),
    "cluster-advertise": _refused(str, _REMOVED),
    "graph": _refused(str, "it is called data-root"),
    "api-cors-header": _refused(str, _REMOVED),
    "deprecated-key-path": _refused(str, _REMOVED),
    "disable-legacy-registry": _refused(bool, _REMOVED, True),
}
