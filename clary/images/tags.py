"""Image tags: which release a tag such as `1.2-1-cpu-py3` names."""

from __future__ import annotations

from collections.abc import Mapping

from clary.images.image import UnknownImage
from clary.images.reference import ImageReference


def release_of(reference: ImageReference, releases: Mapping[str, object]) -> str:
    """The key of `releases` that the tag begins with; the first key where there is no tag.

    What follows the release (`-cpu-py3`, `-gpu-py3`) names a device and a Python, which this
    machine decides.
    """
    if not reference.tag:
        return next(iter(releases))
    for release in releases:
        if reference.tag == release or reference.tag.startswith(f"{release}-"):
            return release
    raise UnknownImage(
        f"The image {reference.uri} has the tag {reference.tag!r}, which is not known for "
        f"{reference.basename}. Known are: {', '.join(releases)}. Use one of these, or register "
        "an environment of your own for this URI with `clary images add`."
    )
