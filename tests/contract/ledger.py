"""The ledger of operations without an answer: `python -m tests.contract.ledger` writes it anew."""

from __future__ import annotations

from pathlib import Path

from clary.engine.registry import discover
from clary.model.service import Services
from clary.server import PACKAGES

PATH = Path(__file__).with_name("unanswered.txt")


def unanswered() -> list[str]:
    services = Services()
    model = services.get("sagemaker")
    assert model is not None
    registry = discover(services, PACKAGES)
    names = (name for name in model.operation_names if not registry.find("sagemaker", name))
    return sorted(names)


def recorded() -> list[str]:
    return PATH.read_text().split()


if __name__ == "__main__":
    PATH.write_text("".join(f"{name}\n" for name in unanswered()))
