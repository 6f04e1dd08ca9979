"""Volumes: the commands, and every form in which a container gets data."""

from typing import Any

from tests.compat.row import Row, call

PATHS = ((r"/\S*/volumes/", "VOLUMES/"),)
_LOOK = "docker inspect -f '{{range .Mounts}}{{json .}}{{println}}{{end}}' k1 | sort"


def _asked(words: str, image: str = "busybox", **rest: Any) -> Row:
    """Create a container, and what inspect says of its mounts."""
    return Row(
        f"docker create --name k1 {words} {image} true >/dev/null; {_LOOK}",
        normalise=(*PATHS, (r"[0-9a-f]{64}", "NAMELESS")),
        **rest,
    )


def _refused(words: str, **rest: Any) -> Row:
    return Row(f"docker create --name k1 {words} busybox true", normalise=PATHS, **rest)


def _run(words: str, **rest: Any) -> Row:
    return Row(f"docker run --rm {words}", normalise=PATHS, **rest)


_TMPFS = "-o type=tmpfs -o device=tmpfs -o o=size=1m"
ROWS: list[Row] = [
    # create
    Row("docker volume create v1"),
    Row("docker volume create | tr -d '0-9a-f'"),
    Row("docker volume create v1; docker volume create v1"),
    Row("docker volume create --name v1"),
    Row("docker volume create --name v1 v1"),
    Row("docker volume create --label a=b --label c v1; docker volume inspect -f '{{json .Labels}}' v1"),
    Row(f"docker volume create {_TMPFS} v1; docker volume inspect -f '{{{{.Options.o}}}}' v1"),
    Row("docker volume create x"),
    Row("docker volume create a/b"),
    Row("docker volume create ../up"),
    Row("docker volume create -- -x"),
    Row("docker volume create ''  | tr -d '0-9a-f'"),
    Row("docker volume create v1 v2"),
    Row("docker volume create -d nope v1"),
    Row("docker volume create -o x=y v1"),
    Row("docker volume create -o type=tmpfs v1"),
    Row("docker volume create -o device=/x v1"),
    Row("docker volume create -o o=bind v1"),
    Row("docker volume create --nope"),
    # ls
    Row("docker volume ls", setup="docker volume create v9; docker volume create v10"),
    Row("docker volume ls -q", setup="docker volume create v9; docker volume create v10"),
    Row("docker volume ls -f name=a1 -q", setup="docker volume create aa1; docker volume create aa2"),
    Row("docker volume ls -f label=a -q", setup="docker volume create --label a=b aa1; docker volume create aa2"),
    Row("docker volume ls -f label=a=c -q", setup="docker volume create --label a=b aa1"),
    Row("docker volume ls -f driver=local -q", setup="docker volume create aa1"),
    Row("docker volume ls -f driver=nope -q", setup="docker volume create aa1"),
    Row("docker volume ls -f dangling=1 -q", setup="docker create -v aa1:/x busybox true; docker volume create aa2"),
    Row("docker volume ls -f dangling=0 -q", setup="docker create -v aa1:/x busybox true; docker volume create aa2"),
    Row("docker volume ls -f dangling=x"),
    Row("docker volume ls -f nope=x"),
    Row(
        "docker volume ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{.Size}}'",
        setup="docker volume create --label a=b aa1",
    ),
    Row("docker volume ls --format json", setup="docker volume create aa1", normalise=PATHS),
    Row("docker volume ls x"),
    # inspect
    Row("docker volume inspect v1", setup=f"docker volume create --label a=b {_TMPFS} v1", shape=True),
    Row("docker volume inspect v1", setup="docker volume create v1", shape=True),
    Row(
        "docker volume inspect -f '{{.Name}} {{.Driver}} {{.Labels}} {{.Options}}' v1", setup="docker volume create v1"
    ),
    Row("docker volume inspect -f '{{.Nope}}' v1", setup="docker volume create v1"),
    Row("docker volume inspect v1 nope -f '{{.Name}}'", setup="docker volume create v1"),
    Row("docker volume inspect"),
    Row("docker inspect --type volume -f '{{.Name}}' v1", setup="docker volume create v1"),
    Row("docker inspect -f '{{.Driver}}' v1", setup="docker volume create v1"),
    # rm, prune
    Row("docker volume rm v1; docker volume ls -q", setup="docker volume create v1"),
    Row("docker volume rm v1 nope v2", setup="docker volume create v1; docker volume create v2"),
    Row("docker volume rm nope"),
    Row("docker volume rm -f nope"),
    Row("docker volume rm"),
    Row("docker volume rm v1", setup="docker create -v v1:/x busybox true"),
    Row("docker volume rm -f v1", setup="docker create -v v1:/x busybox true"),
    Row("docker volume prune -f", setup="docker volume create v1"),
    Row("docker volume prune -fa", setup="docker volume create v1"),
    Row("docker volume prune -f --filter all=1", setup="docker volume create v1"),
    Row("docker volume prune -fa --filter label=a", setup="docker volume create --label a v1; docker volume create v2"),
    Row(
        "docker volume prune -fa --filter label!=a", setup="docker volume create --label a v1; docker volume create v2"
    ),
    Row("docker volume prune -f --filter nope=1"),
    Row("docker volume prune -f --filter until=1h"),
    Row("docker volume prune < /dev/null"),
    Row("docker volume prune -a < /dev/null"),
    Row("docker volume prune -fa", setup="docker create -v v1:/x busybox true"),
    # what a container gets
    _asked("-v v1:/x"),
    _asked("-v v1:/x:ro"),
    _asked("-v v1:/x:z"),
    _asked("-v v1:/x:Z,ro"),
    _asked("-v v1:/x:nocopy"),
    _asked("-v /x"),
    _asked("-v v1:/x/../y"),
    _asked("-v v1:/x -v v2:/y -v v1:/z"),
    _asked("--mount type=volume,src=v1,dst=/x"),
    _asked("--mount type=volume,dst=/x"),
    _asked("--mount src=v1,dst=/x,readonly"),
    _asked("--mount type=volume,src=v1,dst=/x,volume-nocopy,volume-label=a=b"),
    _asked("--mount type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=1700"),
    _asked("--mount type=bind,src=/proc,dst=/x,readonly,bind-propagation=rslave"),
    _asked("--tmpfs /x -v v1:/y"),
    Row(
        "docker create --name k1 --mount type=volume,src=v1,dst=/x,volume-label=a=b busybox true >/dev/null;"
        " docker volume inspect -f '{{json .Labels}}' v1"
    ),
    _refused("-v a/b:/x"),
    _refused("-v x1:x"),
    _refused("-v v1:/"),
    _refused("-v v1:/x:nope"),
    _refused("-v v1:/x:ro,rw"),
    _refused("-v v1:/x:rshared"),
    _refused("-v v1:/x -v v2:/x"),
    _refused("-v v1:/x --tmpfs /x"),
    _refused("-v v1:/x:ro:more"),
    _refused("--mount type=volume,src=v1"),
    _refused("--mount type=volume,src=v1,dst=x"),
    _refused("--mount type=volume,src=v1,dst=/"),
    _refused("--mount type=volume,src=/a,dst=/x"),
    _refused("--mount type=volume,src=x,dst=/x"),
    _refused("--mount type=nope,src=a,dst=/x"),
    _refused("--mount type=tmpfs,src=a,dst=/x"),
    _refused("--mount type=bind,src=/no/such,dst=/x"),
    _refused("--mount type=volume,src=v1,dst=/x,volume-opt=nope=x"),
    _refused("--mount type=volume,src=v1,dst=/x,bind-propagation=shared"),
    _refused("--mount type=bind,src=/proc,dst=/x,volume-nocopy"),
    # taken over
    Row(
        f"docker create --name k1 --volumes-from src busybox true >/dev/null; {_LOOK}",
        setup="docker create --name src -v v1:/x -v v2:/y:ro busybox true",
        normalise=PATHS,
    ),
    Row(
        f"docker create --name k1 --volumes-from src:ro busybox true >/dev/null; {_LOOK}",
        setup="docker create --name src -v v1:/x -v v2:/y:ro busybox true",
        normalise=PATHS,
    ),
    Row(
        f"docker create --name k1 --volumes-from src -v v3:/x busybox true >/dev/null; {_LOOK}",
        setup="docker create --name src -v v1:/x busybox true",
        normalise=PATHS,
    ),
    _refused("--volumes-from ''"),
    Row("docker create --name k1 --volumes-from c1:nope busybox true"),
    # and what it does with it
    Row("docker run --rm -v v1:/x busybox touch /x/f; docker run --rm -v v1:/y:ro busybox ls /y"),
    Row("docker run --rm -v v1:/tmp busybox stat -c '%a %u %g' /tmp"),
    Row("docker run --rm -v v1:/new busybox stat -c '%a %u %g' /new"),
    Row("docker run --rm -v v1:/tmp busybox stat -c '%a %u' /tmp; docker run --rm -v v1:/y busybox stat -c '%a' /y"),
    Row("docker run --rm -v v1:/tmp:nocopy busybox stat -c '%a %u' /tmp"),
    _run("-v v1:/x:ro busybox touch /x/f"),
    _run("--mount type=volume,src=v1,dst=/x,volume-subpath=nope busybox true", since=(26, 0)),
    _run("--mount type=volume,src=v1,dst=/x,volume-subpath=../x busybox true", since=(26, 0)),
    Row(
        "docker run --rm --mount type=volume,src=v1,dst=/x,volume-subpath=a busybox ls /x",
        setup="docker run --rm -v v1:/x busybox mkdir -p /x/a/b",
        since=(26, 0),
    ),
    Row(
        "docker run --rm -v v1:/x busybox grep ' /x ' /proc/mounts | cut -d' ' -f1-3",
        setup=f"docker volume create {_TMPFS} v1",
    ),
    Row(
        "docker run --rm -v v1:/x busybox true",
        setup="docker volume create -o type=nope -o device=x v1",
        normalise=PATHS,
    ),
    Row("docker run --name k1 -v /x busybox true; docker rm -v k1; docker volume ls -q"),
    Row("docker run --rm -v /x -v v1:/y busybox true; docker volume ls -q"),
    Row("docker run --name k1 -v /x busybox true; docker rm k1; docker volume ls -q | wc -l"),
    Row(
        "docker ps -a --filter volume=v1 --format '{{.Names}} {{.Mounts}} {{.LocalVolumes}}'",
        setup="docker create --name k1 -v v1:/x busybox true",
    ),
    Row("docker ps -a --filter volume=/x --format '{{.Names}}'", setup="docker create --name k1 -v v1:/x busybox true"),
    Row(
        "docker create --name k1 --volume-driver local -v v1:/x busybox true >/dev/null; docker inspect -f '{{.HostConfig.VolumeDriver}}' k1"
    ),
    # raw
    call("POST", "/v/volumes/create", "{}", shape=True),
    call("POST", "/v/volumes/create", '{"Name": "v1", "Labels": {"a": "b"}}', shape=True),
    call("POST", "/v/volumes/create", '{"Name": "a/../b"}'),
    call("POST", "/v/volumes/create", '{"Name": 7}'),
    call("POST", "/v/volumes/create", '{"Name": "v1", "Driver": "nope"}'),
    call("POST", "/v/volumes/create", '{"Name": "v1", "DriverOpts": {"nope": "x"}}'),
    call("DELETE", "/v/volumes/nope?force=1"),
    call("POST", "/v/volumes/prune", shape=True),
    call("POST", '/v/volumes/prune?filters={"nope":["1"]}'),
    call("GET", '/v/volumes?filters={"nope":["1"]}'),
    call("GET", "/v/volumes/..%2f..%2fetc"),
]
