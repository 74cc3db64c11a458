"""What CloudWatch says to a request that it cannot answer."""

from __future__ import annotations

from clary.model.errors import ApiError


def invalid_value(message: str) -> ApiError:
    return ApiError(message, code="InvalidParameterValue", status=400)


def invalid_combination(message: str) -> ApiError:
    return ApiError(message, code="InvalidParameterCombination", status=400)


def missing_parameter(message: str) -> ApiError:
    return ApiError(message, code="MissingParameter", status=400)


def validation_error(message: str) -> ApiError:
    return ApiError(message, code="ValidationError", status=400)


def invalid_token() -> ApiError:
    return ApiError("The next token specified is invalid.", code="InvalidNextToken", status=400)
