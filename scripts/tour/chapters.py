"""The tour: what a person does with containers, from the first image to load spread over copies of a server."""

import os
import signal

from stage import Stage, free_port, say

PASSWORD = "a-password-of-this-tour"


def containers(on: Stage) -> None:
    """Run, create, start, look, attach, stop, remove."""
    say("the engine, and two images made from this machine's own Debian packages")
    on.sh("version")
    on.bootstrap("busybox")
    on.bootstrap("debian:bookworm")
    on.sh("images")

    say("run = create + start; the program's end is the container's")
    on.sh("run", "debian:bookworm", "echo", "hello")
    on.sh("run", "--rm", "busybox", "sh", "-c", "exit 3", code=3)
    on.terminal("run", "-it", "--rm", "busybox", "sh", keys=[("# ", b"hostname; tty\n"), ("# ", b"exit 3\n")], code=3)
    on.sh("create", "--name", "made", "busybox", "echo", "created first, started later")
    on.sh("start", "-a", "made")
    on.sh("ps", "-a")

    say("a web server, its port published, answered over loopback")
    page = "mkdir -p /www; echo 'a page from a container' >/www/index.html; exec httpd -f -v -h /www -p 80"
    on.sh("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", page)
    on.get(f"http://{on.sh('port', 'web', '80/tcp').splitlines()[0]}/")
    on.sh("exec", "web", "sh", "-c", "echo inside $(hostname); ps")
    on.sh("nsenter", "web", "--", "ip", "address", "show", "eth0")
    on.sh("logs", "web")
    on.sh("inspect", "--format", "{{.Name}} {{.State.Status}} {{.NetworkSettings.IPAddress}}", "web")

    say("attach: Ctrl-P Ctrl-Q leaves it running")
    on.sh("run", "-dit", "--name", "shell", "busybox", "sh")
    on.terminal("attach", "shell", keys=[("", b"echo attached\n"), ("attached\r\n", b"\x10\x11")], code=1)

    say("a running container is not removed without force; stop, then rm")
    on.sh("rm", "web", code=1)
    on.sh("stop", "-t", "1", "web", "shell")
    on.sh("rm", "web", "shell", "made")
    on.sh("container", "prune", "-f")
    on.sh("ps", "-a")


def images(on: Stage) -> None:
    """Commit, tag, save and load, export and import, remove."""
    say("what a container has changed becomes an image; names and archives of it")
    on.sh("run", "--name", "changed", "busybox", "sh", "-c", "echo kept >/note")
    on.sh("diff", "changed")
    on.sh("commit", "-m", "a note", "changed", "mine/note:1")
    on.sh("tag", "mine/note:1", "mine/note:latest")
    on.sh("history", "--format", "{{.CreatedBy}}  {{.Size}}  {{.Comment}}", "mine/note")
    on.sh("save", "-o", "note.tar", "mine/note:1")
    on.sh("rmi", "mine/note:1")
    on.sh("rmi", "busybox", code=1)
    on.sh("export", "-o", "files.tar", "changed")
    on.sh("rm", "changed")
    on.sh("rmi", "mine/note")
    on.sh("load", "-i", "note.tar")
    on.sh("import", "files.tar", "mine/flat:1")
    on.sh("run", "--rm", "mine/flat:1", "cat", "/note")


def building(on: Stage) -> None:
    """A Dockerfile of two stages, built twice."""
    say("a Dockerfile: two stages; the second build does only what changed")
    context = on.scratch / "app"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "FROM busybox AS pages\n"
        "RUN mkdir /www && echo 'a page that was built' >/www/index.html\n"
        "FROM busybox\n"
        "COPY --from=pages /www /www\n"
        "COPY serve /serve\n"
        "EXPOSE 80\n"
        'CMD ["/serve"]\n'
    )
    serve = context / "serve"
    serve.write_text("#!/bin/sh\nhostname >/www/who\nexec httpd -f -h /www -p 80\n")
    serve.chmod(0o755)
    on.typed("cat", "app/Dockerfile")
    print((context / "Dockerfile").read_text(), end="")
    on.sh("build", "-t", "mine/app:1", "app")
    serve.write_text(serve.read_text().replace("exec", "date >/www/since\nexec"))
    on.sh("build", "-t", "mine/app:2", "app")


def registry(on: Stage) -> None:
    """A registry of one's own: log in, push, search, pull again."""
    say("a registry with accounts; push, search, pull")
    address = on.start_registry("alice", PASSWORD)
    name = f"{address}/team/app"
    on.sh("tag", "mine/app:2", f"{name}:2")
    on.sh("push", f"{name}:2", code=1)
    on.sh("login", "-u", "alice", "--password-stdin", address, stdin=PASSWORD)
    on.sh("push", f"{name}:2")
    on.sh("search", f"{address}/app")
    on.sh("search", "--list-tags", name)
    on.sh("rmi", f"{name}:2", "mine/app:2")
    on.sh("pull", f"{name}:2")
    on.sh("tag", f"{name}:2", "mine/app:2")
    on.sh("logout", address)


def data(on: Stage) -> None:
    """Volumes outlive containers; containers share them; directories of the host."""
    say("data: a volume outlives its containers, a second container takes it over, a copy of it goes out and back")
    on.sh("volume", "create", "keep")
    on.sh("run", "--name", "writer", "-v", "keep:/data", "busybox", "sh", "-c", "echo written >/data/file")
    on.sh("run", "--rm", "--volumes-from", "writer:ro", "busybox", "cat", "/data/file")
    on.sh("cp", "writer:/data/file", "out")
    on.sh("rm", "writer")
    on.sh("volume", "export", "-o", "keep.tar", "keep")
    on.sh("volume", "rm", "keep")
    on.sh("volume", "import", "again", "keep.tar")
    on.sh(
        "run",
        "--rm",
        "-v",
        "again:/data:ro",
        "-v",
        f"{on.scratch}:/host:ro",
        "busybox",
        "diff",
        "/data/file",
        "/host/out",
    )


def networks(on: Stage) -> None:
    """Containers of one network find each other by name; others do not reach them."""
    say("a network: containers find each other by name, and nobody else reaches them")
    on.sh("network", "create", "back")
    on.sh("run", "-d", "--name", "app", "--network", "back", "mine/app:2")
    on.sh("run", "--rm", "--network", "back", "busybox", "wget", "-qO-", "http://app/")
    address = on.sh("inspect", "--format", "{{.NetworkSettings.Networks.back.IPAddress}}", "app")
    on.sh("run", "--rm", "busybox", "ping", "-c", "1", "-W", "1", address, code=1)
    on.sh("network", "check", "app")


def services(on: Stage) -> None:
    """Load spread by HAProxy over three copies of a server."""
    say("load spread over three copies by HAProxy")
    port = free_port()
    labels = ("wherry.service=web", "wherry.service.port=80", f"wherry.service.publish=127.0.0.1:{port}")
    for name in ("one", "two", "three"):
        said = [word for label in labels for word in ("--label", label)]
        on.sh("run", "-d", "--name", name, "--hostname", name, *said, "mine/app:2")
    on.get(f"http://127.0.0.1:{port}/")
    counts: dict[str, int] = {}
    while len(counts) < 3:
        who = on.get(f"http://127.0.0.1:{port}/who", shown=False).strip()
        counts[who] = counts.get(who, 0) + 1
    print(f"answered by: {', '.join(sorted(counts))}")
    on.sh("stop", "-t", "1", "two")
    on.sh("proxy", "inspect", "web")
    for _ in range(6):
        if on.get(f"http://127.0.0.1:{port}/who", shown=False).strip() == "two":
            raise SystemExit("a stopped container was asked")


def survival(on: Stage) -> None:
    """The engine is killed; containers go on."""
    say("the engine is killed without a warning: containers go on, and are found again")
    if on.engine is None:
        raise SystemExit("there is no engine")
    on.typed("kill", "-9", str(on.engine.pid))
    os.kill(on.engine.pid, signal.SIGKILL)
    on.engine.wait()
    on.start_engine()
    on.sh("ps", "--format", "table {{.Names}}\t{{.Image}}\t{{.Status}}")
    on.sh("exec", "app", "wget", "-qO-", "http://127.0.0.1/")
    on.sh("system", "df")


CHAPTERS = (containers, images, building, registry, data, networks, services, survival)
