"""Where files lie. The only module that knows; every root is relocatable.

    data root   lock  identity  blobs/sha256/<hex>  ingest/  snapshots/<chain hex>/fs  trash/  wherry.db  schema
                containers/<id>/{container.json, exit.json, former-exit.json, upper/, work/, <id>-json.log, hosts,
                hostname, resolv.conf}
                networks/{bridge,host,none}.json  networks/<id>/network.json  volumes/<name>/{volume.json, _data}
                seccomp/<key>.bpf  helpers/<name>/<name>.log
    run root    wherry.sock  wherryd.pid  wherryd.lock
                containers/<id>/{state.json, launch.json, monitor.sock, bundle/config.json}
                helpers/<name>/{state.json, monitor.sock}

The run root is volatile: losing it means that nothing runs.
"""

import os

DEFAULT_DATA_ROOT = "/var/lib/wherry"
DEFAULT_RUN_ROOT = "/run/wherry"
DEFAULT_CONFIG_FILE = "/etc/wherry/daemon.json"
DEFAULT_SOCKET = "/run/wherry/wherry.sock"


class Roots:
    """The two roots of one engine, and every path below them.

    Args:
        data: data root (durable).
        run: run root (volatile).
    """

    __slots__ = ("data", "run", "tag")

    def __init__(self, data: str = DEFAULT_DATA_ROOT, run: str = DEFAULT_RUN_ROOT) -> None:
        self.data = os.path.abspath(data)
        self.run = os.path.abspath(run)
        self.tag = _tag(self.data)

    # what must be unique on the machine is named after the data root
    @property
    def scope(self) -> str:
        """Name of this engine's cgroup branch and firewall table: `wherry`, or `wherry-<8 hex>` for another root."""
        return f"wherry-{self.tag}" if self.tag else "wherry"

    @property
    def bridge(self) -> str:
        """Default bridge (at most 15 characters): `wherry0`, or `wh<8 hex>0`."""
        return f"wh{self.tag}0" if self.tag else "wherry0"

    @property
    def lock(self) -> str:
        return f"{self.data}/lock"

    @property
    def identity(self) -> str:
        return f"{self.data}/identity"

    @property
    def schema(self) -> str:
        return f"{self.data}/schema"

    @property
    def blobs(self) -> str:
        return f"{self.data}/blobs"

    @property
    def ingest(self) -> str:
        return f"{self.data}/ingest"

    @property
    def snapshots(self) -> str:
        return f"{self.data}/snapshots"

    @property
    def trash(self) -> str:
        return f"{self.data}/trash"

    @property
    def database(self) -> str:
        return f"{self.data}/wherry.db"

    @property
    def build(self) -> str:
        """What the builder keeps: caches that steps mount, contexts that clients sent."""
        return f"{self.data}/build"

    @property
    def seccomp(self) -> str:
        return f"{self.data}/seccomp"

    @property
    def networks(self) -> str:
        return f"{self.data}/networks"

    @property
    def containers(self) -> str:
        return f"{self.data}/containers"

    def container(self, id_: str) -> str:
        """Durable directory of one container."""
        return f"{self.data}/containers/{id_}"

    def helper(self, name: str) -> str:
        """Durable directory of one helper: its log, its configuration."""
        return f"{self.data}/helpers/{name}"

    def helper_run(self, name: str) -> str:
        """Volatile directory of one helper: state, monitor socket, its own sockets."""
        return f"{self.run}/helpers/{name}"

    @property
    def volumes(self) -> str:
        return f"{self.data}/volumes"

    @property
    def sandboxes(self) -> str:
        return f"{self.run}/containers"

    def sandbox(self, id_: str) -> str:
        """Volatile directory of one container: state, monitor socket, bundle."""
        return f"{self.run}/containers/{id_}"

    @property
    def socket(self) -> str:
        return f"{self.run}/wherry.sock"

    @property
    def run_lock(self) -> str:
        return f"{self.run}/wherryd.lock"

    @property
    def pidfile(self) -> str:
        return f"{self.run}/wherryd.pid"


def _tag(data: str) -> str:
    if data == DEFAULT_DATA_ROOT:
        return ""
    # FNV-1a, 32 bits: hashlib costs the short-lived command 3 ms
    value = 0x811C9DC5
    for byte in os.fsencode(data):
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f"{value:08x}"
