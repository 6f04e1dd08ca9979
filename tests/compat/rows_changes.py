"""What a container changed: commit, diff, export."""

from tests.compat.row import Row, call, look

_MADE = "docker run --name k1 -l a=b -e A=b busybox sh -c 'echo x >/new; rm /bin/ls; mkdir -p /d/e; ln -s x /d/l; chmod 700 /root'"
_KINDS = (
    'docker run --name k1 --tmpfs /m busybox sh -c "mkdir -p /t/sub /t/o; echo a > /t/f; ln /t/f /t/g; chmod 4711 /t/f;'
    " mknod /t/dev c 1 3; mkfifo -m 620 /t/p; chown 3:4 /t/sub; ln -s nowhere /t/s; echo > /m/x; rm /bin/ls;"
    " touch -h -d '2001-02-03 04:05:06' /t/* /t; touch -d '2001-02-03 04:05:06' /bin /\""
)
_OURS_ASIDE = "grep -vE ' (dev|etc|proc|sys|bin|m)/| .dockerenv' | sed 's/  */ /g'"
_INSPECT = (
    "docker image inspect -f "
    "'{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Env}} {{.Config.User}} {{.Config.WorkingDir}}"
    " {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{json .Config.Labels}} {{json .Config.OnBuild}}"
    " {{json .Config.Healthcheck}} {{.Config.StopSignal}} {{.Author}} {{.Comment}} {{len .RootFS.Layers}}' k:1"
)
_HISTORY = "docker history --no-trunc --format '{{.CreatedBy}}|{{.Size}}|{{.Comment}}' k:1"


def _commit(flags: str, setup: str = _MADE) -> Row:
    return Row(f"docker commit {flags} k1 k:1 >/dev/null && {_INSPECT} && {_HISTORY}", setup=setup)


ROWS: list[Row] = [
    Row("docker diff k1 | sort", setup=_MADE),
    Row("docker diff k1 | sort", setup="docker create --name k1 busybox true"),
    Row("docker diff k1 | sort", setup="docker run --name k1 busybox true"),
    Row("docker diff k1 | sort", setup="docker run --name k1 --tmpfs /t busybox true"),
    Row("docker diff k1 | sort", setup="docker run --name k1 busybox sh -c 'rm -r /home; mkdir /home; touch /home/x'"),
    Row(
        "docker diff k1 | sort",
        setup="docker run --name k1 busybox sh -c 'mv /etc/passwd /etc/x; chown 1 /var; echo > /etc/group'",
    ),
    Row("docker diff k1 | sort", setup="docker run --name k1 busybox touch /etc/mine"),
    look("docker diff"),
    look("docker diff c1 n1"),
    look("docker diff c1"),
    call("GET", "/v/containers/n1/changes"),
    Row("", ("GET", "/v/containers/k1/changes", None, {}), setup=_MADE, shape=True),
    _commit(""),
    _commit("-a 'me <me@x>' -m 'a message'"),
    _commit("", "docker run --name k1 busybox true"),
    _commit("-p=false", "docker run -d --name k1 busybox sleep 999"),
    _commit("", "docker run -d --name k1 busybox sh -c 'echo x > /x; sleep 999'"),
    _commit("-c 'CMD echo hi'"),
    _commit("""-c 'CMD ["a", "b"]' -c 'ENTRYPOINT ["c"]'"""),
    _commit("""-c 'ENTRYPOINT ["c"]'"""),
    _commit("-c 'ENTRYPOINT c d'"),
    _commit("""-c 'ENTRYPOINT []' -c 'CMD []'"""),
    _commit("-c 'ENV X=1 Y=\"2 3\" A=c' -c 'ENV Z four five' -c 'ENV P=$PATH:/x${X}${NO:-def}'"),
    _commit("-c 'LABEL x=y a=\"q r\" z=$A'"),
    _commit("-c 'EXPOSE 80 90/udp 100-102/tcp' -c 'VOLUME /a /b' -c 'VOLUME [\"/c\"]'"),
    _commit("-c 'WORKDIR /a' -c 'WORKDIR b/../c' -c 'USER u:g' -c 'STOPSIGNAL SIGINT'")._replace(since=(26,)),
    _commit("-c 'ONBUILD RUN true' -c 'onbuild copy . /x'"),
    _commit("-c 'HEALTHCHECK --interval=3s --retries=2 CMD true'"),
    _commit("-c 'HEALTHCHECK NONE'"),
    _commit("-c 'FOO x'"),
    _commit("-c 'RUN x'"),
    _commit("-c 'FROM x'"),
    _commit("-c 'COPY a b'"),
    _commit("-c 'ENV'"),
    _commit("-c 'ENV x'"),
    _commit("-c 'LABEL'"),
    _commit("-c 'EXPOSE x'"),
    _commit("-c 'EXPOSE 99999'"),
    _commit("-c 'USER'"),
    _commit("-c 'ONBUILD ONBUILD RUN x'"),
    _commit("-c 'ONBUILD FROM x'"),
    _commit("-c 'ENV a=${b:?no} c=d'"),
    _commit("-c 'ENV a=${A+1}${N-2}${N+3}${A:?x}'"),
    _commit("-c 'ENV a=${b?c}'"),
    _commit("-c 'HEALTHCHECK nope'"),
    Row(f"docker export k1 | tar tv --utc --full-time | {_OURS_ASIDE}", setup=_KINDS),
    Row(f"docker export k1 | tar tv --utc --full-time | {_OURS_ASIDE}", setup=f"{_KINDS}; docker start k1"),
    Row("docker export -o $DIR/e.tar k1; tar xO -f $DIR/e.tar t/f; rm $DIR/e.tar", setup=_KINDS),
    Row(
        "docker export k1 | docker import -m msg -c 'CMD cat /t/f' - k:1 >/dev/null; docker run --rm k:1; "
        "docker history --format '{{.CreatedBy}}|{{.Comment}}' k:1",
        setup=_KINDS,
    ),
    look("docker export nope"),
    look("docker export"),
    look("docker export -o /nope/x c1"),
    look("docker export -o /tmp c1", normalise=((r"docker_temp_\d+", "docker_temp_<n>"),)),
    look("docker export p1 | tar t bin/sh"),
    call("GET", "/v/containers/nope/export"),
    Row("docker commit nope"),
    Row("docker commit"),
    Row("docker commit n1 UPPER"),
    Row("docker commit n1 k@sha256:" + "0" * 64),
    Row("docker commit n1 k:!"),
    Row("docker commit n1 | cut -c1-7 && docker images -f dangling=true --format '{{.Repository}} {{.Tag}}'"),
    Row("docker commit k1 k:1 >/dev/null; docker rmi k:1 | wc -l; docker rmi busybox 2>&1 | wc -l", setup=_MADE),
    Row("docker commit k1 k:1 >/dev/null; docker run --rm k:1 sh -c 'cat /new; ls /bin/ls'", setup=_MADE),
    Row("docker commit k1 k:1 >/dev/null; docker image inspect -f '{{json .Config}}' k:1", setup=_MADE, shape=True),
    call("POST", "/v/commit?container=nope"),
    call("POST", "/v/commit"),
    call("POST", "/v/commit?container=n1&repo=k&tag=1&changes=CMD%20x", '{"User": "u", "Env": ["Q=1"]}', shape=True),
    call("POST", "/v/commit?container=n1", "{"),
    call("POST", "/v/commit?container=n1&repo=UP"),
]
