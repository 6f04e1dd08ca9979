"""Images: list, tag, remove, history, save, load, import, prune."""

from typing import Any

from tests.compat.row import Row, look

_TAGGED = "docker tag busybox team/tool:1; docker tag busybox team/tool:2; docker tag busybox reg.example:5000/x/y"


def _quick(line: str, **rest: Any) -> Row:
    return Row(line, quick=True, **rest)


ROWS: list[Row] = [
    look("docker images"),
    look("docker images -a"),
    look("docker images -q"),
    look("docker images -q --no-trunc"),
    look("docker images --digests"),
    look("docker images --no-trunc"),
    look("docker images nope"),
    look("docker images busybox:latest"),
    look("docker images UPPER"),
    look("docker images --format '{{json .}}'", normalise=((r'"UniqueSize":"[^"]*"', "<unique>"),)),
    look("docker images --format '{{.Nope}}'"),
    look("docker images -f nope=1"),
    look("docker images -f dangling=maybe"),
    look("docker images -f dangling=true"),
    look("docker images -f before=nope"),
    look("docker images -f since=busybox"),
    look("docker images -f label=nope"),
    look("docker images -f reference=busy*"),
    look("docker images -f reference='['"),
    _quick("docker images -f reference='team/*' --format '{{.Repository}}:{{.Tag}}' | sort", setup=_TAGGED),
    _quick("docker images -f reference='*:2' --format '{{.Repository}}:{{.Tag}}' | sort", setup=_TAGGED),
    _quick("docker images team/tool --format '{{.Repository}}:{{.Tag}}' | sort", setup=_TAGGED),
    _quick("docker images team/tool:1 --format '{{.Repository}}:{{.Tag}}'", setup=_TAGGED),
    _quick("docker images reg.example:5000/x/y --format '{{.Repository}}:{{.Tag}}'", setup=_TAGGED),
    look("docker history busybox"),
    look("docker history --no-trunc busybox"),
    look("docker history -q busybox"),
    look("docker history nope"),
    look("docker history --format '{{json .}}' busybox"),
    _quick("docker tag busybox a/b:c && docker images a/b --format '{{.Repository}} {{.Tag}} {{.ID}}'"),
    _quick("docker tag nope x"),
    _quick("docker tag busybox UPPER"),
    _quick("docker tag busybox x:a:b"),
    _quick("docker tag busybox 'x y'"),
    _quick("docker tag busybox x@sha256:" + "0" * 64),
    _quick("docker tag $(docker images -q busybox) byid:1 && docker images -q byid"),
    _quick("docker tag zzzz byid:1"),
    _quick("docker rmi nope"),
    _quick("docker rmi -f nope"),
    _quick("docker rmi busybox"),
    _quick("docker rmi -f busybox"),
    _quick("docker rmi a/b:c", setup="docker tag busybox a/b:c"),
    _quick("docker rmi a/b:c nope d/e", setup="docker tag busybox a/b:c; docker tag busybox d/e"),
    _quick("docker rmi $(docker images -q busybox)"),
    _quick("docker rmi $(docker images -q busybox)", setup="docker tag busybox a/b:c"),
    _quick("docker rmi UPPER"),
    Row("docker rmi imp:1", setup="docker import -m hello $DIR/busybox.tar imp:1"),
    Row(
        "docker rmi imp:1; docker rm k1", setup="docker import $DIR/busybox.tar imp:1; docker create --name k1 imp:1 x"
    ),
    Row(
        "docker rmi -f imp:1; docker ps -a --filter name=k1 --format '{{.Image}}'",
        setup="docker import $DIR/busybox.tar imp:1; docker create --name k1 imp:1 x",
    ),
    Row("docker import $DIR/busybox.tar imp:1"),
    Row("docker import - < $DIR/busybox.tar"),
    Row(
        "docker import -c 'CMD [\"x\"]' -c 'ENV A=b' -c 'WORKDIR /w' -c 'EXPOSE 80' -c 'LABEL l=m' -c 'USER 5' -c 'ENTRYPOINT [\"e\"]' -c 'VOLUME /v' -c 'STOPSIGNAL SIGINT' -m msg $DIR/busybox.tar imp:2; docker image inspect -f '{{json .Config}} {{.Comment}} {{.Os}} {{.Architecture}}' imp:2"
    ),
    Row("docker import -c 'NOPE x' $DIR/busybox.tar imp:3"),
    Row("docker import -c 'RUN x' $DIR/busybox.tar imp:3"),
    Row("docker import -c 'CMD [' $DIR/busybox.tar imp:3"),
    Row("docker import $DIR/busybox.tar UPPER"),
    Row("docker import /nope"),
    Row("echo no tar | docker import -"),
    Row("head -c 100000 $DIR/busybox.tar | docker import - cut:1", ignore=("stderr",)),
    Row("docker save nope | wc -c"),
    Row("docker save -o /nope/x busybox"),
    Row("docker save busybox | tar t | grep -v / | grep -v -e index.json -e oci-layout | sort"),
    Row("docker save busybox | tar xO manifest.json", shape=True, since=(25, 0)),
    Row("docker save busybox a/b:c | docker load", setup="docker tag busybox a/b:c"),
    Row("docker save $(docker images -q busybox) | docker load"),
    Row("docker load -i $DIR/busybox.tar"),
    Row("docker load -q -i $DIR/busybox.tar"),
    Row("docker load -i /nope"),
    Row("docker load -i /etc/passwd"),
    Row("echo no tar | docker load"),
    Row("tar c -C $DIR busybox.tar | docker load"),
    Row("head -c 100000 $DIR/busybox.tar | docker load", ignore=("stderr",)),
    Row("docker image prune -f"),
    Row("docker image prune -f --filter nope=1"),
    Row(
        "docker image prune -f; docker images -aq | wc -l",
        setup="docker import $DIR/busybox.tar",
        normalise=((r"[\d.]+[kM]B", "<size>"),),
    ),
    Row("docker image prune -af --filter label=nope"),
    Row("docker image prune -af --filter until=nope"),
    look("docker pull"),
    look("docker image ls --help | head -3"),
]
