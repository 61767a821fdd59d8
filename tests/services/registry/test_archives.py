"""Providers and models that are taken out of use."""

from __future__ import annotations

from typing import Any

import pytest

from kit import database
from kit.changelog import ChangeLog
from kit.errors import Conflict, Precondition
from kit.secrets import Envelope, Keyring, open_envelope
from services.registry import tables
from services.registry.application.archives import check_not_archived
from services.registry.store import PostgresStore
from turnout.registry.v1 import (
    deployment_pb2,
    deployment_service_pb2,
    model_service_pb2,
    provider_pb2,
    version_service_pb2,
)
from turnout.registry.v1 import provider_service_pb2 as pb


def main(client: Any) -> str:
    return f"projects/{client.project}/providers/main"


async def archive(client: Any, name: str = "") -> Any:
    return await client.call("ArchiveProvider", pb.ArchiveProviderRequest(name=name or main(client)))


async def test_an_archived_provider_leaves_lists_and_the_catalog_with_its_credential_and_comes_back(
    registry: Any, shop: Any, keyring: str
) -> None:
    update = pb.UpdateProviderRequest(provider=provider_pb2.Provider(name=main(shop), credential="sk-1"))
    made = await shop.call("UpdateProvider", update)
    listing = pb.ListProvidersRequest(parent=f"projects/{shop.project}")

    gone = await archive(shop)
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert (gone.archived, gone.etag != made.etag) == (True, True)
    assert (view.provider(made.uid), view.credential(made.uid)) == (None, None)
    assert not (await shop.call("ListProviders", listing)).providers
    listing.show_archived = True
    assert list((await shop.call("ListProviders", listing)).providers) == [gone]
    assert await archive(shop) == gone

    back = await shop.call("UnarchiveProvider", pb.UnarchiveProviderRequest(name=main(shop)))
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert not back.archived
    assert view.provider(made.uid) is not None
    envelope = Envelope.from_bytes(view.credential(made.uid).envelope)
    assert open_envelope(Keyring.parse(keyring), envelope, context=made.uid.encode()).reveal() == "sk-1"


async def test_an_archived_provider_can_be_changed_and_stays_out_of_the_catalog(registry: Any, shop: Any) -> None:
    gone = await archive(shop)
    changed = await shop.call(
        "UpdateProvider", pb.UpdateProviderRequest(provider=provider_pb2.Provider(name=main(shop), credential="sk-2"))
    )

    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert (changed.archived, changed.has_credential) == (True, True)
    assert (view.provider(gone.uid), view.credential(gone.uid)) == (None, None)


async def test_a_provider_in_use_is_not_archived_and_its_users_are_named(
    registry: Any, shop: Any, deployment_request: Any, state_of: Any
) -> None:
    for number in range(12):
        await shop.call("CreateDeployment", deployment_request(shop.project, f"d{number:02}"))
    before = await state_of(registry.url)

    error = await shop.fails("ArchiveProvider", pb.ArchiveProviderRequest(name=main(shop)))

    assert isinstance(error, Precondition)
    assert error.reason == "PROVIDER_IN_USE"
    assert f"projects/{shop.project}/deployments/d00 (alias live)" in error.message
    deployments = [f"d{number:02}" for number in range(10)]
    assert error.metadata["uses"].startswith(f"projects/{shop.project}/deployments/d00 (alias live); projects/")
    assert [each.field.rpartition("/")[2] for each in error.violations] == deployments
    assert await state_of(registry.url) == before


async def test_what_only_archived_deployments_and_former_revisions_use_can_be_archived(
    shop: Any, deployment_request: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    delete = deployment_service_pb2.DeleteVariantRequest(name=made.variants[0].name)
    await shop.call("DeleteVariant", delete)
    other = await shop.call("CreateDeployment", deployment_request(shop.project, "other"))
    await shop.call("ArchiveDeployment", deployment_service_pb2.ArchiveDeploymentRequest(name=other.name))

    assert (await archive(shop)).archived


async def test_nothing_new_may_name_an_archived_provider(
    shop: Any, registry: Any, deployment_request: Any, new_version: Any, state_of: Any
) -> None:
    parent = f"projects/{shop.project}"
    stored = await shop.call("PutVersion", version_service_pb2.PutVersionRequest(parent=parent, version=new_version()))
    empty = await shop.call("CreateDeployment", deployment_request(shop.project, "empty", ()))
    await archive(shop)
    before = await state_of(registry.url)
    old, new = deployment_pb2.Variant(), deployment_pb2.Variant()
    old.completion.version = stored.uid
    new.completion.new_version.CopyFrom(new_version("another"))
    again = version_service_pb2.PutVersionRequest(parent=parent, version=new_version())

    for rpc, request in (
        ("PutVersion", version_service_pb2.PutVersionRequest(parent=parent, version=new_version("another"))),
        ("CreateDeployment", deployment_request(shop.project)),
        ("CreateVariant", deployment_service_pb2.CreateVariantRequest(parent=empty.name, variant=old)),
        ("CreateVariant", deployment_service_pb2.CreateVariantRequest(parent=empty.name, variant=new, draft=True)),
    ):
        error = await shop.fails(rpc, request)
        assert isinstance(error, Precondition)
        assert (error.reason, error.metadata["resource"]) == ("PROVIDER_ARCHIVED", main(shop)), rpc
    assert await state_of(registry.url) == before
    assert (await shop.call("PutVersion", again)).uid == stored.uid


async def test_an_etag_of_before_is_aborted(shop: Any) -> None:
    error = await shop.fails("ArchiveProvider", pb.ArchiveProviderRequest(name=main(shop), etag="old"))

    assert isinstance(error, Conflict)
    assert error.reason == "ETAG_MISMATCH"


def _slots(shop: Any, slug: str, model: str) -> Any:
    request = deployment_service_pb2.CreateDeploymentRequest(parent=f"projects/{shop.project}", deployment_id=slug)
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    request.deployment.variants.add().recommendation.model = model
    return request


async def test_a_model_is_archived_unless_it_is_in_use(registry: Any, shop: Any, model_request: Any) -> None:
    model = await registry.service.call("RegisterModel", model_request(shop))
    made = await shop.call("CreateDeployment", _slots(shop, "top", model.uid))
    archive_model = model_service_pb2.ArchiveModelRequest(name=model.name)

    error = await shop.fails("ArchiveModel", archive_model)
    assert isinstance(error, Precondition)
    assert (error.reason, error.metadata["uses"]) == ("MODEL_IN_USE", f"{made.name} (alias live)")

    await shop.call("ArchiveDeployment", deployment_service_pb2.ArchiveDeploymentRequest(name=made.name))
    gone = await shop.call("ArchiveModel", archive_model)
    assert gone.archived
    assert await shop.call("ArchiveModel", archive_model) == gone
    listing = model_service_pb2.ListModelsRequest(parent=f"projects/{shop.project}")
    assert not (await shop.call("ListModels", listing)).models
    listing.show_archived = True
    assert list((await shop.call("ListModels", listing)).models) == [gone]
    error = await shop.fails("CreateDeployment", _slots(shop, "again", str(model.number)))
    assert isinstance(error, Precondition)
    assert error.reason == "MODEL_ARCHIVED"

    back = await shop.call("UnarchiveModel", model_service_pb2.UnarchiveModelRequest(name=model.name))
    assert not back.archived
    await shop.call("CreateDeployment", _slots(shop, "again", model.uid))


async def test_page_tokens_fit_the_list_with_or_without_archived_ones(shop: Any) -> None:
    for number in range(3):
        request = pb.CreateProviderRequest(parent=f"projects/{shop.project}", provider_id=f"p{number}")
        request.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
        await shop.call("CreateProvider", request)
    await archive(shop, f"projects/{shop.project}/providers/p0")
    asked = pb.ListProvidersRequest(parent=f"projects/{shop.project}", page_size=2)
    first = await shop.call("ListProviders", asked)
    asked.page_token = first.next_page_token
    second = await shop.call("ListProviders", asked)
    asked.show_archived = True

    names = [provider.name.rpartition("/")[2] for page in (first, second) for provider in page.providers]
    assert names == ["main", "p1", "p2"]
    assert (await shop.fails("ListProviders", asked)).reason == "PAGE_TOKEN_INVALID"


async def test_what_is_to_be_published_is_refused_while_it_needs_something_archived(
    registry: Any, shop: Any, new_version: Any, model_request: Any
) -> None:
    parent = f"projects/{shop.project}"
    put = await shop.call("PutVersion", version_service_pb2.PutVersionRequest(parent=parent, version=new_version()))
    registered = await registry.service.call("RegisterModel", model_request(shop))
    async with database.sessions(registry.url, schema=tables.SCHEMA) as sessions:
        store = PostgresStore(sessions, ChangeLog(tables.SCHEMA))

        async def check(*uids: str) -> None:
            async with store.reading() as tx:
                project = await tx.project(shop.project)
                assert project is not None
                things = [await tx.version(project, uid) or await tx.model(project, uid) for uid in uids]
                await check_not_archived(tx, project, [thing for thing in things if thing is not None])

        await check(put.uid, registered.uid)
        await archive(shop)
        await shop.call("ArchiveModel", model_service_pb2.ArchiveModelRequest(name=registered.name))
        for uid, reason in ((put.uid, "PROVIDER_ARCHIVED"), (registered.uid, "MODEL_ARCHIVED")):
            with pytest.raises(Precondition) as failure:
                await check(uid)
            assert failure.value.reason == reason


async def test_no_alias_comes_to_point_to_what_needs_an_archived_provider(
    registry: Any, shop: Any, deployment_request: Any, new_version: Any, state_of: Any
) -> None:
    other = pb.CreateProviderRequest(parent=f"projects/{shop.project}", provider_id="other")
    other.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
    await shop.call("CreateProvider", other)
    asleep = await shop.call("CreateDeployment", deployment_request(shop.project, "asleep"))
    await shop.call("ArchiveDeployment", deployment_service_pb2.ArchiveDeploymentRequest(name=asleep.name))
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    update = deployment_service_pb2.UpdateVariantRequest(draft=True)
    update.variant.name = made.variants[0].name
    update.variant.completion.new_version.CopyFrom(new_version("Bye {{ name }}"))
    await shop.call("UpdateVariant", update)
    update.draft = False
    update.variant.completion.new_version.provider = "other"
    await shop.call("UpdateVariant", update)
    await archive(shop)
    before = await state_of(registry.url)

    for rpc, request in (
        ("SetAlias", deployment_service_pb2.SetAliasRequest(name=made.name, alias="staging", revision="1.0")),
        ("SetAlias", deployment_service_pb2.SetAliasRequest(name=made.name, alias="staging", revision="2.0")),
        ("RollbackDeployment", deployment_service_pb2.RollbackDeploymentRequest(name=made.name, revision="1.0")),
        ("UnarchiveDeployment", deployment_service_pb2.UnarchiveDeploymentRequest(name=asleep.name)),
    ):
        error = await shop.fails(rpc, request)
        assert isinstance(error, Precondition), rpc
        assert error.reason == "PROVIDER_ARCHIVED", rpc
    assert await state_of(registry.url) == before
