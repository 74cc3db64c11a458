"""Which service a request is for: by the name it was signed for, then by its path."""

from __future__ import annotations

from clary.wire.http import Request
from clary.wire.sigv4 import credential_scope

# botocore's name, where it differs from the name in the credential scope.
_SIGNED_AS = {
    "monitoring": "cloudwatch",
    "states": "stepfunctions",
    "tagging": "resourcegroupstaggingapi",
    "email": "ses",
    "elasticloadbalancing": "elbv2",
    "servicequotas": "service-quotas",
    "emr-serverless": "emr-serverless",
    "elasticmapreduce": "emr",
}
# Everything below signs as "sagemaker"; REST-JSON services share it and differ by path.
_SAGEMAKER_PATHS = (
    ("/FeatureGroup", "sagemaker-featurestore-runtime"),
    ("/BatchGetRecord", "sagemaker-featurestore-runtime"),
    ("/BatchWriteRecord", "sagemaker-featurestore-runtime"),
    ("/ListRecords", "sagemaker-featurestore-runtime"),
    ("/BatchPutMetrics", "sagemaker-metrics"),
    ("/BatchGetMetrics", "sagemaker-metrics"),
    ("/human-loops", "sagemaker-a2i-runtime"),
    ("/GetDeviceRegistration", "sagemaker-edge"),
    ("/SendHeartbeat", "sagemaker-edge"),
    ("/GetDeployments", "sagemaker-edge"),
    ("/endpoints/", "sagemaker-runtime"),
)


def service_of(request: Request) -> tuple[str, str]:
    """(service, region) of a signed request; two empty strings if it is not signed."""
    scope = credential_scope(request)
    if scope is None:
        return "", ""
    if scope.service != "sagemaker":
        return _SIGNED_AS.get(scope.service, scope.service), scope.region
    if "x-amz-target" not in request.headers:
        for prefix, service in _SAGEMAKER_PATHS:
            if request.path.startswith(prefix):
                return service, scope.region
    return "sagemaker", scope.region
