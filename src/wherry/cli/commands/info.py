"""`info`: the engine and its machine."""

from wherry.cli.commands.common import INSPECT_FORMAT
from wherry.cli.commands.version import client_facts
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Invocation
from wherry.cli.govalues import Struct
from wherry.cli.output import err, out
from wherry.errors import WherryError
from wherry.values import sizes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Go's field names that differ from the JSON's
_GO_NAMES = {"CPUCfsPeriod": "CpuCfsPeriod", "CPUCfsQuota": "CpuCfsQuota", "HTTPProxy": "HttpProxy"}


def _word(value: "Any") -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _server_lines(info: "dict[str, Any]") -> "list[str]":
    lines: list[str] = []

    def add(label: str, value: "Any", *, always: bool = True) -> None:
        if always or value:
            lines.append(f"{label} {_word(value)}")

    add(" Containers:", info.get("Containers", 0))
    add("  Running:", info.get("ContainersRunning", 0))
    add("  Paused:", info.get("ContainersPaused", 0))
    add("  Stopped:", info.get("ContainersStopped", 0))
    add(" Images:", info.get("Images", 0))
    add(" Server Version:", info.get("ServerVersion"), always=False)
    add(" Storage Driver:", info.get("Driver"), always=False)
    lines += [f"  {name}: {value}" for name, value in info.get("DriverStatus") or ()]
    for label, key in (
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    ):
        add(f" {label}:", info.get(key), always=False)
    plugins = info.get("Plugins") or {}
    lines.append(" Plugins:")
    for kind in ("Volume", "Network", "Authorization", "Log"):
        names = " ".join(plugins.get(kind) or ())
        if names or kind != "Authorization":
            lines.append(f"  {kind}: {names}")
    if info.get("CDISpecDirs"):
        lines += [" CDI spec directories:", *(f"  {path}" for path in info["CDISpecDirs"])]
    swarm = (info.get("Swarm") or {}).get("LocalNodeState", "")
    if swarm:
        add(" Swarm:", swarm)
    if info.get("Runtimes"):
        add(" Runtimes:", " ".join(sorted(info["Runtimes"])))
        add(" Default Runtime:", info.get("DefaultRuntime", ""))
    add(" Init Binary:", info.get("InitBinary", ""))
    for label, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
        if info.get(key) is not None:
            add(f" {label} version:", info[key].get("ID", ""))
    lines += _security_lines(info.get("SecurityOptions") or [])
    for label, key in (
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    ):
        add(f" {label}:", info.get(key), always=False)
    add(" CPUs:", info.get("NCPU", 0))
    add(" Total Memory:", sizes.binary(info.get("MemTotal", 0)))
    add(" Name:", info.get("Name"), always=False)
    add(" ID:", info.get("ID"), always=False)
    add(" Wherry Root Dir:", info.get("DockerRootDir", ""))
    add(" Debug Mode:", info.get("Debug", False))
    for label, key in (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")):
        add(f" {label}:", info.get(key), always=False)
    if info.get("Labels"):
        lines += [" Labels:", *(f"  {label}" for label in info["Labels"])]
    add(" Experimental:", info.get("ExperimentalBuild", False))
    lines += _registry_lines(info.get("RegistryConfig") or {})
    add(" Live Restore Enabled:", info.get("LiveRestoreEnabled", False))
    loop = info.get("EventLoop")
    if loop:
        busy, pause = loop.get("LongestBusy", 0) / 1e6, loop.get("LongestPause", 0) / 1e6
        lines.append(f" Longest Pause: {pause:.0f}ms ({busy:.0f}ms of work)")
    work = info.get("Background")
    if work:
        told = (
            f"{work.get('Running', 0)} ({work.get('Overdue', 0)} past their deadline, {work.get('Failed', 0)} failed)"
        )
        lines.append(f" Background Tasks: {told}")
    if info.get("DefaultAddressPools"):
        lines.append(" Default Address Pools:")
        lines += [f"   Base: {pool['Base']}, Size: {pool['Size']}" for pool in info["DefaultAddressPools"]]
    return lines


def _security_lines(options: "list[str]") -> "list[str]":
    lines = [" Security Options:"] if options else []
    for option in options:
        facts = [fact.partition("=")[::2] for fact in option.split(",")]
        lines += [f"  {value}" for key, value in facts if key == "name"]
        lines += [f"   Profile: {value}" for key, value in facts if key == "profile"]
    return lines


def _registry_lines(registry: "dict[str, Any]") -> "list[str]":
    indexes = registry.get("IndexConfigs") or {}
    networks = registry.get("InsecureRegistryCIDRs") or []
    lines: list[str] = []
    if indexes or networks:
        lines.append(" Insecure Registries:")
        lines += [f"  {index.get('Name', '')}" for index in indexes.values() if not index.get("Secure")]
        lines += [f"  {network}" for network in networks]
    if registry.get("Mirrors"):
        lines += [" Registry Mirrors:", *(f"  {mirror}" for mirror in registry["Mirrors"])]
    return lines


def _info(command: Invocation) -> None:
    format_ = command["format"]
    failure = ""
    info: dict[str, Any] = {}
    try:
        info = command.client.call("GET", "/info")
    except WherryError as error:
        failure = str(error)
    client = {"Debug": False, **client_facts(), "Plugins": [], "Warnings": None}
    if format_:
        if failure:
            out("\n")
            raise Failure(failure)
        _formatted(format_, info, client)
    else:
        lines = [
            "Client:",
            f" Version:    {client['Version']}",
            f" Context:    {client['Context']}",
            " Debug Mode: false",
        ]
        lines += ["", "Server:", *([] if failure else _server_lines(info))]
        out("\n".join(lines) + "\n" + ("" if failure else "\n"))
        for warning in info.get("Warnings") or ():
            err(warning)
    if failure:
        raise Failure(f"{failure}\nerrors pretty printing info")


def _formatted(format_: str, info: "dict[str, Any]", client: "dict[str, Any]") -> None:
    from wherry.cli.template import Template, TemplateError

    raw = {**info, "ClientInfo": client}
    if format_ == "json":
        from wherry.client.quickjson import dumps

        out(dumps(raw).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e") + "\n")
        return
    fields = {key: (key, value) for key, value in raw.items()}
    fields.update({name: (key, raw[key]) for name, key in _GO_NAMES.items() if key in raw})
    try:
        template = Template(format_)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error}", 64) from None
    try:
        out(template.execute(Struct("system.dockerInfo", fields, raw, False)) + "\n")
    except TemplateError as error:
        out("\n")
        raise Failure(str(error)) from None


INFO = Command(
    "[OPTIONS]",
    "Display system-wide information",
    _info,
    (INSPECT_FORMAT,),
    aliases=("system info", "info"),
)
COMMANDS = {"info": INFO, "system info": INFO}
