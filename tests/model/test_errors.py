"""Every error knows its code and its status, and may be given others."""

from __future__ import annotations

import pytest

from clary.model import errors
from clary.model.errors import ApiError

CLASSES = [one for one in vars(errors).values() if isinstance(one, type)]


@pytest.mark.parametrize("kind", [one for one in CLASSES if issubclass(one, ApiError)])
def test_a_class_is_its_code(kind: type[ApiError]) -> None:
    error = kind("words")
    assert error.code == ("InternalFailure" if kind is ApiError else kind.__name__)
    assert (error.message, str(error)) == ("words", "words")
    assert error.status == {"ServiceUnavailable": 503, "InternalFailure": 500}.get(error.code, 400)


def test_the_code_on_the_wire_is_the_contract() -> None:
    error = ApiError("no", code="NoSuchKey", status=404, Key="a")
    assert (error.code, error.status, error.members) == ("NoSuchKey", 404, {"Key": "a"})
