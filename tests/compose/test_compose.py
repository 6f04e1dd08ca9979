"""The suite's Compose brings up an application of several services."""

import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Done, EngineProcess, until

pytestmark = pytest.mark.root

DOCKERFILE = """\
FROM busybox
ARG WORD=page
RUN mkdir -p /www && echo $WORD > /www/index.html
EXPOSE 80
STOPSIGNAL SIGKILL
CMD ["httpd", "-f", "-p", "80", "-h", "/www"]
"""

APPLICATION = """\
services:
  web:
    build: {{context: ., args: {{WORD: built}}}}
    image: shop-web
    ports: ["127.0.0.1:{port}:80"]
    environment: {{GREETING: "hello you"}}
    volumes: ["pages:/pages", "./conf:/conf:ro"]
    networks: [front, back]
    depends_on:
      db: {{condition: service_healthy}}
  db:
    image: busybox
    command: sh -c 'echo state >> /data/state; exec sleep 1000'
    healthcheck: {{test: ["CMD", "test", "-s", "/data/state"], interval: 1s, retries: 20}}
    volumes: ["dbdata:/data"]
    networks: {{back: {{aliases: [database]}}}}
    restart: unless-stopped
    stop_grace_period: 1s
  worker:
    image: busybox
    command: sleep 1000
    networks: [back]
    init: true
    stop_grace_period: 1s
networks: {{front: {{}}, back: {{internal: true}}}}
volumes: {{pages: {{}}, dbdata: {{labels: {{a: b}}}}}}
"""


class Project:
    """A project directory, and Compose in it."""

    def __init__(self, engine: EngineProcess, directory: Path) -> None:
        self.engine = engine
        self.directory = directory
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        (directory / "Dockerfile").write_text(DOCKERFILE)
        (directory / "docker-compose.yml").write_text(APPLICATION.format(port=self.port))
        (directory / "conf").mkdir()
        (directory / "conf/setting").write_text("from the host\n")

    def compose(self, *words: str, code: int | None = 0) -> Done:
        """Run Compose."""
        command = ["docker-compose", "--project-name", "shop", "--project-directory", str(self.directory)]
        command += ["--file", str(self.directory / "docker-compose.yml"), *words]
        # a docker command newer than this Compose would build with BuildKit's protocol
        classic = {"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
        builds = (self.directory / "Dockerfile").exists()
        return self.engine.run(*command, code=code, env=classic if builds else {})

    def page(self) -> str:
        """What the published port answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as answer:
            return str(answer.read().decode())

    def ids(self, *services: str) -> list[str]:
        """Containers of the services."""
        return self.compose("ps", "-q", *services).out.split()


@pytest.fixture
def project(engine: EngineProcess, tmp_path: Path) -> Iterator[Project]:
    """Give a project; what it made goes with the test."""
    project = Project(engine, tmp_path)
    try:
        yield project
    finally:
        project.compose("down", "--volumes", code=None)
        engine.remove_all()


def test_up_scale_stop_down(project: Project, engine: EngineProcess) -> None:
    """Build, dependencies with health, names, volumes, scaling, restart, and a down that leaves nothing."""
    project.compose("build")
    project.compose("up", "-d")
    until(lambda: len(project.ids()) == 3, "three services run")
    assert project.page() == "built\n"
    assert project.compose("exec", "-T", "web", "cat", "/conf/setting").out == "from the host\n"
    assert project.compose("exec", "-T", "web", "sh", "-c", "echo $GREETING").out == "hello you\n"
    assert project.compose("exec", "-T", "web", "sh", "-c", "echo x > /conf/y", code=None).code == 1
    for name in ("database", "worker"):
        project.compose("exec", "-T", "web", "ping", "-c1", "-W5", name)
    health = engine.docker("inspect", "-f", "{{.State.Health.Status}}", *project.ids("db")).out.strip()
    assert health == "healthy"

    project.compose("up", "-d", "--scale", "worker=3")
    assert len(project.ids("worker")) == 3
    project.compose("restart", "db")
    assert project.compose("exec", "-T", "db", "cat", "/data/state").out == "state\nstate\n"
    project.compose("stop", "worker")
    running = engine.docker("ps", "--format", '{{.Label "com.docker.compose.service"}}').out.split()
    assert sorted(running) == ["db", "web"]
    assert "sleep 1000" in project.compose("top").out

    project.compose("down", "--volumes")
    assert engine.docker("ps", "-aq").out == ""
    assert engine.docker("volume", "ls", "-q").out == ""
    assert sorted(engine.docker("network", "ls", "--format", "{{.Name}}").out.split()) == ["bridge", "host", "none"]


def test_a_change_is_made_anew_and_data_stay(project: Project, engine: EngineProcess) -> None:
    """`up` after a change of the file replaces that service alone; the volume goes on with the new container."""
    project.compose("up", "-d", "db", "worker")
    before = {name: project.ids(name) for name in ("db", "worker")}
    file = project.directory / "docker-compose.yml"
    file.write_text(file.read_text().replace("restart: unless-stopped", "restart: always"))
    project.compose("up", "-d", "db", "worker")
    assert project.ids("worker") == before["worker"]
    assert project.ids("db") != before["db"]
    policy = json.loads(engine.docker("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", *project.ids("db")).out)
    assert policy["Name"] == "always"
    until(
        lambda: project.compose("exec", "-T", "db", "cat", "/data/state", code=None).out == "state\nstate\n",
        "the new container goes on with the data",
    )


VOLUMES = """\
services:
  keeper:
    image: shop-keeper
    environment: {WORD: one}
"""


def test_a_second_up_keeps_an_anonymous_volume(project: Project, engine: EngineProcess) -> None:
    """A volume that only the image names goes on with the new container, with no environment variable set."""
    (project.directory / "Dockerfile").unlink()
    dockerfile = b'FROM busybox\nVOLUME /data\nCMD ["sleep", "1000"]\n'
    engine.run("docker", "build", "-t", "shop-keeper", "-", stdin=dockerfile, env={"DOCKER_BUILDKIT": "0"})
    file = project.directory / "docker-compose.yml"
    file.write_text(VOLUMES)
    project.compose("up", "-d")
    before = project.ids("keeper")
    engine.docker("exec", *before, "sh", "-c", "echo kept > /data/state")
    file.write_text(VOLUMES.replace("one", "two"))
    project.compose("up", "-d", "-t", "0")
    after = project.ids("keeper")
    assert after != before
    assert engine.docker("exec", *after, "cat", "/data/state").out == "kept\n"
    project.compose("up", "-d", "-t", "0")
    assert project.ids("keeper") == after


def test_run_and_errors(project: Project) -> None:
    """`run` gives the command's code and output; what is wrong is an error and leaves nothing."""
    done = project.compose("run", "--rm", "--no-deps", "-T", "worker", "sh", "-c", "echo out; exit 3", code=None)
    assert (done.code, done.out) == (3, "out\n")
    file = project.directory / "docker-compose.yml"
    file.write_text(file.read_text().replace("image: busybox", "image: nowhere.invalid/x"))
    assert project.compose("up", "-d", "worker", code=None).code != 0
    assert project.ids("worker") == []


def test_the_verbs_on_what_runs(project: Project, engine: EngineProcess) -> None:
    """pause, kill, start, port, images and config do to a service what they say."""
    project.compose("up", "-d", "worker")
    [worker] = project.ids("worker")

    def state() -> str:
        return engine.docker("inspect", "-f", "{{.State.Status}}", worker).out.strip()

    project.compose("pause", "worker")
    assert state() == "paused"
    project.compose("unpause", "worker")
    assert state() == "running"
    project.compose("kill", "-s", "KILL", "worker")
    assert state() == "exited"
    project.compose("start", "worker")
    assert state() == "running"
    assert "busybox" in project.compose("images", "worker").out
    assert set(project.compose("config", "--services").out.split()) == {"db", "web", "worker"}
    project.compose("rm", "-sf", "worker")
    assert project.ids("worker") == []
