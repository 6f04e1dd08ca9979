"""`docker run` and `create`: the flags that rows_run does not ask, each where its effect or its refusal is seen."""

from typing import Any

from tests.compat.row import Row


def _run(words: str, **rest: Any) -> Row:
    return Row(f"docker run --rm {words}", **rest)


def _refused(words: str, **rest: Any) -> Row:
    return Row(f"docker create --name k1 {words} busybox true", **rest)


def _kept(words: str, template: str, **rest: Any) -> Row:
    """Create, and what inspect says of it."""
    return Row(
        f"docker create --name k1 {words} busybox true >/dev/null; docker inspect -f '{template}' k1",
        **rest,
    )


def _late(words: str) -> Row:
    """Created, but it cannot start."""
    shown = "docker ps -a -f name=k1 -f name=x1 --format '{{.Names}}'"
    return Row(
        f"docker create --name k1 {words} busybox true | wc -l; docker start k1 >/dev/null 2>&1; echo $?; {shown}"
    )


_CGROUP = "cat /sys/fs/cgroup/{0}/{1} /sys/fs/cgroup/{2} 2>/dev/null"

ROWS: list[Row] = [
    _kept("--annotation a=b --annotation c=", "{{json .HostConfig.Annotations}}", since=(24,)),
    _refused("--annotation =x", since=(24,)),
    _kept("--blkio-weight 300", "{{.HostConfig.BlkioWeight}}"),
    _refused("--blkio-weight 2000"),
    _refused("--blkio-weight x"),
    _refused("--blkio-weight-device /dev/zero"),
    _refused("--blkio-weight-device /dev/zero:5"),
    _refused("--blkio-weight-device dev/zero:500"),
    _kept("--blkio-weight-device /dev/vda:300", "{{json .HostConfig.BlkioWeightDevice}}"),
    _kept("--device-read-bps /dev/vda:1mb", "{{json .HostConfig.BlkioDeviceReadBps}}"),
    _kept("--device-write-bps /dev/vda:1mb", "{{json .HostConfig.BlkioDeviceWriteBps}}"),
    _kept("--device-read-iops /dev/vda:10", "{{json .HostConfig.BlkioDeviceReadIOps}}"),
    _kept("--device-write-iops /dev/vda:10", "{{json .HostConfig.BlkioDeviceWriteIOps}}"),
    _refused("--device-read-bps /dev/vda"),
    _refused("--device-read-bps vda:1"),
    _refused("--device-read-iops /dev/vda:x"),
    _late("--device-read-bps /dev/nope:1mb"),
    _run("--device-read-bps /dev/nope:1mb busybox true"),
    _kept("--cgroupns host", "{{.HostConfig.CgroupnsMode}}"),
    _refused("--cpu-count 2"),
    _refused("--cpu-percent 20"),
    _kept("--cpu-period 50000 --cpu-quota 25000", "{{.HostConfig.CpuPeriod}} {{.HostConfig.CpuQuota}}"),
    _run(f"--cpu-period 50000 --cpu-quota 25000 busybox sh -c '{_CGROUP.format('cpu', 'cpu.cfs_*_us', 'cpu.max')}'"),
    _run(f"-c 300 busybox sh -c '{_CGROUP.format('cpu', 'cpu.shares', 'cpu.weight')}'"),
    _run(f"--pids-limit 77 busybox sh -c '{_CGROUP.format('pids', 'pids.max', 'pids.max')}'"),
    _run(
        f"-m 50m --memory-reservation 30m busybox sh -c "
        f"'{_CGROUP.format('memory', 'memory.soft_limit_in_bytes', 'memory.low')}'"
    ),
    _refused("--cpu-rt-period 1000000 --cpu-rt-runtime 950000"),
    _refused("--cpu-rt-runtime x"),
    _kept("--cpuset-mems 0 --cpuset-cpus 0-1", "{{.HostConfig.CpusetCpus}} {{.HostConfig.CpusetMems}}"),
    _run("--cpuset-mems 0 busybox grep Mems_allowed_list /proc/self/status"),
    _refused("--cpus 0.001"),
    _refused("--cpus -1"),
    _kept("--cpus .5", "{{.HostConfig.NanoCpus}}"),
    _kept("--device-cgroup-rule 'c 1:3 rwm'", "{{json .HostConfig.DeviceCgroupRules}}"),
    _refused("--device-cgroup-rule 'x 1:3 rwm'"),
    _refused("--device-cgroup-rule 'c 1:3 q'"),
    _run("--device-cgroup-rule 'c 10:229 rwm' busybox sh -c 'mknod /f c 10 229 && : </f'"),
    _run("busybox sh -c 'mknod /f c 10 229 && : </f'"),
    _refused("--disable-content-trust=false"),
    _kept("--dns 1.2.3.4 --dns 5.6.7.8", "{{json .HostConfig.Dns}} {{json .HostConfig.DnsOptions}}"),
    _kept("--dns-search a.b --dns-option ndots:1", "{{json .HostConfig.DnsSearch}} {{json .HostConfig.DnsOptions}}"),
    _run("--dns-search . busybox grep -c search /etc/resolv.conf"),
    _kept("--domainname d.example -h h", "{{.Config.Hostname}} {{.Config.Domainname}}"),
    _run("--domainname d.example busybox cat /proc/sys/kernel/domainname"),
    _kept("-h h.d.example", "{{.Config.Hostname}} {{.Config.Domainname}}"),
    _kept("--expose 80-82 --expose 5/udp", "{{json .Config.ExposedPorts}}"),
    _refused("--expose 80-70"),
    _refused("--expose 80:80"),
    _kept("--group-add 5 --group-add daemon", "{{json .HostConfig.GroupAdd}}"),
    _run("--group-add daemon -u nobody busybox id -Gn"),
    _kept(
        "--health-cmd 'a b' --health-interval 3s --health-timeout 2s --health-start-period 4s --health-retries 2",
        "{{json .Config.Healthcheck}}",
    ),
    _refused("--health-timeout -1s --health-cmd true"),
    _refused("--health-start-period -1s --health-cmd true"),
    _refused("--health-cmd true --health-start-interval 1s"),
    _kept("--init", "{{.HostConfig.Init}}"),
    _kept("--init=false", "{{.HostConfig.Init}}"),
    _refused("--io-maxbandwidth 5"),
    _refused("--io-maxiops 5"),
    _kept(
        "--ipc shareable --pid host --uts host",
        "{{.HostConfig.IpcMode}} {{.HostConfig.PidMode}} {{.HostConfig.UTSMode}}",
    ),
    _kept("--isolation default", "{{.HostConfig.Isolation}}"),
    _refused("--kernel-memory 50m"),
    Row(
        "printf 'a=b\\n# c\\n\\nd\\n' >$DIR/l; docker create --name k1 --label-file $DIR/l -l e=f busybox >/dev/null; docker inspect -f '{{json .Config.Labels}}' k1"
    ),
    Row("printf '=b\\n' >$DIR/l; docker create --name k1 --label-file $DIR/l busybox"),
    _refused("-l =x"),
    _refused("-l ''"),
    _run("--link-local-ip 169.254.7.7 busybox true"),
    _kept("--log-driver json-file --log-opt max-size=5m", "{{json .HostConfig.LogConfig}}"),
    _refused("--log-driver ''"),
    _kept("--mac-address 02:42:AC:11:00:98", "{{.Config.MacAddress}}"),
    _kept("--memory 100m", "{{.HostConfig.Memory}}"),
    _kept("--memory 1g --memory-swap 2g", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"),
    _refused("--memory -5"),
    _refused("--memory ''"),
    _kept("--memory-swappiness 0", "{{json .HostConfig.MemorySwappiness}}"),
    _refused("--memory-swappiness -5"),
    _kept("--oom-kill-disable", "{{json .HostConfig.OomKillDisable}}"),
    _kept("--oom-kill-disable -m 20m", "{{json .HostConfig.OomKillDisable}}"),
    _kept("--oom-score-adj -500", "{{.HostConfig.OomScoreAdj}}"),
    _kept("--network host", "{{.HostConfig.NetworkMode}} {{json .NetworkSettings.Ports}}"),
    _kept("--network none", "{{.HostConfig.NetworkMode}} {{range $n, $e := .NetworkSettings.Networks}}{{$n}}{{end}}"),
    _kept("--network ''", "{{.HostConfig.NetworkMode}}"),
    _kept("--network default", "{{.HostConfig.NetworkMode}}"),
    _refused("--network-alias a --network host"),
    _refused("--network name=bridge,nope=1"),
    _refused("--network name="),
    _kept("--pid container:c1", "{{.HostConfig.PidMode}}", normalise=((r"container:[0-9a-f]{64}", "container:<id>"),)),
    _refused("--platform linux/amd64"),
    _refused("--platform linux"),
    _refused("--platform windows/amd64"),
    _kept("--privileged", "{{.HostConfig.Privileged}} {{.HostConfig.SecurityOpt}} {{.HostConfig.MaskedPaths}}"),
    _kept("", "{{json .HostConfig.MaskedPaths}}", since=(28,)),
    _kept("", "{{json .HostConfig.ReadonlyPaths}}"),
    _kept(
        "--security-opt systempaths=unconfined", "{{json .HostConfig.MaskedPaths}} {{json .HostConfig.ReadonlyPaths}}"
    ),
    _kept("--security-opt label=disable --security-opt no-new-privileges", "{{json .HostConfig.SecurityOpt}}"),
    _run("--security-opt apparmor=unconfined busybox true"),
    _run("--security-opt no-new-privileges:false busybox grep NoNewPrivs /proc/self/status"),
    _run("--security-opt no-new-privileges=maybe busybox true"),
    _run("--security-opt seccomp=nope busybox true"),
    Row("echo '{' >$DIR/p; docker run --rm --security-opt seccomp=$DIR/p busybox true"),
    Row(
        'echo \'{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}\' '
        ">$DIR/p; docker run --rm --security-opt seccomp=$DIR/p busybox mkdir /x"
    ),
    Row(
        'echo \'{"defaultAction": "SCMP_ACT_NOPE"}\' >$DIR/p; '
        "docker run --rm --security-opt seccomp=$DIR/p busybox true >/dev/null 2>&1; echo $?; docker ps -q | wc -l"
    ),
    _kept("-p 80", "{{json .HostConfig.PortBindings}}"),
    _kept("-p 8000-8002:80-82", "{{json .HostConfig.PortBindings}}"),
    _kept("-p 127.0.0.1:8000-8001:80/tcp", "{{json .HostConfig.PortBindings}}"),
    _kept("-p '[::1]:8000:80'", "{{json .HostConfig.PortBindings}}"),
    _kept("-p 53:53/udp -p 53:53/tcp", "{{json .HostConfig.PortBindings}}"),
    _kept("-p published=8080,target=80,protocol=udp", "{{json .HostConfig.PortBindings}}"),
    _refused("-p published=8080,target=80,mode=host"),
    _refused("-p target=x"),
    _refused("-p ''"),
    _refused("-p :80:80:80"),
    _refused("-p 0:80"),
    _refused("-p 70000"),
    _kept("--pull missing -q", "{{.Name}}"),
    _refused("--pull ''"),
    _kept("--read-only", "{{.HostConfig.ReadonlyRootfs}}"),
    _kept("--restart unless-stopped", "{{json .HostConfig.RestartPolicy}}"),
    _kept("--restart no", "{{json .HostConfig.RestartPolicy}}"),
    _kept("--restart ''", "{{json .HostConfig.RestartPolicy}}"),
    _refused("--restart on-failure:-1"),
    _refused("--restart on-failure:1:2"),
    _kept("--rm", "{{.HostConfig.AutoRemove}}"),
    _refused("--rm --restart on-failure"),
    _refused("--runtime ''"),
    _kept("--shm-size 10m", "{{.HostConfig.ShmSize}}"),
    _refused("--shm-size 0"),
    _kept("--stop-signal 9", "{{.Config.StopSignal}}"),
    _refused("--stop-signal 99"),
    _kept("--stop-timeout -1", "{{.Config.StopTimeout}}"),
    _refused("--storage-opt nope"),
    _refused("--storage-opt nope=1"),
    _kept("--sysctl net.ipv4.ip_forward=0 --sysctl kernel.shmmax=1", "{{json .HostConfig.Sysctls}}"),
    _run("--sysctl kernel.hostname=x busybox true"),
    _run("--sysctl net.ipv4.ip_forward=1 --network host busybox true"),
    _run("--sysctl kernel.shmmax=5 --ipc host busybox true"),
    _kept("--tmpfs /x --tmpfs /y:ro", "{{json .HostConfig.Tmpfs}}"),
    _run("--tmpfs /x:ro,noexec,size=64k busybox sh -c 'grep \" /x \" /proc/mounts'"),
    _run("--tmpfs /x:uid=5,gid=6,mode=1750 busybox stat -c '%u %g %a' /x"),
    _kept("--ulimit nofile=5:9 --ulimit core=-1", "{{json .HostConfig.Ulimits}}"),
    _refused("--ulimit nofile=x"),
    _refused("--ulimit nofile=1:2:3"),
    _run("--ulimit memlock=-1 busybox sh -c 'ulimit -l'"),
    _late("--ulimit nofile=99999999999:99999999999"),
    _kept("-u 5:6", "{{.Config.User}}"),
    _run("-u daemon:nobody busybox sh -c 'id -un; id -gn'"),
    _run("-u 5 busybox sh -c 'id -u; id -g'"),
    _run("-u '' busybox id -u"),
    _run("-u : busybox id"),
    _run("-u 5: busybox id"),
    _run("-u :5 busybox sh -c 'id -u; id -g'"),
    _kept("--userns host", "{{.HostConfig.UsernsMode}}"),
    _kept("--volume-driver nope", "{{.HostConfig.VolumeDriver}}"),
    _refused("--volume-driver nope -v v1:/x"),
    _kept("-w /a/../b", "{{.Config.WorkingDir}}"),
    _kept("-w ''", "{{.Config.WorkingDir}}"),
    _run("-w /etc/passwd busybox pwd"),
    _run("-w '/a b' busybox pwd"),
    # what only shows at start
    _late("-c -5"),
    _late("--log-opt max-size=x"),
    _late("--gpus all"),
    _late("-h " + "x" * 70),
    _late("--sysctl kernel.nope=1"),
    _late("--device /dev/nope"),
    _late("--security-opt seccomp={}"),
    _refused("--gpus x=1,y"),
    _refused("--gpus 'driver=nope'"),
    # the words themselves
    Row("docker create"),
    Row("docker create --nope busybox"),
    Row("docker create --name"),
    Row("docker create busybox >/dev/null; docker ps -an 1 --format '{{.Image}} {{.Command}} {{.Status}}'"),
    Row("docker create --name k1 busybox@sha256:" + "0" * 64),
    Row("docker create --name k1 busybox:nope"),
    Row("docker create --pull never nope"),
    Row(
        "docker create --name k1 $(docker images -q busybox) true >/dev/null; docker inspect -f '{{.Config.Image}}' k1",
        normalise=((r"[0-9a-f]{12}", "<short>"),),
    ),
    Row(
        "docker create --name k1 $(docker images -q --no-trunc busybox) true >/dev/null; docker ps -af name=k1 --format '{{.Image}}'"
    ),
    Row("docker run --rm -d --name k1 busybox sleep 99 | wc -c; docker kill k1"),
    Row("docker run -d --rm busybox nope", normalise=((r"^[0-9a-f]{64}\n", ""),)),
    Row("docker run --name k1 busybox nope; docker ps -a --filter name=k1 --format '{{.Status}}'"),
    Row(
        "docker run --rm -it -d --name k1 busybox sh >/dev/null; docker inspect -f '{{.Config.Tty}} {{.Config.OpenStdin}} {{.Config.StdinOnce}} {{.Config.AttachStdout}}' k1"
    ),
    Row(
        "docker run --rm -d --cidfile $DIR/cid busybox true | wc -c; docker run --cidfile $DIR/cid busybox true; rm $DIR/cid"
    ),
    Row("printf '' | docker run --rm -i busybox sh -c 'cat; echo end'"),
    Row("docker run --rm busybox sh -c 'exit 255'"),
    Row("docker run --rm busybox sh -c 'echo a; exec false'"),
    Row("docker run --rm busybox sh -c 'kill -SEGV $$'"),
    Row("docker run --rm --entrypoint '' busybox"),
    Row("docker run --rm --entrypoint '[\"echo\"]' busybox x"),
    Row("docker run --rm busybox -x"),
    Row("docker run --rm busybox env | grep -v HOSTNAME"),
    Row("docker run --rm -t busybox env | grep -v HOSTNAME"),
    Row("docker run --rm -e HOME=/x -e PATH=/bin -e HOSTNAME=y busybox env | sort"),
    Row("docker run --rm -h '' busybox hostname | wc -c"),
    Row("docker run --rm busybox cat /proc/self/oom_score_adj"),
    Row("docker run --rm busybox sh -c 'ulimit -n; ulimit -c; ulimit -s'", ignore=("stdout",)),
    Row("docker run --rm busybox sh -c 'umask; cat /proc/self/loginuid'"),
    Row("docker run --rm busybox sh -c 'ls -l /proc/self/fd | wc -l; readlink /proc/self/fd/0'"),
    Row("docker run --rm busybox ls -la / | grep -v '^total' | sed 's/ .* / /'"),
    Row(
        "docker run --rm busybox sh -c 'stat -c \"%a %u %g %n\" / /dev /dev/pts /dev/shm /dev/mqueue /proc /sys /tmp /etc/hosts /etc/hostname /etc/resolv.conf'"
    ),
    Row("docker run --rm busybox sh -c 'readlink /dev/fd /dev/stdin /dev/ptmx /dev/core'"),
    Row(
        "docker run --rm busybox sh -c 'cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range'"
    ),
    Row("docker run --rm -u 1000 busybox sh -c 'ping -c1 -W1 127.0.0.1 | head -1'"),
]
