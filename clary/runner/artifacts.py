"""What a program made, stored where its job said: one tar.gz for all hosts, or file by file."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

from . import archives, peers, trees
from .archives import ArchiveFault, Tree
from .connections import FileShrank
from .faults import UPLOAD, ClientFault, blame
from .mirrors import Keeper, Mirror, joined, key_text
from .s3 import S3, encryption, split_uri
from .s3_answers import S3Error
from .spec import HostSpec, Output
from .transfers import Count, Task, run_all
from .uploads import UploadStream

LEVEL = 4
CONTINUOUS_SECONDS = 2.0
LOOK_SECONDS = 0.5
PARTS = "parts"  # fetched from hosts on other machines, until they are merged


class Stored(TypedDict):
    uri: str
    bytes: int  # of the files, before compression
    files: int


def upload(spec: HostSpec, s3: S3, result: str, s3_service: S3 | None = None) -> dict[str, Stored]:
    """Store every output that this result calls for; raise ClientFault where S3 refuses one.

    On every host but the first, a merged output is handed to the first host and not in the answer.
    """
    wanted = [output for output in spec.outputs if output.when == "end" and _is_due(output, result)]
    merged = [output for output in wanted if output.form == "tar.gz"]
    stored: dict[str, Stored] = {}
    try:
        if not spec.leads:
            _hand_over(spec, s3, merged, result)
            wanted = [output for output in wanted if output.form != "tar.gz"]
        ready = peers.wait(spec, result) if merged and spec.leads else []
        for output in wanted:
            client = s3_service if output.identity == "service" and s3_service else s3
            if output.form == "tar.gz":
                sources = _sources(spec, client, output, ready, result)
                entry = _upload_archive(client, output, sources)
                shutil.rmtree(spec.directory / PARTS, ignore_errors=True)
            else:
                entry = _upload_tree(spec, client, output)
            if entry is not None:
                stored[output.name] = entry
    except (S3Error, OSError) as problem:
        raise blame(UPLOAD, problem) from problem
    except FileShrank as problem:
        raise ClientFault(f"{UPLOAD}A file changed while it was uploaded: {problem}") from problem
    return stored


class Continuous:
    """Outputs that are stored file by file while the program writes them."""

    def __init__(
        self,
        spec: HostSpec,
        s3: S3,
        s3_service: S3 | None = None,
        *,
        interval_seconds: float = CONTINUOUS_SECONDS,
    ) -> None:
        self._mirrors: dict[str, tuple[Output, Mirror]] = {}
        for output in spec.outputs:
            if output.when != "continuous":
                continue
            client = s3_service if output.identity == "service" and s3_service else s3
            bucket, prefix = split_uri(output.uri)
            mirror = Mirror(
                client,
                bucket,
                prefix,
                spec.ml,
                output.source,
                deletes=False,
                headers=encryption(output.kms_key_id),
            )
            self._mirrors[output.name] = (output, mirror)
        self._keeper = Keeper([mirror for _, mirror in self._mirrors.values()], interval_seconds)

    @property
    def last_problem(self) -> str:
        """Why the last copy failed, empty when it did not."""
        return self._keeper.last_problem

    def start(self) -> None:
        self._keeper.start()

    def finish(self) -> dict[str, Stored]:
        """Store what is left, whatever the result; raise ClientFault where S3 refuses it."""
        try:
            self._keeper.finish()
        except (S3Error, OSError) as problem:
            raise blame(UPLOAD, problem) from problem
        return {
            name: Stored(
                uri=output.uri,
                bytes=sum(signature.size for signature in mirror.stored.values()),
                files=len(mirror.stored),
            )
            for name, (output, mirror) in self._mirrors.items()
        }


def _is_due(output: Output, result: str) -> bool:
    # Running out of time ends as Stopped: what a stop keeps, a time limit keeps.
    return result in output.on or (result == "timeout" and "stopped" in output.on)


def _is_empty(sources: list[Tree]) -> bool:
    return not any(
        entry.kind == "file" for tree in sources for entry in trees.walk(tree.root, tree.relative)
    )


def _upload_archive(s3: S3, output: Output, sources: list[Tree]) -> Stored | None:
    if not output.required and _is_empty(sources):
        return None
    bucket, key = split_uri(output.uri)
    sink = UploadStream(s3, bucket, key, encryption(output.kms_key_id))
    try:
        contents = archives.pack(sources, sink, level=LEVEL)
        sink.close()
    except BaseException:
        sink.abort()
        raise
    return Stored(uri=output.uri, bytes=contents.bytes, files=contents.files)


def _upload_tree(spec: HostSpec, s3: S3, output: Output) -> Stored | None:
    bucket, prefix = split_uri(output.uri)
    headers = encryption(output.kms_key_id)
    paths = [entry.path for entry in trees.walk(spec.ml, output.source) if entry.kind == "file"]
    if not paths and not output.required:
        return None
    tasks = [
        _file_task(
            s3, bucket, joined(prefix, key_text(path)), spec.ml, output.source, path, headers
        )
        for path in paths
    ]
    size = run_all(tasks)
    return Stored(uri=output.uri, bytes=size, files=len(tasks))


def _file_task(
    s3: S3,
    bucket: str,
    key: str,
    root: Path,
    source: str,
    path: str,
    headers: Mapping[str, str],
) -> Task:
    def send(count: Count) -> None:
        descriptor = trees.open_file(root, f"{source}/{path}")
        try:
            s3.put_descriptor(bucket, key, descriptor, headers, count)
        finally:
            os.close(descriptor)

    return send


# Several hosts ---------------------------------------------------------------------------------


def _hand_over(spec: HostSpec, s3: S3, merged: list[Output], result: str) -> None:
    """Let the first host have this host's part: as files, or through S3 from another machine."""
    if not peers.beside(spec, spec.hosts[0]):
        for output in merged:
            bucket, key = split_uri(output.uri)
            part = UploadStream(s3, bucket, part_key(spec, key, spec.host))
            try:
                archives.pack([Tree(spec.ml, output.source)], part, level=1)
                part.close()
            except BaseException:
                part.abort()
                raise
    peers.announce(spec, result)


def part_key(spec: HostSpec, key: str, host: str) -> str:
    """Where a host on another machine leaves its part of the object `key`."""
    folder, _, name = key.rpartition("/")
    return joined(folder, f".parts/{spec.generation}/{name}/{host}")


def _sources(spec: HostSpec, s3: S3, output: Output, ready: list[str], result: str) -> list[Tree]:
    """What to merge, in host order, so that a later host's file replaces an earlier one's."""
    sources: list[Tree] = []
    for host in spec.hosts:
        if host == spec.host:
            sources.append(Tree(spec.ml, output.source))
        elif host in ready:
            sources.append(Tree(spec.shared / host / "ml", output.source))
        elif not peers.beside(spec, host):
            fetched = _fetch_part(spec, s3, output, host, result)
            if fetched is not None:
                sources.append(fetched)
    return sources


def _fetch_part(
    spec: HostSpec,
    s3: S3,
    output: Output,
    host: str,
    result: str,
    clock: Callable[[], float] = time.monotonic,
) -> Tree | None:
    bucket, key = split_uri(output.uri)
    part = part_key(spec, key, host)
    deadline = clock() + peers.patience(spec, result)
    while True:
        ended = peers.ended_elsewhere(spec, host)
        if s3.head(bucket, part) is not None:
            break
        if ended or clock() > deadline:
            return None
        time.sleep(LOOK_SECONDS)
    root = spec.directory / PARTS
    stream = s3.open(bucket, part)
    try:
        archives.unpack(stream, root / output.name / host)
    except ArchiveFault as problem:
        raise ClientFault(f"{UPLOAD}The part of {host} is damaged: {problem}") from problem
    finally:
        stream.close()
    s3.delete(bucket, part)
    return Tree(root, f"{output.name}/{host}")
