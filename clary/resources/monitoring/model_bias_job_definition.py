"""The definition of the jobs that watch the bias of the predictions of an endpoint."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound
from clary.resources.monitoring.endpoint_of import endpoint_of

model_bias_job_definition = Resource(
    "ModelBiasJobDefinition",
    computed={"EndpointName": endpoint_of("ModelBiasJobInput")},
    renamed={
        "MonitoringJobDefinitionName": "JobDefinitionName",
        "MonitoringJobDefinitionArn": "JobDefinitionArn",
    },
    missing=ResourceNotFound("ModelBiasJobDefinition '{name}' does not exist."),
)
