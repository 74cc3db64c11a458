"""Container images: an image URI that stands for itself, run by a container engine of this machine.

An URI does so when the engine has an image of that name, or when it was added with `clary images add
URI --container` (pulled from its registry) or `--archive` (loaded from a file or from S3).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from clary.images import container_archives
from clary.images.environment import Environment
from clary.images.image import Command, Image, UnknownImage
from clary.images.reference import ImageReference, parse
from clary.images.uv import EnvironmentFailed, Progress
from clary.runner.engine_api import Answer, Engine, EngineError
from clary.settings import Settings

OpenObject = Callable[[str, str], BinaryIO]  # by bucket and key

_LOOK_SECONDS_MAX = 5.0
_FETCH_SECONDS_MAX = 3600.0
_SILENCE_SECONDS_MAX = 600.0
_PIECE_BYTES = 1024 * 1024
_LOADED = re.compile(r"Loaded image(?: ID)?: *(\S+)")
_INSTALL = (
    "install one (`apt-get install docker.io`, or podman with `systemctl start podman.socket`) and "
    "see that this user may use its socket; DOCKER_HOST or CLARY_CONTAINERS name one elsewhere"
)


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """One registration."""

    uri: str
    archive: str = ""  # s3://bucket/key or a file; empty: the registry that the URI names
    created: float = 0.0


def add(uri: str, settings: Settings, *, archive: str = "") -> ContainerImage:
    """Register a URI as a container image, in place of an earlier registration; raise ValueError."""
    reference = parse(uri)
    if archive and reference.digest:
        raise ValueError("An image of an archive gets a tag, so its URI cannot have a digest.")
    if archive and not archive.startswith("s3://"):
        place = Path(archive).expanduser().absolute()
        if not place.is_file():
            raise ValueError(f"{place} is not a file.")
        archive = str(place)
    if archive.startswith("s3://"):
        bucket, _, key = archive[5:].partition("/")
        if not bucket or not key:
            raise ValueError(f"{archive} is not the URI of an object: s3://bucket/key.")
    image = ContainerImage(uri, archive, time.time())
    path = _path(uri, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_suffix(f".{os.getpid()}.tmp")
    staging.write_text(json.dumps(asdict(image), indent=1))
    staging.replace(path)
    return image


def remove(uri: str, settings: Settings) -> bool:
    """Forget a registration; False if there is none. The engine keeps its image."""
    try:
        _path(uri, settings).unlink()
    except FileNotFoundError:
        return False
    return True


def list_images(settings: Settings) -> list[ContainerImage]:
    """All registrations, by URI."""
    paths = (settings.home / "containers").glob("*.json")
    return sorted((_read(path) for path in paths), key=lambda image: image.uri)


def lookup(uri: str, settings: Settings) -> ContainerImage | None:
    try:
        return _read(_path(uri, settings))
    except FileNotFoundError:
        return None


def registered(reference: ImageReference, settings: Settings) -> Image | None:
    """The image of a URI that was added as a container."""
    return _as_image(reference) if lookup(reference.uri, settings) is not None else None


def found(reference: ImageReference, settings: Settings) -> Image | None:
    """The image of a URI that the engine has an image for."""
    engine = find_engine(settings)
    return _as_image(reference) if engine is not None and _has(engine, reference.uri) else None


def _as_image(reference: ImageReference) -> Image:
    """SageMaker starts an image with the argument `train` or `serve`; processing names its own."""
    return Image(
        family="container",
        uri=reference.uri,
        version="",
        environment=Environment(python=""),
        commands={"train": Command(("train",)), "serve": Command(("serve",)), "process": None},
        container=reference.uri,
    )


def remedy(uri: str, settings: Settings) -> str:
    """What would make a container image of a URI that is none; the end of a sentence."""
    if settings.containers == "never":
        return "allow container engines, which CLARY_CONTAINERS=never forbids"
    engine = find_engine(settings)
    if engine is None:
        return (
            f"run the image itself in a container engine, of which there is none here: {_INSTALL}"
        )
    return (
        f"run the image itself: build or tag it in the container engine at {engine.path} under this "
        f"name, or add it with `clary images add {uri} --container`, which pulls it, or `--archive "
        "s3://bucket/image.tar`, which loads it"
    )


# The engine ------------------------------------------------------------------------------------------


def find_engine(settings: Settings, seconds: float = _LOOK_SECONDS_MAX) -> Engine | None:
    """The engine whose socket is there, if any; whether it answers shows later."""
    for path in _sockets(settings, os.environ):
        if Path(path).is_socket():
            return Engine(path, seconds)
    return None


def _sockets(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    if settings.containers == "never":
        return
    if settings.containers != "auto":
        yield settings.containers.removeprefix("unix://")
        return
    named = environment.get("DOCKER_HOST", "")
    if named:
        yield named.removeprefix("unix://")
        return
    yield "/var/run/docker.sock"
    yield "/run/podman/podman.sock"
    folder = environment.get("XDG_RUNTIME_DIR")
    if folder:
        yield f"{folder}/docker.sock"
        yield f"{folder}/podman/podman.sock"


def _has(engine: Engine, name: str) -> bool:
    try:
        engine.call("GET", f"/images/{quote(name)}/json")
    except EngineError as problem:
        if problem.status:
            return False
        raise UnknownImage(
            f"Whether there is a container image {name} cannot be said: {problem}. Start the engine, "
            "or set CLARY_CONTAINERS=never."
        ) from problem
    return True


def is_ready(image: Image, settings: Settings) -> bool:
    """Does the engine have the image of this Image?"""
    engine = find_engine(settings)
    return engine is not None and _has(engine, image.container)


def for_runner(image: Image, settings: Settings, *, entry_point: bool) -> dict[str, Any]:
    """What a runner needs to know to have the engine run this image."""
    engine = find_engine(settings)
    if engine is None:
        raise EnvironmentFailed(f"The image {image.uri} needs a container engine: {_INSTALL}.")
    has_gpu, ordinary = Path("/dev/nvidiactl").exists(), os.geteuid() != 0
    facts = engine.call("GET", "/info") if has_gpu or ordinary else {}
    rootless = any("rootless" in option for option in facts.get("SecurityOptions") or [])
    # What root made in a container of root's engine could not be removed by an ordinary user.
    user = f"{os.geteuid()}:{os.getegid()}" if ordinary and not rootless else ""
    return {
        "engine": engine.path,
        "image": image.container,
        "entry_point": entry_point,
        "gpus": has_gpu and "nvidia" in (facts.get("Runtimes") or {}),
        "user": user,
    }


# Fetching --------------------------------------------------------------------------------------------


def fetch(
    image: Image,
    settings: Settings,
    open_object: OpenObject | None,
    progress: Progress,
    stop: threading.Event,
) -> None:
    """Have the engine pull or load a registered image; raise EnvironmentFailed."""
    if is_ready(image, settings):
        return
    added = lookup(image.uri, settings)
    engine = find_engine(settings, _SILENCE_SECONDS_MAX)
    if engine is None:
        raise EnvironmentFailed(
            f"The image {image.uri} was added as a container, which needs a container engine: {_INSTALL}."
        )
    try:
        if added is not None and added.archive:
            _load(engine, added, settings, open_object, progress, stop)
        elif added is not None:
            _pull(engine, parse(image.uri), progress, stop)
        else:
            raise EngineError(404, "it had one when the job was looked at first")
    except EngineError as problem:
        raise EnvironmentFailed(
            f"The container engine at {engine.path} has no image {image.uri}: {problem}"
        ) from problem
    except OSError as problem:
        raise EnvironmentFailed(f"The image {image.uri} cannot be fetched: {problem}") from problem


def _pull(
    engine: Engine, reference: ImageReference, progress: Progress, stop: threading.Event
) -> None:
    name, tag = _split(reference)
    answer = engine.open(
        "POST",
        "/images/create",
        query={"fromImage": name, "tag": tag},
        headers={"X-Registry-Auth": _credentials(reference.registry)},
    )
    with answer.connection:
        for line in _lines(answer, stop):
            words = [reference.uri, line.get("id", ""), line.get("status", "")]
            progress(f"Pulling {' '.join(word for word in words if word)}"[:200])


def _load(
    engine: Engine,
    added: ContainerImage,
    settings: Settings,
    open_object: OpenObject | None,
    progress: Progress,
    stop: threading.Event,
) -> None:
    progress(f"Loading {added.uri} from {added.archive}")
    settings.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.cache) as spool:
        with _open(added.archive, open_object) as source:
            while piece := source.read(_PIECE_BYTES):
                spool.write(piece)
                if stop.is_set():
                    raise EnvironmentFailed("Clary is going down.")
        try:
            archive = container_archives.for_engine(spool)
        except ValueError as problem:
            raise EnvironmentFailed(
                f"{added.archive} is not an image archive, as `docker save` or `skopeo copy ... "
                f"oci-archive:` make it: {problem}"
            ) from problem
        with archive:
            names = _send(engine, archive, stop)
    if not names:
        raise EnvironmentFailed(f"The container engine found no image in {added.archive}.")
    repository, tag = _split(parse(added.uri))
    engine.call("POST", f"/images/{quote(names[0])}/tag", repo=repository, tag=tag)


def _send(engine: Engine, archive: BinaryIO, stop: threading.Event) -> list[str]:
    """Load an archive; returns the images that came with it."""
    size = archive.seek(0, os.SEEK_END)
    archive.seek(0)
    headers = {"Content-Type": "application/x-tar"}
    with engine.begin("POST", "/images/load", size, headers=headers) as connection:
        while piece := archive.read(_PIECE_BYTES):
            connection.sendall(piece)
        lines = _lines(engine.answer(connection), stop)
        text = " ".join(str(line.get("stream", "")) for line in lines)
    return _LOADED.findall(text)


def _open(archive: str, open_object: OpenObject | None) -> BinaryIO:
    if not archive.startswith("s3://"):
        return open(archive, "rb")
    bucket, _, key = archive[5:].partition("/")
    if open_object is None:
        raise EnvironmentFailed(f"{archive} is loaded by the server, at the image's first job.")
    try:
        return open_object(bucket, key)
    except Exception as problem:
        raise EnvironmentFailed(f"{archive} cannot be read: {problem}") from problem


def _lines(answer: Answer, stop: threading.Event) -> Iterator[dict[str, Any]]:
    """The JSON lines by which an engine tells of its progress; an error among them is raised."""
    deadline = time.monotonic() + _FETCH_SECONDS_MAX
    data = answer.begun
    while True:
        *whole, data = data.split(b"\n")
        for line in whole:
            if line.strip():
                yield _checked(json.loads(line))
        if stop.is_set() or time.monotonic() > deadline:
            raise EngineError(0, "it was given up")
        piece = answer.connection.recv(1 << 16)
        if not piece:
            break
        data += piece
    if data.strip():
        yield _checked(json.loads(data))


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    if "error" in line:
        raise EngineError(500, str(line["error"]))
    return line


def _split(reference: ImageReference) -> tuple[str, str]:
    name = f"{reference.registry}/{reference.repository}".lstrip("/")
    return name, reference.digest or reference.tag or "latest"


def _credentials(registry: str) -> str:
    """What `docker login` has left for this registry, as the engine takes it; empty where nothing."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        known = json.loads((folder / "config.json").read_bytes()).get("auths") or {}
    except (OSError, ValueError):
        known = {}
    wanted = registry or "https://index.docker.io/v1/"
    packed = base64.b64decode((known.get(wanted) or {}).get("auth") or "").decode(errors="replace")
    user, _, password = packed.partition(":")
    document = {"username": user, "password": password, "serveraddress": wanted} if user else {}
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def _path(uri: str, settings: Settings) -> Path:
    digest = hashlib.sha256(uri.encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", parse(uri).basename)[:60]
    return settings.home / "containers" / f"{readable}-{digest}.json"


def _read(path: Path) -> ContainerImage:
    return ContainerImage(**json.loads(path.read_text()))
