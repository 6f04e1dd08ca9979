"""What changes and what is told of running containers: update, stats, events, health, wait, top, port, prune of all."""

from tests.compat.row import Row, call, look

_UP = "docker run -d --name k1 busybox sleep 9999"
_LIMITED = "docker run -d --name k1 -m 64m --cpus 0.5 busybox sleep 9999"
_LIMITS = (
    "docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} "
    "{{.HostConfig.CpuShares}} {{.HostConfig.RestartPolicy}}' k1"
)
_CHECKED = (
    "docker run -d --name k1 --health-cmd '{}' --health-interval 200ms --health-retries 1 busybox sleep 9999; "
    "until docker ps -f name=k1 | grep -q '{}'; do sleep 0.1; done"
)
_HEALTHY, _UNHEALTHY = _CHECKED.format("echo fine", "(healthy)"), _CHECKED.format("exit 3", "(unhealthy)")
# what the kernel counts: dockerd leaves some of it out, and how much there is of a container depends on its life
_KERNEL = (
    "[].memory_stats.stats",
    "[].blkio_stats.io_service_bytes_recursive[]",
    "[].blkio_stats.io_serviced_recursive[]",
)
# dockerd forgets them in this answer alone
_ODD = ("[].id", "[].name")
_NOW = "date +%s.%N >$DIR/since"
_TOLD = "sleep 1.1; docker events --since $(cat $DIR/since) --until $(date +%s) --filter type=container"
_ACTIONS = "--format '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}'"

ROWS: list[Row] = [
    # update
    Row(f"docker update -m 96m --memory-swap 192m k1; {_LIMITS}", setup=_LIMITED, controllers=("cpu", "memory")),
    Row(f"docker update --cpus 0.25 --cpu-shares 300 k1; {_LIMITS}", setup=_LIMITED, controllers=("cpu", "memory")),
    Row(f"docker update --restart on-failure:3 k1; {_LIMITS}", setup=_UP),
    Row(f"docker update --restart always k1; docker stop -t 0 k1; {_LIMITS}", setup=_UP),
    Row("docker update --pids-limit 33 k1; docker inspect -f '{{.HostConfig.PidsLimit}}' k1", setup=_UP),
    Row(f"docker update -m 96m k1; {_LIMITS}", setup="docker create --name k1 busybox"),
    Row(f"docker update -m 256m k1; {_LIMITS}", setup=_LIMITED, controllers=("cpu", "memory")),
    Row("docker update -m 1m k1", setup=_UP),
    Row("docker update -m x k1", setup=_UP),
    Row("docker update --cpu-quota 5000 k1", setup=_LIMITED, controllers=("cpu", "memory")),
    Row("docker update --cpus 99 k1", setup=_UP),
    Row("docker update --cpus 1 --cpu-quota 5000 k1", setup=_UP),
    Row("docker update --cpuset-cpus 99 k1", setup=_UP),
    Row("docker update --restart nope k1", setup=_UP, since=(26, 0)),
    Row("docker update --restart always:3 k1", setup=_UP, since=(26, 0)),
    Row("docker update --restart always k1", setup="docker run -d --rm --name k1 busybox sleep 9999"),
    Row("docker update -m 64m k1 nope", setup=_UP),
    look("docker update c1"),
    look("docker update"),
    look("docker update -m 64m nope"),
    look("docker update --nope 1 c1"),
    call("POST", "/v/containers/c1/update", "x"),
    call("POST", "/v/containers/c1/update", '{"Memory": "x"}'),
    call("POST", "/v/containers/nope/update", "{}"),
    call("POST", "/v/containers/c1/update", "{}"),
    # stats
    look("docker stats --no-stream --format '{{.Name}} {{.PIDs}}' c1"),
    look("docker stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.CPUPerc}} {{.PIDs}}' x1"),
    look("docker stats --no-stream --format '{{.Name}}' c1 n1"),
    look("docker stats --no-stream nope"),
    look("docker stats --no-stream --nope"),
    look("docker stats -a --no-stream --format '{{.Name}}' | sort"),
    look("docker stats --no-stream --format '{{.Nope}}' c1"),
    call("GET", "/v/containers/c1/stats?stream=0", shape=True, since=(26, 0), skip=_KERNEL),
    call("GET", "/v/containers/c1/stats?stream=0&one-shot=1", shape=True, since=(26, 0), skip=(*_KERNEL, *_ODD)),
    call("GET", "/v/containers/x1/stats?stream=0", shape=True, since=(26, 0)),
    # health
    Row("docker inspect -f '{{.State.Health.Status}} {{.State.Health.FailingStreak}}' k1", setup=_HEALTHY),
    Row(
        "docker inspect -f '{{(index .State.Health.Log 0).Output}}{{(index .State.Health.Log 0).ExitCode}}' k1",
        setup=_UNHEALTHY,
    ),
    Row("docker ps -f health=healthy --format '{{.Names}}'; docker ps -f health=starting -q", setup=_HEALTHY),
    Row("docker ps -f health=unhealthy --format '{{.Names}}'; docker ps -qf health=healthy", setup=_UNHEALTHY),
    Row("docker stop -t 0 k1; docker inspect -f '{{.State.Health.Status}}' k1", setup=_HEALTHY),
    Row(
        "docker inspect -f '{{json .State.Health}} {{json .Config.Healthcheck}}' k1",
        setup="docker create --name k1 --health-cmd true --health-retries 4 busybox",
    ),
    Row(
        "docker inspect -f '{{json .State.Health}} {{json .Config.Healthcheck}}' k1",
        setup="docker run -d --name k1 --no-healthcheck busybox sleep 9",
    ),
    Row("docker create --name k1 --health-interval 1us --health-cmd true busybox"),
    Row("docker create --name k1 --health-interval -1s --health-cmd true busybox"),
    Row("docker create --name k1 --health-interval 5 --health-cmd true busybox"),
    Row("docker create --name k1 --health-retries=-1 --health-cmd true busybox"),
    Row("docker create --name k1 --health-cmd true --no-healthcheck busybox"),
    call("POST", "/v/containers/create", '{"Image": "busybox", "Healthcheck": {"Test": ["CMD"], "Interval": 5}}'),
    call("POST", "/v/containers/create", '{"Image": "busybox", "Healthcheck": {"Retries": -1}}'),
    # events
    Row(f"docker run --name k1 busybox sh -c 'exit 3'; {_TOLD} {_ACTIONS}", setup=_NOW),
    Row(
        f"docker run -d --name k1 busybox sleep 99; docker pause k1; docker unpause k1; docker rename k1 k2; docker update --cpu-shares 300 k2; {_TOLD} {_ACTIONS}",
        setup=_NOW,
    ),
    Row(f"docker create --name k1 busybox; docker rm k1; {_TOLD} --filter event=destroy {_ACTIONS}", setup=_NOW),
    Row(f"docker create --name k1 -l a=b busybox; {_TOLD} --filter label=a=b {_ACTIONS}", setup=_NOW),
    Row(f"docker create --name k1 busybox; {_TOLD} --filter container=k1 --filter event=start {_ACTIONS}", setup=_NOW),
    Row(f"docker create --name k1 busybox; {_TOLD} --filter image=busybox {_ACTIONS}", setup=_NOW),
    look("docker events --since x --until 0s"),
    look("docker events --filter x --until 0s"),
    look("docker events --until x"),
    look("docker events --format '{{.Nope}}' --since 1s --until 0s --filter event=nope"),
    # wait, top, port, rename, restart, pause
    Row("docker wait k1", setup="docker run -d --name k1 busybox sh -c 'sleep 0.3; exit 9'"),
    Row(
        "docker wait k1 k2",
        setup="docker run --name k1 busybox true; docker run --name k2 busybox sh -c 'exit 4' || true",
    ),
    look("docker wait"),
    look("docker top c1 -o pid,nope"),
    look("docker top c1 -o comm,pid | sed 's/[0-9]*$//'"),
    look("docker top c1 -o args"),
    look("docker port c1 x/y/z"),
    Row("docker rename k1 'a b'", setup="docker create --name k1 busybox"),
    Row("docker rename k1 /k3; docker ps -af name=k3 --format '{{.Names}}'", setup="docker create --name k1 busybox"),
    Row("docker restart -t 0 k1 nope", setup=_UP),
    Row("docker restart -t x c1"),
    Row("docker restart -t 0 k1; docker wait k1", setup="docker run --name k1 busybox sh -c 'exit 6' || true"),
    look("docker pause c1 p1 nope 2>&1 | tail -2; docker unpause c1"),
    look("docker unpause"),
    Row("docker unpause k1 nope; docker inspect -f '{{.State.Status}}' k1", setup=f"{_UP}; docker pause k1"),
    # log drivers
    Row(
        "docker logs k1; docker inspect -f '{{.HostConfig.LogConfig}} {{.LogPath}}' k1",
        setup="docker run --name k1 --log-driver local busybox seq 1 3",
    ),
    Row("docker run --name k1 --log-driver nope busybox true"),
    Row("docker run --name k1 --log-driver syslog --log-opt nope=1 busybox true"),
    Row("docker run --name k1 --log-driver syslog --log-opt syslog-address=foo busybox true"),
    Row("docker run --name k1 --log-driver syslog --log-opt syslog-facility=x busybox true"),
    Row("docker run --name k1 --log-driver local --log-opt tag=x busybox true"),
    Row("docker run --name k1 --log-opt mode=x busybox true"),
    Row("docker logs --details k1", setup="docker run --name k1 --log-opt tag='{{.Name}}' busybox echo hi"),
    # inspect by kind, prune of all
    look("docker container inspect c1 nope", shape=True),
    look("docker container inspect -f '{{.Name}}' x1 c1"),
    look("docker container inspect busybox"),
    look("docker container inspect --nope c1"),
    look("docker container inspect"),
    Row("docker system prune -f", setup="docker create --name k1 busybox", normalise=(("Total.*", ""),)),
    Row("docker system prune -f --filter label=nope", setup="docker create --name k1 busybox"),
    Row("docker system prune -f --volumes --filter until=1h"),
    Row("docker system prune -f --filter nope=1"),
    Row("echo n | docker system prune -a --volumes --filter label=x"),
]
