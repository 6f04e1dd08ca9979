"""The verbs of `wherry-runtime` that enter a container: create, run, exec."""

import _socket
import array
import json
import os

from wherry.errors import Conflict, InvalidArgument, InvalidSpec, KernelError, NotSupported
from wherry.linux.files import write_atomic
from wherry.oci.runtime_config import parse, parse_process
from wherry.runtime import state as st
from wherry.runtime.cgroups import open_cgroup, open_existing
from wherry.runtime.cli_containers import destroy, now
from wherry.runtime.foreground import Foreground
from wherry.runtime.join import join
from wherry.runtime.launch import launch
from wherry.runtime.plan import plan_container
from wherry.runtime.stdio import Launched, Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.oci.runtime_config import Process, RuntimeConfig
    from wherry.runtime.arguments import Arguments
    from wherry.runtime.state import ContainerState


def create(args: "Arguments", root: str) -> int:
    """Make a container whose program waits for `start`."""
    container, config = _claim(args, root)
    _launch(args, root, container, config, wait_for_start=True, detached=True)
    return 0


def run(args: "Arguments", root: str) -> int:
    """Create and start; in the foreground wait, and clean up."""
    detached = args.has("detach")
    container, config = _claim(args, root)
    foreground = None if detached else Foreground()
    launched = _launch(args, root, container, config, wait_for_start=False, detached=detached)
    if foreground is None:
        return 0
    try:
        return foreground.follow(launched)
    finally:
        if not args.has("keep"):
            destroy(container)


def _claim(args: "Arguments", root: str) -> "tuple[ContainerState, RuntimeConfig]":
    if args.has("no_pivot"):
        raise NotSupported("--no-pivot is not supported: it lets a container out of its root")
    bundle = os.path.abspath(args.text("bundle", "."))
    value = _read_json(f"{bundle}/config.json")
    config = parse(value)
    if config.process is None:
        raise InvalidSpec("process is missing")
    cgroup = _cgroup_path(config.linux.cgroups_path, st.check_id(args.words[0]))
    container = st.create(root, args.words[0], bundle, value, cgroup)
    return container, config


def _cgroup_path(asked: str, container_id: str) -> str:
    if not asked:
        return f"/wherry-runtime-{container_id}"
    if ":" in asked and "/" not in asked:
        raise NotSupported(f"linux.cgroupsPath: systemd slices are not supported: {asked!r}")
    return asked if asked.startswith("/") else f"/{asked}"


def _launch(
    args: "Arguments",
    root: str,
    container: "ContainerState",
    config: "RuntimeConfig",
    *,
    wait_for_start: bool,
    detached: bool,
) -> Launched:
    fifo: int | None = None
    launched: Launched | None = None
    cgroup = open_cgroup(container.cgroup)
    try:
        process = config.process
        if process is None:
            raise InvalidSpec("process is missing")
        socket = _check_terminal(args, process.terminal, detached)
        if wait_for_start:
            os.mkfifo(container.fifo, 0o600)
            fifo = os.open(container.fifo, os.O_RDWR | os.O_CLOEXEC)
        plan = plan_container(config, container.bundle, container_id=container.container_id)
        plan.new_session_keyring = not args.has("no_new_keyring")
        for warning in plan.warnings:
            os.write(2, os.fsencode(f'level=warning msg="{warning}"\n'))
        launched = launch(
            plan,
            Stdio(0, 1, 2, terminal=process.terminal, preserve=_preserve(args)),
            cgroup=cgroup,
            seccomp=_seccomp(plan.seccomp, process, root),
            start_fifo=fifo,
        )
        for warning in launched.warnings:
            os.write(2, os.fsencode(f'level=warning msg="{warning}"\n'))
        container.pid, container.start_time = launched.pid, launched.start_time
        container.created = now()
        container.save()
        if socket and launched.master is not None:
            send_terminal(socket, launched.master)
        if args.text("pid_file"):
            write_atomic(args.text("pid_file"), str(launched.pid).encode(), 0o644, durable=False)
        return launched
    except BaseException:
        if launched is not None:
            destroy(container)
        else:
            container.remove()
        raise
    finally:
        if fifo is not None:
            os.close(fifo)


def exec_(args: "Arguments", root: str) -> int:
    """Run another process in a container."""
    container = st.load(root, args.words[0])
    status = container.status()
    if status == st.STOPPED:
        raise Conflict("cannot exec in a stopped container")
    if status == st.PAUSED and not args.has("ignore_paused"):
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    if args.text("cgroup") not in ("", "/"):
        raise NotSupported("--cgroup is not supported")
    process = parse_process(_process_object(args, container))
    detached = args.has("detach")
    socket = _check_terminal(args, process.terminal, detached)
    foreground = None if detached else Foreground()
    profile = (container.config.get("linux") or {}).get("seccomp")
    launched = join(
        container.pid,
        process,
        Stdio(0, 1, 2, terminal=process.terminal, preserve=_preserve(args)),
        target_start_time=container.start_time,
        cgroup=open_existing(container.cgroup),
        seccomp=_seccomp(profile, process, root),
        ignore_paused=args.has("ignore_paused"),
    )
    if socket and launched.master is not None:
        send_terminal(socket, launched.master)
    if args.text("pid_file"):
        write_atomic(args.text("pid_file"), str(launched.pid).encode(), 0o644, durable=False)
    return 0 if foreground is None else foreground.follow(launched)


def _process_object(args: "Arguments", container: "ContainerState") -> "dict[str, Any]":
    template = dict(container.config["process"])
    if args.text("process"):
        value = _read_json(args.text("process"))
        value.setdefault("capabilities", template.get("capabilities"))
        return value
    if len(args.words) < 2:
        raise InvalidArgument("process args cannot be empty")
    template.pop("consoleSize", None)
    template["args"] = args.words[1:]
    template["env"] = [*template.get("env", ()), *args.texts("env")]
    template["terminal"] = args.has("tty")
    if args.text("cwd"):
        template["cwd"] = args.text("cwd")
    if args.text("apparmor"):
        template["apparmorProfile"] = args.text("apparmor")
    if args.text("process_label"):
        template["selinuxLabel"] = args.text("process_label")
    if args.has("no_new_privs"):
        template["noNewPrivileges"] = True
    if args.text("user"):
        template["user"] = _user(args.text("user"))
    if args.texts("additional_gids"):
        template["user"] = {**template.get("user", {}), "additionalGids": _numbers(args.texts("additional_gids"))}
    if args.texts("cap"):
        sets = dict(template.get("capabilities") or {})
        for kind in ("bounding", "effective", "permitted"):
            sets[kind] = [*sets.get(kind, ()), *args.texts("cap")]
        template["capabilities"] = sets
    return template


def _user(text: str) -> "dict[str, Any]":
    uid, _, gid = text.partition(":")
    if uid.isdigit() and (gid.isdigit() or not gid):
        return {"uid": int(uid), "gid": int(gid or 0)}
    return {"uid": 0, "gid": 0, "username": text}


def _numbers(words: "list[str]") -> "list[int]":
    try:
        return [int(word) for word in words]
    except ValueError:
        raise InvalidArgument(f"--additional-gids takes numbers: {' '.join(words)}") from None


def _check_terminal(args: "Arguments", terminal: bool, detached: bool) -> str:
    """The console socket, where the combination makes sense; runc's words where not."""
    socket = args.text("console_socket")
    if terminal and detached and not socket:
        raise InvalidArgument("cannot allocate tty if runtime will detach without setting console socket")
    if socket and not (terminal and detached):
        raise InvalidArgument("cannot use console socket if runtime will not detach or allocate tty")
    return socket


def send_terminal(path: str, master: int) -> None:
    """Give a terminal's master to whoever listens at the unix socket `path`, and close it here."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
    try:
        sock.connect(path)
        sock.sendmsg([b"/dev/ptmx"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [master]))])
    except OSError as error:
        raise KernelError("send the terminal to the console socket", error.errno or 0, path) from None
    finally:
        sock.close()
        os.close(master)


def _preserve(args: "Arguments") -> int:
    count = args.number("preserve_fds") or 0
    listening = os.environ.get("LISTEN_FDS", "")
    if listening.isdigit():
        count += int(listening)
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError:
            raise InvalidArgument(f"preserve-fds: descriptor {fd} is not open") from None
    return count


def _seccomp(profile: "dict[str, Any] | None", process: "Process", root: str) -> bytes | None:
    if profile is None:
        return None
    from wherry.runtime.seccomp import cached_program

    bounding = frozenset(process.capabilities.bounding) if process.capabilities else frozenset()
    return cached_program(profile, bounding, f"{root}/.seccomp")


def _read_json(path: str) -> "dict[str, Any]":
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            value = json.load(file)
    except OSError as error:
        raise KernelError("open", error.errno or 0, path) from None
    except ValueError as error:
        raise InvalidSpec(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise InvalidSpec(f"{path} must hold an object")
    return value


VERBS: "dict[str, Callable[[Arguments, str], int]]" = {"create": create, "run": run, "exec": exec_}
