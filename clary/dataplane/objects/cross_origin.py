"""Cross-origin requests: what a bucket's CORS configuration lets a browser do."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import read, text_of
from clary.model.errors import ApiError


def preflight(service: Service, request: S3Request) -> Answer:
    """The answer to OPTIONS, which browsers send without a signature."""
    if not request.header("origin") or not request.header("access-control-request-method"):
        message = "Insufficient information. Origin request header needed."
        raise ApiError(message, code="BadRequest", status=400)
    method = request.header("access-control-request-method")
    wanted = [
        name.strip().lower()
        for name in request.header("access-control-request-headers").split(",")
        if name.strip()
    ]
    headers = allowed(service, request, method, wanted)
    if not headers:
        raise ApiError(
            "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request "
            "method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the "
            "resource's CORS spec.",
            code="AccessForbidden",
            status=403,
        )
    if wanted:
        headers["access-control-allow-headers"] = ", ".join(wanted)
    return Answer(200, headers)


def allowed(
    service: Service, request: S3Request, method: str, wanted: list[str] | None = None
) -> dict[str, str]:
    """The headers that let the origin read the answer; none if no rule of the bucket does."""
    bucket = service.objects.bucket(request.bucket)
    text = bucket.documents.get("cors", "") if bucket else ""
    if not text:
        return {}
    origin = request.header("origin")
    for rule in read(text.encode(), "CORSConfiguration").findall("CORSRule"):
        origins = _texts(rule, "AllowedOrigin")
        if not any(_matches(pattern, origin) for pattern in origins):
            continue
        patterns = [pattern.lower() for pattern in _texts(rule, "AllowedHeader")]
        if method not in _texts(rule, "AllowedMethod") or not all(
            any(_matches(pattern, name) for pattern in patterns) for name in wanted or ()
        ):
            continue
        return _headers(rule, origin, anyone="*" in origins)
    return {}


def _headers(rule: Element, origin: str, *, anyone: bool) -> dict[str, str]:
    headers = {
        "access-control-allow-origin": "*" if anyone else origin,
        "access-control-allow-methods": ", ".join(_texts(rule, "AllowedMethod")),
        "vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    }
    if not anyone:
        headers["access-control-allow-credentials"] = "true"
    exposed = _texts(rule, "ExposeHeader")
    if exposed:
        headers["access-control-expose-headers"] = ", ".join(exposed)
    if text_of(rule, "MaxAgeSeconds"):
        headers["access-control-max-age"] = text_of(rule, "MaxAgeSeconds")
    return headers


def _texts(rule: Element, name: str) -> list[str]:
    return [(element.text or "").strip() for element in rule.findall(name)]


def _matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
