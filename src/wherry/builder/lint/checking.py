"""Lint joined with what a build knows: the images that are here, and the context's `.dockerignore`."""

from collections.abc import Callable, Mapping, Sequence

from wherry.builder.language.ignorefile import Matcher
from wherry.builder.language.instructions import parse_stages
from wherry.builder.language.parser import parse
from wherry.builder.language.stages import plan
from wherry.builder.language.variables import Globals
from wherry.builder.lint.linter import BaseImage, Surroundings, lint
from wherry.builder.lint.report import LintReport
from wherry.errors import InvalidArgument, NotFound
from wherry.images.model import Image
from wherry.oci import platform as platforms


def base_image(image: Image) -> BaseImage:
    """What lint wants to know of an image."""
    config = image.config.config
    env = dict(entry.partition("=")[::2] for entry in config.env or [])
    return BaseImage(env, list(config.on_build or []), list(config.shell or []), image.config.platform)


def check(
    data: bytes,
    name: str,
    find: Callable[[str], Image],
    *,
    build_args: Mapping[str, str],
    target: str = "",
    platform: str = "",
    contexts: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> LintReport:
    """Lint all stages of a Dockerfile, or those that `target` needs, without building.

    Args:
        data: its bytes.
        name: what it is called in messages.
        find: gives an image that is here; raises NotFound for others.
        build_args: of `--build-arg`.
        target: `--target`.
        platform: `--platform`.
        contexts: names of `--build-context`.
        ignore: patterns of the context's `.dockerignore`.

    Raises:
        InvalidArgument: a platform or pattern that is none.
    """
    here = platforms.host()
    wanted = platforms.parse(platform) if platform else here
    images: dict[str, BaseImage] = {}
    for needed in _images(data, build_args, wanted, contexts):
        try:
            images[needed] = base_image(find(needed))
        except (NotFound, InvalidArgument):
            continue  # not here: nothing is known of it
    around = Surroundings(
        build_args=build_args,
        target=target,
        build_platform=here,
        target_platform=wanted,
        contexts=contexts,
        ignore=Matcher(ignore) if ignore else None,
        images=images,
    )
    return lint(data, around, name)


def _images(
    data: bytes, build_args: Mapping[str, str], wanted: platforms.Platform, contexts: Sequence[str]
) -> list[str]:
    """The bases of all stages; none where the file is wrong, which lint will say."""
    try:
        document = parse(data)
        program = parse_stages(document)
        shared = Globals(
            build_args=build_args,
            build_platform=platforms.host(),
            target_platform=wanted,
            target=program.stages[-1].name,
            escape=document.escape,
        )
        shared.declare(program.meta_args)
        whole = plan(program.stages, shared, contexts=contexts)
    except InvalidArgument:
        return []
    return list(dict.fromkeys(stage.base.name for stage in whole.stages if stage.base.kind == "image"))
