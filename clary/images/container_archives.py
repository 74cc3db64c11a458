"""Archives of container images: an OCI archive becomes one that every engine loads, by one more file in it.

Engines before Docker 25 read `manifest.json` only. The blobs of an OCI archive are what it may point to,
so nothing is copied or extracted.
"""

from __future__ import annotations

import gzip
import io
import json
import platform
import re
import shutil
import tarfile
import tempfile
from typing import Any, BinaryIO, cast

_DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]{64,128})")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "AMD64": "amd64"}


def for_engine(spool: BinaryIO) -> BinaryIO:
    """The archive as an engine loads it: this file or another temporary one; raise ValueError."""
    file = _uncompressed(spool)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            members = {member.name.removeprefix("./"): member for member in tar if member.isfile()}
            if "manifest.json" in members:
                return file
            manifest = _manifest(tar, members)
        file.seek(0)
        body = json.dumps([manifest]).encode()
        with tarfile.open(fileobj=file, mode="a:") as tar:
            added = tarfile.TarInfo("manifest.json")
            added.size = len(body)
            tar.addfile(added, io.BytesIO(body))
    except (tarfile.TarError, LookupError, TypeError, AttributeError) as problem:
        raise ValueError(f"{type(problem).__name__}: {problem}") from problem
    return file


def _uncompressed(spool: BinaryIO) -> BinaryIO:
    spool.seek(0)
    is_compressed = spool.read(2) == b"\x1f\x8b"
    spool.seek(0)
    if not is_compressed:
        return spool
    file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  (the caller closes it)
    try:
        with gzip.open(spool) as plain:
            shutil.copyfileobj(plain, file)
    except (OSError, EOFError) as problem:
        file.close()
        raise ValueError(str(problem)) from problem
    file.seek(0)
    return file


def _manifest(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> dict[str, Any]:
    """The entry of `manifest.json` for the image of this machine's kind."""
    found = _document(tar, members, "index.json")
    for _ in range(3):  # an index may hold an index, by platform
        if "manifests" not in found:
            break
        found = _document(tar, members, _blob(_pick(found["manifests"])))
    return {
        "Config": _blob(found["config"]),
        "RepoTags": None,
        "Layers": [_blob(layer) for layer in found["layers"]],
    }


def _pick(entries: list[dict[str, Any]]) -> dict[str, Any]:
    machine = _MACHINES.get(platform.machine(), platform.machine())
    fitting = [one for one in entries if (one.get("platform") or {}).get("architecture") == machine]
    return (fitting or entries)[0]


def _document(
    tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str
) -> dict[str, Any]:
    member = members.get(name)
    if member is None:
        raise ValueError(f"it has neither manifest.json nor {name}")
    file = tar.extractfile(member)
    if file is None or member.size > _DOCUMENT_BYTES_MAX:
        raise ValueError(f"its {name} cannot be read")
    return json.loads(file.read())


def _blob(entry: dict[str, Any]) -> str:
    """Where a blob lies; a digest of another form could name a file anywhere."""
    match = _DIGEST.fullmatch(entry["digest"])
    if match is None:
        raise ValueError(f"{entry['digest']!r} is not a digest")
    return f"blobs/{match[1]}/{match[2]}"
