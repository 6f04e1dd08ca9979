"""Where this engine is known to do otherwise, and why: what a user reads of it is in COMPATIBILITY.md."""

FIRST_LIMIT = "a first memory limit needs no word about swap, as when a container is made"
EARLY = "refused when the container is made; dockerd finds it out when it starts, or never"
ARCHIVE = "the archive reader is another one, and says more of what is wrong"
EXEC = (
    "what prevents an exec is told on stderr, not in the command's own output; 127 where dockerd gives 126 for it too"
)
HIJACK = "errors of attach have a status; dockerd takes the connection over first and writes the error into it"
CALLS = "the call is not there yet, and says so before it looks for the container"
IMAGELESS = "a container needs an image; dockerd makes one that cannot start"
LAYERS = "a layer is one directory: it has no work and no merged directory"
SELF = "the engine tells of itself: other components, other runtime, no plugins"

FOUND_EARLY = "what is wrong in a Dockerfile is found before anything is built, and told in BuildKit's words"
RUNTIME = "the runtime's error is told without the names of the programs that passed it on"

SEARCHES = "limits are checked before anything is asked; the index is asked at once, not pinged first as of 2015"

# title of a row -> reason
DEVIATIONS: dict[str, str] = {
    'POST /v/containers/create {"Image": "busybox", "HostConfig": {"UsernsMode": "nope"}}': "a mode that is none is refused; dockerd takes it for the default",
    "docker search --limit 101 127.0.0.1:1/x": SEARCHES,
    "docker search 127.0.0.1:1/x": SEARCHES,
    "docker create --name k1 busybox » docker update -m 96m k1; docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.CpuShares}} {{.HostConfig.RestartPolicy}}' k1": FIRST_LIMIT,
    "docker run -d --name k1 busybox sleep 9999 » docker update -m 64m k1 nope": FIRST_LIMIT,
    "printf 'FROM busybox\\nRUN [\"nope\"]\\n' | DOCKER_BUILDKIT=0 docker build  -": RUNTIME,
    "printf 'FROM busybox\\nEXPOSE x\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "printf 'FROM busybox\\nSTOPSIGNAL nope\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "printf 'FROM busybox\\nWORKDIR ${x\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "printf 'FROM $nothing\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "printf 'FROM busybox\\nCOPY --from=9 / /\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "POST /v/build no tar": ARCHIVE,
    "docker image inspect busybox": LAYERS,
    "GET /v/images/busybox/json": LAYERS,
    "GET /v1.24/images/busybox/json": LAYERS,
    "docker version -f '{{json .Server}}'": SELF,
    "GET /version": SELF,
    "GET /v1.24/version": SELF,
    "docker info -f '{{json .}}'": SELF,
    "GET /v/info": SELF,
    "DELETE /v/containers/x1?link=1": CALLS,
    'POST /v/containers/create {"Image": ""}': IMAGELESS,
    'POST /v/containers/create {"Cmd": ["true"]}': IMAGELESS,
    'POST /v/containers/create {"Image": "busybox", "HostConfig": {"CpuShares": -1}}': EARLY,
    'POST /v/containers/create {"Image": "busybox", "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "x"}}}}': EARLY,
    'POST /v/containers/create {"Image": "busybox", "HostConfig": {"Ulimits": [{"Name": "nope", "Soft": 1, "Hard": 1}]}}': EARLY,
    'POST /v/containers/create {"Image": "busybox", "HostConfig": {"Sysctls": {"kernel.nope": "1"}}}': EARLY,
    "POST /v/containers/c1/resize?h=99999999999&w=1": "a size that no terminal has is refused, not cut",
    "GET /v/containers/c1/logs?stdout=1&since=x": "the words say what may be given: a time or a duration",
    "POST /v/containers/nope/attach?stream=1&stdout=1": HIJACK,
    "POST /v/containers/p1/attach?stream=1&stdout=1": HIJACK,
    "POST /v/images/busybox/tag": "no name is no name; dockerd answers 200 and does nothing",
    "POST /v/images/load no tar": ARCHIVE,
    "echo no tar | docker import -": ARCHIVE,
    "docker load -i /etc/passwd": ARCHIVE,
    "echo no tar | docker load": ARCHIVE,
    "tar c -C $DIR busybox.tar | docker load": ARCHIVE,
    "docker save busybox | tar xO manifest.json": "LayerSources, which no client reads, is not written",
    "docker run --rm busybox /etc": "the reason stands before `unknown`, where it stands for every other",
    f"docker run --rm -h {'x' * 70} busybox hostname": EARLY,
    "docker run --rm busybox sh -c \"cut -d' ' -f2,3 /proc/mounts | grep -v cgroup | sort\"": "/proc/interrupts is masked too, as newer dockerds do",
    "docker create --name k1 -c -5 busybox true": EARLY,
    "docker run --rm --sysctl net.nope=1 busybox true": "the message names the sysctl",
    "docker run --rm --ip 1.2.3.4 busybox true": "the second reason is another where --bridge gave a subnet",
    "docker create --name k1 --log-opt max-size=x busybox true": EARLY,
    "docker create --name k1 --cgroup-parent /x busybox true": "cgroups of an engine lie below one of its own",
    "docker create --name k1 --gpus all busybox true": EARLY,
    "docker create --name k1 -w /bin/busybox busybox true » docker start k1; docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}} {{.State.OOMKilled}}' k1": "dockerd makes the working directory when the container is made, this engine when it starts",
    "docker exec c1 nope": EXEC,
    "docker exec c1 /etc/passwd": EXEC,
    "docker exec c1 /etc": EXEC,
    "docker exec c1 /no/such": EXEC,
    "docker exec -w /nope c1 pwd": EXEC,
    "docker exec -w rel c1 pwd": EXEC,
    "docker exec -u nope c1 id": EXEC,
    "docker exec -u 0:nope c1 id": EXEC,
    "docker exec -u 99999999999 c1 id": EXEC,
}

KEYS = "keys that came or went since"
API = "it speaks older versions of the API too"
CHECKS = "it checks less (or, of networks, more) when a container is made"
CAPS = "its runtime does not start privileged containers where the host lacks a capability"
WORDS = "it has other words"
OTHER = "it does otherwise; later ones do as here"

# what a dockerd before 26 does otherwise (`compare.REFERENCE`), so that the row says nothing: title -> what
OLDER: dict[str, str] = {
    "docker create --name k1 --volumes-from nope busybox true": OTHER,
    "docker volume create v1 » docker volume prune -f --filter all=1": OTHER,
    "POST /v/volumes/create {}": KEYS,
    "docker inspect -f '{{.HostConfig.NetworkMode}} {{.HostConfig.RestartPolicy}} {{.HostConfig.ShmSize}} {{.HostConfig.IpcMode}}' c1": KEYS,
    "docker inspect c1": KEYS,
    "docker inspect x1": KEYS,
    "docker inspect n1": KEYS,
    "docker inspect p1": KEYS,
    "docker version -f '{{.Server.Os}}/{{.Server.Arch}} {{.Server.MinAPIVersion}}'": API,
    "GET /v1.0/version": API,
    "GET /v1.23/version": API,
    "GET /v/containers/json": KEYS,
    "GET /v/containers/json?all=1": KEYS,
    "GET /v/containers/json?all=1&size=1": KEYS,
    "GET /v1.24/containers/json?all=1": KEYS,
    'GET /v/containers/json?filters={"status":{"exited":true}}': KEYS,
    "GET /v/containers/c1/json": KEYS,
    "GET /v/containers/c1/json?size=1": KEYS,
    "GET /v1.24/containers/c1/json": KEYS,
    'POST /v/containers/create {"Image": "busybox"} {}': CHECKS,
    'POST /v/containers/create {"Image": "busybox", "HostConfig": {"PidMode": "container:"}}': CHECKS,
    'POST /v/containers/create {"Image": "busybox", "HostConfig": {"IpcMode": "nope"}}': CHECKS,
    'POST /v/containers/create {"Image": "busybox", "HostConfig": {"UTSMode": "nope"}}': CHECKS,
    'POST /v/containers/create {"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"bridge": {}, "x": {}}}}': CHECKS,
    "POST /v/containers/c1/stop?signal=NOPE": OTHER,
    "POST /v/containers/x1/wait": OTHER,
    "POST /v/containers/n1/wait": OTHER,
    "POST /v/containers/x1/wait?condition=nope": OTHER,
    "GET /v/containers/c1/logs?stdout=1": OTHER,
    "GET /v/containers/c1/logs?stdout=1&tail=x": OTHER,
    "GET /v/networks": OTHER,
    "docker import -c 'CMD [\"x\"]' -c 'ENV A=b' -c 'WORKDIR /w' -c 'EXPOSE 80' -c 'LABEL l=m' -c 'USER 5' -c 'ENTRYPOINT [\"e\"]' -c 'VOLUME /v' -c 'STOPSIGNAL SIGINT' -m msg $DIR/busybox.tar imp:2; docker image inspect -f '{{json .Config}} {{.Comment}} {{.Os}} {{.Architecture}}' imp:2": OTHER,
    "docker save busybox | tar t | grep -v / | grep -v -e index.json -e oci-layout | sort": OTHER,
    "docker run --rm --privileged busybox grep -e CapEff -e NoNewPrivs -e Seccomp: /proc/self/status": CAPS,
    "docker run --rm --privileged busybox sh -c 'ls /dev | grep -c -e kmsg -e mem'": CAPS,
    "docker run --rm --dns 1.2.3.4 --dns-search x.y --dns-option ndots:3 busybox grep -v '^#' /etc/resolv.conf": OTHER,
    "docker create --name k1 busybox nope » docker start k1; docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}} {{.State.OOMKilled}}' k1": WORDS,
    "docker create --name k1 busybox /etc/passwd » docker start k1; docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}} {{.State.OOMKilled}}' k1": WORDS,
    "docker exec --privileged c1 grep -e CapEff -e NoNewPrivs -e Seccomp: /proc/self/status": CAPS,
}
