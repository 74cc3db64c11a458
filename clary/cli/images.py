"""`clary images`: the environments that stand behind image URIs."""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

from clary.cli.installation import installed
from clary.cli.output import Problem, emit_json, next_step, note, say
from clary.images import build, catalogue, containers, user_images
from clary.images.image import Image, UnknownImage
from clary.images.uv import EnvironmentFailed
from clary.settings import Settings


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|build|add|remove", required=True)
    listing = actions.add_parser("list", help="what Clary knows, has built, and was given")
    listing.add_argument("--json", action="store_true", help="print a JSON document")
    building = actions.add_parser("build", help="build an image's environment now")
    building.add_argument("uri", help="an image URI, such as sagemaker-scikit-learn:1.2-1-cpu-py3")
    adding = actions.add_parser("add", help="register an environment under an image URI")
    adding.add_argument("uri")
    adding.add_argument("--package", action="append", default=[], help="a package with its version")
    adding.add_argument("--requirements", type=Path, help="a file of packages")
    adding.add_argument("--environment", type=Path, help="a virtual environment you made yourself")
    adding.add_argument(
        "--container", action="store_true", help="a container image, which an engine pulls and runs"
    )
    adding.add_argument(
        "--archive", default="", help="a container image in a file or s3://bucket/key"
    )
    adding.add_argument("--python", default="", help="the Python version, such as 3.11")
    removing = actions.add_parser("remove", help="forget an image that was added")
    removing.add_argument("uri")


def run(options: argparse.Namespace) -> int:
    settings = installed().settings
    try:
        match options.action:
            case "list":
                _list(settings, as_json=options.json)
            case "build":
                _build(settings, options.uri)
            case "add":
                _add(settings, options)
            case _:
                _remove(settings, options.uri)
    except (UnknownImage, EnvironmentFailed, ValueError, OSError) as problem:
        raise Problem(str(problem), "See what there is: clary images list") from problem
    return 0


def _list(settings: Settings, *, as_json: bool) -> None:
    families = [
        {"name": family.name, "repositories": family.repositories, "tags": family.tags}
        for family in catalogue.families()
    ]
    built = [
        {
            "key": found.key,
            "python": found.environment.python,
            "packages": found.environment.packages,
            "megabytes": round(found.size_bytes / 1e6),
        }
        for found in build.list_environments(settings)
    ]
    added = [image.uri for image in user_images.list_images(settings)]
    added += [image.uri for image in containers.list_images(settings)]
    if as_json:
        emit_json({"known": families, "built": built, "added": added})
        return
    say("Known images")
    for family in families:
        say(f"  {', '.join(family['repositories'])}: {', '.join(family['tags'])}")
    say("Added images")
    for uri in added or ["none"]:
        say(f"  {uri}")
    say(f"Built environments in {build.folder(settings)}")
    for found in built:
        packages = ", ".join(found["packages"][:4])
        say(f"  {found['key']}  Python {found['python']}, {found['megabytes']} MB, {packages}")
    if not built:
        say("  none")
    next_step("clary images build URI, to have an environment ready before its first job")


def _build(settings: Settings, uri: str) -> None:
    image = catalogue.resolve(uri, settings)
    if image.container:
        _fetch(settings, image)
        return
    environment = image.environment
    if build.is_built(environment, settings):
        say(f"{uri} is built already: {build.prefix(environment, settings)}")
        return
    started = time.monotonic()
    build.build(environment, settings, note)
    seconds = time.monotonic() - started
    say(f"{uri} is built in {seconds:.0f} s: {build.prefix(environment, settings)}")
    next_step(f"use {uri} as the image of a job")


def _fetch(settings: Settings, image: Image) -> None:
    containers.fetch(image, settings, None, note, threading.Event())
    say(f"{image.uri} is in the container engine.")
    next_step(f"use {image.uri} as the image of a job")


def _add(settings: Settings, options: argparse.Namespace) -> None:
    if options.container or options.archive:
        _add_container(settings, options)
        return
    image = user_images.add(
        options.uri,
        settings,
        packages=options.package,
        requirements_file=options.requirements,
        python=options.python,
        existing=options.environment,
    )
    containers.remove(options.uri, settings)
    say(f"{image.uri} now means Python {image.environment.python} with your packages.")
    next_step(f"clary images build {image.uri}")


def _add_container(settings: Settings, options: argparse.Namespace) -> None:
    if options.package or options.requirements or options.environment or options.python:
        raise ValueError("A container image brings its own packages: leave the other options out.")
    added = containers.add(options.uri, settings, archive=options.archive)
    user_images.remove(added.uri, settings)
    say(f"{added.uri} now means the container image {added.archive or 'of its registry'}.")
    if containers.find_engine(settings) is None:
        note(
            "there is no container engine here yet; install docker.io or podman before its first job"
        )
    next_step(f"use {added.uri} as the image of a job")


def _remove(settings: Settings, uri: str) -> None:
    # Both are tried: a URI may have been an environment first.
    forgotten = [user_images.remove(uri, settings), containers.remove(uri, settings)]
    if not any(forgotten):
        raise ValueError(f"No image was added as {uri}.")
    say(f"{uri} is forgotten.")
