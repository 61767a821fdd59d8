"""Races, deaths and lists that change while they are read."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from pydantic import SecretStr

from catalog.config import CatalogConfig
from catalog.watch import Catalog
from kit.errors import Exists
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation
from turnout.registry.v1 import catalog_service_pb2 as catalog_pb
from turnout.registry.v1 import deployment_service_pb2 as deployments_pb
from turnout.registry.v1 import deployment_service_pb2_grpc as deployments_rpc
from turnout.registry.v1 import project_service_pb2, project_service_pb2_grpc, provider_pb2, provider_service_pb2
from turnout.registry.v1 import provider_service_pb2_grpc as providers_rpc
from turnout.registry.v1 import version_service_pb2 as versions_pb

pytestmark = pytest.mark.thorough


def new_provider(project: str, slug: str = "main") -> provider_service_pb2.CreateProviderRequest:
    request = provider_service_pb2.CreateProviderRequest(parent=f"projects/{project}", provider_id=slug)
    request.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
    return request


@asynccontextmanager
async def pair(url: str, new_keys: Any, start: Any) -> AsyncIterator[tuple[Any, Any, Any]]:
    """A client of each of two registries on one database, and the first registry."""
    bootstrap = new_keys()
    async with start(url, bootstrap) as one, start(url, bootstrap) as two:
        here = await one.new_project()
        await here.call("CreateProvider", new_provider(here.project))
        await two.catalog.reach(here.sequence)
        there = type(here)(two.channel, here.key, here.project, here.sequence)
        yield (one, here), (two, there), bootstrap


async def test_of_creators_who_race_for_a_name_through_two_registries_exactly_one_wins(
    own_database: str, new_keys: Any, start: Any, deployment_request: Any
) -> None:
    async with pair(own_database, new_keys, start) as ((one, here), (two, there), _):

        async def attempt(client: Any, rpc: str, request: Any) -> str:
            try:
                await client.call(rpc, request)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "made"

        for number in range(8):
            name = f"raced-{number}"
            races = [
                (here, there, "CreateDeployment", deployment_request(here.project, name)),
                (here, there, "CreateProvider", new_provider(here.project, name)),
                (
                    one.platform,
                    two.platform,
                    "CreateProject",
                    project_service_pb2.CreateProjectRequest(project_id=name),
                ),
            ]
            for first, second, rpc, request in races:
                ends = await asyncio.gather(
                    *(attempt(client, rpc, request) for client in (first, second, first, second))
                )
                assert Counter(ends) == {"made": 1, "ALREADY_EXISTS": 3}, rpc
        error = await there.fails("CreateDeployment", deployment_request(here.project, "raced-0"))
        assert isinstance(error, Exists)


async def test_watchers_of_two_registries_are_sent_the_same_and_fresh_ones_the_same_digest(
    own_database: str, new_keys: Any, start: Any, deployment_request: Any
) -> None:
    async with pair(own_database, new_keys, start) as ((one, here), (two, there), _):
        streams = [
            one.service.watch(catalog_pb.WatchCatalogRequest()),
            two.service.watch(catalog_pb.WatchCatalogRequest()),
        ]
        begun = [await _read_until(stream, lambda message: message.HasField("end")) for stream in streams]
        start_sequence = begun[0][0].begin.sequence
        assert begun[1][0].begin.sequence == start_sequence

        await asyncio.gather(
            *(
                client.call("CreateDeployment", deployment_request(here.project, f"{side}{number}", ("A", "B")))
                for number in range(12)
                for side, client in (("a", here), ("b", there))
            )
        )
        head = max(here.sequence, there.sequence)
        changes = [await _read_until(stream, lambda message: message.change.sequence == head) for stream in streams]
        for stream in streams:
            stream.cancel()

        told = [[each.change for each in messages if each.HasField("change")] for messages in changes]
        assert [change.sequence for change in told[0]] == list(range(start_sequence + 1, head + 1))
        assert told[0] == told[1]
        fresh = [registry.service.watch(catalog_pb.WatchCatalogRequest()) for registry in (one, two)]
        ends = [(await _read_until(stream, lambda message: message.HasField("end")))[-1].end for stream in fresh]
        for stream in fresh:
            stream.cancel()
        assert ends[0] == ends[1]
        await asyncio.gather(one.catalog.reach(head), two.catalog.reach(head))
        assert one.catalog.usable_view() == two.catalog.usable_view()


async def _read_until(stream: Any, is_last: Callable[[Any], bool]) -> list[Any]:
    messages = []
    async with asyncio.timeout(20):
        while True:
            message = await stream.read()
            assert message is not grpc.aio.EOF
            messages.append(message)
            if is_last(message):
                return messages


List = Callable[[int, str], Awaitable[tuple[list[str], str]]]
"""A page: its size and token to names and the next token."""


@pytest.mark.parametrize("seed", range(3))
async def test_pages_neither_skip_nor_repeat_while_others_insert(
    own_database: str, new_keys: Any, start: Any, deployment_request: Any, new_version: Any, seed: int
) -> None:
    rng = random.Random(seed)
    async with pair(own_database, new_keys, start) as ((_, here), (_, there), _):
        parent = f"projects/{here.project}"
        await here.call("CreateDeployment", deployment_request(here.project, "aged"))

        async def deployments(size: int, token: str) -> tuple[list[str], str]:
            request = deployments_pb.ListDeploymentsRequest(parent=parent, page_size=size, page_token=token)
            page = await here.call("ListDeployments", request)
            return [each.name for each in page.deployments], page.next_page_token

        async def versions(size: int, token: str) -> tuple[list[str], str]:
            request = versions_pb.ListVersionsRequest(parent=parent, page_size=size, page_token=token)
            page = await here.call("ListVersions", request)
            return [each.name for each in page.versions], page.next_page_token

        async def revisions(size: int, token: str) -> tuple[list[str], str]:
            request = deployments_pb.ListRevisionsRequest(
                parent=f"{parent}/deployments/aged", page_size=size, page_token=token
            )
            page = await here.call("ListRevisions", request)
            return [each.name for each in page.revisions], page.next_page_token

        count = iter(range(10_000))

        async def insert(client: Any) -> None:
            number = next(count)
            put = versions_pb.PutVersionRequest(parent=parent, version=new_version(f"v{number}"), skip_model_check=True)
            await client.call("PutVersion", put)
            await client.call("CreateDeployment", deployment_request(here.project, f"d{number}"))
            update = deployments_pb.UpdateVariantRequest()
            update.variant.name, update.variant.weight = f"{parent}/deployments/aged/variants/variant-1", number % 100
            update.update_mask.paths.append("weight")
            await client.call("UpdateVariant", update)

        for _ in range(6):
            await insert(here)
        is_over = asyncio.Event()

        async def keep_inserting(client: Any) -> None:
            while not is_over.is_set():
                await insert(client)

        inserting = [asyncio.create_task(keep_inserting(client)) for client in (here, there)]
        try:
            for listing in (deployments, versions, revisions):
                await _check_pages(listing, rng)
        finally:
            is_over.set()
            await asyncio.gather(*inserting)


async def _check_pages(listing: List, rng: random.Random) -> None:
    before, _ = await listing(1000, "")
    names: list[str] = []
    token, pages = "", 0
    while True:
        size = rng.choice((1, 2))
        page, token = await listing(size, token)
        names += page
        pages += 1
        assert len(page) == size or not token
        if not token or len(set(before) - set(names)) == 0:
            break
    assert pages > 3, "too few to say anything"
    assert len(names) == len(set(names)), "a name came twice"
    assert [name for name in names if name in set(before)] == before, "a name was skipped, or the order changed"


@pytest.fixture
def mortal(open_folder: Path, postgres: Postgres) -> Iterator[Installation]:
    """An installation of which nothing runs but a registry, which can be killed."""
    name = f"torture_{uuid.uuid4().hex[:8]}"
    absent = Nats(open_folder / f"{name}-nats")
    installation = Installation(open_folder / name, mode="split", postgres=postgres, nats=absent, database=name)
    installation.migrate()
    process = installation.process("registry")
    process.start()
    yield installation
    process.stop()


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_registry_that_is_killed_while_it_writes_keeps_what_it_acknowledged_and_nothing_by_halves(
    mortal: Installation, deployment_request: Any, eventually: Any
) -> None:
    process, address = mortal.process("registry"), mortal.address("registry")
    metadata = (("authorization", f"Bearer {mortal.secrets.platform_key}"),)
    options = (("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50))
    async with grpc.aio.insecure_channel(address, options=options) as channel, _following(mortal, 2) as followers:
        projects: Any = project_service_pb2_grpc.ProjectServiceStub(channel)
        providers: Any = providers_rpc.ProviderServiceStub(channel)
        stub: Any = deployments_rpc.DeploymentServiceStub(channel)
        await projects.CreateProject(project_service_pb2.CreateProjectRequest(project_id="shop"), metadata=metadata)
        await providers.CreateProvider(new_provider("shop"), metadata=metadata)
        made: set[str] = set()
        tried: set[str] = set()
        weights: dict[str, list[float]] = {}
        """By deployment: the weight last acknowledged, and those tried since."""
        is_over = asyncio.Event()

        async def write(writer: int) -> None:
            for number in range(10_000):
                if is_over.is_set():
                    return
                name = f"d{writer}-{number}"
                request = deployment_request("shop", name, (f"One {name} {{{{ x }}}}", f"Two {name} {{{{ x }}}}"))
                request.skip_model_check = True
                tried.add(name)
                if not await _succeeds(stub.CreateDeployment, request, metadata):
                    continue
                made.add(name)
                weights[name] = [100.0]
                for weight in (1.0, 2.0, 3.0):
                    update = deployments_pb.UpdateVariantRequest()
                    update.variant.name = f"projects/shop/deployments/{name}/variants/variant-1"
                    update.variant.weight = weight
                    update.update_mask.paths.append("weight")
                    weights[name].append(weight)
                    if await _succeeds(stub.UpdateVariant, update, metadata):
                        weights[name] = [weight]

        writers = [asyncio.create_task(write(number)) for number in range(6)]
        for _ in range(4):
            target = len(made) + random.randint(3, 12)

            async def enough(target: int = target) -> bool:
                return len(made) >= target

            await eventually(enough, "writes are acknowledged", 60)
            await asyncio.to_thread(process.kill)
            await asyncio.to_thread(process.start)
        is_over.set()
        await asyncio.gather(*writers)

        found: dict[str, Any] = {}
        token = ""
        while True:
            request = deployments_pb.ListDeploymentsRequest(parent="projects/shop", page_size=100, page_token=token)
            page = await stub.ListDeployments(request, metadata=metadata, timeout=20)
            found |= {each.name.rpartition("/")[2]: each for each in page.deployments}
            if not (token := page.next_page_token):
                break
        assert made <= set(found) <= tried
        assert len(tried - made) > 0, "nothing was interrupted"
        for name, deployment in found.items():
            assert len(deployment.variants) == 2
            if name in weights:
                assert deployment.variants[0].weight in weights[name]
        await _check_log(mortal, count=len(found))
        async with _following(mortal, 1) as fresh:
            [newest] = fresh
            for follower in followers:
                await follower.reach(newest.sequence)
                assert follower.usable_view() == newest.usable_view()
            view = newest.usable_view()
            assert sum(key.startswith("deployment/") for key in view.things) == len(found)
            for thing in view.things.values():
                for revision in getattr(thing, "aliases", {}).values():
                    for variant in revision.variants:
                        assert view.version(getattr(thing, "project", ""), variant.serving.version) is not None


async def _succeeds(rpc: Any, request: Any, metadata: Any) -> bool:
    try:
        await rpc(request, metadata=metadata, timeout=30, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            raise
        return False
    return True


@asynccontextmanager
async def _following(installation: Installation, count: int) -> AsyncIterator[list[Catalog]]:
    """Followers of the registry that stay through its deaths, each with a whole view."""
    wired = asyncio.Event()
    wired.set()
    catalogs, tasks, channels = [], [], []
    for _ in range(count):
        followed, ready = (
            Catalog(CatalogConfig(service_key=SecretStr(installation.secrets.service_key))),
            asyncio.Event(),
        )
        channel = grpc.aio.insecure_channel(
            installation.address("registry"), options=(("grpc.max_reconnect_backoff_ms", 200),)
        )
        tasks.append(asyncio.create_task(followed.follow(channel, ready, wired)))
        await asyncio.wait_for(ready.wait(), 20)
        catalogs.append(followed)
        channels.append(channel)
    try:
        yield catalogs
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in channels:
            await channel.close()


async def _check_log(installation: Installation, *, count: int) -> None:
    """Sequences without gaps, and rows that belong together or are not there."""
    url = installation.process("registry").environment["TURNOUT_REGISTRY_DATABASE_URL"]
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        head = await connection.fetchval("SELECT sequence FROM registry.change_head")
        numbers = [row[0] for row in await connection.fetch("SELECT sequence FROM registry.change_log ORDER BY 1")]
        assert numbers == list(range(1, head + 1))
        assert await connection.fetchval("SELECT count(*) FROM registry.aliases") == count
        assert await connection.fetchval("SELECT count(*) FROM registry.variants") == 2 * count
        assert await connection.fetchval("SELECT count(*) FROM registry.versions") == 2 * count
        assert await connection.fetchval("SELECT max(number) FROM registry.variants") == 2 * count
    finally:
        await connection.close()
