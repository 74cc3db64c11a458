"""The page that tells users what is answered is the registry's own word."""

from __future__ import annotations

from docs.generate import COMPATIBILITY, compatibility


def test_the_page_is_up_to_date() -> None:
    """If not: `python -m docs.generate`."""
    assert COMPATIBILITY.read_text() == compatibility()
