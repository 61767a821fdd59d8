"""Generated clients of one tenant, as a team that uses Turnout would hold them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc

from recommenders.artifact import MANIFEST, parse_manifest
from stack.services import ROOMS, Installation
from turnout.analytics.v1 import log_service_pb2, metrics_service_pb2
from turnout.analytics.v1.log_service_pb2_grpc import LogServiceStub
from turnout.analytics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2
from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceStub
from turnout.inference.v1 import artifact_service_pb2, recommendation_service_pb2
from turnout.inference.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from turnout.inference.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from turnout.registry.v1 import (
    api_key_pb2,
    api_key_service_pb2,
    deployment_pb2,
    deployment_service_pb2,
    model_pb2,
    project_service_pb2,
    provider_pb2,
    provider_service_pb2,
)
from turnout.registry.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceStub
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub
from turnout.router.v1.routing_service_pb2_grpc import RoutingServiceStub

if TYPE_CHECKING:
    # These exist for type checkers only.
    from turnout.analytics.v1.log_service_pb2_grpc import LogServiceAsyncStub
    from turnout.analytics.v1.metrics_service_pb2_grpc import MetricsServiceAsyncStub
    from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceAsyncStub
    from turnout.inference.v1.artifact_service_pb2_grpc import ArtifactServiceAsyncStub
    from turnout.inference.v1.recommendation_service_pb2_grpc import RecommendationServiceAsyncStub
    from turnout.registry.v1.api_key_service_pb2_grpc import ApiKeyServiceAsyncStub
    from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceAsyncStub
    from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceAsyncStub
    from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub
    from turnout.router.v1.routing_service_pb2_grpc import RoutingServiceAsyncStub

T = TypeVar("T")
Request = TypeVar("Request")
Response = TypeVar("Response")
Method: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Request, Response]"

SCOPES = ["deployments:run", "predict", "registry:read", "registry:write", "keys:admin", "analytics:read"]


async def eventually(check: Callable[[], Awaitable[T]], *, seconds: float = 20) -> T:
    """Repeat `check` until it raises no AssertionError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            return await check()
        except AssertionError:
            if loop.time() > deadline:
                raise
        await asyncio.sleep(0.1)


@dataclass
class Clients:
    """Generated clients of one key, for every service of an installation."""

    addresses: dict[str, str]
    key: str
    project: str = ""
    _channels: list[grpc.aio.Channel] = field(default_factory=list)
    sequence: int = 0
    """The newest write of ours, so that reads elsewhere see it (`turnout-sequence`)."""

    def _channel(self, service: str) -> grpc.aio.Channel:
        options = (("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50))
        channel = grpc.aio.insecure_channel(self.addresses[service], options=options)
        self._channels.append(channel)
        return channel

    def __post_init__(self) -> None:
        self.projects: ProjectServiceAsyncStub = ProjectServiceStub(self._channel("registry"))
        self.providers: ProviderServiceAsyncStub = ProviderServiceStub(self._channel("registry"))
        self.deployments: DeploymentServiceAsyncStub = DeploymentServiceStub(self._channel("registry"))
        self.keys: ApiKeyServiceAsyncStub = ApiKeyServiceStub(self._channel("registry"))
        self.executions: ExecutionServiceAsyncStub = ExecutionServiceStub(self._channel("executor"))
        self.metrics: MetricsServiceAsyncStub = MetricsServiceStub(self._channel("analytics"))
        self.logs: LogServiceAsyncStub = LogServiceStub(self._channel("analytics"))
        self.routing: RoutingServiceAsyncStub = RoutingServiceStub(self._channel("router"))
        self.artifacts: ArtifactServiceAsyncStub = ArtifactServiceStub(self._channel("inference"))
        self.recommendations: RecommendationServiceAsyncStub = RecommendationServiceStub(self._channel("inference"))

    @property
    def parent(self) -> str:
        return f"projects/{self.project}"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.key}"), ("turnout-sequence", str(self.sequence)))

    async def write(self, method: Method[Request, Response], request: Request) -> Response:
        """Call a write, and remember its sequence."""
        call = method(request, metadata=self.metadata(), timeout=20)
        answer = await call
        for name, value in await call.trailing_metadata():
            if name == "turnout-sequence":
                self.sequence = max(self.sequence, int(value))
        return answer

    async def read(self, method: Method[Request, Response], request: Request, *, timeout: float = 20) -> Response:
        """Call a read that sees our own writes."""
        return await method(request, metadata=self.metadata(), timeout=timeout)

    def with_key(self, key: str) -> Clients:
        return Clients(self.addresses, key, self.project, sequence=self.sequence)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def create_key(self, scopes: Sequence[str]) -> api_key_pb2.ApiKey:
        request = api_key_service_pb2.CreateApiKeyRequest(
            parent=self.parent, api_key=api_key_pb2.ApiKey(display_name="test", scopes=scopes)
        )
        return await self.write(self.keys.CreateApiKey, request)

    async def create_provider(
        self, provider_id: str, base_url: str, credential: str = "", kind: str = "OPENAI_COMPATIBLE", **fields: Any
    ) -> None:
        number = provider_pb2.ProviderKind.Value(f"PROVIDER_KIND_{kind}")
        provider = provider_pb2.Provider(kind=number, base_url=base_url, credential=credential, **fields)
        request = provider_service_pb2.CreateProviderRequest(
            parent=self.parent, provider_id=provider_id, provider=provider
        )
        await self.write(self.providers.CreateProvider, request)

    async def create_deployment(
        self,
        deployment_id: str,
        provider: str,
        model: str = "m",
        prompts: Sequence[str] = ("Answer shortly.",),
        **variant: Any,
    ) -> deployment_pb2.Deployment:
        deployment = deployment_pb2.Deployment(kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION)
        for index, prompt in enumerate(prompts):
            made = deployment.variants.add(weight=100 if len(prompts) == 1 else 50)
            made.display_name = f"variant {index}"
            version = made.completion.new_version
            version.provider, version.model = provider, model
            version.parameters.max_output_tokens = 24
            version.messages.add(role=message_pb2.ROLE_SYSTEM, content=prompt)
            made.completion.MergeFrom(deployment_pb2.CompletionVariant(**variant))
        request = deployment_service_pb2.CreateDeploymentRequest(
            parent=self.parent, deployment_id=deployment_id, deployment=deployment
        )
        return await self.write(self.deployments.CreateDeployment, request)

    async def upload(self, folder: Path, display_name: str = "") -> model_pb2.Model:
        """Register the artifact that lies in a folder."""
        manifest = parse_manifest((folder / MANIFEST).read_bytes())
        header = artifact_service_pb2.UploadModelHeader(
            parent=self.parent, display_name=display_name, manifest=(folder / MANIFEST).read_bytes()
        )
        pieces = [artifact_service_pb2.UploadModelRequest(header=header)]
        for file in manifest.files:
            data = (folder / file.name).read_bytes()
            for start in range(0, max(1, len(data)), 1 << 20):
                chunk = artifact_service_pb2.UploadModelChunk(file=file.name, data=data[start : start + (1 << 20)])
                pieces.append(artifact_service_pb2.UploadModelRequest(chunk=chunk))
        call = self.artifacts.UploadModel(iter(pieces), metadata=self.metadata(), timeout=60)
        return await call

    async def create_slots(self, deployment_id: str, **weights: float) -> deployment_pb2.Deployment:
        """A recommendation deployment: a slot for each model, by uid."""
        deployment = deployment_pb2.Deployment(kind=deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION)
        for number, (model, weight) in enumerate(weights.items()):
            slot = deployment.variants.add(display_name=f"slot {number}", weight=weight)
            slot.recommendation.model = model
        request = deployment_service_pb2.CreateDeploymentRequest(
            parent=self.parent, deployment_id=deployment_id, deployment=deployment
        )
        return await self.write(self.deployments.CreateDeployment, request)

    async def update_variant(self, name: str, **fields: Any) -> deployment_pb2.Variant:
        request = deployment_service_pb2.UpdateVariantRequest(variant=deployment_pb2.Variant(name=name, **fields))
        return await self.write(self.deployments.UpdateVariant, request)

    async def recommend(
        self, deployment: str, user_id: str, **fields: Any
    ) -> recommendation_service_pb2.RecommendResponse:
        request = recommendation_service_pb2.RecommendRequest(deployment=deployment, user_id=user_id, **fields)
        return await self.read(self.recommendations.Recommend, request)

    async def run(self, deployment: str, text: str = "Hello", **fields: Any) -> execution_service_pb2.RunResponse:
        timeout = float(fields.pop("timeout", 20))
        request = execution_service_pb2.RunRequest(deployment=deployment, **fields)
        if text:
            request.messages.add(role=message_pb2.ROLE_USER, content=text)
        return await self.read(self.executions.Run, request, timeout=timeout)

    async def totals(self, deployment: str = "") -> metrics_service_pb2.QueryMetricsResponse:
        request = metrics_service_pb2.QueryMetricsRequest(parent=self.parent, deployment=deployment)
        return await self.read(self.metrics.QueryMetrics, request)

    async def all_logs(self, deployment: str = "") -> list[log_service_pb2.Log]:
        found: list[log_service_pb2.Log] = []
        token = ""
        while True:
            request = log_service_pb2.ListLogsRequest(
                parent=self.parent, page_size=1000, page_token=token, deployment=deployment
            )
            page = await self.read(self.logs.ListLogs, request)
            found.extend(page.logs)
            token = page.next_page_token
            if not token:
                return found


@asynccontextmanager
async def tenant(installation: Installation, scopes: Sequence[str] = SCOPES) -> AsyncIterator[Clients]:
    """A project of its own, and clients with a key of it."""
    addresses = {name: installation.address(name) for name in ROOMS}
    admin = Clients(addresses, installation.secrets.platform_key, f"t{uuid.uuid4().hex[:12]}")
    await admin.write(admin.projects.CreateProject, project_service_pb2.CreateProjectRequest(project_id=admin.project))
    key = await admin.create_key(scopes)
    clients = admin.with_key(key.key)
    try:
        yield clients
    finally:
        await clients.close()
        await admin.close()
