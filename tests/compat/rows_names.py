"""Names in networks of users, and published ports of both families."""

from tests.compat.row import Row

_NETWORK = "docker network create nm1; docker run -d --name k1 --network nm1 --network-alias al busybox sleep 999"
_REACHED = "ping -c1 -W5 {} >/dev/null 2>&1 && echo yes || echo no"


def _inside(script: str, *flags: str) -> Row:
    return Row(f"docker run --rm {' '.join(['--network nm1', *flags])} busybox sh -c '{script}'", setup=_NETWORK)


ROWS: list[Row] = [
    _inside(_REACHED.format("k1")),
    _inside(_REACHED.format("al")),
    _inside(_REACHED.format("K1.nm1")),
    _inside(_REACHED.format("nope.invalid")),
    _inside("grep -c 127.0.0.11 /etc/resolv.conf"),
    _inside("grep ^options /etc/resolv.conf", "--dns-option ndots:3"),
    _inside("grep ^search /etc/resolv.conf", "--dns-search corp.example"),
    _inside('nslookup -type=ptr $(nslookup al | sed -n "s/^Address: //p") | grep -o k1.nm1', "--name k2"),
    _inside("true", "--dns 1.2.3"),
    _inside("true", "--dns-search x..y"),
    Row(
        # a port that the engine chose: one of the table's would be the other engine's, too
        "port=$(docker port k1 80 | sed -n 's/^0.0.0.0://p'); docker run --name k2 --network nm1 -p $port:80 busybox true",
        setup="docker network create nm1; docker run -d --name k1 --network nm1 -p 80 busybox sleep 99",
    ),
    Row("docker run --name k1 -p '[::x]:18087:80' busybox true"),
]
