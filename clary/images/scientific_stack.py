"""The scientific packages that go together: which releases run on which Python."""

from __future__ import annotations

from dataclasses import dataclass

from clary.images.interpreters import Interpreters, version_key

# The oldest and newest scikit-learn that has wheels for a Python, as far as images name versions.
SCIKIT_LEARN_WHEELS: dict[str, tuple[str, str]] = {
    "3.8": ("0.22.2.post1", "1.3.2"),
    "3.9": ("0.24.2", "1.6.1"),
    "3.10": ("1.0.2", "1.7.2"),
    "3.11": ("1.1.3", "1.8.0"),
    "3.12": ("1.3.2", "1.8.0"),
    "3.13": ("1.6.1", "1.8.0"),
    "3.14": ("1.7.2", "1.8.0"),
}

# What the model server, the toolkit and users' scripts import in every environment.
EVERYWHERE = (
    "joblib",
    "httptools",
    "uvloop",
    "orjson",
    "boto3",
    "requests",
    "pip",
    "setuptools<81",
    "wheel",
)
# What the model server imports as well: a fork of a process that has it serves sooner.
SERVER_PRELOAD = ("uvloop", "orjson")
EVERYWHERE_IMPORTS = ("joblib", "httptools", "uvloop", "orjson", "boto3", "requests", "pip")


@dataclass(frozen=True, slots=True)
class ScikitLearnChoice:
    """The Python and the release of scikit-learn that stand for a wanted release."""

    python: str
    version: str


def choose_scikit_learn(wanted: str, interpreters: Interpreters) -> ScikitLearnChoice | None:
    """The exact release on the running Python if it can, on another one if not, else the nearest.

    None means that no interpreter at hand has any wheel of scikit-learn.
    """
    choices = [
        ScikitLearnChoice(python, _nearest(wanted, *SCIKIT_LEARN_WHEELS[python]))
        for python in interpreters.versions()
        if python in SCIKIT_LEARN_WHEELS
    ]
    exact = [choice for choice in choices if choice.version == wanted]
    if exact:
        return exact[0]
    return min(choices, key=lambda choice: _distance(choice.version, wanted), default=None)


def _nearest(wanted: str, oldest: str, newest: str) -> str:
    if version_key(wanted) < version_key(oldest):
        return oldest
    return newest if version_key(wanted) > version_key(newest) else wanted


def _distance(version: str, wanted: str) -> int:
    """How many minor releases lie between two versions; 0.24 counts as just before 1.0."""

    def place(text: str) -> int:
        major, minor = version_key(text)[:2]
        return minor + (25 if major else 0)

    return abs(place(version) - place(wanted))


def packages_beside_scikit_learn(version: str) -> tuple[str, ...]:
    """The releases of numpy, scipy, pandas and pyarrow that a release of scikit-learn ran with.

    Wheels of scikit-learn before 1.4.2 are compiled for NumPy 1; before 1.0 they use names that
    NumPy 1.24 dropped. pyarrow 20 and later ask for NumPy 2 in time.
    """
    key = version_key(version)[:2]
    if key < (1, 0):
        beside = ("numpy<1.20", "scipy<1.6", "pandas<1.3", "pyarrow<15")
    elif key < (1, 2):
        beside = ("numpy<1.24", "scipy<1.10", "pandas<1.6", "pyarrow<18")
    elif key < (1, 3):
        beside = ("numpy<1.25", "scipy<1.11", "pandas<2.1", "pyarrow<18")
    elif key < (1, 5):
        beside = ("numpy<2", "scipy<1.14", "pandas<2.3", "pyarrow<20")
    else:
        beside = ("numpy>=2,<2.4", "scipy>=1.13", "pandas>=2.2,<3", "pyarrow>=18")
    return (f"scikit-learn=={version}", *beside)
