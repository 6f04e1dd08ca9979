"""What a container's processes live in: cgroup, network namespace, configuration. The seam to the runtime."""

import os
from json import loads

from wherry.errors import InvalidSpec, KernelError
from wherry.linux.channel import Channel
from wherry.monitor.group import Group
from wherry.monitor.resolver import Resolver
from wherry.network.dns_sockets import open_sockets
from wherry.network.sandbox import bring_up, configure, create_namespace, leave, remove_host_links, route
from wherry.oci.mount import Mount
from wherry.oci.runtime_config import RuntimeConfig, parse, parse_process
from wherry.runtime.idmaps import make_namespaces
from wherry.runtime.join import join
from wherry.runtime.launch import Launched, Stdio, launch
from wherry.runtime.plan import id_map, plan_container
from wherry.runtime.sources import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.linux.loop import Loop


_PORTS_AT_ONCE = 32


class Sandbox(Group):
    """One container's surroundings; kept from launch to launch.

    Args:
        values: the launch object; `cgroup` and `network` count here.
        fds: its descriptors; a `ns:network` that is joined is taken out, and `port:<n>`, sockets that keep published
            ports ours, are held to the end.
    """

    __slots__ = ("_held", "_own_pids", "_ports", "_resolver", "endpoints", "netns_fd")

    def __init__(self, values: "dict[str, Any]", fds: "dict[str, int]") -> None:
        super().__init__(values["cgroup"])
        self._own_pids = True
        self._held: dict[str, int] = {}
        self.netns_fd: int | None = fds.pop("ns:network", None)
        self.endpoints: list[dict[str, Any]] = []
        self._ports: list[int] = []
        self._hold_ports(fds)
        self._resolver: Resolver | None = None

    def hold(self, fds: "dict[str, int]") -> "dict[str, int]":
        """Take the descriptors `hold:<volume>` out of a launch's, in place of those of the launch before, and keep
        them: namespaces in which volumes are mounted, until the last monitor lets go. Returns them by volume."""
        for fd in self._held.values():
            os.close(fd)
        self._held = {name[5:]: fds.pop(name) for name in list(fds) if name.startswith("hold:")}
        return dict(self._held)

    def launch(
        self, values: "dict[str, Any]", fds: "dict[str, int]", stdio: "tuple[int, int, int] | None"
    ) -> "tuple[dict[str, Any], dict[str, int]]":
        """Start process 1; runs in a helper, whose values and descriptors go to `launched`.

        Args:
            values: the launch object.
            fds: descriptors named `ns:<type>` are namespaces to join, `data:<n>` the content of files; `env` has
                variables that no file may hold, each ended by NUL.
            stdio: the child's ends, or None for a terminal.

        Raises:
            WherryError: what `launch` and the network say.
        """
        config = _read_config(values["config_path"])
        if config.process is not None:
            config.process.console_size = _size(values.get("console_size")) or config.process.console_size
            if "env" in fds:
                config.process.env += _variables(fds["env"])
        namespaces = {name[3:]: fd for name, fd in fds.items() if name.startswith("ns:")}
        network = values.get("network") or {"namespace": "host"}
        maps = (id_map(config.linux.uid_mappings), id_map(config.linux.gid_mappings))
        fresh = self._prepare_network(network, namespaces, maps)
        # before process 1: what it asks at once must find somebody
        sockets = open_sockets(namespaces["network"]) if fresh and network.get("dns") else (-1, -1)
        plan = plan_container(
            config,
            os.path.dirname(values["config_path"]),
            root_mounts=[_mount(entry) for entry in values.get("root_mounts") or ()],
            namespaces=namespaces,
            sources=_sources(values, fds),
            container_id=values["id"],
            contents={name: fd for name, fd in fds.items() if name.startswith("data:")},
        )
        kinds = dict(config.linux.namespaces)

        def concurrently(_pid: int) -> None:
            if fresh and self.netns_fd is not None:
                self.endpoints = configure(self.netns_fd, network.get("endpoints") or ())

        streams = Stdio(terminal=True) if stdio is None else Stdio(*stdio)
        if values.get("checkpoint"):
            from wherry.runtime.checkpoint import restore  # no monitor carries it for nothing

            launched = restore(
                plan,
                streams,
                values["checkpoint"],
                program=values["criu"],
                log=values["criu_log"],
                cgroup=self._cgroup,
                network=namespaces.get("network"),
                seccomp=_name(values["seccomp"]),
                concurrently=concurrently,
            )
        else:
            launched = launch(
                plan,
                streams,
                cgroup=self._cgroup,
                seccomp=_read(values["seccomp"]) if values.get("seccomp") else None,
                socketcalls=bool(values.get("socketcalls")),
                concurrently=concurrently,
            )
        given, given_fds = _give(launched)
        given["own_pids"] = "pid" in kinds and not kinds["pid"] and "pid" not in namespaces
        if fresh and self.netns_fd is not None:
            given["endpoints"] = self.endpoints
            given_fds["netns"] = self.netns_fd
            if network.get("dns"):
                given_fds["dns:udp"], given_fds["dns:tcp"] = sockets
        return given, given_fds

    def dump(
        self, values: "dict[str, Any]", pid: int, pipes: "dict[str, int]", images: str, program: "list[str]", log: str
    ) -> None:
        """Write the frozen container's image; runs in a helper. See `runtime.checkpoint.dump`.

        Args:
            values: the launch object.
            pid: process 1.
            pipes: our ends of its streams.
            images: an empty directory.
            program, log: criu, and where its log goes.
        """
        from wherry.runtime.checkpoint import dump

        path = values["config_path"]
        plan = plan_container(_read_config(path), os.path.dirname(path), container_id=values["id"])
        dump(
            plan,
            pid,
            pipes,
            images,
            program=program,
            log=log,
            cgroup=self._cgroup,
            own_network=self.netns_fd is not None,
            seccomp=_name(values["seccomp"]),
        )

    def launched(self, values: "dict[str, Any]", fds: "dict[str, int]") -> Launched:
        """Take over what `launch` has made."""
        self._own_pids = values["own_pids"]
        if "netns" in fds:
            self.netns_fd = fds.pop("netns")
            self.endpoints = values["endpoints"]
            if "dns:udp" in fds:
                self._resolver = Resolver(self.netns_fd, (fds.pop("dns:udp"), fds.pop("dns:tcp")))
        return taken(values, fds)

    def _hold_ports(self, fds: "dict[str, int]") -> None:
        self._ports += [fds.pop(name) for name in list(fds) if name.startswith("port:")]

    def rewire(
        self, attach: "list[dict[str, Any]]", detach: "list[str]", routes: "dict[str, list[str]]"
    ) -> "dict[str, Any]":
        """Change the interfaces of a running sandbox; runs in a helper, whose values go to `rewired`.

        Args:
            attach: endpoints, as in a launch.
            detach: names of interfaces inside; one that is not there is fine.
            routes: the default routes from then on (`network.sandbox.route`).

        Raises:
            KernelError: a step failed; what was attached by this call is gone again.
            InvalidSpec: the sandbox has no network namespace of its own.
        """
        if self.netns_fd is None:
            raise InvalidSpec("network: this sandbox has no namespace of its own")
        leave(self.netns_fd, [endpoint for endpoint in self.endpoints if endpoint["name"] in detach])
        kept = [endpoint for endpoint in self.endpoints if endpoint["name"] not in detach]
        made = configure(self.netns_fd, attach)
        try:
            route(self.netns_fd, routes)
        except BaseException:
            leave(self.netns_fd, made)
            raise
        return {"endpoints": [*kept, *made]}

    def rewired(self, values: "dict[str, Any]", fds: "dict[str, int]") -> None:
        """Take over what `rewire` has made, and further ports to hold."""
        self.endpoints = values["endpoints"]
        self._hold_ports(fds)

    def _prepare_network(
        self, network: "dict[str, Any]", namespaces: "dict[str, int]", maps: "tuple[str, str]"
    ) -> bool:
        """Fill in the network namespace; true where it is new and has its endpoints still to get.

        With id maps it belongs to a user namespace, which is filled in too: root in there is root over its interfaces.
        """
        kind = network["namespace"]
        if kind == "host":
            return False
        fresh = False
        if self.netns_fd is None:
            if kind != "new":
                raise InvalidSpec("network: the descriptor `ns:network` to join is missing")
            if any(maps):
                namespaces["user"], self.netns_fd = make_namespaces(*maps)
                bring_up(self.netns_fd)
            else:
                self.netns_fd = create_namespace()
            fresh = True
        namespaces["network"] = self.netns_fd
        return fresh

    def join(
        self,
        init_pid: int,
        message: "dict[str, Any]",
        stdio: "tuple[int, int, int] | None",
    ) -> "tuple[dict[str, Any], dict[str, int]]":
        """Start a process beside process 1; runs in a helper, whose values and descriptors go to `taken`.

        Args:
            init_pid: process 1.
            message: the `exec` request: `process`, `seccomp`, `socketcalls` and `console_size` count here.
            stdio: the child's ends, or None for a terminal.

        Raises:
            WherryError: as `runtime.join.join`.
        """
        process = parse_process(message["process"])
        process.console_size = _size(message.get("console_size")) or process.console_size
        return _give(
            join(
                init_pid,
                process,
                Stdio(terminal=True) if stdio is None else Stdio(*stdio),
                cgroup=self._cgroup,
                seccomp=_read(message["seccomp"]) if message.get("seccomp") else None,
                socketcalls=bool(message.get("socketcalls")),
            )
        )

    def lend_resolver(self, loop: "Loop", id_: str, fd: int) -> None:
        """Give netd the sockets of 127.0.0.11, which are opened now where they are not yet.

        Args:
            loop: the monitor's.
            id_: the container's.
            fd: a connection to netd; owned.

        Raises:
            InvalidSpec: the namespace is not this container's own.
            KernelError, OSError: they cannot be opened; netd is gone.
        """
        try:
            if self._resolver is None:
                if self.netns_fd is None:
                    raise InvalidSpec("the container has no network namespace of its own")
                self._resolver = Resolver(self.netns_fd)
        except BaseException:
            os.close(fd)
            raise
        self._resolver.lend(loop, id_, fd)

    def lend_ports(self, fd: int) -> None:
        """Send duplicates of the sockets that hold published ports, in messages with at most 32 each.

        Args:
            fd: where to; owned.

        Raises:
            OSError: nobody takes them.
        """
        channel = Channel.from_fd(fd)
        try:
            for first in range(0, len(self._ports), _PORTS_AT_ONCE):
                some = self._ports[first : first + _PORTS_AT_ONCE]
                channel.send({"op": "ports"}, {f"port:{number}": port for number, port in enumerate(some)})
        finally:
            channel.close()

    def kill_rest(self) -> None:
        """Process 1 is dead: in a pid namespace of its own so is everything else, in another's it must be killed."""
        if not self._own_pids:
            self.kill()

    def close(self) -> None:
        """Give up the network namespace. Its links are removed by name: a survivor may still hold it."""
        if self._resolver is not None:
            self._resolver.close()
            self._resolver = None
        if self.netns_fd is not None:
            os.close(self.netns_fd)
            self.netns_fd = None
        for fd in self._ports:
            os.close(fd)
        self._ports = []
        # a macvlan has no side here, and goes with the namespace
        links, self.endpoints = [e["host_name"] for e in self.endpoints if e["host_name"]], []
        if links:
            remove_host_links(links)


def _give(launched: Launched) -> "tuple[dict[str, Any], dict[str, int]]":
    fds = {"pidfd": launched.pidfd}
    if launched.master is not None:
        fds["master"] = launched.master
    if launched.listener is not None:
        fds["listener"] = launched.listener
    return {"pid": launched.pid, "start_time": launched.start_time, "warnings": launched.warnings}, fds


def taken(values: "dict[str, Any]", fds: "dict[str, int]") -> Launched:
    """What a helper has launched, from what it sent."""
    launched = Launched(values["pid"], fds["pidfd"], values["start_time"], fds.get("master"), fds.get("listener"))
    launched.warnings = tuple(values["warnings"])
    return launched


def _sources(values: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Source]":
    return {target: Source.from_json(entry, fds) for target, entry in (values.get("sources") or {}).items()}


def _name(path: "str | None") -> str:
    return os.path.basename(path or "")


def _mount(entry: "dict[str, Any]") -> Mount:
    return Mount(entry["destination"], entry["type"], entry["source"], tuple(entry.get("options") or ()))


def _variables(fd: int) -> "tuple[str, ...]":
    """Variables from a descriptor, read by offset, so that every start gets all of them."""
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    return tuple(word.decode("utf-8", "surrogateescape") for word in data.split(b"\0")[:-1])


def _read_config(path: str) -> RuntimeConfig:
    try:
        return parse(loads(_read(path)))
    except ValueError as error:
        raise InvalidSpec(f"{path}: {error}") from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise KernelError("read", error.errno or 0, path) from None


def _size(value: "list[int] | None") -> "tuple[int, int] | None":
    """Rows and columns; of nothing where either is none."""
    return (int(value[0]), int(value[1])) if value and all(value) else None
