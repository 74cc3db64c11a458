"""The definition of the jobs that watch the weights of the features of an endpoint."""

from clary.engine.resource import Resource
from clary.model.errors import ResourceNotFound
from clary.resources.monitoring.endpoint_of import endpoint_of

model_explainability_job_definition = Resource(
    "ModelExplainabilityJobDefinition",
    computed={"EndpointName": endpoint_of("ModelExplainabilityJobInput")},
    renamed={
        "MonitoringJobDefinitionName": "JobDefinitionName",
        "MonitoringJobDefinitionArn": "JobDefinitionArn",
    },
    missing=ResourceNotFound("ModelExplainabilityJobDefinition '{name}' does not exist."),
)
