"""The catalogue: which family answers for an image URI, by repository and tag alone."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import clary.images
from clary.images import containers, interpreters, user_images
from clary.images.image import Family, Image, UnknownImage
from clary.images.reference import ImageReference, parse
from clary.settings import Settings


@cache
def families() -> tuple[Family, ...]:
    """Every module of this package that declares a FAMILY; the listing is the catalogue."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(clary.images.__path__):
        family = getattr(importlib.import_module(f"clary.images.{module.name}"), "FAMILY", None)
        if isinstance(family, Family):
            found[family.name] = family
    return tuple(found.values())


def resolve(uri: str, settings: Settings) -> Image:
    """What the URI means here; raise UnknownImage. The account and the region do not matter.

    A digest is left aside: it names bytes of a registry that is not asked. An image that the user
    has registered under this URI comes first.
    """
    try:
        reference = parse(uri)
    except ValueError as problem:
        raise UnknownImage(str(problem)) from problem
    at_hand = interpreters.find()
    registered = user_images.lookup(reference, settings)
    if registered is not None:
        return user_images.as_image(registered, reference, at_hand)
    contained = containers.registered(reference, settings)
    if contained is not None:
        return contained
    family = _family_of(reference)
    if family is None:
        contained = containers.found(reference, settings)
        if contained is not None:
            return contained
        raise UnknownImage(_unknown(reference, settings))
    return family.resolve(reference, at_hand)


def _family_of(reference: ImageReference) -> Family | None:
    for family in families():
        if reference.basename in family.repositories:
            return family
    return None


def _unknown(reference: ImageReference, settings: Settings) -> str:
    known = sorted(name for family in families() for name in family.repositories)
    return (
        f"Clary knows no environment for the image {reference.uri} "
        f"(repository {reference.repository}). It knows {', '.join(known)}. Register an "
        f"environment of your own for it with `clary images add {reference.uri} --requirements "
        "requirements.txt` (or `--environment PATH` for a virtual environment you have), or "
        f"{containers.remedy(reference.uri, settings)}."
    )
