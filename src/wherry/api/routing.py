"""Which handler answers a method and a path. Dictionaries, not patterns: a look-up costs the same for every route.

A path is `/collection/verb`, `/collection/{name}` or `/collection/{name}/verb`; a name may hold slashes.
"""

import posixpath
import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote, unquote_to_bytes

from wherry.api import (
    absent,
    archive,
    build,
    checkpoints,
    containers,
    copies,
    images,
    networks,
    ours,
    proxy,
    streams,
    system,
    volumes,
    websocket,
)
from wherry.api.call import Call
from wherry.api.reply import Answer

Handler = Callable[[Call], Awaitable[Answer]]
_not = absent.unsupported

# one path, no name in it
EXACT: dict[tuple[str, str], Handler] = {
    ("GET", "/_ping"): system.ping,
    ("HEAD", "/_ping"): system.ping,
    ("GET", "/version"): system.version,
    ("GET", "/info"): system.info,
    ("GET", "/events"): system.events,
    ("GET", "/system/df"): system.df,
    ("POST", "/auth"): images.login,
    ("POST", "/build"): build.build,
    ("POST", "/build/prune"): build.prune,
    ("POST", "/build/cancel"): _not("build is"),
    ("POST", "/commit"): images.commit,
    ("POST", "/session"): _not("BuildKit is"),
    ("POST", "/grpc"): _not("BuildKit is"),
    ("POST", "/containers/create"): containers.create,
    ("GET", "/containers/json"): containers.listing,
    ("POST", "/containers/prune"): containers.prune,
    ("GET", "/images/json"): images.listing,
    ("POST", "/images/create"): images.create,
    ("POST", "/images/load"): images.load,
    ("POST", "/images/prune"): images.prune,
    ("GET", "/images/get"): images.save_many,
    ("GET", "/images/search"): images.search,
    ("GET", "/networks"): networks.listing,
    ("GET", "/networks/"): networks.listing,
    ("POST", "/networks/create"): networks.create,
    ("POST", "/networks/prune"): networks.prune,
    ("GET", "/volumes"): volumes.listing,
    ("POST", "/volumes/create"): volumes.create,
    ("POST", "/volumes/prune"): volumes.prune,
    ("GET", "/plugins"): absent.plugins,
    ("GET", "/plugins/privileges"): _not("plugins are"),
    ("POST", "/plugins/pull"): _not("plugins are"),
    ("POST", "/plugins/create"): _not("plugins are"),
    ("POST", "/swarm/init"): absent.swarm_start,
    ("POST", "/swarm/join"): absent.swarm_start,
    ("POST", "/swarm/leave"): absent.swarm_leave,
}

# (method, collection, verb); the verb of `DELETE /containers/{id}` is empty
NAMED: dict[tuple[str, str, str], Handler] = {
    ("GET", "containers", "json"): containers.inspect,
    ("POST", "containers", "start"): containers.start,
    ("POST", "containers", "stop"): containers.stop,
    ("POST", "containers", "restart"): containers.restart,
    ("POST", "containers", "kill"): containers.kill,
    ("POST", "containers", "pause"): containers.pause,
    ("POST", "containers", "unpause"): containers.unpause,
    ("POST", "containers", "wait"): containers.wait,
    ("POST", "containers", "rename"): containers.rename,
    ("POST", "containers", "resize"): containers.resize,
    ("POST", "containers", "attach"): streams.attach,
    ("POST", "build", "resize"): streams.build_resize,
    ("GET", "containers", "attach/ws"): websocket.attach,
    ("GET", "containers", "logs"): streams.logs,
    ("POST", "containers", "exec"): streams.exec_create,
    ("GET", "containers", "top"): containers.top,
    ("DELETE", "containers", ""): containers.remove,
    ("POST", "containers", "update"): containers.update,
    ("GET", "containers", "changes"): containers.changes,
    ("GET", "containers", "checkpoints"): checkpoints.listing,
    ("POST", "containers", "checkpoints"): checkpoints.create,
    ("GET", "containers", "stats"): containers.stats,
    ("GET", "containers", "export"): containers.export,
    ("HEAD", "containers", "archive"): archive.head,
    ("GET", "containers", "archive"): archive.get,
    ("PUT", "containers", "archive"): archive.put,
    ("POST", "exec", "start"): streams.exec_start,
    ("POST", "exec", "resize"): streams.exec_resize,
    ("GET", "exec", "json"): streams.exec_inspect,
    ("GET", "images", "json"): images.inspect,
    ("GET", "images", "history"): images.history,
    ("POST", "images", "tag"): images.tag,
    ("POST", "images", "push"): images.push,
    ("GET", "images", "get"): images.save_one,
    ("DELETE", "images", ""): images.remove,
    ("GET", "distribution", "json"): images.distribution,
    ("GET", "networks", ""): networks.inspect,
    ("DELETE", "networks", ""): networks.remove,
    ("POST", "networks", "connect"): networks.connect,
    ("POST", "networks", "disconnect"): networks.disconnect,
    ("GET", "volumes", ""): volumes.inspect,
    ("PUT", "volumes", ""): _not("update of a volume, which is for swarm's, is"),
    ("DELETE", "volumes", ""): volumes.remove,
    ("GET", "plugins", "json"): absent.plugin,
    ("POST", "plugins", ""): absent.plugin,
    ("DELETE", "plugins", ""): absent.plugin,
}

# these have no version: they are ours
OURS: dict[tuple[str, str], Handler] = {
    ("POST", "/wherry/v1/bootstrap"): ours.bootstrap,
    ("GET", "/wherry/v1/networks/check"): networks.check,
    ("POST", "/wherry/v1/check"): images.check,
    ("GET", "/wherry/v1/manifest"): images.manifests,
    ("GET", "/wherry/v1/volumes/export"): volumes.export,
    ("POST", "/wherry/v1/volumes/import"): volumes.import_,
    ("POST", "/wherry/v1/volumes/clone"): volumes.clone,
    ("GET", "/wherry/v1/tags"): images.remote_tags,
    ("GET", "/wherry/v1/proxy/services"): proxy.services,
    ("GET", "/wherry/v1/proxy/service"): proxy.service,
    ("GET", "/wherry/v1/proxy/statistics"): proxy.statistics,
    ("POST", "/wherry/v1/build"): build.client,
    ("POST", "/wherry/v1/build/archive"): build.archive,
    ("POST", "/wherry/v1/build/connect"): streams.build_connect,
    ("POST", "/wherry/v1/build/context"): build.context,
    ("PUT", "/wherry/v1/build/context"): build.contents,
    ("DELETE", "/wherry/v1/build/context"): build.release,
    ("GET", "/wherry/v1/copy/offer"): copies.offer,
    ("POST", "/wherry/v1/copy/missing"): copies.missing,
    ("GET", "/wherry/v1/copy/blob"): copies.read,
    ("PUT", "/wherry/v1/copy/blob"): copies.receive,
    ("POST", "/wherry/v1/copy/assemble"): copies.assemble,
}

# answered however few descriptors are left: what ends something, or begins nothing. Starts look for themselves
ALWAYS: frozenset[Handler] = frozenset(
    (
        *(containers.start, containers.restart, containers.stop, containers.kill, containers.wait, containers.prune),
        *(containers.pause, containers.unpause, containers.rename, containers.resize, containers.update),
        *(
            streams.exec_create,
            streams.exec_start,
            streams.attach,
            streams.exec_resize,
            streams.build_resize,
            networks.disconnect,
            networks.prune,
        ),
        *(build.prune, images.prune, volumes.prune),
    )
)

_VERSION = re.compile(r"/v([0-9.]+)(/.*)\Z", re.DOTALL)


class BadPath(Exception):
    """A request target that is no path (400)."""


class Moved(Exception):
    """A path that is not in its clean form; `location` is where it should have gone (301, as dockerd)."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


def split_target(target: str) -> tuple[str, str]:
    """Divide a request target into decoded path and raw query.

    A byte that is no UTF-8 becomes U+FFFD, which no name has.

    Raises:
        BadPath: not a path, or a broken percent escape.
        Moved: `//`, `/./` or `/../` in it.
    """
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        # the absolute form that proxies send
        scheme, found, rest = path.partition("://")
        if not found or scheme.lower() not in ("http", "https", "unix"):
            raise BadPath
        path = "/" + rest.partition("/")[2]
    if "%" in path:
        if re.search(r"%(?![0-9a-fA-F]{2})", path):
            raise BadPath
        path = unquote_to_bytes(path).decode("utf-8", "replace")
    if "//" in path or "/." in path:
        clean = posixpath.normpath(path).replace("//", "/")
        if path.endswith("/") and clean != "/":
            clean += "/"
        if clean != path:
            location = quote(clean, safe="/:@!$&'()*+,;=~")
            raise Moved(f"{location}?{query}" if query else location)
    return path, query


def split_version(path: str) -> tuple[str | None, str]:
    """Take `/v1.41` off a path."""
    if path.startswith("/v"):
        found = _VERSION.match(path)
        if found:
            return found[1], found[2]
    return None, path


def find(method: str, path: str) -> tuple[Handler, str] | None:
    """Find handler and name for a clean path without version; None: there is no such page."""
    handler = EXACT.get((method, path))
    if handler is not None:
        return handler, ""
    collection, _, rest = path[1:].partition("/")
    if rest:
        name, _, verb = rest.rpartition("/")
        if name:
            if method == "DELETE" and collection == "containers" and name.endswith("/checkpoints"):
                return checkpoints.remove, rest
            if verb == "ws" and name.endswith("/attach"):
                name, verb = name[: -len("/attach")], "attach/ws"
            handler = NAMED.get((method, collection, verb))
            if handler is not None:
                return handler, name
        handler = NAMED.get((method, collection, ""))
        if handler is not None:
            return handler, rest
    if collection in absent.SWARM:
        return absent.swarm, rest
    return None
