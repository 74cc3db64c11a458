"""The definition of the jobs that watch the quality of the predictions of an endpoint."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound
from clary.resources.monitoring.endpoint_of import endpoint_of

model_quality_job_definition = Resource(
    "ModelQualityJobDefinition",
    computed={"EndpointName": endpoint_of("ModelQualityJobInput")},
    renamed={
        "MonitoringJobDefinitionName": "JobDefinitionName",
        "MonitoringJobDefinitionArn": "JobDefinitionArn",
    },
    missing=ResourceNotFound("ModelQualityJobDefinition '{name}' does not exist."),
)
