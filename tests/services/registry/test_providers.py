from __future__ import annotations

import uuid
from typing import Any

import pytest

from catalog.view import Credential
from kit.errors import Denied, Exists, Invalid, Precondition
from kit.secrets import Envelope, Keyring, open_envelope
from turnout.registry.v1 import provider_pb2
from turnout.registry.v1 import provider_service_pb2 as pb


def request(project: str, slug: str = "llm", **fields: Any) -> pb.CreateProviderRequest:
    provider = provider_pb2.Provider(**{"kind": provider_pb2.PROVIDER_KIND_OPENAI, **fields})
    return pb.CreateProviderRequest(parent=f"projects/{project}", provider_id=slug, provider=provider)


async def test_a_credential_is_never_answered_and_opens_with_the_key_encryption_key_for_its_provider_only(
    registry: Any, shop: Any, keyring: str, state_of: Any
) -> None:
    made = await shop.call("CreateProvider", request(shop.project, credential="sk-very-secret"))
    got = await shop.call("GetProvider", pb.GetProviderRequest(name=made.name))

    assert got == made
    assert made.has_credential
    assert not made.credential
    await registry.catalog.reach(shop.sequence)
    credential = registry.catalog.usable_view().credential(made.uid)
    assert isinstance(credential, Credential)
    envelope = Envelope.from_bytes(credential.envelope)
    assert open_envelope(Keyring.parse(keyring), envelope, context=made.uid.encode()).reveal() == "sk-very-secret"
    with pytest.raises(Precondition):
        open_envelope(Keyring.parse(keyring), envelope, context=b"prv_other")
    assert "sk-very-secret" not in repr(await state_of(registry.url))


async def test_defaults_are_filled_in(shop: Any) -> None:
    made = await shop.call("CreateProvider", request(shop.project))

    assert (made.base_url, made.display_name) == ("https://api.openai.com/v1", "llm")
    assert not made.has_credential
    assert made.create_time == made.update_time
    assert made.etag


async def test_a_taken_slug_exists(shop: Any) -> None:
    await shop.call("CreateProvider", request(shop.project))

    error = await shop.fails("CreateProvider", request(shop.project))

    assert isinstance(error, Exists)
    assert (error.reason, error.metadata["resource"]) == ("PROVIDER_EXISTS", f"projects/{shop.project}/providers/llm")


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"kind": provider_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE}, "provider.base_url", "BASE_URL_REQUIRED"),
        ({"base_url": "http://127.0.0.1:8080/v1"}, "provider.base_url", "EGRESS_URL_INVALID"),
        ({"base_url": "https://169.254.169.254/latest"}, "provider.base_url", "EGRESS_URL_INVALID"),
        ({"base_url": "ftp://example.com"}, "provider.base_url", "EGRESS_URL_INVALID"),
        ({"base_url": "https://user:pass@example.com/v1"}, "provider.base_url", "EGRESS_URL_INVALID"),
        ({"base_url": "https://example.com/v1?key=1"}, "provider.base_url", "BASE_URL_INVALID"),
        ({"credential": "a\0b"}, "provider.credential", "TEXT_NOT_STORABLE"),
        ({"credential": "x" * 16385}, "provider.credential", "INVALID_REQUEST"),
    ],
)
async def test_a_provider_that_could_not_be_called_is_refused(
    shop: Any, fields: dict[str, Any], field: str, reason: str
) -> None:
    error = await shop.fails("CreateProvider", request(shop.project, **fields))

    assert isinstance(error, Invalid)
    assert (error.reason, [violation.field for violation in error.violations]) == (reason, [field])


async def test_private_addresses_are_allowed_by_the_operators_setting(
    own_database: str, new_keys: Any, start: Any
) -> None:
    async with start(own_database, new_keys(), TURNOUT_EGRESS_ALLOW_PRIVATE="true") as registry:
        shop = await registry.new_project()
        made = await shop.call("CreateProvider", request(shop.project, base_url="http://127.0.0.1:8080/v1/"))

    assert made.base_url == "http://127.0.0.1:8080/v1"


async def test_without_a_key_encryption_key_a_credential_is_refused_and_the_setting_named(
    own_database: str, new_keys: Any, start: Any
) -> None:
    async with start(own_database, new_keys(), TURNOUT_KEY_ENCRYPTION_KEYS="") as registry:
        shop = await registry.new_project()
        error = await shop.fails("CreateProvider", request(shop.project, credential="sk-1"))
        await shop.call("CreateProvider", request(shop.project))

    assert isinstance(error, Precondition)
    assert error.reason == "KEY_ENCRYPTION_KEY_MISSING"
    assert "TURNOUT_KEY_ENCRYPTION_KEYS" in error.message
    assert "sk-1" not in error.message


async def test_a_repeated_request_answers_the_first_provider_and_another_request_under_its_id_is_refused(
    shop: Any, registry: Any, state_of: Any
) -> None:
    first = request(shop.project, credential="sk-1")
    first.request_id = str(uuid.uuid4())
    made = await shop.call("CreateProvider", first)
    after = await state_of(registry.url)

    assert await shop.call("CreateProvider", first) == made
    for change in ("another credential", "no credential", "another slug", "another name"):
        other = pb.CreateProviderRequest()
        other.CopyFrom(first)
        match change:
            case "another credential":
                other.provider.credential = "sk-2"
            case "no credential":
                other.provider.credential = ""
            case "another slug":
                other.provider_id = "other"
            case "another name":
                other.provider.display_name = "Other"
        error = await shop.fails("CreateProvider", other)
        assert (error.reason, error.violations[0].field) == ("REQUEST_ID_REUSED", "request_id"), change
    assert await state_of(registry.url) == after


async def test_a_dry_run_answers_what_would_be_and_writes_nothing(registry: Any, shop: Any, state_of: Any) -> None:
    before = await state_of(registry.url)
    dry = request(shop.project, credential="sk-1")
    dry.validate_only = True

    made = await shop.call("CreateProvider", dry)

    assert made.name == f"projects/{shop.project}/providers/llm"
    assert await state_of(registry.url) == before


def update(name: str, *paths: str, **fields: Any) -> pb.UpdateProviderRequest:
    request = pb.UpdateProviderRequest(provider=provider_pb2.Provider(name=name, **fields))
    request.update_mask.paths.extend(paths)
    return request


async def test_an_update_changes_what_has_a_value(registry: Any, shop: Any, keyring: str) -> None:
    made = await shop.call("CreateProvider", request(shop.project, credential="sk-old"))
    changed = await shop.call(
        "UpdateProvider", update(made.name, base_url="https://eu.example.com/v1", credential="sk-new", etag=made.etag)
    )

    assert (changed.base_url, changed.display_name, changed.has_credential) == (
        "https://eu.example.com/v1",
        "llm",
        True,
    )
    assert changed.etag != made.etag
    assert await shop.call("GetProvider", pb.GetProviderRequest(name=made.name)) == changed
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    assert view.provider(made.uid).base_url == "https://eu.example.com/v1"
    envelope = Envelope.from_bytes(view.credential(made.uid).envelope)
    assert open_envelope(Keyring.parse(keyring), envelope, context=made.uid.encode()).reveal() == "sk-new"


async def test_a_credential_that_the_mask_names_and_the_update_lacks_is_removed(registry: Any, shop: Any) -> None:
    made = await shop.call("CreateProvider", request(shop.project, credential="sk-old"))
    changed = await shop.call("UpdateProvider", update(made.name, "credential"))

    assert not changed.has_credential
    await registry.catalog.reach(shop.sequence)
    assert registry.catalog.usable_view().credential(made.uid) is None


async def test_an_update_that_changes_nothing_writes_nothing(registry: Any, shop: Any, state_of: Any) -> None:
    made = await shop.call("CreateProvider", request(shop.project))
    before = await state_of(registry.url)
    dry = update(made.name, display_name="other")
    dry.validate_only = True

    assert await shop.call("UpdateProvider", update(made.name, display_name="llm")) == made
    assert (await shop.call("UpdateProvider", dry)).display_name == "other"
    assert await state_of(registry.url) == before


@pytest.mark.parametrize(
    ("elsewhere", "goes_along"),
    [
        ("https://evil.example.com/v1", False),
        ("https://api.openai.com:8443/v1", False),
        ("https://API.openai.com:443/v2", True),
    ],
)
async def test_a_stored_credential_goes_to_another_server_only_if_it_is_given_again(
    shop: Any, elsewhere: str, goes_along: bool
) -> None:
    made = await shop.call("CreateProvider", request(shop.project, credential="sk-secret"))

    if goes_along:
        assert (await shop.call("UpdateProvider", update(made.name, base_url=elsewhere))).has_credential
        return
    error = await shop.fails("UpdateProvider", update(made.name, base_url=elsewhere))
    assert (type(error), error.reason) == (Invalid, "CREDENTIAL_REQUIRED")
    assert error.violations[0].field == "provider.credential"
    moved = await shop.call("UpdateProvider", update(made.name, base_url=elsewhere, credential="sk-other"))
    assert (moved.base_url, moved.has_credential) == (elsewhere, True)
    removed = update(made.name, "base_url", "credential", base_url="https://third.example.com/v1")
    assert not (await shop.call("UpdateProvider", removed)).has_credential
    # Nothing is stored now, so nothing can be sent away.
    await shop.call("UpdateProvider", update(made.name, base_url="https://fourth.example.com/v1"))


async def test_where_a_protected_deployment_sends_its_calls_is_for_those_who_may_approve(
    registry: Any, shop: Any, deployment_request: Any
) -> None:
    wanted = deployment_request(shop.project)
    wanted.deployment.protected = True
    await shop.call("CreateDeployment", wanted)
    name = f"projects/{shop.project}/providers/main"

    for change in ({"base_url": "https://evil.example.com/v1"}, {"credential": "sk-mine"}):
        error = await shop.fails("UpdateProvider", update(name, **change))
        assert (type(error), error.reason) == (Denied, "APPROVAL_REQUIRED")
        assert error.metadata["resource"] == f"projects/{shop.project}/deployments/helper"
    assert (await shop.call("UpdateProvider", update(name, display_name="Main"))).display_name == "Main"
    boss = await registry.client(shop.project, ("registry:read", "registry:write", "deployments:approve"))
    assert (await boss.call("UpdateProvider", update(name, credential="sk-new"))).has_credential


async def test_bad_updates_are_refused(shop: Any) -> None:
    made = await shop.call("CreateProvider", request(shop.project))
    for bad, reason in (
        (update(made.name, base_url="http://127.0.0.1/v1"), "EGRESS_URL_INVALID"),
        (update(made.name, "kind"), "UPDATE_MASK_INVALID"),
        (update(made.name, display_name="x", etag="old"), "ETAG_MISMATCH"),
        (update(f"projects/{shop.project}/providers/nope", display_name="x"), "PROVIDER_NOT_FOUND"),
    ):
        assert (await shop.fails("UpdateProvider", bad)).reason == reason


@pytest.mark.parametrize("credential", ["sk-1\n", "a\nX-Evil: b", "é€", " ", "sk 1", "\x7f", "x" * 4097])
async def test_a_credential_that_no_header_can_carry_is_refused_and_not_repeated(shop: Any, credential: str) -> None:
    made = await shop.call("CreateProvider", request(shop.project))
    for rpc, bad in (
        ("CreateProvider", request(shop.project, "other", credential=credential)),
        ("UpdateProvider", update(made.name, credential=credential)),
    ):
        error = await shop.fails(rpc, bad)
        assert isinstance(error, Invalid)
        assert (error.reason, error.violations[0].field) == ("CREDENTIAL_INVALID", "provider.credential")
        assert credential.strip() == "" or credential not in str(error)


def facts(model: str, **fields: Any) -> provider_pb2.ModelFacts:
    return provider_pb2.ModelFacts(model=model, **fields)


async def test_facts_of_models_and_a_bound_are_kept_changed_and_told_by_the_catalog(registry: Any, shop: Any) -> None:
    known = [
        facts("a", input_usd_micros_per_million=0, context_window_tokens=8192),
        facts("b", structured_output=provider_pb2.STRUCTURED_OUTPUT_JSON_OBJECT),
        facts("c", structured_output=provider_pb2.STRUCTURED_OUTPUT_JSON_SCHEMA),
    ]
    made = await shop.call("CreateProvider", request(shop.project, model_facts=known, max_concurrent_calls=7))

    assert (list(made.model_facts), made.max_concurrent_calls) == (known, 7)
    assert await shop.call("GetProvider", pb.GetProviderRequest(name=made.name)) == made
    update = pb.UpdateProviderRequest(provider=provider_pb2.Provider(name=made.name, display_name="L"))
    assert list((await shop.call("UpdateProvider", update)).model_facts) == known
    update = pb.UpdateProviderRequest(provider=provider_pb2.Provider(name=made.name, max_concurrent_calls=9))
    assert (await shop.call("UpdateProvider", update)).max_concurrent_calls == 9
    await registry.catalog.reach(shop.sequence)
    told = registry.catalog.usable_view().provider(made.uid)
    assert told.max_concurrent_calls == 9
    assert told.model_facts["a"].input_usd_micros_per_million == 0
    assert told.model_facts["a"].output_usd_micros_per_million is None
    assert (told.model_facts["a"].context_window_tokens, told.model_facts["b"].context_window_tokens) == (8192, 0)
    assert [each.structured_output for each in told.model_facts.values()] == [
        "json_schema",
        "json_object",
        "json_schema",
    ]

    update = pb.UpdateProviderRequest(provider=provider_pb2.Provider(name=made.name))
    update.update_mask.paths.extend(["model_facts", "max_concurrent_calls"])
    emptied = await shop.call("UpdateProvider", update)
    assert (list(emptied.model_facts), emptied.max_concurrent_calls, emptied.display_name) == ([], 0, "L")
    assert await shop.call("UpdateProvider", update) == emptied


async def test_facts_of_one_model_twice_are_refused_with_every_path(shop: Any) -> None:
    twice = [facts("a"), facts("b"), facts("a"), facts("b")]
    update = pb.UpdateProviderRequest(
        provider=provider_pb2.Provider(name=f"projects/{shop.project}/providers/main", model_facts=twice)
    )

    for error in (
        await shop.fails("CreateProvider", request(shop.project, model_facts=twice)),
        await shop.fails("UpdateProvider", update),
    ):
        assert isinstance(error, Invalid)
        assert error.reason == "MODEL_FACTS_DUPLICATE"
        assert [each.field for each in error.violations] == [f"provider.model_facts[{i}].model" for i in (2, 3)]


async def test_facts_are_bounded_in_all_and_pages_with_many_are_shorter(registry: Any) -> None:
    client = await registry.new_project()
    large = [facts(f"{number:04}" + "m" * 200) for number in range(500)]
    for number in range(20):
        await client.call("CreateProvider", request(client.project, f"p{number}", model_facts=large))

    token, seen = "", []
    while True:
        asked = pb.ListProvidersRequest(parent=f"projects/{client.project}", page_size=100, page_token=token)
        page = await client.call("ListProviders", asked)
        seen += [each.name.rpartition("/")[2] for each in page.providers]
        token = page.next_page_token
        if not token:
            break
        assert len(page.providers) < 20
    assert seen == [f"p{number}" for number in range(20)]

    too_many = [*large, *(facts(f"{number}" + "ä" * 100) for number in range(100))]
    error = await client.fails("CreateProvider", request(client.project, model_facts=too_many))
    assert (error.reason, error.violations[0].field) == ("MODEL_FACTS_TOO_LARGE", "provider.model_facts")
