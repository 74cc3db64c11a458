"""An image: the environment that stands for a container image, and the commands it answers to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from clary.images.environment import Environment
from clary.images.interpreters import Interpreters
from clary.images.reference import ImageReference


class UnknownImage(Exception):
    """No environment is known for an image URI; the text names what can be done about it."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program that an image runs, as the image's entry point would."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """What an image URI means on this machine."""

    family: str  # "scikit-learn", "xgboost", or "user"
    uri: str
    version: str  # the version of the framework that will run
    environment: Environment
    # "train", "serve", "process"; None where the caller has to name the entry point himself.
    commands: Mapping[str, Command | None]
    preload: tuple[str, ...] = ()  # modules that a fork server imports before it forks
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    metric_definitions: tuple[Mapping[str, str], ...] = ()  # {"Name", "Regex"}
    hyperparameters: tuple[Mapping[str, object], ...] = ()  # HyperParameterSpecification shapes
    algorithm: str = ""  # the built-in algorithm in this image, if it has one
    container: str = ""  # the engine's name of an image that is run as it is, without environment
    notes: tuple[str, ...] = ()  # how this differs from the image of that name; for the job's log


@dataclass(frozen=True, slots=True)
class Family:
    """The images of one repository (and its other names): one file of this package each."""

    name: str
    repositories: tuple[str, ...]
    tags: tuple[str, ...]  # what it knows, newest first; an absent tag means the first
    # Raises UnknownImage for a tag it does not know.
    resolve: Callable[[ImageReference, Interpreters], Image]
