"""Every endpoint over the fake engine; status, headers and words as a dockerd 26 answered them."""

import json
import os
import socket
import time
from typing import Any
from urllib.parse import quote

import pytest

from wherry import errors

from .fake_containers import ID
from .fake_images import FakeImage
from .raw import Reader, ask, request

NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)

TOO_OLD = (
    "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer "
    "version"
)
TEXT = "Content-Type: text/plain\r\n"
NOT_JSON = "unsupported Content-Type header (text/plain): must be 'application/json'"


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (
            "/v1.12/_ping",
            400,
            TOO_OLD,
        ),
        ("/v1.99/_ping", 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
        ("/v2/info", 400, "client version 2 is too new. Maximum supported API version is 1.51"),
        ("/v1.45/nope", 404, "page not found"),
        ("/nope", 404, "page not found"),
        ("/vxx/version", 404, "page not found"),
        ("/", 404, "page not found"),
        ("/containers/a%2Fb/json", 404, "No such container: a/b"),
        ("/containers/%ff/json", 404, "No such container: \ufffd"),
        ("/containers/%00/json", 404, "No such container: \x00"),
        ("/containers/%zz/json", 400, "malformed request path"),
        ("/containers/c1/logs", 400, "Bad parameters: you must choose at least one stream"),
        ("/containers/json?filters=x", 400, "invalid filter"),
        ("/containers/json?filters=%5B%5D", 400, "invalid filter"),
        ("/containers/json?limit=x", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("/exec/nope/attach", 404, "page not found"),
        ("/images/nope/json", 404, "No such image: nope:latest"),
        ("/images/get?names=nope", 404, "No such image: nope:latest"),
        ("/networks/nope", 404, "network nope not found"),
        ("/events?until=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("/plugins/x/json", 404, 'plugin "x" not found'),
        ("/containers/c1/attach/ws", 400, "not websocket protocol"),
        ("/volumes/nope", 404, "get nope: no such volume"),
        *((f"/{path}", 503, NO_SWARM) for path in ("swarm", "services", "nodes/x", "tasks", "secrets", "configs/x")),
    ],
)
def test_get_errors(sock: socket.socket, path: str, status: int, message: str) -> None:
    """Status and words of what cannot be answered."""
    answer = ask(sock, "GET", path)
    assert (answer.status, answer.message) == (status, message)


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        ("", "", "invalid JSON: got EOF while reading request body"),
        ("null", "", "config cannot be empty in order to create a container"),
        ("{}", "", "config cannot be empty in order to create a container"),
        ("{", "", "invalid JSON: unexpected EOF"),
        ("{}x", "", "unexpected content after JSON"),
        ("hello", "", "invalid JSON: invalid character 'h' looking for beginning of value"),
        ("[" * 100000, "", "invalid JSON: exceeded max depth"),
        (
            '{"Image":"b"}',
            "Content-Type: text/plain\r\n",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        ('{"Image":"b"}', "Content-Type: \r\n", "malformed Content-Type header (): mime: no media type"),
    ],
)
def test_create_refuses(sock: socket.socket, body: str, headers: str, message: str) -> None:
    """A body that is no create request is refused in dockerd's words."""
    answer = ask(sock, "POST", "/containers/create", body, headers)
    assert (answer.status, answer.message) == (400, message)
    assert ask(sock, "GET", "/_ping").status == 200


def test_create(server: Any, sock: socket.socket) -> None:
    """Nulls are absent, keys fit in any case, the answer is Docker's."""
    body = {"Image": "busybox", "cmd": ["cat"], "Env": None, "HostConfig": {"Memory": None, "autoremove": True}}
    answer = ask(sock, "POST", "/v1.41/containers/create?name=web&platform=linux/amd64", json.dumps(body))
    assert (answer.status, answer.json) == (201, {"Id": ID, "Warnings": []})
    made = server.engine.containers.requests[0]
    assert (made.image, made.cmd, made.env) == ("busybox", ["cat"], None)
    assert (made.host_config.memory, made.host_config.auto_remove) == (0, True)
    assert server.engine.containers.calls[-1] == ("create", "c1", "web", "linux/amd64")
    answer = ask(
        sock, "POST", "/containers/create", '{"Image":"missing"}', "Content-Type: application/json; charset=utf-8\r\n"
    )
    assert (answer.status, answer.message) == (404, "No such image: missing:latest")


@pytest.mark.parametrize(
    ("method", "path", "status", "call"),
    [
        ("POST", "/containers/c1/start?detachKeys=ctrl-a", 204, ("start", "c1", "ctrl-a")),
        ("POST", "/containers/c1/start?checkpoint=x1&checkpoint-dir=/d", 204, ("start", "c1", "", "x1", "/d")),
        ("GET", "/containers/c1/checkpoints?dir=/d", 200, ("checkpoints", "c1", "/d")),
        ("DELETE", "/containers/c1/checkpoints/x1?dir=/d", 204, ("remove_checkpoint", "c1", "x1", "/d")),
        ("DELETE", "/v1.44/containers/c1/checkpoints/x1", 204, ("remove_checkpoint", "c1", "x1", "")),
        ("POST", "/containers/c1/stop?t=3&signal=TERM", 304, ("stop", "c1", 3, "TERM")),
        ("POST", "/containers/c1/stop?t=-1", 304, ("stop", "c1", -1, None)),
        ("POST", "/containers/c1/restart", 204, ("restart", "c1", None, None)),
        ("POST", "/containers/c1/kill", 204, ("kill", "c1", "SIGKILL")),
        ("POST", "/containers/c1/kill?signal=HUP", 204, ("kill", "c1", "HUP")),
        ("POST", "/containers/c1/pause", 204, ("pause", "c1")),
        ("POST", "/containers/c1/unpause", 204, ("unpause", "c1")),
        ("POST", "/containers/c1/rename?name=c2", 204, ("rename", "c1", "c2")),
        ("POST", "/containers/c1/resize?h=24&w=80", 200, ("resize", "c1", 24, 80)),
        ("POST", "/exec/e1/resize?h=24&w=80", 200, ("exec_resize", "e1", 24, 80)),
        ("DELETE", "/containers/c1?force=1&v=True&link=false", 204, ("remove", "c1", True, True, False)),
        ("GET", "/containers/c1/json?size=1", 200, ("inspect", "c1", True)),
        ("GET", "/containers/c1/top?ps_args=aux", 200, ("top", "c1", "aux")),
        (
            "GET",
            "/containers/json?all=1&limit=2&size=0&filters=" + quote('{"label":{"a=b":true},"status":["exited"]}'),
            200,
            ("list", "c1", True, 2, False, {"label": ["a=b"], "status": ["exited"]}),
        ),
    ],
)
def test_container_calls(
    server: Any, sock: socket.socket, method: str, path: str, status: int, call: tuple[Any, ...]
) -> None:
    """Paths and queries become the facade's arguments, results become statuses."""
    answer = ask(sock, method, path)
    assert answer.status == status
    assert server.engine.containers.calls[-1] == call
    if status in (204, 304):
        assert "content-length" not in answer.headers
        assert "content-type" not in answer.headers


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/containers/c1/wait?condition=foo", 'invalid condition: "foo"'),
        ("/containers/c1/resize?h=a&w=1", 'strconv.Atoi: parsing "a": invalid syntax'),
        ("/containers/c1/resize", 'strconv.Atoi: parsing "": invalid syntax'),
        ("/containers/c1/resize?h=70000&w=1", 'strconv.ParseUint: parsing "70000": value out of range'),
        ("/containers/c1/stop?t=abc", 'strconv.Atoi: parsing "abc": invalid syntax'),
        ("/containers/c1/rename", "Neither old nor new names may be empty"),
        ("/containers/c1/exec", "No exec command specified"),
        ("/containers/prune?filters=x", "invalid filter"),
        ("/images/create", "one of fromImage and fromSrc must be given"),
    ],
)
def test_post_errors(sock: socket.socket, path: str, message: str) -> None:
    """Words of what is refused before the engine is asked."""
    answer = ask(sock, "POST", path)
    assert (answer.status, answer.message) == (400, message)


def test_a_checkpoint_is_asked_for(server: Any, sock: socket.socket) -> None:
    """Docker's three fields; without a body the name is empty, for the engine to refuse."""
    text = '{"CheckpointID":"x1","CheckpointDir":"/d","Exit":true}'
    assert ask(sock, "POST", "/containers/c1/checkpoints", text).status == 201
    assert server.engine.containers.calls[-1] == ("checkpoint", "c1", "x1", "/d", True)
    assert ask(sock, "POST", "/containers/c1/checkpoints", '{"CheckpointID":1}').status == 400


def test_start_with_a_body(sock: socket.socket) -> None:
    """A host config at start was removed from the API long ago; an empty object is forgiven."""
    answer = ask(sock, "POST", "/containers/c1/start", '{"Binds":[]}')
    assert answer.status == 400
    assert answer.message.startswith("starting container with non-empty request body was deprecated")
    assert ask(sock, "POST", "/containers/c1/start", "{}").status == 204


def test_wait_sends_its_head_at_once(server: Any, sock: socket.socket) -> None:
    """The docker command starts the container only when it has wait's status."""
    sock.sendall(request("POST", "/containers/c1/wait?condition=next-exit"))
    reader = Reader(sock)
    head = reader.head()
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"Transfer-Encoding: chunked" in head
    server.engine.exited.set()
    assert reader.until(b"0\r\n\r\n") == b'11\r\n{"StatusCode":7}\n\r\n0\r\n\r\n'
    assert ask(sock, "POST", "/containers/nope/wait").status == 404


def test_wait_is_given_up_when_the_client_goes(server: Any) -> None:
    """A waiter whose client left does not stay until the container ends."""

    def make_future() -> None:
        server.engine.containers.exit = server.loop.create_future()

    server.call(make_future)
    with server.connect() as sock:
        sock.sendall(request("POST", "/containers/c1/wait"))
        Reader(sock).head()
    deadline = time.monotonic() + 10
    while not server.engine.containers.exit.cancelled():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_events(server: Any, sock: socket.socket) -> None:
    """Events are JSON lines, at once; `until` ends them, and so does the client."""
    answer = ask(sock, "GET", "/events?since=1.5&until=2")
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [line["Action"] for line in lines] == ["create", "start"]
    assert (lines[0]["since"], lines[0]["until"]) == (1_500_000_000, 2_000_000_000)
    server.engine.events.closed.clear()
    with server.connect() as other:
        other.sendall(request("GET", "/events"))
        Reader(other).until(b'"start"')
    assert server.engine.events.closed.wait(10)


def test_half_closed_client_cannot_follow(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Who ended its side is taken to be gone by what may last for ever; that is no error to log."""
    with server.connect() as sock:
        sock.sendall(request("GET", "/events"))
        sock.shutdown(socket.SHUT_WR)
        Reader(sock).rest()
    assert caplog.text == ""


def test_close_ends_what_lasts_for_ever(server: Any) -> None:
    """A stopping engine does not wait for those who follow its events."""
    with server.connect() as sock:
        sock.sendall(request("GET", "/events"))
        reader = Reader(sock)
        reader.until(b'"start"')
        assert not server.engine.events.closed.is_set()
        server.stop()
        sock.settimeout(60)  # it would last for ever
        reader.rest()
        assert server.engine.events.closed.wait(60)


def test_image_endpoints(server: Any, sock: socket.socket) -> None:
    """Names with slashes work plain and escaped."""
    name = "hub.c.163.com/public/ubuntu:14.04"
    for path in (name, quote(name, safe=""), "busybox"):
        assert ask(sock, "GET", f"/images/{path}/json").json["Id"] == FakeImage.id
        assert ask(sock, "GET", f"/v1.40/images/{path}/history").json[0]["Id"] == FakeImage.id
    assert ask(sock, "POST", f"/images/{name}/tag?repo=a/b&tag=c").status == 201
    assert ask(sock, "DELETE", f"/images/{name}?force=1").json == [{"Untagged": name}]
    assert server.engine.images.calls == [("tag", name, "a/b", "c"), ("remove", name, True, False)]
    assert ask(sock, "POST", "/images/prune").json == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    assert ask(sock, "POST", "/images/create?fromImage=missing&tag=1").status == 404
    answer = ask(sock, "POST", "/images/create?fromImage=busybox&tag=1")
    assert (answer.status, answer.json) == (200, {"status": "Pulling from busybox", "id": "1"})


def test_registry_endpoints(server: Any, sock: socket.socket) -> None:
    """push, auth, search, distribution and our list of tags reach the engine."""
    answer = ask(sock, "POST", "/images/h:5000/a/b/push?tag=1", headers="X-Registry-Auth: e30=\r\n")
    assert (answer.status, answer.json) == (200, {"status": "The push refers to repository [h:5000/a/b]"})
    answer = ask(sock, "POST", "/auth", b'{"username":"u","password":"right"}')
    assert answer.json["Status"] == "Login Succeeded"
    answer = ask(sock, "POST", "/auth", b'{"username":"u","password":"wrong"}')
    assert (answer.status, answer.message) == (401, "unauthorized: incorrect username or password")
    assert ask(sock, "GET", "/images/search?term=x&limit=7").json == [{"name": "x", "description": "7"}]
    assert ask(sock, "GET", "/distribution/h:5000/a/json").json["Platforms"] == []
    assert ask(sock, "GET", "/wherry/v1/tags?name=h:5000/a").json == {"Name": "h:5000/a", "Tags": ["1", "2"]}


def test_image_load(server: Any, sock: socket.socket) -> None:
    """Progress is JSON lines; after the status an error is told in band."""
    body = os.urandom(3 << 20)
    answer = ask(sock, "POST", "/images/load?quiet=1", body, "Content-Type: application/x-tar\r\n")
    assert answer.json == {"stream": "Loaded image: busybox:latest\n"}
    assert server.engine.images.received == body
    server.engine.images.raises = errors.HostileInput("unexpected EOF")
    answer = ask(sock, "POST", "/images/load", b"x", "Content-Type: application/x-tar\r\n")
    assert answer.status == 200
    assert answer.body.splitlines()[1] == b'{"errorDetail":{"message":"unexpected EOF"},"error":"unexpected EOF"}'


def test_image_save(server: Any, sock: socket.socket) -> None:
    """A tar stream; when it breaks, the client does not take the part for the whole."""
    answer = ask(sock, "GET", "/images/busybox/get")
    assert (answer.headers["content-type"], len(answer.body)) == ("application/x-tar", 101000)
    ask(sock, "GET", "/images/get?names=busybox,busybox:latest&names=busybox")
    assert server.engine.images.calls[-1] == ("save", "busybox", "busybox:latest", "busybox")
    server.engine.images.raises = errors.StoreCorrupt("gone")
    sock.sendall(request("GET", "/images/busybox/get"))
    with pytest.raises((AssertionError, ConnectionResetError)):
        Reader(sock).response()


def test_image_import_and_bootstrap(server: Any, sock: socket.socket) -> None:
    """Import answers the id as a status line, bootstrap its progress and the id."""
    answer = ask(
        sock,
        "POST",
        "/images/create?fromSrc=-&repo=a&tag=b&changes=CMD+x&changes=ENV+y&message=m",
        b"tar",
        "Content-Type: text/plain\r\n",
    )
    assert answer.json == {"status": FakeImage.id}
    assert server.engine.images.calls == [("import", "a", "b", ["CMD x", "ENV y"], "m", "")]
    answer = ask(sock, "POST", "/wherry/v1/bootstrap?name=busybox")
    assert [json.loads(line) for line in answer.body.splitlines()] == [
        {"status": "making busybox"},
        {"aux": {"ID": FakeImage.id}},
    ]
    assert ask(sock, "POST", "/wherry/v1/bootstrap").status == 400
    assert ask(sock, "POST", "/v1.41/wherry/v1/bootstrap").status == 404


def test_services(sock: socket.socket) -> None:
    """Our calls about services: the list, one, its counts; one that is not there is a 404."""
    assert ask(sock, "GET", "/wherry/v1/proxy/services").json == [{"Name": "web"}]
    assert ask(sock, "GET", "/wherry/v1/proxy/service?name=web").json == {"Name": "web", "Members": []}
    answer = ask(sock, "GET", "/wherry/v1/proxy/service?name=db")
    assert (answer.status, answer.json) == (404, {"message": "No such service: db"})
    assert ask(sock, "GET", "/wherry/v1/proxy/service").status == 400
    assert ask(sock, "GET", "/wherry/v1/proxy/statistics").json[0]["Total"] == 3


def test_other_endpoints(sock: socket.socket) -> None:
    """Networks, system, exec, and the empty list of plugins."""
    assert ask(sock, "GET", "/networks").json[0]["Name"] == "bridge"
    assert ask(sock, "GET", "/networks/bridge?scope=local").json == {"Name": "bridge"}
    version = ask(sock, "GET", "/version").json
    assert (version["ApiVersion"], version["MinAPIVersion"], version["Os"]) == ("1.51", "1.24", "linux")
    assert ask(sock, "GET", "/info").json["NCPU"] == 2
    assert ask(sock, "GET", "/plugins").json == []
    assert ask(sock, "POST", "/containers/prune").json == {"ContainersDeleted": None, "SpaceReclaimed": 0}
    assert ask(sock, "POST", "/containers/c1/exec", '{"Cmd":["true"],"detachKeys":"ctrl-x"}').json == {"Id": "e1"}
    assert ask(sock, "GET", "/exec/e1/json").json["ExitCode"] == 5
    assert ask(sock, "GET", "/volumes").json == {"Volumes": [{"Name": "data"}], "Warnings": None}
    assert ask(sock, "POST", "/volumes/prune").json == {"VolumesDeleted": [], "SpaceReclaimed": 0}
    made = ask(sock, "POST", "/volumes/create", '{"Name": "data", "DriverOpts": {"type": "x"}}')
    assert (made.status, made.json["Options"]) == (201, {"type": "x"})
    assert ask(sock, "DELETE", "/volumes/data?force=1").status == 204
    assert len(ask(sock, "GET", "/wherry/v1/volumes/export?name=data").body) == 1000
    assert ask(sock, "GET", "/wherry/v1/volumes/export?name=nope").status == 404
    brought = ask(sock, "POST", "/wherry/v1/volumes/import?name=new&label=a%3Db", b"abc", TEXT)
    assert (brought.status, brought.json) == (201, {"Name": "new", "Labels": {"a": "b"}, "Received": 3})
    assert ask(sock, "POST", "/wherry/v1/volumes/clone?from=data&name=new").json == {"Name": "new", "Labels": {}}
    assert ask(sock, "POST", "/wherry/v1/volumes/clone?name=new").status == 400
    found = ask(sock, "GET", "/containers/c1/archive?path=/f")
    assert (found.status, len(found.body)) == (200, 1010)
    assert ask(sock, "GET", "/containers/c1/archive?path=/nope").status == 404
    assert ask(sock, "GET", "/containers/c1/archive").message == "bad parameter: pathcannot be empty"
    assert ask(sock, "PUT", "/containers/c1/archive?path=/d&copyUIDGID=1", b"abc", TEXT).status == 200
    assert ask(sock, "PUT", "/containers/c1/archive?path=/d&copyUIDGID=1&chown=0", b"abc", TEXT).status == 400
    assert ask(sock, "POST", "/networks/prune").json == {"NetworksDeleted": None}
    assert ask(sock, "POST", "/build/prune").json == {"CachesDeleted": None, "SpaceReclaimed": 0}
    answer = ask(sock, "DELETE", "/networks/bridge")
    assert (answer.status, answer.message) == (403, "bridge is a pre-defined network and cannot be removed")
    assert ask(sock, "DELETE", "/networks/nope").status == 404
    made = ask(sock, "POST", "/networks/create", b'{"Name":"n1","Driver":"macvlan"}')
    assert (made.status, made.json["Asked"]) == (201, ["n1", "macvlan"])
    for verb in ("connect", "disconnect"):
        assert ask(sock, "POST", f"/networks/bridge/{verb}", b'{"Container":"c1"}').status == 200
        assert ask(sock, "POST", f"/networks/nope/{verb}", b"{}").status == 404
        assert ask(sock, "POST", f"/networks/bridge/{verb}", b'{"Container":1}').status == 400
    told = ask(sock, "GET", "/wherry/v1/networks/check?container=c1&port=80").json
    assert told == [{"ok": False, "text": "c1 80"}]
    assert ask(sock, "GET", "/wherry/v1/networks/check").status == 400
    assert ask(sock, "GET", "/networks/bridge?scope=swarm").status == 404
    assert ask(sock, "GET", "/networks/bridge?verbose=x").status == 400
    assert ask(sock, "POST", "/swarm/leave").message == "This node is not part of a swarm"
    assert ask(sock, "POST", "/session", b"", TEXT).status == 501
    assert ask(sock, "PUT", "/version").status == 404
