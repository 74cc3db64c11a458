"""DeleteObject and DeleteObjects."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from clary.dataplane.objects.conditions import of_deletion
from clary.dataplane.objects.errors import as_api_error
from clary.dataplane.objects.receiving import document as receive_document
from clary.dataplane.objects.request import Answer, S3Request
from clary.dataplane.objects.service import Service
from clary.dataplane.objects.xml import document, malformed, read, text_of
from clary.model.errors import ApiError
from clary.store.objects import Deleted

KEYS_MAX = 1000


def delete_object(service: Service, request: S3Request) -> Answer:
    condition = of_deletion(request.headers)
    deleted = service.objects.delete(request.bucket, request.key, request.version_id, condition)
    headers: dict[str, str] = {}
    if deleted.version_id:
        headers["x-amz-version-id"] = deleted.version_id
    if deleted.delete_marker:
        headers["x-amz-delete-marker"] = "true"
    return Answer(204, headers)


async def delete_objects(service: Service, request: S3Request) -> Answer:
    body = await receive_document(request)
    if not any(
        name == "content-md5" or name.startswith("x-amz-checksum-") or name == "x-amz-trailer"
        for name in request.headers
    ):
        message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
        raise ApiError(message, code="InvalidRequest", status=400)
    root = read(body, "Delete")
    wanted = root.findall("Object")
    if not 0 < len(wanted) <= KEYS_MAX:
        raise malformed()
    service.objects.settings.get(request.bucket)
    return await service.in_thread(_delete_all, service, request, root, wanted)


def _delete_all(
    service: Service, request: S3Request, root: Element, wanted: list[Element]
) -> Answer:
    quiet = text_of(root, "Quiet").lower() == "true"
    deleted: list[dict[str, object]] = []
    failed: list[dict[str, object]] = []
    for element in wanted:
        key, version_id = text_of(element, "Key"), text_of(element, "VersionId")
        named = {"Key": key, "VersionId": version_id or None}
        try:
            action = "s3:DeleteObjectVersion" if version_id else "s3:DeleteObject"
            service.authorise(request, action, request.bucket, key)
            condition = of_deletion({"if-match": tag} if (tag := text_of(element, "ETag")) else {})
            done = service.objects.delete(request.bucket, key, version_id, condition)
        except (ApiError, OSError) as problem:
            known = as_api_error(problem, request)
            failed.append({**named, "Code": known.code, "Message": known.message})
            continue
        if not quiet:
            deleted.append({**named, **_marker(done, version_id)})
    return Answer(200, {}, document("DeleteResult", {"Deleted": deleted, "Error": failed}))


def _marker(done: Deleted, version_id: str) -> dict[str, object]:
    if not done.delete_marker:
        return {}
    return {"DeleteMarker": True, "DeleteMarkerVersionId": done.version_id or version_id}
