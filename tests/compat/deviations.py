"""Where this engine is known to do otherwise, and why: what a user reads of it is in COMPATIBILITY.md."""

HIJACK = "errors of attach have a status; dockerd takes the connection over first and writes the error into it"
IMAGELESS = "a container needs an image; dockerd makes one that cannot start"
NAMELESS = "no name is no name; dockerd answers 200 and does nothing"
NOWHERE = "a volume on the root, or nowhere, is refused when the container is made; dockerd's cannot start"
SELF = "the engine tells of itself: other components, other runtime, no plugins"
CLASSIC = "there is no BuildKit protocol yet, and the answer says so"
SIZE = "a size that no terminal has is refused, not cut"
FOUND_EARLY = "what is wrong in a Dockerfile is found before anything is built, and told in BuildKit's words"
COMPOSE = "ContainerConfig is what the image records, in all versions: Compose 1.29 finds a service's volumes by it"
RUNTIME = "the runtime's error is told without the names of the programs that passed it on"

# title of a row -> reason
DEVIATIONS: dict[str, str] = {
    "GET /v/images/busybox/json": COMPOSE,
    "docker image inspect busybox": COMPOSE,
    "GET /v1.24/images/busybox/json": COMPOSE,
    "curl -s -m 5 -o /dev/null -D - --unix-socket ${DOCKER_HOST#unix://} 'http://d/_ping' | tr -d '\\r' | grep -iE '^(HTTP|content-type|cache-control|pragma|ostype|swarm|builder-version|docker-experimental)' | sort": CLASSIC,
    'POST /v/containers/create {"Image": "busybox", "HostConfig": {"UsernsMode": "nope"}}': "a mode that is none is refused; dockerd takes it for the default",
    "printf 'FROM busybox\\nRUN [\"nope\"]\\n' | DOCKER_BUILDKIT=0 docker build  -": RUNTIME,
    "printf 'FROM busybox\\nEXPOSE x\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "printf 'FROM busybox\\nSTOPSIGNAL nope\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "printf 'FROM busybox\\nWORKDIR ${x\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "printf 'FROM $nothing\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "printf 'FROM busybox\\nCOPY --from=9 / /\\n' | DOCKER_BUILDKIT=0 docker build  -": FOUND_EARLY,
    "docker info -f '{{json .}}'": SELF,
    "GET /v1.24/info": SELF,
    'POST /v/containers/create {"Image": "busybox", "Volumes": {"rel": {}}}': NOWHERE,
    'POST /v/containers/create {"Image": "busybox", "Volumes": {"/": {}}}': NOWHERE,
    "docker create --name k1 --volume-driver nope -v v1:/x busybox true": "a driver that is missing is no image that is missing: with dockerd's 404 the docker command pulls the image again",
    "POST /v/containers/c1/resize?h=-1&w=1": SIZE,
    "POST /v/images/busybox/tag?tag=x": NAMELESS,
    "POST /v/swarm/init": "there is no swarm mode",
    "GET /v/info": SELF,
    'POST /v/containers/create {"Image": ""}': IMAGELESS,
    'POST /v/containers/create {"Cmd": ["true"]}': IMAGELESS,
    "POST /v/containers/c1/resize?h=99999999999&w=1": SIZE,
    "POST /v/containers/nope/attach?stream=1&stdout=1": HIJACK,
    "POST /v/containers/p1/attach?stream=1&stdout=1": HIJACK,
    "POST /v/images/busybox/tag": NAMELESS,
    f"POST /v/containers/create {'[' * 5000}": "JSON that is too deep is refused for that, before its end is looked for",
    'POST /v/containers/create {"Image": "busybox", "MacAddress": "nope"}': "dockerd's own words for the same at its newer door",
    "docker create --name k1 --storage-opt nope=1 busybox true": "no storage option is known here; dockerd knows some of its driver",
    "docker run -d --name k1 busybox sleep 9999 » docker cp $DIR/busybox.tar k1:/dev/null/x": "the reason is named",
    "docker load </dev/null": "dockerd names a file of its own that it could not open",
    "docker network create -d macvlan nn1": "a macvlan network has the parent that it is given; dockerd makes a dummy link",
    "docker info -f '{{json .Plugins.Network}} {{json .Plugins.Volume}} {{json .Plugins.Authorization}}'": "other drivers",
    "docker network create --subnet 10.221.1.0/24 nn1 » docker run --rm --ip 10.221.1.5 busybox true": "of the addresses of the default network no more is said than that they cannot be chosen",
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
    "POST /v/build no tar": OTHER,
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
    "docker run --name k1 -l a=b -e A=b busybox sh -c 'echo x >/new; rm /bin/ls; mkdir -p /d/e; ln -s x /d/l; chmod 700 /root' » docker commit -c 'ENV a=${A+1}${N-2}${N+3}${A:?x}' k1 k:1 >/dev/null && docker image inspect -f '{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Env}} {{.Config.User}} {{.Config.WorkingDir}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{json .Config.Labels}} {{json .Config.OnBuild}} {{json .Config.Healthcheck}} {{.Config.StopSignal}} {{.Author}} {{.Comment}} {{len .RootFS.Layers}}' k:1 && docker history --no-trunc --format '{{.CreatedBy}}|{{.Size}}|{{.Comment}}' k:1": OTHER,
    "docker run --name k1 --tmpfs /m busybox sh -c \"mkdir -p /t/sub /t/o; echo a > /t/f; ln /t/f /t/g; chmod 4711 /t/f; mknod /t/dev c 1 3; mkfifo -m 620 /t/p; chown 3:4 /t/sub; ln -s nowhere /t/s; echo > /m/x; rm /bin/ls; touch -h -d '2001-02-03 04:05:06' /t/* /t; touch -d '2001-02-03 04:05:06' /bin /\" » docker export k1 | tar tv --utc --full-time | grep -vE ' (dev|etc|proc|sys|bin|m)/| .dockerenv' | sed 's/  */ /g'": OTHER,
    "docker run --name k1 --tmpfs /m busybox sh -c \"mkdir -p /t/sub /t/o; echo a > /t/f; ln /t/f /t/g; chmod 4711 /t/f; mknod /t/dev c 1 3; mkfifo -m 620 /t/p; chown 3:4 /t/sub; ln -s nowhere /t/s; echo > /m/x; rm /bin/ls; touch -h -d '2001-02-03 04:05:06' /t/* /t; touch -d '2001-02-03 04:05:06' /bin /\"; docker start k1 » docker export k1 | tar tv --utc --full-time | grep -vE ' (dev|etc|proc|sys|bin|m)/| .dockerenv' | sed 's/  */ /g'": OTHER,
    "docker tag busybox team/tool:1; docker commit -c 'LABEL a=b' n1 k:1; docker commit -c 'LABEL a=c' -c 'LABEL z=1' n1 k:2 » docker images -f until=1h --format '{{.Repository}}:{{.Tag}}' | sort": OTHER,
    "docker images -f dangling=true -f dangling=false": CHECKS,
    "docker container inspect c1 nope": KEYS,
    "docker image inspect busybox": KEYS,
    "GET /v/images/busybox/json": KEYS,
    "GET /v1.24/images/busybox/json": KEYS,
}
