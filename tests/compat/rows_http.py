"""HTTP itself: versions, methods, paths that are not there, bodies that are no JSON, and parameters that are missing."""

from tests.compat.row import HOST, Row, call

_XML = {"Content-Type": "application/xml"}
_NEWEST = ((r"is 1\.\d+", "is <newest>"), (r"version 1\.\d+\.?", "version <version>"))
# answers whose values differ between any two engines
_ANSWERS = (
    "containers/json?all=x",
    "containers/json?limit=-1&all=0",
    "containers/json?size=x&limit=1&filters={}",
    "containers/c1/json?size=x",
    "containers/p1/top",
    "networks/bridge?verbose=1&scope=local",
)
# those that take JSON: (path, a body of a wrong type)
_BODIES = (
    ("containers/create", '{"Image": []}'),
    ("containers/c1/exec", '{"Cmd": "true"}'),
    ("containers/c1/update", '{"CpuShares": "x"}'),
    ("networks/create", '{"Name": []}'),
    ("networks/bridge/connect", '{"Container": 1}'),
    ("networks/bridge/disconnect", '{"Container": 1}'),
    ("volumes/create", '{"Labels": []}'),
    ("auth", '{"username": 1}'),
)
_GETS = (
    "containers/c1/json", "containers/c1/top", "containers/c1/logs?stdout=1&tail=1", "containers/c1/changes",
    "containers/json", "images/json", "images/busybox/json", "images/busybox/history", "networks", "networks/bridge",
    "volumes", "info", "version", "_ping", "events?since=1&until=2",
)  # fmt: skip

ROWS: list[Row] = [
    # versions
    *(
        call("GET", f"/{version}/_ping", normalise=_NEWEST)
        for version in ("v1.12", "v1.23", "v1.24", "v1.40", "v1.99", "v2.0", "v1", "v", "V1.40", "v1.x", "1.40")
    ),
    call("GET", "/v1.12/containers/json", normalise=_NEWEST),
    call("GET", "/v1.99/containers/json", normalise=_NEWEST),
    call("POST", "/v1.99/containers/create", "{}", normalise=_NEWEST),
    *(
        call("GET", f"/v1.24/{path}", shape=True, skip=HOST, since=(26,))
        for path in ("networks", "networks/bridge", "volumes", "info", "images/busybox/history")
    ),
    *(
        call("GET", f"/v1.40/{path}", shape=True, since=(26,))
        for path in ("containers/json?all=1", "containers/c1/json", "images/json", "networks", "volumes")
    ),
    *(
        call("GET", f"/{path}", since=(26,), shape=True)
        for path in ("containers/json", "images/json", "networks/bridge", "volumes")
    ),
    # methods
    *(call("OPTIONS", f"/v/{path}") for path in ("_ping", "containers/json", "containers/create", "nope")),
    *(call("HEAD", f"/v/{path}") for path in ("_ping", "containers/json", "info", "nope", "containers/nope/json")),
    *(
        call("DELETE", f"/v/{path}")
        for path in ("containers", "containers/json", "info", "images", "networks", "volumes")
    ),
    *(call("PUT", f"/v/{path}") for path in ("containers/create", "images/json", "networks/create")),
    *(call("PATCH", f"/v/{path}") for path in ("containers/c1", "info")),
    *(
        call("POST", f"/v/{path}")
        for path in ("containers/json", "info", "version", "images/json", "events", "networks/bridge")
    ),
    *(
        call("GET", f"/v/{path}")
        for path in (
            "containers/c1/start",
            "networks/create",
            "volumes/create",
            "auth",
            "build",
            "commit",
            "exec/x/start",
        )
    ),
    # paths
    *(
        call("GET", path)
        for path in (
            "/",
            "//",
            "/v/",
            "/v",
            "/v/containers",
            "/v/containers/",
            "/v/containers/c1",
            "/v/containers/c1/",
            "/v/containers/c1/nope",
            "/v/images",
            "/v/images/busybox",
            "/v/exec",
            "/v/system",
            "/v/system/df/x",
            "/v/nope/nope/nope",
            "/containers/../info",
            "/v/%2e%2e/info",
            "/v/containers/json/",
            "/V/info",
            "/v/INFO",
        )
    ),
    # bodies
    *(call("POST", f"/v/{path}", body, ignore=("stdout",) if path == "auth" else ()) for path, body in _BODIES),
    *(call("POST", f"/v/{path}", "{") for path, _ in _BODIES),
    *(call("POST", f"/v/{path}", "[]") for path, _ in _BODIES),
    *(call("POST", f"/v/{path}", "", shape=path == "volumes/create") for path, _ in _BODIES),
    *(call("POST", f"/v/{path}", "{}", _XML) for path, _ in _BODIES),
    *(call("POST", f"/v/{path}", "{} {}", since=(26,)) for path, _ in _BODIES if path != "auth"),
    call("POST", "/v/containers/create", '{"Image": "busybox", "Image": "nope"}'),
    call("POST", "/v/containers/create", b"\xff\xfe"),
    call("POST", "/v/containers/create", '{"Image": "busy\\u0000box"}'),
    call("POST", "/v/containers/create", "[" * 5000),
    call(
        "POST", "/v/containers/create", '{"Image": "busybox", "HostConfig": null, "NetworkingConfig": null}', shape=True
    ),
    call(
        "POST",
        "/v/containers/create",
        '{"Image": "busybox", "HostConfig": {"Memory": 99999999999999999999}}',
    ),
    call("POST", "/v/containers/create", '{"Image": "busybox", "HostConfig": {"Memory": 1e8}}'),
    call("POST", "/v/containers/create?name=k1&name=k2", '{"Image": "busybox"}', shape=True),
    call("POST", "/v/containers/create?platform=", '{"Image": "busybox"}', shape=True),
    call("POST", "/v/containers/create", '{"Image": "busybox", "ExposedPorts": {"x": {}}}'),
    call("POST", "/v/containers/create", '{"Image": "busybox", "ExposedPorts": {"80": {}}}', shape=True),
    call("POST", "/v/containers/create", '{"Image": "busybox", "Volumes": {"rel": {}}}'),
    call("POST", "/v/containers/create", '{"Image": "busybox", "Volumes": {"/": {}}}'),
    call("POST", "/v/containers/create", '{"Image": "busybox", "StopTimeout": "x"}'),
    call(
        "POST",
        "/v/containers/create",
        '{"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "nope", "Target": "/x"}]}}',
    ),
    call("POST", "/v/containers/create", '{"Image": "busybox", "HostConfig": {"Mounts": [{"Target": "/x"}]}}'),
    call(
        "POST",
        "/v/containers/create",
        '{"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "tmpfs", "Target": "/x", "Source": "y"}]}}',
    ),
    call(
        "POST",
        "/v/containers/create",
        '{"Image": "busybox", "HostConfig": {"Mounts": [{"Type": "volume", "Target": "/x", "BindOptions": {}}]}}',
    ),
    call(
        "POST", "/v/containers/create", '{"Image": "busybox", "HostConfig": {"PortBindings": {"80": [{}]}}}', shape=True
    ),
    call(
        "POST",
        "/v/containers/create",
        '{"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "x"}]}}}',
    ),
    call("POST", "/v/containers/create", '{"Image": "busybox", "HostConfig": {"Devices": [{}]}}', shape=True),
    call(
        "POST",
        "/v/containers/create",
        '{"Image": "busybox", "HostConfig": {"RestartPolicy": {"Name": "", "MaximumRetryCount": 3}}}',
    ),
    call(
        "POST",
        "/v/containers/create",
        '{"Image": "busybox", "HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -3}}}',
    ),
    call("POST", "/v/containers/create", '{"Image": "busybox", "HostConfig": {"ConsoleSize": [1, 2]}}', shape=True),
    call("POST", "/v/containers/create", '{"Image": "busybox", "HostConfig": {"Links": ["c1"]}}', shape=True),
    call("POST", "/v/containers/create", '{"Image": "busybox", "HostConfig": {"VolumesFrom": ["nope"]}}'),
    call("POST", "/v/containers/create", '{"Image": "busybox", "MacAddress": "nope"}'),
    # parameters
    *(
        call("GET", f"/v/{path}", shape=path in _ANSWERS, skip=("[].GraphDriver",))
        for path in (
            "containers/json?all=x",
            "containers/json?limit=-1&all=0",
            "containers/json?size=x&limit=1&filters={}",
            'containers/json?filters={"name":"x"}',
            'containers/json?filters={"status":[1]}',
            'containers/json?filters={"is-task":["x"]}',
            "containers/c1/logs?stdout=0&stderr=0",
            "containers/c1/logs?stdout=1&until=x",
            "containers/c1/logs?stderr=true&tail=-1",
            "containers/nope/stats?stream=false",
            "containers/c1/json?size=x",
            "containers/c1/archive?path=nope",
            "containers/p1/top",
            "containers/n1/top",
            "containers/x1/changes",
            'images/json?filters={"reference":"x"}',
            "images/json?filters=x",
            "images/json?all=x&filters={}",
            'images/json?filters={"before":["nope"]}',
            'images/json?filters={"until":["x"]}',
            "images/search?term=x&limit=x",
            "images/search?term=x&limit=1000",
            'images/search?term=x&filters={"nope":["x"]}',
            "images//json",
            "images/a%20b/json",
            "images/busybox:nope/json",
            "images/busybox@sha256:12/json",
            "images/UPPER/history",
            'networks?filters={"nope":["x"]}',
            "networks?filters=x",
            'networks?filters={"type":["x"]}',
            'networks?filters={"dangling":["x"]}',
            "networks/bridge?verbose=1&scope=local",
            "volumes?filters=x",
            'volumes?filters={"dangling":["x"]}',
            "volumes/a%20b",
            "events?since=5&until=x",
            'events?since=0&until=1&filters={"nope":["x"]}',
            "events?since=0&until=1&filters=[]",
            "system/df?type=x",
            "distribution/UPPER/json",
            "distribution/127.0.0.1:1/x/json",
            "exec//json",
        )
    ),
    *(
        call("POST", f"/v/{path}")
        for path in (
            "containers/c1/kill?signal=",
            "containers/c1/kill?signal=x",
            "containers/c1/kill?signal=-1",
            "containers/nope/resize",
            "containers/x1/restart?t=x",
            "containers/p1/restart?signal=NOPE",
            "containers/n1/wait?condition=",
            "containers/c1/rename?name=",
            "containers/c1/rename?name=/",
            "containers/c1/rename?name=a%20b",
            "containers/x1/resize?h=1&w=1",
            "containers/c1/resize?h=-1&w=1",
            "containers/prune?filters=x",
            'containers/prune?filters={"until":["x"]}',
            "images/prune?filters=x",
            'images/prune?filters={"dangling":["x"]}',
            "networks/prune?filters=x",
            'networks/prune?filters={"x":["y"]}',
            "volumes/prune?filters=x",
            "images/create?fromImage=UPPER",
            "images/create?fromImage=a&tag=b/c",
            "images/create?fromImage=127.0.0.1:1/x&tag=1",
            "images/create?fromImage=x&platform=nope/nope/nope/nope",
            "images/busybox/tag?repo=a&tag=",
            "images/busybox/tag?tag=x",
            "commit?container=",
            "commit?container=n1&pause=x&repo=UPPER",
            "commit?container=n1&changes=NOPE",
            "exec/nope/start",
            "build/prune?all=x&filters=x",
            "containers/nope/copy",
            "auth",
            "swarm/init",
            "swarm/leave",
            "services/create",
            "secrets/create",
            "configs/create",
        )
    ),
    *(
        call("DELETE", f"/v/{path}")
        for path in (
            "containers/c1?force=x&v=1",
            "images/UPPER",
            "images/busybox:nope",
            "images/a%20b",
            "images/nope?force=1",
            "networks/bridge",
            "networks/host",
            "networks/none",
            "volumes/a%20b",
            "volumes/nope?force=x",
            "plugins/nope",
            "services/nope",
            "nodes/nope",
            "secrets/nope",
            "configs/nope",
        )
    ),
    *(
        call("GET", f"/v/{path}")
        for path in (
            "tasks",
            "secrets",
            "configs",
            "services/nope",
            "nodes/nope",
            "tasks/nope",
            "plugins/nope/json",
            "swarm/unlockkey",
        )
    ),
    # what every answer has
    *(
        Row(
            f"curl -s -m 5 -o /dev/null -D - --unix-socket ${{DOCKER_HOST#unix://}} 'http://d/{path}' | tr -d '\\r' | "
            "grep -iE '^(HTTP|content-type|cache-control|pragma|ostype|swarm|builder-version|docker-experimental)' | sort",
            reads=True,
            since=(26,),
        )
        for path in _GETS
    ),
]
