"""The command `wherry-registry`.

    serve     answer clients
    gc        delete what nothing refers to; a server may be running
    check     hash everything again, follow every reference
    reindex   write the metadata anew from what lies on the disk
    user      users of the registry
    token     tokens for machines

Each takes `--root DIR` and `--config FILE`.
"""

import argparse
import json
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from wherry import __version__
from wherry.errors import WherryError
from wherry.registry import config
from wherry.registry.config import Settings
from wherry.registry.units import seconds

Command = Callable[[argparse.Namespace, Settings], int]


def build_parser() -> tuple[argparse.ArgumentParser, Any]:
    """The parser, and the place where further commands are added."""
    parser = argparse.ArgumentParser(prog="wherry-registry", description="A registry for container images.")
    parser.add_argument("-v", "--version", action="version", version=f"wherry-registry version {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = add_command(commands, "serve", "answer clients", _serve)
    serve.add_argument("--addr", metavar="HOST:PORT", help=f"where to listen (default {config.DEFAULT_ADDRESS})")
    serve.add_argument("--workers", type=int, metavar="N", help="processes that serve (default 1)")
    serve.add_argument(
        "--without-accounts",
        action="store_true",
        default=None,
        help="listen on more than loopback although there are no accounts: anybody may push",
    )
    serve.add_argument("--worker-parent", type=int, default=0, help=argparse.SUPPRESS)
    serve.add_argument("--worker-socket", type=int, help=argparse.SUPPRESS)
    serve.add_argument("--worker-board", type=int, help=argparse.SUPPRESS)
    serve.add_argument("--worker-number", type=int, default=0, help=argparse.SUPPRESS)

    gc = add_command(commands, "gc", "delete what nothing refers to", _gc)
    gc.add_argument("--delay", metavar="TIME", help="keep what was pushed or asked for within this time (default 1h)")
    gc.add_argument("--untagged", choices=("keep", "delete"), help="what becomes of manifests without a tag")
    gc.add_argument("--json", action="store_true", help="print one JSON object")

    check = add_command(commands, "check", "hash everything again", _check)
    check.add_argument("--json", action="store_true", help="print one JSON object")
    add_command(commands, "reindex", "write the metadata anew from the disk", _reindex)

    from wherry.registry.accounts.commands import add_commands

    add_commands(commands, add_command)
    return parser, commands


def add_command(commands: Any, name: str, text: str, run: Command) -> argparse.ArgumentParser:
    """Add a command, with the flags that all have."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
    parser.add_argument("--root", metavar="DIR", help=f"where everything lies (default {config.DEFAULT_ROOT})")
    parser.add_argument("--config", metavar="FILE", help="configuration (YAML)")
    parser.set_defaults(run=run)
    return parser


def _serve(args: argparse.Namespace, settings: Settings) -> int:
    from wherry.registry import server, workers
    from wherry.registry.accounts.service import has_accounts
    from wherry.registry.board import Board
    from wherry.registry.door import check_listening

    if args.worker_socket is not None:
        workers.end_with_parent(args.worker_parent)
        board = Board(args.worker_board, args.worker_number)
        server.run(settings, socket.socket(fileno=args.worker_socket), collect=args.worker_number == 0, board=board)
        return 0
    check_listening(settings, has_accounts=has_accounts(settings))
    if settings.tls is not None:
        server.tls_context(settings.tls)  # refused here, and not by every worker in turn
    sock = server.listen(settings)
    if settings.workers > 1:
        return workers.supervise(args.command_line, sock, settings.workers)
    server.run(settings, sock)
    return 0


def _gc(args: argparse.Namespace, settings: Settings) -> int:
    from wherry.registry.server import create_service

    service = create_service(settings)
    try:
        collector = service.collector
        if args.delay is not None:
            collector.delay = seconds(args.delay)
        if args.untagged is not None:
            collector.delete_untagged = args.untagged == "delete"
        freed = collector.collect()
    finally:
        service.close()
    if args.json:
        print(json.dumps({name: getattr(freed, name) for name in freed.__slots__}))
    else:
        print(
            f"freed {freed.size} bytes: {freed.blobs} blobs, {freed.uploads} unfinished uploads; "
            f"{freed.manifests} manifests without a tag, {freed.repositories} empty repositories"
        )
        for name in freed.damaged:
            print(f"{name}: not collected, see the messages above", file=sys.stderr)
    return 1 if freed.damaged else 0


def _check(args: argparse.Namespace, settings: Settings) -> int:
    from wherry.registry.content.check import check
    from wherry.registry.server import create_service

    service = create_service(settings)
    try:
        report = check(service.repositories, lambda line: print(line, file=sys.stderr))
    finally:
        service.close()
    if args.json:
        print(json.dumps(report.__dict__))
    else:
        print(
            f"{report.repositories} repositories, {report.manifests} manifests, {report.blobs} blobs, "
            f"{report.size} bytes hashed: {len(report.problems) or 'no'} problems"
        )
    return 1 if report.problems else 0


def _reindex(_: argparse.Namespace, settings: Settings) -> int:
    from wherry.registry.server import create_service

    service = create_service(settings)
    try:
        found = list(service.repositories.names())
        for name in {*found, *service.database.versions()}:
            service.repositories.index(name, normalize=True)
    finally:
        service.close()
    print(f"{len(found)} repositories")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run a command; returns its exit status: 0, 1 where it failed, 2 where it was misused."""
    parser, _ = build_parser()
    args = parser.parse_args(arguments)
    args.command_line = list(arguments)
    try:
        flags = {key: getattr(args, key, None) for key in ("root", "addr", "workers", "without_accounts")}
        return int(args.run(args, config.read(args.config, **flags)))
    except WherryError as error:
        print(f"wherry-registry: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)  # the shell's prompt begins a line of its own
        return 130
    finally:
        sys.stdout.flush()  # the launcher ends without
