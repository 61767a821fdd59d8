"""RPC in, use case, RPC out."""

from services.registry.servicer.api_keys import ApiKeyServicer
from services.registry.servicer.catalog import CatalogServicer
from services.registry.servicer.change_requests import ChangeRequestServicer
from services.registry.servicer.deployments import DeploymentServicer
from services.registry.servicer.models import ModelServicer
from services.registry.servicer.projects import ProjectServicer
from services.registry.servicer.prompts import PromptServicer
from services.registry.servicer.providers import ProviderServicer
from services.registry.servicer.versions import VersionServicer

__all__ = [
    "ApiKeyServicer",
    "CatalogServicer",
    "ChangeRequestServicer",
    "DeploymentServicer",
    "ModelServicer",
    "ProjectServicer",
    "PromptServicer",
    "ProviderServicer",
    "VersionServicer",
]
