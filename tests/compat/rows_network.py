"""Networks of users: create, ls, inspect, rm, prune, connect, disconnect, and containers on them."""

from tests.compat.row import Row, call

_NEW = "docker network create --subnet 10.221.1.0/24 nn1"
_TWO = f"{_NEW}; docker network create --subnet 10.221.2.0/24 --ip-range 10.221.2.128/25 nn2"
_UP = "docker run -d --name k1 --network nn1 busybox sleep 9999"
_NETWORKS = "docker inspect -f '{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}} {{$e.Aliases}} {{$e.MacAddress}};{{end}}' k1"
_DB = "docker run -d --name k1 -h dbhost --expose 5432 --expose 53/udp --expose 8000-8003 -e FOO=bar -e HOME=/x busybox sleep 9999"
_SINCE = (26, 0)
_ID = ((r"br-[0-9a-f]{12}", "<bridge>"), (r"\b[0-9a-f]{64}\b", "<id>"), (r"\b[0-9a-f]{12}\b", "<short>"))


def _net(line: str, setup: str = _NEW, **rest: object) -> Row:
    return Row(line, setup=setup, since=_SINCE, **{"normalise": _ID, **rest})  # type: ignore[arg-type]


def _create(flags: str, name: str = "nn1") -> Row:
    return _net(f"docker network create {flags} {name}", setup="")


def _post(path: str, body: str) -> Row:
    return call("POST", f"/v/networks/{path}", body, setup=_NEW, since=_SINCE, normalise=_ID)


ROWS: list[Row] = [
    # create
    _create(""),
    _create("-d bridge --label a=b --attachable"),
    _create("--subnet 10.221.9.0/24 --gateway 10.221.9.9 --ip-range 10.221.9.64/26 --aux-address x=10.221.9.65"),
    _create("-d nope"),
    _create("-d host"),
    _create("-d null"),
    _create("", "bridge"),
    _create("", "host"),
    _create("", "''"),
    _create("", ""),
    _create("", "a b"),
    _create("--subnet x"),
    _create("--subnet 10.221.0.0/33"),
    _create("--subnet 10.221.0.5/24"),
    _create("--subnet 10.221.0.0/24 --gateway 10.222.0.1"),
    _create("--subnet 10.221.0.0/24 --ip-range 10.222.0.0/28"),
    _create("--subnet 10.221.0.0/24 --aux-address a=10.9.0.1"),
    _create("--subnet 10.221.0.0/24 --aux-address a"),
    _create("--gateway 10.221.0.1"),
    _create("--ip-range 10.221.0.0/24"),
    _create("--subnet 10.221.0.0/24 --subnet 10.221.0.0/25"),
    _create("--subnet 10.221.0.0/24 --subnet 10.222.0.0/24"),
    _create("--ipam-driver foo"),
    _create("-o com.docker.network.driver.mtu=x"),
    _create("-o com.docker.network.bridge.enable_icc=x"),
    _create("--ingress"),
    _create("--nope"),
    _net("docker network create nn1"),
    _net("docker network create --subnet 10.221.1.128/25 nn2"),
    _net("docker network inspect nn1", shape=True),
    _net("docker network inspect nn1", setup="docker network create --internal -o foo=bar --label a=b nn1", shape=True),
    _net(
        "docker network inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.IPAM.Config}} {{.Options}}' nn1"
    ),
    _net(
        "docker network inspect -f '{{.IPAM.Config}}' nn1",
        setup="docker network create --subnet 10.221.9.0/24 --gateway 10.221.9.9 --ip-range 10.221.9.64/26 --aux-address x=10.221.9.65 nn1",
    ),
    _net("docker network inspect nope nn1 -f '{{.Name}}'"),
    _net("docker network inspect"),
    # ls
    _net("docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.Labels}}'"),
    _net("docker network ls -f name=nn -f driver=bridge --format '{{.Name}}'"),
    _net("docker network ls -f label=a=b --format '{{.Name}}'", setup="docker network create --label a=b nn1"),
    _net("docker network ls -f type=custom --format '{{.Name}}'"),
    _net("docker network ls -f type=builtin --format '{{.Name}}'"),
    _net("docker network ls -f type=x"),
    _net("docker network ls -f dangling=true -f name=nn --format '{{.Name}}'"),
    _net("docker network ls -f dangling=x"),
    _net("docker network ls -f scope=x -q"),
    _net("docker network ls -f nope=x"),
    _net("docker network ls -f driver=nope -q"),
    # rm, prune
    _net("docker network rm nn1; docker network ls -q -f name=nn1"),
    _net("docker network rm nope"),
    _net("docker network rm -f nope"),
    _net("docker network rm bridge nn1 none"),
    _net("docker network rm nn1", setup=f"{_NEW}; {_UP}"),
    _net("docker network rm nn1; docker start k1", setup=f"{_NEW}; docker create --name k1 --network nn1 busybox true"),
    _net("docker network rm"),
    _net("docker network prune -f", setup=f"{_TWO}; {_UP}"),
    _net("docker network prune -f --filter label=x; docker network ls -q -f name=nn1 | wc -l"),
    _net("docker network prune -f --filter foo=x"),
    _net("docker network prune -f --filter until=x"),
    _net("echo n | docker network prune; docker network ls -f name=nn1 --format '{{.Name}}'"),
    # connect, disconnect
    _net(f"docker network connect nn2 k1; {_NETWORKS}", setup=f"{_TWO}; {_UP}"),
    _net(f"docker network connect --ip 10.221.2.9 --alias x --alias y nn2 k1; {_NETWORKS}", setup=f"{_TWO}; {_UP}"),
    _net(
        f"docker network connect nn2 k1; docker start k1; {_NETWORKS}",
        setup=f"{_TWO}; docker create --name k1 --network nn1 busybox sleep 99",
    ),
    _net("docker network connect nn1 k1", setup=f"{_NEW}; {_UP}"),
    _net("docker network connect --ip 10.9.9.9 nn2 k1", setup=f"{_TWO}; {_UP}"),
    _net("docker network connect --ip 10.221.2.1 nn2 k1", setup=f"{_TWO}; {_UP}"),
    _net("docker network connect --ip x nn2 k1", setup=f"{_TWO}; {_UP}"),
    _net("docker network connect --ip6 fd00::1 nn2 k1", setup=f"{_TWO}; {_UP}"),
    _net("docker network connect --link-local-ip x nn2 k1", setup=f"{_TWO}; {_UP}"),
    _net("docker network connect --alias x bridge k1", setup=f"{_NEW}; {_UP}"),
    _net("docker network connect nope c1"),
    _net("docker network connect nn1 nope"),
    _net("docker network connect host c1"),
    _net("docker network connect nn1"),
    _net(f"docker network disconnect nn1 k1; {_NETWORKS}; docker exec k1 ip -o link | wc -l", setup=f"{_NEW}; {_UP}"),
    _net(
        f"docker network disconnect nn1 k1; {_NETWORKS}",
        setup=f"{_TWO}; docker create --name k1 --network nn1 busybox true; docker network connect nn2 k1",
    ),
    _net("docker network disconnect nn1 c1"),
    _net("docker network disconnect -f nn1 c1"),
    _net("docker network disconnect nn1 nope"),
    _net("docker network disconnect -f nn1 nope"),
    _net("docker network disconnect nope c1"),
    _net("docker network disconnect nn1"),
    # containers
    _net(
        f"docker run -d --name k1 --network nn1 --ip 10.221.1.77 --network-alias z busybox sleep 99 >/dev/null; {_NETWORKS}"
    ),
    _net("docker run --rm --network nn1 --mac-address 02:11:22:33:44:55 busybox cat /sys/class/net/eth0/address"),
    _net("docker run --rm --network nn1 --ip 10.9.9.9 busybox true"),
    _net("docker run --rm --network nn1 --ip 10.221.1.1 busybox true"),
    _net("docker run --rm --network nn1 --network host busybox true"),
    _net("docker run --rm --network nn1 --network nn1 busybox true"),
    _net("docker run --rm --network nn1 --network nope busybox true"),
    _net("docker run --rm --ip 10.221.1.5 busybox true"),
    _net("docker run --rm --network host --ip 10.221.1.5 busybox true"),
    _net(
        "docker run --rm --network nn1 --network name=nn2,alias=x,ip=10.221.2.7 busybox sh -c 'ip -o -4 a | grep -c eth'",
        setup=_TWO,
    ),
    _net("docker create --name k1 --network nope busybox true; docker start k1"),
    _net(
        "docker run --rm --network nn1 -p 80 busybox sh -c 'ip route | wc -l'",
        setup="docker network create --internal nn1",
    ),
    # links
    _net("docker run --rm --name k2 --link k1:db busybox sh -c 'env | grep ^DB | sort; grep db /etc/hosts'", setup=_DB),
    _net(
        "docker run --rm --link k1 busybox sh -c 'env | grep ^K1 | sort'",
        setup=_DB,
        normalise=((r"NAME=/[a-z]+_[a-z]+/", "NAME=/<name>/"), *_ID),
    ),
    _net("docker run --rm --link nope:x busybox true", setup=""),
    _net("docker run --rm --link k1:d:e busybox true", setup=_DB),
    _net("docker create --name k2 --link x1:x busybox true; docker start k2", setup=""),
    _net(
        "docker create --name k2 --link k1:a --link k1:b busybox >/dev/null; docker rm --link k2/a; docker inspect -f '{{.HostConfig.Links}}' k2",
        setup=_DB,
    ),
    _net("docker rm --link k1/zz", setup=_DB),
    _net("docker run --rm --network host --link k1:db busybox true", setup=_DB),
    _net("docker run --rm --network none --link k1:db busybox true", setup=_DB),
    _net(
        "docker create --name k2 --network nn1 --link k1:db busybox; docker inspect -f '{{json .HostConfig.Links}} {{.NetworkSettings.Networks.nn1.Links}}' k2",
        setup=f"{_NEW}; {_DB}",
    ),
    # raw requests
    _post("create", "{}"),
    _post("create", '{"Name":"nn2","IPAM":{"Config":[{"Subnet":"10.5.1.0/24","Gateway":"x"}]}}'),
    _post("create", '{"Name":"nn2","IPAM":{"Config":[{"Subnet":"x"},{"Subnet":"y"}]}}'),
    _post("create", '{"Name":"nn2","IPAM":{"Config":[{"Subnet":""}]}}'),
    _post("create", '{"Name":"nn2","Driver":1}'),
    _post("nn1/connect", "{}"),
    _post("nn1/connect", '{"Container":"nope"}'),
    _post("nn1/disconnect", "{}"),
    call("DELETE", "/v/networks/nope", since=_SINCE),
    call("GET", "/v/networks/bridge?scope=swarm", since=_SINCE),
    call("GET", "/v/networks/bridge?verbose=x", since=_SINCE),
]
