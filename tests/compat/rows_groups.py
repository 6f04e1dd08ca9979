"""What is asked seldom: version and info, swarm and its kin outside of a swarm, plugins, checkpoints, manifests, caches."""

from tests.compat.row import Row, look
from tests.compat.rows_distribution import wire

_STAMP = (("(Version|API version|Go version|Git commit|Built|GitCommit):.*", r"\1"),)
_BUILT = "printf 'FROM busybox\\nRUN echo $RANDOM > /x\\n' | DOCKER_BUILDKIT=0 docker build -q --no-cache - >/dev/null"
_SIZES = ((r"[\d.]+ ?[kMG]?B", "<size>"),)

ROWS: list[Row] = [
    # version and info
    look("docker version -f '{{.Client.Os}} {{.Server.Os}} {{.Server.Experimental}}'"),
    look("docker version -f json", shape=True, skip=("[].Server", "[].Client")),
    look("docker version -f '{{.Server.APIVersion}}' | wc -l"),
    look("docker version -f '{{.Server.KernelVersion}}'"),
    look("docker version -f '{{.Server.Nope}}'"),
    look("docker version -f '{{range .Server.Components}}{{.Name}} {{end}}' | cut -d' ' -f1"),
    look(
        "docker version -f '{{(index .Server.Components 0).Details.Os}} {{(index .Server.Components 0).Details.Arch}}'"
    ),
    look("docker version -f '{{'"),
    look("docker version | grep -cE '^(Client|Server):?'"),
    look("docker version | sed -n '/^Server/,/Experimental/p' | cut -d: -f1"),
    look("docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Name}} {{.KernelVersion}}'"),
    look(
        "docker info -f '{{.CgroupVersion}} {{.CgroupDriver}} {{.DefaultRuntime}} {{.Isolation}}' | sed 's/runc//;s/wherry-runtime//'"
    ),
    look("docker info -f '{{.OperatingSystem}}' | wc -l"),
    look(
        "docker info -f '{{json .Plugins.Network}} {{json .Plugins.Volume}} {{json .Plugins.Authorization}}'",
    ),
    look("docker info -f '{{.IndexServerAddress}} {{.RegistryConfig.IndexConfigs}}'"),
    look(
        "docker info -f '{{.MemoryLimit}} {{.SwapLimit}} {{.CPUShares}} {{.CPUSet}} {{.PidsLimit}} {{.OomKillDisable}} {{.CpuCfsPeriod}} {{.CpuCfsQuota}} {{.IPv4Forwarding}}'"
    ),
    look("docker info -f '{{.ID}}' | wc -l"),
    look("docker info -f '{{.Nope}}'"),
    look("docker info -f '{{.ServerErrors}}{{.ClientInfo.Debug}}'"),
    look("docker info -f '{{json .SecurityOptions}}'", ignore=("stdout",)),
    look(
        "docker info | sed -n '/^Server/,$p' | grep -E '^ (Containers|  Running|  Paused|  Stopped|Images|Storage Driver|Logging Driver|Swarm|OSType|Architecture|CPUs|Total Memory|Live Restore Enabled)' | cut -d: -f1"
    ),
    look("docker info -f json", shape=True, skip=("[]",)),
    look("docker system info -f '{{.Driver}} {{.NCPU}}'"),
    # outside of a swarm
    *(
        look(f"docker {words}")
        for words in (
            "swarm ca",
            "swarm join-token worker",
            "swarm leave",
            "swarm unlock-key",
            "swarm update --autolock",
            "service ls",
            "service create busybox",
            "service inspect x",
            "service rm x",
            "service ps x",
            "service logs x",
            "service scale x=2",
            "service update x",
            "service rollback x",
            "service nope",
            "service ls -q",
            "node ls",
            "node inspect self",
            "node ps",
            "node rm x",
            "node update x",
            "node promote x",
            "node demote x",
            "secret ls",
            "secret inspect x",
            "secret rm x",
            "secret ls -f nope=1",
            "config ls",
            "config inspect x",
            "config rm x",
            "config ls -q",
            "stack ls",
            "stack ps x",
            "stack rm x",
            "stack services x",
            "stack deploy x",
            "stack nope",
        )
    ),
    look("echo s | docker secret create a -"),
    look("echo s | docker config create a -"),
    look("docker network create -d overlay nn1"),
    look("docker network create --scope swarm nn1"),
    look("docker network create --attachable --ingress nn1"),
    look("docker network ls -f scope=swarm -q"),
    # plugins and checkpoints
    *(
        look(f"docker {words}")
        for words in (
            "plugin ls",
            "plugin ls -q",
            "plugin ls --format '{{.Name}}'",
            "plugin nope",
            "plugin",
            "plugin ls -f nope=1",
            "plugin inspect",
            "plugin rm",
        )
    ),
    *(look(f"docker checkpoint {words}") for words in ("nope", "create c1", "ls", "rm c1", "")),
    # the command asks the registry itself
    look("docker manifest inspect"),
    look("docker manifest inspect UPPER"),
    look("docker manifest create a"),
    look("docker manifest nope"),
    look("docker manifest rm nope"),
    wire(
        "docker tag busybox $R/a:1; docker push -q $R/a:1; docker manifest inspect --insecure $R/a:1 | grep -c mediaType"
    ),
    # the cache of builds
    Row("docker builder prune -f | tail -1", normalise=_SIZES),
    Row("docker builder prune -af | tail -1 | cut -d: -f1", setup=_BUILT),
    Row("docker builder prune -f --filter until=1h | tail -1 | cut -d: -f1", setup=_BUILT),
    Row("docker builder prune -f --filter nope=1"),
    Row("docker builder prune -f --filter until=x"),
    Row("docker builder prune -f --keep-storage x"),
    Row("docker builder prune -f --keep-storage 1g | tail -1 | cut -d: -f1", setup=_BUILT),
    Row("docker builder prune < /dev/null"),
    Row("echo n | docker builder prune -a"),
    Row("docker builder nope"),
    # logging in and out
    look("docker logout"),
    look("docker logout nope.example"),
    look("docker logout --nope"),
    Row(
        'echo \'{"auths": {"a.example": {"auth": "bWU6cHc="}}}\' >$DIR/config.json; docker logout a.example; cat $DIR/config.json | tr -d \' \\t\\n\'; rm $DIR/config.json'
    ),
    look("echo | docker login -u me --password-stdin 127.0.0.1:1"),
    look("docker login --password-stdin 127.0.0.1:1 </dev/null"),
    look("docker login -u me -p x --password-stdin 127.0.0.1:1 </dev/null"),
    look("docker search --filter is-official=x 127.0.0.1:1/x"),
    look("docker search --filter is-automated=x 127.0.0.1:1/x"),
    look("docker search --limit x 127.0.0.1:1/x"),
    look("docker search ''", normalise=((r"/v1/search\?q=&n=25", "/v1/search"),)),
    # pruning
    Row(
        "docker container prune -f | grep -c '^[0-9a-f]'",
        setup="docker create --name k1 busybox; docker create --name k2 busybox",
    ),
    Row("docker container prune < /dev/null"),
    Row("echo n | docker container prune; docker ps -aqf name=k1 | wc -l", setup="docker create --name k1 busybox"),
    Row(
        "docker container prune -f --filter label!=a | tail -1",
        normalise=_SIZES,
        setup="docker create --name k1 -l a busybox",
    ),
    Row("docker system prune -af --filter until=2000-01-01T00:00:00 | tail -1", normalise=_SIZES),
    Row("docker system prune -f --filter until=x"),
    Row(
        "docker system prune -f --volumes --filter label=a; docker volume ls -q",
        setup="docker volume create --label a v1; docker volume create v2",
        normalise=_SIZES,
    ),
    Row("docker system prune </dev/null"),
    Row("docker system df -v --format '{{range .Images}}{{.Repository}}{{end}}'"),
    Row(
        "docker system df -v --format '{{range .Containers}}{{.Names}} {{.Image}} {{.Command}} {{.LocalVolumes}}{{println}}{{end}}'"
    ),
    Row(
        "docker system df -v --format '{{range .Volumes}}{{.Name}} {{.Links}}{{end}}'",
        setup="docker create -v v1:/x busybox",
    ),
    look("docker system df --format json | wc -l"),
    look("docker system df --format 'table {{.Type}}\\t{{.Active}}' | head -3"),
    look("docker system df --nope"),
]
