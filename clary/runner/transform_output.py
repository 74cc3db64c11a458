"""What a batch transform writes: one `.out` object for each input object, there only once it is whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

from .manifests import Item
from .mirrors import joined
from .records import assembled
from .s3 import S3, encryption, split_uri
from .transform_settings import Capture, TransformSettings
from .uploads import UploadStream

SUFFIX = ".out"


def output_key(settings: TransformSettings, item: Item) -> tuple[str, str]:
    """Bucket and key of the output of an input object; nothing of its name is dropped."""
    bucket, prefix = split_uri(settings.output_uri)
    return bucket, joined(prefix, item.path + SUFFIX)


class OutputObject:
    """The output of one input object: parts go up as they come, nothing is seen before `close`."""

    def __init__(self, s3: S3, settings: TransformSettings, item: Item) -> None:
        bucket, key = output_key(settings, item)
        self._assemble = settings.assemble
        self._stream = UploadStream(s3, bucket, key, encryption(settings.kms_key_id))
        self._last_piece = b""

    def add(self, response: bytes) -> None:
        self._stream.write(assembled(response, self._assemble))

    def add_piece(self, piece: bytes) -> None:
        """A piece of the one response of an object that is streamed; `end_pieces` follows the last."""
        self._last_piece = piece
        self._stream.write(piece)

    def end_pieces(self) -> None:
        self._stream.write(assembled(self._last_piece, self._assemble)[len(self._last_piece) :])

    def close(self) -> int:
        """Store the object; return its size."""
        self._stream.close()
        return self._stream.size

    def abort(self) -> None:
        self._stream.abort()


def write_capture(
    s3: S3, settings: TransformSettings, capture: Capture, items: Sequence[Item]
) -> None:
    """DataCaptureConfig: two manifests that name the objects which were transformed, and their outputs.

    They lie under the hour in which the job was made, which is where a monitor of that hour looks.
    """
    if not items:
        return
    bucket, prefix = split_uri(capture.uri)
    hour = time.strftime("%Y/%m/%d/%H", time.gmtime(settings.started))
    name = f"{os.urandom(16).hex()}.json"
    outputs = settings.output_uri.rstrip("/") + "/"
    sides = {
        "input": _inputs(items),
        "output": _manifest(outputs, [item.path + SUFFIX for item in items]),
    }
    for side, body in sides.items():
        s3.put_bytes(
            bucket, joined(prefix, f"{side}/{hour}/{name}"), body, encryption(capture.kms_key_id)
        )


def _inputs(items: Sequence[Item]) -> bytes:
    """Names below what all keys begin with; below the bucket where a name is not the end of its key."""
    starts = {item.key[: len(item.key) - len(item.path)] for item in items}
    start = starts.pop()
    if starts or any(item.key != start + item.path for item in items):
        start = ""
    names = [item.key[len(start) :] for item in items]
    return _manifest(f"s3://{items[0].bucket}/{start}", names)


def _manifest(prefix: str, names: Sequence[str]) -> bytes:
    return json.dumps([{"prefix": prefix}, *names]).encode("utf-8")
