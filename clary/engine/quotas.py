"""Quotas of this installation, refused in the words that clients match on."""

from __future__ import annotations

from clary.model.errors import ResourceLimitExceeded

INSTANCES_MAX = 20  # of one job, SageMaker's own default


def require_instances(instance_type: str, wanted: int, usage: str) -> None:
    if wanted <= INSTANCES_MAX:
        return
    raise ResourceLimitExceeded(
        f"The account-level service limit '{instance_type} for {usage} usage' is {INSTANCES_MAX} "
        f"Instances, with current utilization of 0 Instances and a request delta of {wanted} "
        "Instances. Please use AWS Service Quotas to request an increase for this quota."
    )
