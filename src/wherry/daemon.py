"""wherryd: reads flags and daemon.json, joins `api/` and `engine/`, and runs until it is told to stop."""

import argparse
import asyncio
import contextlib
import errno
import gc
import grp
import json
import logging
import os
import resource
import signal
import socket
import sys
import time

from wherry import __version__
from wherry.api.listen import parse_place
from wherry.api.reply import announce_experimental
from wherry.api.secured import Certificates
from wherry.api.server import Server
from wherry.builder.cache.space import rules
from wherry.builder.contexts.checkout import outside
from wherry.config import EngineConfig, default_config_path, read_file
from wherry.distribution.settings import registry_settings
from wherry.engine import holding
from wherry.engine.engine import Engine
from wherry.errors import InvalidArgument, Unavailable, WherryError
from wherry.linux import heap, loopwatch, rooted, stacks
from wherry.network.bridge import parse_bip

log = logging.getLogger("wherryd")

_TAKEN_SECONDS = 1.0
_TAKEN_STEP = 0.05
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


def parser() -> argparse.ArgumentParser:
    """The command line, dockerd's flags."""
    found = argparse.ArgumentParser(
        prog="wherryd", description="A self-sufficient engine for containers.", argument_default=argparse.SUPPRESS
    )
    found.add_argument("--data-root", metavar="DIR", help="root of persistent state (default /var/lib/wherry)")
    found.add_argument("--exec-root", metavar="DIR", help="root of volatile state (default /run/wherry)")
    found.add_argument("-H", "--host", dest="hosts", action="append", metavar="ADDRESS", help="socket to listen on")
    for name, words in (
        ("--tls", "TLS at tcp:// addresses; --tlsverify implies it"),
        ("--tlsverify", "TLS at tcp:// addresses, for clients with a certificate"),
        ("--insecure-plain-tcp", "tcp:// addresses need no client certificates: whoever reaches them is root"),
    ):
        found.add_argument(name, type=_boolean, nargs="?", const=True, metavar="BOOL", help=words)
    found.add_argument("--tlscacert", metavar="FILE", help="authorities of clients (default ~/.docker/ca.pem)")
    found.add_argument("--tlscert", metavar="FILE", help="certificate of the API (default ~/.docker/cert.pem)")
    found.add_argument("--tlskey", metavar="FILE", help="its key (default ~/.docker/key.pem)")
    found.add_argument("--config-file", metavar="FILE", help="settings (default /etc/wherry/daemon.json)")
    found.add_argument(
        "--registry-mirror", dest="registry-mirrors", action="append", metavar="URL", help="preferred mirror"
    )
    found.add_argument(
        "--insecure-registry", dest="insecure-registries", action="append", metavar="HOST", help="plain registry"
    )
    found.add_argument("--bip", metavar="CIDR", help="address of the default bridge")
    found.add_argument("-p", "--pidfile", metavar="FILE", help="where to write the pid")
    found.add_argument("-l", "--log-level", choices=sorted(_LEVELS), help='"debug", "info", "warn", "error", "fatal"')
    found.add_argument("-D", "--debug", action="store_true", help="debug messages")
    found.add_argument("-G", "--group", metavar="NAME", help="group of the unix socket (default wherry)")
    found.add_argument(
        "--live-restore",
        type=_boolean,
        nargs="?",
        const=True,
        metavar="BOOL",
        help="containers outlive the engine (default true)",
    )
    found.add_argument(
        "--icc",
        type=_boolean,
        nargs="?",
        const=True,
        metavar="BOOL",
        help="containers may talk to each other (default true)",
    )
    found.add_argument(
        "--experimental",
        type=_boolean,
        nargs="?",
        const=True,
        metavar="BOOL",
        help="let the docker command show checkpoint and --squash (default false)",
    )
    found.add_argument("--dns", action="append", metavar="ADDRESS", help="name server of containers")
    found.add_argument(
        "--dns-opt", dest="dns-opts", action="append", metavar="OPTION", help="resolver option of containers"
    )
    found.add_argument("--dns-search", action="append", metavar="DOMAIN", help="search domain of containers")
    found.add_argument("-s", "--storage-driver", metavar="NAME", help="storage driver (overlay2)")
    found.add_argument("--log-driver", metavar="NAME", help="default log driver (json-file)")
    found.add_argument(
        "--default-address-pool",
        dest="default-address-pools",
        action="append",
        type=_pool,
        metavar="base=CIDR,size=BITS",
        help="where subnets of networks come from",
    )
    found.add_argument("--mtu", type=int, metavar="BYTES", help="MTU of the default bridge's containers")
    found.add_argument("--fixed-cidr", metavar="CIDR", help="part of the default bridge's subnet for containers")
    found.add_argument("--cgroup-parent", metavar="PATH", help="cgroup of containers that name none")
    found.add_argument("--default-shm-size", metavar="SIZE", help="size of /dev/shm (64M)")
    found.add_argument(
        "--log-opt", dest="log-opts", action=_Options, metavar="KEY=VALUE", help="option of the default log driver"
    )
    found.add_argument("--label", dest="labels", action="append", metavar="KEY=VALUE", help="label of the engine")
    found.add_argument("--shutdown-timeout", type=int, metavar="SECONDS", help="for containers to stop (15)")
    found.add_argument("--userns-remap", metavar="USER", help="user namespaces for all containers")
    found.add_argument("--validate", action="store_true", help="check the configuration, and exit")
    found.add_argument("--register-service", action="store_true", help="install the init script or unit, and exit")
    found.add_argument("--unregister-service", action="store_true", help="remove it, and exit")
    found.add_argument("-v", "--version", action="version", version=f"Wherry version {__version__}")
    return found


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise argparse.ArgumentTypeError(f"invalid boolean value {text!r}")


def _pool(text: str) -> dict[str, object]:
    """`base=10.10.0.0/16,size=24`; the values are checked with daemon.json's."""
    found = dict(part.partition("=")[::2] for part in text.split(","))
    if set(found) != {"base", "size"} or not found["size"].isdecimal():
        raise argparse.ArgumentTypeError(f"invalid pool {text!r}: want base=10.10.0.0/16,size=24")
    return {"base": found["base"], "size": int(found["size"])}


class _Options(argparse.Action):
    """Collects KEY=VALUE."""

    def __call__(
        self, _parser: object, namespace: argparse.Namespace, value: object, _option: str | None = None
    ) -> None:
        key, _, text = str(value).partition("=")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest, {}), key: text})


def validate(config: EngineConfig) -> None:
    """Check what only the engine's parts can judge.

    Raises:
        InvalidArgument: a setting that would stop the engine at its start.
    """
    _judge_listeners(config)
    registry_settings(config)
    rules(config.builder, os.path.dirname(os.path.abspath(__file__)))
    outside(config.builder)
    if config.bip:
        parse_bip(config.bip)


def _judge_listeners(config: EngineConfig) -> None:
    """Write the addresses in full; refuse those at which anybody would be root, and certificates of no use."""
    places = [parse_place(address, tls=config.speaks_tls) for address in config.hosts]
    config.hosts = [place.text for place in places]
    tcp = [place.text for place in places if not place.path]
    if tcp and not config.tlsverify and not config.insecure_plain_tcp:
        lack = "tls alone asks clients for no certificate" if config.speaks_tls else "it has no TLS"
        raise InvalidArgument(
            f"{tcp[0]}: {lack}, so that whoever reaches it is root on this machine: set --tlsverify with --tlscacert, "
            "--tlscert and --tlskey, or --insecure-plain-tcp"
        )
    found = certificates(config)
    if found is not None and tcp:
        found.check()
    elif config.tls or config.tlsverify:
        config.warnings.append("tls has no effect: the API listens at no tcp:// address")


def certificates(config: EngineConfig) -> Certificates | None:
    """Return the files with which the API speaks TLS, by default dockerd's; None where it speaks none."""
    if not config.speaks_tls:
        return None
    directory = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    return Certificates(
        config.tlscert or f"{directory}/cert.pem",
        config.tlskey or f"{directory}/key.pem",
        (config.tlscacert or f"{directory}/ca.pem") if config.tlsverify else None,
    )


def configure(argv: list[str]) -> EngineConfig:
    """Join daemon.json and the command line.

    Raises:
        InvalidArgument: either is wrong, or one setting is in both.
    """
    given = vars(parser().parse_args(argv))
    if "register_service" in given or "unregister_service" in given:
        raise InvalidArgument("--register-service and --unregister-service stand alone")
    path = given.pop("config_file", None)
    given.pop("validate", None)
    flags = {name.replace("_", "-"): value for name, value in given.items()}
    file = read_file(path or default_config_path(), required=path is not None)
    both = sorted(set(file) & set(flags))
    if both:
        raise InvalidArgument(
            "unable to configure the engine: the following directives are specified both as a flag and in the "
            f"configuration file: {', '.join(both)}"
        )
    config = EngineConfig()
    config.update(file, path or default_config_path())
    config.update(flags, "flags")
    validate(config)
    return config


def main(argv: list[str] | None = None) -> int:
    """Run wherryd; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if words in (["--register-service"], ["--unregister-service"]):
        return _change_service(register=words == ["--register-service"])
    try:
        config = configure(words)
    except InvalidArgument as error:
        print(f"wherryd: {error}", file=sys.stderr)
        return 1
    if "--validate" in words:
        for text in config.warnings:
            print(f"wherryd: warning: {text}", file=sys.stderr)
        print("configuration OK")
        return 0
    _log_to_stderr(config)
    for text in config.warnings:
        log.warning("%s", text)
    _use_proxies(config)
    if os.geteuid() != 0:
        print("wherryd needs to be started with root privileges", file=sys.stderr)
        return 1
    _raise_descriptor_limit()
    heap.keep_flat()
    try:
        if rooted.become_root():
            log.info("this is a chroot: it has become the root of a mount namespace of its own")
        held = holding.hold(config.roots)
    except (WherryError, OSError) as error:
        print(f"wherryd: {error}", file=sys.stderr)
        return 1
    try:
        loopwatch.run(_serve(config))
    except WherryError as error:
        log.critical("%s", error)
        return 1
    finally:
        held.close()
    return 0


class _JsonLines(logging.Formatter):
    """`log-format: json`, as dockerd writes it."""

    def format(self, record: logging.LogRecord) -> str:
        message = {
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "name": record.name,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
        }
        if record.exc_info:
            message["error"] = self.formatException(record.exc_info)
        return json.dumps(message)


def _log_to_stderr(config: EngineConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_JsonLines() if config.log_format == "json" else text)
    logging.basicConfig(level=logging.DEBUG if config.debug else _LEVELS[config.log_level], handlers=[handler])


def _use_proxies(config: EngineConfig) -> None:
    """Put `proxies` where everything that goes out looks for them; they win over the environment, as dockerd's do."""
    for key, value in config.proxies.items():
        name = key.replace("-", "_")
        os.environ[name] = os.environ[name.upper()] = value


async def _serve(config: EngineConfig) -> None:
    os.umask(0o022)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # not through the loop: it may be what hangs
    signal.signal(signal.SIGUSR1, lambda *_: _write_stacks(config.roots.run, loop))
    engine = Engine(config)
    server = Server(engine, certificates=certificates(config))
    loop.add_signal_handler(signal.SIGHUP, _renew, server)
    pidfile = config.pidfile or config.roots.pidfile
    addresses = config.hosts or [f"unix://{config.roots.socket}"]
    # whatever speaks against this start is found before it touches a container
    holding.check_pidfile(pidfile)
    try:
        await _bind(server, addresses)
        _open_to_group(addresses, config.group)
        await engine.start()
        announce_experimental(config.experimental)
        await server.start()
        marked = holding.write_pidfile(pidfile)
    except BaseException:
        await server.close()
        raise
    log.info("API listens on %s", ", ".join(addresses))
    # what is there now stays: it need not be looked at again and again, nor its start's garbage kept
    gc.collect()
    gc.freeze()
    heap.trim()
    _tell_systemd("READY=1")
    loopwatch.pauses().clear()
    await stop.wait()
    log.info("stopping")
    _tell_systemd("STOPPING=1")
    await server.close()
    await engine.close()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(pidfile)
    os.close(marked)


def _write_stacks(directory: str, loop: asyncio.AbstractEventLoop) -> None:
    try:
        log.info("stacks written to %s", stacks.write_stacks(directory, loop))
    except OSError as error:
        log.error("stacks cannot be written to %s: %s", directory, error.strerror)


async def _bind(server: Server, addresses: list[str]) -> None:
    """Take the addresses; those that an engine has which was killed just now, as soon as its TLS process notices."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _TAKEN_SECONDS
    for address in addresses:
        while True:
            try:
                server.bind([address])
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or address.startswith("unix://") or loop.time() > deadline:
                    raise Unavailable(f"cannot listen at {address}: {error.strerror or error}") from None
            await asyncio.sleep(_TAKEN_STEP)


def _renew(server: Server) -> None:
    """Do what SIGHUP asks for."""
    try:
        renewed = server.renew()
    except InvalidArgument as error:
        log.error("certificates not read anew, the ones before are kept: %s", error)
        return
    what = "certificates read anew" if renewed else "there are no certificates to read anew"
    log.info("%s; the configuration is read at a start only", what)


def _change_service(*, register: bool) -> int:
    from wherry import service

    if os.geteuid() != 0:
        print("wherryd needs to be started with root privileges", file=sys.stderr)
        return 1
    try:
        changed = service.register(os.path.abspath(sys.argv[0])) if register else service.unregister()
    except WherryError as error:
        print(f"wherryd: {error}", file=sys.stderr)
        return 1
    for path in changed:
        print(f"{'wrote' if register else 'removed'} {path}")
    if register:
        print("Start it: service wherry start")
    return 0


def _tell_systemd(state: str) -> None:
    """What the service manager waits for (sd_notify(3)); without one nobody is told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as teller:
            try:
                teller.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
            except OSError as error:
                log.warning("the service manager cannot be told %s: %s", state, error)


def _raise_descriptor_limit() -> None:
    """Take all the descriptors we may have: each container costs one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _open_to_group(addresses: list[str], name: str) -> None:
    """Let the members of a group use the unix sockets; without such a group they stay root's alone."""
    try:
        group = int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        return
    for address in addresses:
        if address.startswith("unix://"):
            path = address.removeprefix("unix://")
            os.chown(path, 0, group)
            os.chmod(path, 0o660)
