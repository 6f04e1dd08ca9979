"""Flags of the other verbs: exec, update, cp, top, stats, commit, save, load, start, rm, networks, each with its effect."""

from typing import Any

from tests.compat.row import Row, look

_UP = "docker run -d --name k1 busybox sleep 9999"
_TTY = "docker run -dit --name k1 busybox sh"
_NET = "docker network create --subnet 10.223.1.0/24 nn1"
_SINCE = (26, 0)


def _exec(words: str) -> Row:
    return look(f"docker exec {words}")


def _update(words: str, shown: str, setup: str = _UP, **rest: Any) -> Row:
    return Row(f"docker update {words} k1; docker inspect -f '{shown}' k1", setup=setup, **rest)


ROWS: list[Row] = [
    # exec
    _exec("--env A=1 --env B c1 sh -c 'echo $A-$B-'"),
    Row("printf 'A=1\\n#x\\nFROMENV\\n' >$DIR/env; docker exec --env-file $DIR/env c1 sh -c 'echo $A $FROMENV'"),
    _exec("--env-file /nope c1 true"),
    _exec("-i c1 cat </dev/null"),
    _exec("-it c1 true"),
    _exec("-t c1 sh -c 'stty size; test -t 0 && test -t 1 && echo tty'"),
    _exec("-u root:nobody c1 id -gn"),
    _exec("-u 5:6 -w / c1 sh -c 'pwd; id -u; id -g; id -G'"),
    _exec("--user=daemon c1 id -un"),
    _exec("-w /proc/self c1 sh -c 'pwd | tr -d 0-9'"),
    _exec("-d -w /nope c1 true"),
    _exec("-d -u nope c1 true"),
    _exec("c1 sh -c 'echo $HOSTNAME $FOO $PATH'"),
    _exec("c1 sh -c 'exit 300'"),
    _exec("c1 ''"),
    _exec("c1 sh -c 'cat /proc/self/oom_score_adj; umask'"),
    _exec("c1 sh -c 'cut -d: -f3 /proc/self/cgroup | sort -u | wc -l'"),
    _exec("--privileged c1 sh -c 'mount -t tmpfs x /tmp && umount /tmp && echo mounted'"),
    _exec("c1 sh -c 'kill -9 $$'"),
    _exec("-- c1 echo hi"),
    _exec("--nope c1 true"),
    _exec("-u"),
    Row("docker exec -t k1 tty; docker exec k1 sh -c 'echo hi'", setup=_TTY),
    Row("docker exec k1 true", setup="docker run --name k1 busybox true"),
    Row(
        "docker exec k1 sh -c 'kill 1; sleep 5'; echo $?",
        setup="docker run -d --name k1 --init busybox sleep 9999",
        ignore=("stderr",),
    ),
    Row(
        "docker inspect -f '{{len .ExecIDs}}' k1; docker top k1 -o args | tail -1",
        setup=f"{_UP}; docker exec -d k1 sleep 7777",
    ),
    # update
    _update("--blkio-weight 300", "{{.HostConfig.BlkioWeight}}"),
    _update("--cpu-period 50000 --cpu-quota 20000", "{{.HostConfig.CpuPeriod}} {{.HostConfig.CpuQuota}}"),
    _update("--cpu-period 5", "{{.HostConfig.CpuPeriod}}"),
    _update("--cpuset-cpus 0", "{{.HostConfig.CpusetCpus}}"),
    _update("--cpuset-cpus x", "{{.HostConfig.CpusetCpus}}"),
    _update("--cpuset-mems 0", "{{.HostConfig.CpusetMems}}"),
    _update("--cpuset-mems 7", "{{.HostConfig.CpusetMems}}"),
    _update("-c 100", "{{.HostConfig.CpuShares}}"),
    _update("-c 1", "{{.HostConfig.CpuShares}}", normalise=((r"runc did not terminate.*status 1: |\s*: unknown", ""),)),
    _update("-m 64m --memory-swap 128m", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"),
    _update("-m 64m --memory-swap -1", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"),
    _update("-m 64m --memory-swap 32m", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"),
    _update("--memory-swap 128m", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}", ignore=("stderr",)),
    _update("--memory-reservation 10m", "{{.HostConfig.MemoryReservation}}"),
    _update("--pids-limit -1", "{{.HostConfig.PidsLimit}}"),
    _update("--pids-limit 0", "{{.HostConfig.PidsLimit}}"),
    _update("--restart unless-stopped", "{{.HostConfig.RestartPolicy.Name}}"),
    _update("--restart no", "{{.HostConfig.RestartPolicy.Name}}"),
    _update("--restart ''", "{{.HostConfig.RestartPolicy.Name}}"),
    _update("--cpus 0", "{{.HostConfig.NanoCpus}}", setup=f"{_UP}; docker update --cpus 0.5 k1"),
    _update("--cpus x", "{{.HostConfig.NanoCpus}}"),
    _update(
        "-c 200 --pids-limit 9", "{{.HostConfig.CpuShares}} {{.HostConfig.PidsLimit}}", setup=f"{_UP}; docker pause k1"
    ),
    _update("-c 200", "{{.HostConfig.CpuShares}}", setup="docker run --name k1 busybox true"),
    Row(
        "docker exec k1 sh -c 'cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null'",
        setup=f"{_UP}; docker update --pids-limit 44 k1",
    ),
    # cp
    Row("docker cp -q $DIR/busybox.tar k1:/tmp/; docker exec k1 ls /tmp", setup=_UP),
    Row("docker cp $DIR/busybox.tar k1:/tmp/ 2>&1 | wc -l", setup=_UP),
    Row("echo x >$DIR/f; chown 5:6 $DIR/f; docker cp $DIR/f k1:/f; docker exec k1 stat -c '%u %g %a' /f", setup=_UP),
    Row("echo x >$DIR/f; chown 5:6 $DIR/f; docker cp -a $DIR/f k1:/f; docker exec k1 stat -c '%u %g %a' /f", setup=_UP),
    Row(
        "docker exec k1 sh -c 'echo x >/f; chown 5:6 /f; chmod 600 /f'; docker cp k1:/f $DIR/o; stat -c '%u %g %a' $DIR/o; rm -f $DIR/o",
        setup=_UP,
    ),
    Row(
        "docker exec k1 sh -c 'echo x >/f; chown 5:6 /f'; docker cp -a k1:/f $DIR/o; stat -c '%u %g' $DIR/o; rm -f $DIR/o",
        setup=_UP,
    ),
    Row(
        "ln -sf /etc/hostname $DIR/l; docker cp $DIR/l k1:/l; docker exec k1 readlink /l; docker cp -L $DIR/l k1:/m; docker exec k1 test -h /m; echo $?; rm $DIR/l",
        setup=_UP,
    ),
    Row(
        "rm -rf $DIR/o; docker cp k1:/etc $DIR/o; ls $DIR/o | grep passwd; docker cp k1:/etc/. $DIR/o/; docker cp k1:/etc $DIR/o; ls -d $DIR/o/etc | wc -l; rm -rf $DIR/o",
        setup=_UP,
    ),
    Row("docker cp k1:/etc/passwd $DIR/no/such/place", setup=_UP),
    Row("docker cp k1:/etc/passwd - | tar xO | head -1", setup=_UP),
    Row("echo no tar | docker cp - k1:/tmp", setup=_UP),
    Row("docker cp $DIR/busybox.tar k1:/dev/null/x", setup=_UP),
    Row("docker cp k1:/proc/1/cmdline - | tar t", setup=_UP),
    look("docker cp c1:etc/passwd - | tar t"),
    look("docker cp c1:/etc/../etc/passwd - | tar t"),
    look("docker cp c1: -"),
    look("docker cp :x -"),
    look("docker cp -a c1:/etc/passwd - | tar t"),
    # top, stats, port
    look("docker top c1 -eo comm"),
    look("docker top c1 -o pid | head -1"),
    look("docker top c1 -ef | head -1"),
    look("docker top c1 axo pid,comm | tail -1 | sed 's/[0-9]*//'"),
    look("docker top c1 -o nope"),
    look("docker top c1 -p 1"),
    look("docker container top c1 -o args"),
    look("docker stats --no-stream --format '{{.Container}} {{.Name}}' c1 p1"),
    look("docker stats --no-stream --format '{{.ID}}' c1"),
    look("docker stats --no-stream --format 'table {{.Name}}\\t{{.PIDs}}' c1"),
    look("docker stats --no-stream --format json c1", shape=True),
    look("docker stats --no-stream c1 | head -1"),
    look("docker stats --no-stream --no-trunc --format '{{.ID}}' c1 | wc -c"),
    look("docker stats --no-stream c1 nope"),
    look("docker stats --no-stream --format '{{.Name}} {{.NetIO}} {{.BlockIO}} {{.MemPerc}}' n1"),
    Row(
        "docker port k1; docker port k1 53/udp; docker port k1 53; docker port k1 nope",
        setup="docker run -d --name k1 -p 127.0.0.1::80 -p 127.0.0.1::53/udp busybox sleep 99",
    ),
    Row(
        "docker port k1; docker ps -f name=k1 --format '{{.Ports}}'",
        setup="docker run -d --name k1 -P --expose 81 --expose 80 busybox sleep 99",
    ),
    Row("docker port k1", setup="docker run -d --name k1 --expose 80 busybox sleep 99"),
    # start, attach, stop, kill, rm, wait, pause
    Row("docker start -a k1; echo $?", setup="docker create --name k1 busybox sh -c 'echo a; echo b >&2; exit 3'"),
    Row("docker start k1 k2", setup="docker create --name k1 busybox; docker create --name k2 busybox"),
    Row("docker start -a k1 k2", setup="docker create --name k1 busybox; docker create --name k2 busybox"),
    Row("docker start -i k1 </dev/null", setup="docker create --name k1 -i busybox cat"),
    Row("docker start --detach-keys nope -a k1", setup="docker create --name k1 busybox"),
    Row("docker start --checkpoint x k1", setup="docker create --name k1 busybox"),
    Row(
        "docker attach --sig-proxy=false --no-stdin k1", setup="docker run -d --name k1 busybox sh -c 'sleep 1; exit 3'"
    ),
    Row("echo hi | docker attach k1", setup="docker run -di --name k1 busybox sh -c 'read x; echo got $x'"),
    Row("docker attach k1 </dev/null", setup=_TTY),
    Row(
        "docker stop -t 0 k1 k2; docker ps -aqf status=running -f name=k",
        setup=f"{_UP}; docker run -d --name k2 busybox sleep 9999",
    ),
    Row("docker stop --signal KILL k1; docker inspect -f '{{.State.ExitCode}}' k1", setup=_UP, since=(23,)),
    Row("docker stop --time 0 k1", setup=_UP),
    Row("docker kill --signal 9 k1 nope", setup=_UP),
    Row(
        "docker kill -s sigusr1 k1; docker wait k1; docker inspect -f '{{.State.ExitCode}}' k1",
        setup="docker run -d --name k1 busybox sh -c 'trap \"exit 9\" USR1; while :; do sleep 0.1; done'; sleep 0.3",
    ),
    Row("docker rm -f k1 k2 nope", setup=f"{_UP}; docker create --name k2 busybox"),
    Row("docker rm -fv k1; docker volume ls -q", setup="docker run -d --name k1 -v /x -v v1:/y busybox sleep 99"),
    Row("docker rm -l k1", setup="docker create --name k1 busybox"),
    Row("docker container rm k1; docker container rm k1", setup="docker create --name k1 busybox"),
    Row("docker container kill k1; docker container wait k1", setup=_UP),
    Row("docker wait k1", setup="docker run -d --name k1 --restart always busybox sh -c 'sleep 1; exit 3'"),
    Row("docker wait k1 & sleep 0.3; docker rm -f k1 >/dev/null; wait", setup=_UP),
    Row("docker pause k1 k1; docker unpause k1 k1", setup=_UP),
    Row(
        "docker rename k1 k1x; docker start k1x; docker inspect -f '{{.Name}}' k1x; docker logs k1",
        setup="docker create --name k1 busybox",
    ),
    Row("docker rename k1 -- -x", setup="docker create --name k1 busybox"),
    # commit, save, load, import, export, history, tag
    Row("docker commit --pause=false c1 t:1 | wc -c"),
    Row(
        "docker commit -c 'LABEL a=b' -c 'CMD x' c1 t:1 >/dev/null; docker inspect -f '{{.Config.Cmd}} {{.Config.Labels}}' t:1"
    ),
    Row("docker commit p1 t:1 >/dev/null; docker inspect -f '{{.Config.Cmd}}' t:1"),
    Row("docker commit -m 'a b' -a me x1 t:1 >/dev/null; docker inspect -f '{{.Comment}}|{{.Author}}' t:1"),
    Row("docker commit n1 a.example/b/c:1 >/dev/null; docker images --format '{{.Repository}}:{{.Tag}}' a.example/b/c"),
    Row(
        "docker save busybox t:1 -o $DIR/s.tar; tar xOf $DIR/s.tar manifest.json | grep -o 'RepoTags\":[^]]*]'; stat -c %a $DIR/s.tar; rm $DIR/s.tar",
        setup="docker tag busybox t:1",
    ),
    Row("docker save -o $DIR/s.tar nope; ls $DIR/s.tar 2>&1 | wc -l"),
    Row("docker save busybox nope | wc -c"),
    Row("docker save UPPER | wc -c"),
    Row("docker save busybox | docker load -q"),
    Row("docker save busybox | gzip | docker load"),
    Row(
        "docker save t:1 >$DIR/s.tar; docker rmi t:1 >/dev/null; docker load <$DIR/s.tar; docker images -q t:1 | wc -l; rm $DIR/s.tar",
        setup="docker commit n1 t:1",
    ),
    Row("docker load </dev/null", normalise=((r"open \S+/docker-import-\d+/", "open <import>/"),)),
    Row("docker load x"),
    Row("docker load --nope"),
    Row(
        "docker import --platform linux/arm64 $DIR/busybox.tar i:1 >/dev/null; docker inspect -f '{{.Os}}/{{.Architecture}}' i:1"
    ),
    Row("docker import --platform nope/x/y/z $DIR/busybox.tar i:1"),
    Row(
        "docker import -m hello $DIR/busybox.tar i:1 >/dev/null; docker history --format '{{.CreatedBy}}|{{.Comment}}' i:1"
    ),
    Row("docker export c1 >$DIR/e; docker import - i:1 <$DIR/e | cut -c1-7; docker run --rm i:1 echo hi; rm $DIR/e"),
    Row("docker export c1 | tar t | grep -c ^bin/busybox$"),
    Row("docker export --output $DIR/e c1; stat -c %a $DIR/e; rm -f $DIR/e"),
    Row("docker history t:1 --format '{{.CreatedBy}} {{.Comment}}'", setup="docker commit -m msg -c 'ENV a=b' n1 t:1"),
    Row("docker history t:1 --format json", setup="docker commit -m msg n1 t:1", shape=True),
    Row(
        "docker tag t:1 t:2; docker tag t:1 t; docker images t --format '{{.Tag}}' | sort",
        setup="docker tag busybox t:1",
    ),
    Row("docker tag busybox a.example:5000/x; docker images a.example:5000/x --format '{{.Repository}} {{.Tag}}'"),
    Row("docker tag busybox " + "a" * 300),
    Row("docker tag busybox x:" + "a" * 129),
    Row("docker tag busybox -- -x"),
    Row("docker tag busybox sha256:1"),
    Row("docker tag busybox ''"),
    Row("docker rmi -f t:1 t:2 nope", setup="docker tag busybox t:1; docker tag busybox t:2"),
    # networks
    Row(
        "docker network create -o com.docker.network.driver.mtu=1400 nn1 >/dev/null; docker run --rm --network nn1 busybox cat /sys/class/net/eth0/mtu",
        since=_SINCE,
    ),
    Row(
        "docker network create --ipv6 --subnet fd00:77::/64 nn1 >/dev/null; docker network inspect -f '{{.EnableIPv6}} {{(index .IPAM.Config 0).Subnet}}' nn1",
        since=_SINCE,
    ),
    Row(
        "docker network create --ipam-opt a=b nn1 >/dev/null; docker network inspect -f '{{.IPAM.Options}} {{.IPAM.Driver}}' nn1",
        since=_SINCE,
    ),
    Row("docker network create -d macvlan nn1", since=_SINCE),
    Row(
        "docker network create --internal nn1 >/dev/null; docker network inspect -f '{{.Internal}} {{.Attachable}} {{.Ingress}} {{.ConfigOnly}}' nn1",
        since=_SINCE,
    ),
    Row(
        "docker network create --label a --label b=c nn1 >/dev/null; docker network inspect -f '{{json .Labels}}' nn1",
        since=_SINCE,
    ),
    Row(
        "docker network connect --link c1:x nn1 k1; docker inspect -f '{{.NetworkSettings.Networks.nn1.Links}}' k1",
        setup=f"{_NET}; {_UP}",
        since=_SINCE,
    ),
    Row(
        "docker network connect --driver-opt a=b nn1 k1; docker inspect -f '{{.NetworkSettings.Networks.nn1.DriverOpts}}' k1",
        setup=f"{_NET}; {_UP}",
        since=_SINCE,
    ),
    Row(
        "docker network connect --link-local-ip 169.254.9.9 nn1 k1; docker inspect -f '{{json .NetworkSettings.Networks.nn1.IPAMConfig}}' k1",
        setup=f"{_NET}; {_UP}",
        since=_SINCE,
    ),
    Row("docker network connect none k1", setup=_UP, since=_SINCE),
    Row(
        "docker network disconnect none k1",
        setup="docker run -d --name k1 --network none busybox sleep 99",
        since=_SINCE,
    ),
    Row(
        "docker network disconnect host k1",
        setup="docker run -d --name k1 --network host busybox sleep 99",
        since=_SINCE,
    ),
    Row(
        "docker network connect nn1 k1",
        setup=f"{_NET}; docker run -d --name k1 --network host busybox sleep 99",
        since=_SINCE,
    ),
    Row(
        "docker network connect nn1 k1",
        setup=f"{_NET}; docker run -d --name k1 --network none busybox sleep 99",
        since=_SINCE,
    ),
    Row(
        "docker network connect nn1 k1",
        setup=f"{_NET}; docker run -d --name k1 --network container:c1 busybox sleep 99",
        since=_SINCE,
    ),
    Row(
        "docker network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' nn1",
        setup=f"{_NET}; docker run -d --name k1 --network nn1 busybox sleep 99",
        since=_SINCE,
    ),
    Row("docker network rm nn1 nn1", setup=_NET, since=_SINCE),
    Row(
        "docker inspect -f '{{json .NetworkSettings.Networks}}' k1",
        setup=f"{_NET}; docker run -d --name k1 --network nn1 --ip 10.223.1.9 --network-alias q busybox sleep 99",
        since=_SINCE,
        shape=True,
    ),
    Row(
        "docker inspect -f '{{json .NetworkSettings.Networks.nn1.Aliases}} {{json .NetworkSettings.Networks.nn1.DNSNames}}' k1",
        setup=f"{_NET}; docker run -d --name k1 --network nn1 --network-alias q busybox sleep 99",
        since=_SINCE,
    ),
    Row(
        "docker run --rm --network nn1 --link-local-ip 169.254.7.7 busybox ip -o -4 a | grep -c 169.254.7.7",
        setup=_NET,
        since=_SINCE,
    ),
    Row("docker run --rm --network nn1 --ip6 fd00::7 busybox true", setup=_NET, since=_SINCE),
    # volumes
    Row("docker volume create --label =x v1"),
    Row("docker volume create -o x v1"),
    Row("docker volume create --group g v1"),
    Row("docker volume create --scope single v1"),
    Row("docker volume rm v1 v1", setup="docker volume create v1"),
    Row("docker volume update x"),
]
