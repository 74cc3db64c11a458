"""The definition of the jobs that watch the quality of the data of an endpoint."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound
from clary.resources.monitoring.endpoint_of import endpoint_of

data_quality_job_definition = Resource(
    "DataQualityJobDefinition",
    computed={"EndpointName": endpoint_of("DataQualityJobInput")},
    renamed={
        "MonitoringJobDefinitionName": "JobDefinitionName",
        "MonitoringJobDefinitionArn": "JobDefinitionArn",
    },
    missing=ResourceNotFound("DataQualityJobDefinition '{name}' does not exist."),
)
