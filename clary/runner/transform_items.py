"""Which objects this host transforms: its share of the sorted input, every object by exactly one host."""

from __future__ import annotations

from .faults import ClientFault
from .manifests import Item, items_of
from .s3 import S3, split_uri
from .spec import HostSpec, Input
from .transform_output import SUFFIX, output_key
from .transform_settings import TransformSettings


def items_here(spec: HostSpec, s3: S3, settings: TransformSettings) -> list[Item]:
    """This host's objects, in the order in which they are transformed; raise ClientFault or S3Error."""
    everything = Input(
        name="input",
        uri=settings.input_uri,
        type=settings.input_type,
        target="",
        mode="File",
        distribution="FullyReplicated",
        compression="None",
        unpack=False,
        record_wrapper="None",
        attributes=(),
        shuffle_seed=None,
    )
    items = items_of(spec, s3, everything)
    if settings.input_type == "S3Prefix":
        items = [item for item in items if not _is_output(settings, item)]
    items.sort(key=lambda item: item.key.encode("utf-8"))
    _check_outputs(settings, items)
    return items[spec.host_index :: len(spec.hosts)]


def _is_output(settings: TransformSettings, item: Item) -> bool:
    """Outputs below the input's own prefix are no input: other hosts may have written some already."""
    bucket, prefix = split_uri(settings.output_uri)
    below = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    source = split_uri(settings.input_uri)[1]
    if item.bucket != bucket or item.key == source or not below.startswith(source.rstrip("/")):
        return False
    return item.key.startswith(below) and item.key.endswith(SUFFIX)


def _check_outputs(settings: TransformSettings, items: list[Item]) -> None:
    """Two objects cannot have one output, of which only the later would be left."""
    seen: dict[str, Item] = {}
    for item in items:
        other = seen.setdefault(item.path, item)
        if other is not item:
            key = "/".join(output_key(settings, item))
            raise ClientFault(
                f"{other.uri!r} and {item.uri!r} would have the same output s3://{key}"
            )
