"""The channels of a training job, checked when the job is created: in the words of what would go wrong later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clary.engine.call import Call
from clary.engine.s3_inputs import require_objects
from clary.images.jumpstart import is_replaced_model
from clary.model.errors import NotImplementedException, ValidationException


def _channels(call: Call) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, input mode and channel."""
    mode = call.input["AlgorithmSpecification"]["TrainingInputMode"]
    for channel in call.input.get("InputDataConfig") or []:
        yield channel["ChannelName"], channel.get("InputMode") or mode, channel


def channels_are_named_once(call: Call) -> None:
    names = [name for name, _, _ in _channels(call)]
    for name in names:
        if names.count(name) > 1:
            raise ValidationException(f"Duplicate channel name '{name}' in InputDataConfig.")


def channels_make_sense(call: Call) -> None:
    for name, mode, channel in _channels(call):
        sources = [kind for kind, source in channel["DataSource"].items() if source]
        if len(sources) != 1:
            raise ValidationException(
                f"Channel '{name}': DataSource must give exactly one of S3DataSource and "
                "FileSystemDataSource."
            )
        if "FileSystemDataSource" in sources:
            _check_file_system(name, mode, channel)
        else:
            _check_s3(name, mode, channel["DataSource"].get("S3DataSource") or {}, call)
        if mode != "Pipe" and channel.get("CompressionType") == "Gzip":
            raise ValidationException(
                f"Channel '{name}': CompressionType Gzip is only supported in Pipe input mode; "
                f"leave it out in {mode} mode, in which the objects are delivered as they are."
            )
        if mode == "FastFile" and channel.get("RecordWrapperType") == "RecordIO":
            raise ValidationException(
                f"Channel '{name}': RecordWrapperType RecordIO is not supported in FastFile mode."
            )


def _check_file_system(name: str, mode: str, channel: dict[str, Any]) -> None:
    if mode != "File":
        raise ValidationException(
            f"Channel '{name}': FileSystemDataSource is only supported in File input mode."
        )
    if channel.get("ShuffleConfig"):
        raise ValidationException(
            f"Channel '{name}': ShuffleConfig is not supported with FileSystemDataSource."
        )


def _check_s3(name: str, mode: str, source: dict[str, Any], call: Call) -> None:
    kind = source.get("S3DataType")
    if kind == "Converse":
        raise NotImplementedException(
            f"Channel '{name}': S3DataType Converse is not built in this version of Clary; give "
            "S3Prefix."
        )
    if kind == "AugmentedManifestFile":
        if mode != "Pipe":
            raise ValidationException(
                f"Channel '{name}': S3DataType AugmentedManifestFile is only supported in Pipe "
                "input mode."
            )
        if not source.get("AttributeNames"):
            raise ValidationException(
                f"Channel '{name}': AttributeNames must be given for S3DataType "
                "AugmentedManifestFile."
            )
    elif source.get("AttributeNames"):
        raise ValidationException(
            f"Channel '{name}': AttributeNames may only be given for S3DataType "
            "AugmentedManifestFile."
        )
    if mode == "FastFile" and kind != "S3Prefix":
        raise ValidationException(
            f"Channel '{name}': FastFile input mode only supports S3DataType S3Prefix."
        )
    _check_groups(name, source.get("InstanceGroupNames") or [], call)


def _check_groups(name: str, named: list[str], call: Call) -> None:
    groups = call.input["ResourceConfig"].get("InstanceGroups") or []
    known = [group["InstanceGroupName"] for group in groups]
    for group in named:
        if group not in known:
            raise ValidationException(
                f"Channel '{name}': InstanceGroupNames holds '{group}', which is not among the "
                f"InstanceGroups of the job ({', '.join(known) or 'there are none'})."
            )


def input_objects_exist(call: Call) -> None:
    """An input prefix without objects is refused when the job is made, as SageMaker does."""
    given = call.input.get("HyperParameters") or {}
    for name, mode, channel in _channels(call):
        source = channel["DataSource"].get("S3DataSource")
        if source is not None and not is_replaced_model(name, source["S3Uri"], given):
            require_objects(call, s3_uri_of(source, mode))


def s3_uri_of(source: Mapping[str, Any], mode: str) -> str:
    """Where a channel's objects lie: FastFile shows a folder, never all that begins with some letters."""
    uri = source["S3Uri"]
    return f"{uri}/" if mode == "FastFile" and not uri.endswith("/") else uri
