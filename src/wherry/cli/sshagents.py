"""`--ssh`: agents of this machine for a build elsewhere, and an agent for keys that are given as files."""

import os
import select
import stat

from wherry.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence
    from typing import Self

    from wherry.client.http import Client

_CHUNK = 64 * 1024


class SshAgents:
    """The agents that are offered to a build; a context manager that ends those it started.

    Attributes:
        paths: sockets by id.
    """

    def __init__(self, words: "Sequence[str]") -> None:
        self.paths: dict[str, str] = {}
        self._words = words
        self._directory = ""
        self._leashes: list[int] = []
        self._agents: list[int] = []

    def __enter__(self) -> "Self":
        try:
            for word in self._words:
                id_, _, text = word.partition("=")
                self.paths[id_ or "default"] = self._agent(id_ or "default", text)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _agent(self, id_: str, text: str) -> str:
        if not text:
            path = os.environ.get("SSH_AUTH_SOCK", "")
            if not path:
                raise Failure(f"invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set (for {id_})")
            return os.path.abspath(path)
        paths = [os.path.abspath(path) for path in text.split(",")]
        try:
            sockets = [stat.S_ISSOCK(os.stat(path).st_mode) for path in paths]
        except OSError as error:
            raise Failure(f"could not parse ssh: [{id_}={text}]: stat {error.filename}: {error.strerror}") from None
        if any(sockets):
            if len(paths) > 1:
                raise Failure(f"could not parse ssh: [{id_}={text}]: only single socket allowed")
            return paths[0]
        return self._started(paths)

    def _started(self, keys: "list[str]") -> str:
        """An agent with these keys. It ends with us, however we end: it lives as long as the program on its leash."""
        import shutil
        import tempfile

        agent, add = shutil.which("ssh-agent"), shutil.which("ssh-add")
        if agent is None or add is None:
            raise Failure("--ssh with a key file needs OpenSSH's ssh-agent and ssh-add, which are not installed")
        self._directory = self._directory or tempfile.mkdtemp(prefix="wherry-ssh-")
        path = f"{self._directory}/{len(self._leashes)}"
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self._leashes.append(writing)
        # `cat` tells that the agent listens, and then waits for our end of the pipe
        told, telling = os.pipe2(os.O_CLOEXEC)
        script = 'echo "$SSH_AUTH_SOCK $SSH_AGENT_PID"; exec cat >/dev/null'
        actions = [(os.POSIX_SPAWN_DUP2, reading, 0), (os.POSIX_SPAWN_DUP2, telling, 1)]
        try:
            os.posix_spawn(agent, [agent, "-a", path, "/bin/sh", "-c", script], os.environ, file_actions=actions)
        finally:
            os.close(reading)
            os.close(telling)
        with os.fdopen(told, "rb") as file:
            said = file.readline().split()
        if len(said) != 2 or not said[1].isdigit():
            raise Failure("ssh-agent did not start")
        self._agents.append(int(said[1]))
        for key in keys:
            self._add(add, key, path)
        return path

    def _add(self, program: str, key: str, path: str) -> None:
        import subprocess

        env = {**os.environ, "SSH_AUTH_SOCK": path, "SSH_ASKPASS_REQUIRE": "never"}
        env.pop("DISPLAY", None)
        done = subprocess.run(
            [program, "-q", "--", key], stdin=subprocess.DEVNULL, capture_output=True, env=env, check=False
        )
        if done.returncode:
            raise Failure(f"failed to add {key} to an agent: {done.stderr.decode(errors='replace').strip()}")

    def _end(self) -> None:
        for leash in self._leashes:
            os.close(leash)
        for pid in self._agents:
            try:
                os.kill(pid, 15)
            except ProcessLookupError:
                continue
        self._leashes, self._agents = [], []
        if self._directory:
            import shutil

            shutil.rmtree(self._directory, ignore_errors=True)

    def serve(self, client: "Client", id_: str, token: str) -> None:
        """Carry one connection that a build asks for, beside everything else."""
        import _thread

        path = self.paths.get(id_)
        if path is not None:
            _thread.start_new_thread(_serve, (client, path, token))


def _serve(client: "Client", path: str, token: str) -> None:
    """Join the agent's socket and a connection to the engine; whichever ends, both do."""
    import _socket

    try:
        connection, tail = client.hijack("/wherry/v1/build/connect", {"id": token})
    except Exception:  # noqa: BLE001 - the step sees that nobody answers; there is nobody else to tell
        return
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        agent.connect(path)
        if tail:
            agent.sendall(tail)
        _join(connection.sock, agent)
    except OSError:
        return  # the step's connection ends with it
    finally:
        agent.close()
        connection.close()


def _join(one: "socket", other: "socket") -> None:
    poll = select.poll()
    ends = {one.fileno(): (one, other), other.fileno(): (other, one)}
    for fd in ends:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            source, target = ends[fd]
            data = source.recv(_CHUNK)
            if not data:
                return
            target.sendall(data)
