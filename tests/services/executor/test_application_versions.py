"""What a call lays over a deployment, or brings along instead of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from catalog.view import Completion, Contract, Deployment, Fallback, ProviderKind
from catalog.view import Version as PackedVersion
from completions import schema
from completions.chat import Message, Role
from completions.version import Parameters, Version, version_id
from kit.errors import Invalid, Precondition
from services.executor.domain import Delta, Overrides, Started, Status, Unread
from tests.services.executor.house import FLAKY, House, Views


def over(**fields: Any) -> Unread:
    return Unread(repr(fields).encode("utf-8", "backslashreplace"), lambda: Overrides(**fields))


def direct(*messages: Message, **fields: Any) -> Callable[[], Version]:
    return lambda: Version(**({"provider": "main", "model": "gpt", "messages": messages} | fields))


SYSTEM = Message(Role.SYSTEM, "Be brief about {{ country }}.")
QUESTION = Message(Role.USER, "Why?")
INCLUDE = Message(Role.USER, "{% include 'x' %}")


async def test_what_a_call_lays_over_wins_and_runs_as_a_version_of_its_own() -> None:
    house = House()
    run = await house.run(overrides=over(parameters=Parameters(temperature=0.5, extra={"a": 1}), tools=[{"type": "x"}]))

    assert house.provider.requests[0].prepared_body == b"('test-model', 0.5, [{'type': 'x'}])"
    assert (run.base_version, run.version[:4]) == ("ver_1", "ver_")
    assert run.version != "ver_1"
    assert run.seen_version is not None
    assert run.seen_version.provider == "prv_main"
    named = Version(
        "main", "test-model", run.seen_version.messages, Parameters(temperature=0.5, extra={"a": 1}), [{"type": "x"}]
    )
    assert run.version == version_id(named), "the id that the registry gives it"


async def test_the_same_laid_over_again_is_the_same_version_and_made_once() -> None:
    house = House()
    runs = [await house.run(overrides=over(parameters=Parameters(temperature=0.5))) for _ in range(3)]
    assert len({run.version for run in runs}) == 1
    assert house.provider.prepared == [None, 0.5]


@pytest.mark.parametrize(("parameters", "there"), [(Parameters(temperature=0.5), 0.5), (Parameters(top_p=0.5), 0.1)])
async def test_what_a_call_lays_over_wins_at_a_fallback_with_parameters_of_its_own(
    parameters: Parameters, there: float
) -> None:
    spare = Fallback("prv_other", "spare", b"0.1", 0, None)
    house = House(FLAKY, fallbacks=(spare,))
    call = house.call(overrides=over(parameters=parameters, tools=[{"type": "x"}]))
    _, _, sent = await house.executor.get_config(call)
    await house.executor.run(call)
    asked = house.provider.requests[1]
    assert asked.prepared_body == f"('spare', {there}, [{{'type': 'x'}}])".encode()
    assert sent[1] == house.provider.request_of(asked, streamed=False)


def served_as(house: House, uid: str) -> None:
    """Give the version the id that the registry would give it."""
    views = house.executor.catalog
    assert isinstance(views, Views)
    deployment, packed = (views.view.things[name] for name in ("deployment/dep_1", "version/prj_shop/ver_1"))
    assert isinstance(deployment, Deployment)
    live = deployment.aliases["live"]
    [variant] = live.variants
    assert isinstance(variant.serving, Completion)
    assert isinstance(packed, PackedVersion)
    serving = replace(variant, serving=replace(variant.serving, version=uid))
    moved = replace(deployment, aliases={"live": replace(live, variants=(serving,))})
    named = (f"version/prj_shop/{uid}", replace(packed, uid=uid))
    views.view = views.view.with_changes(2, [("deployment/dep_1", moved), named])


async def test_what_changes_nothing_of_a_version_still_wins_at_a_fallback() -> None:
    spare = Fallback("prv_other", "spare", b"0.1", 0, None)
    house = House(FLAKY, fallbacks=(spare,))
    house.unpack.parameters = Parameters(temperature=0.5)
    uid = version_id(Version("main", "test-model", (Message(Role.USER, "{{ country }}?"),), house.unpack.parameters))
    served_as(house, uid)
    run = await house.run(overrides=over(parameters=Parameters(temperature=0.5)))
    assert (run.version, run.base_version, run.seen_version) == (uid, "", None)
    assert [each.prepared_body for each in house.provider.requests] == [
        b"('test-model', 0.5, [])",
        b"('spare', 0.5, [])",
    ]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"parameters": Parameters(temperature=3)}, "overrides.parameters.temperature"),
        ({"parameters": Parameters(stop=("",))}, "overrides.parameters.stop[0]"),
        ({"tool_choice": ""}, "overrides.tool_choice"),
        ({"tools": ["\ud800"]}, "overrides.tools[0]"),
    ],
)
async def test_what_no_provider_could_be_asked_is_refused_with_its_path(given: Any, field: str) -> None:
    house = House()
    with pytest.raises(Invalid) as failure:
        await house.run(overrides=over(**given))
    assert [each.field for each in failure.value.violations] == [field]
    assert not house.provider.requests
    assert house.recorded.status is Status.ERROR


async def test_callers_of_an_alias_cannot_be_answered_in_another_format() -> None:
    house = House(contract=Contract("", ""))
    with pytest.raises(Precondition) as failure:
        await house.run(overrides=over(response_format={"type": "json_object"}))
    assert failure.value.reason == "CONTRACT_BROKEN"
    assert [each.field for each in failure.value.violations] == ["overrides.response_format"]
    await house.run(overrides=over(response_format={"type": "text"}))


async def test_messages_before_the_versions_come_after_its_system_message() -> None:
    house = House()
    await house.run(prefix_messages=(QUESTION,), messages=(Message(Role.USER, "last"),))
    assert [each.content for each in house.provider.requests[0].messages] == ["Why?", "France?", "last"]


async def test_a_direct_completion_needs_no_deployment_and_makes_a_version() -> None:
    house = House()
    run = await house.run("", direct=direct(SYSTEM, QUESTION))

    assert [each.content for each in house.provider.requests[0].messages] == ["Be brief about France.", "Why?"]
    assert (run.decision, run.target, run.project.slug) == (None, None, "shop")
    templates = (SYSTEM,)
    complete = Version("main", "gpt", templates, variables_schema=schema.variables_schema(templates, None))
    assert run.version == version_id(complete)
    assert run.seen_version is not None
    assert run.seen_version.messages == templates, "what is not templated is the call's input"
    assert house.recorded is run


async def test_without_variables_the_messages_of_a_direct_completion_are_data() -> None:
    house = House()
    run = await house.run("", direct=direct(SYSTEM, QUESTION), variables_json="")
    assert house.provider.requests[0].messages[0].content == "Be brief about {{ country }}."
    assert run.seen_version is not None
    assert run.seen_version.variables_schema is None


@pytest.mark.parametrize(
    ("given", "reason", "field"),
    [
        ({"provider": "nobody"}, "PROVIDER_NOT_FOUND", "direct.provider"),
        ({"model": ""}, "VERSION_INVALID", "direct.model"),
        (
            {"messages": (Message(Role.USER, "{% include 'x' %}"),)},
            "TEMPLATE_NOT_ALLOWED",
            "direct.messages[0].content",
        ),
        ({"messages": ()}, "NO_MESSAGES", None),
    ],
)
async def test_a_direct_completion_that_cannot_run_asks_nobody(given: Any, reason: str, field: str | None) -> None:
    house = House()
    with pytest.raises(Invalid) as failure:
        await house.run("", direct=direct(QUESTION, **given) if "messages" not in given else direct(**given))
    assert failure.value.reason == reason
    assert [each.field for each in failure.value.violations] == ([field] if field else [])
    assert not house.provider.requests


async def test_variables_that_a_template_cannot_take_are_not_blamed_on_the_messages_of_the_call() -> None:
    with pytest.raises(Invalid) as failure:
        await House(template="{{ country + 1 }}").run(messages=(QUESTION,))
    assert failure.value.reason == "TEMPLATE_FAILED"
    assert failure.value.message.startswith(
        "variables_json cannot be filled into the version's messages[0].content: line 1"
    )
    assert [each.field for each in failure.value.violations] == ["variables_json"]

    failing = Message(Role.USER, "{{ country + 1 }}")
    with pytest.raises(Invalid, match=r"^direct\.messages\[1\]\.content line 1") as failure:
        await House().run("", direct=direct(SYSTEM, failing), messages=(QUESTION,))
    assert [each.field for each in failure.value.violations] == ["direct.messages[1].content"]


@pytest.mark.parametrize(
    ("variables_json", "reason", "field"),
    [
        ('{"country":5}', "VARIABLES_INVALID", "variables.country"),
        ("{}", "MISSING_VARIABLES", "variables.country"),
    ],
)
async def test_a_direct_completion_takes_variables_of_the_types_that_it_declares(
    variables_json: str, reason: str, field: str
) -> None:
    declared = {"type": "object", "properties": {"country": {"type": "string"}}}
    house = House()
    with pytest.raises(Invalid) as failure:
        await house.run("", direct=direct(SYSTEM, variables_schema=declared), variables_json=variables_json)
    assert failure.value.reason == reason
    assert [each.field for each in failure.value.violations] == [field]
    assert not house.provider.requests

    await house.run("", direct=direct(SYSTEM, variables_schema=declared))
    assert house.provider.requests[0].messages[0].content == "Be brief about France."


async def test_a_declaration_that_nothing_can_be_held_against_is_refused_by_its_own_name() -> None:
    declared = {"type": "object", "properties": {"country": {"$ref": "https://example.com/country"}}}
    with pytest.raises(Invalid, match=r"^direct\.variables_schema cannot be used: variables\.country ") as failure:
        await House().run("", direct=direct(SYSTEM, variables_schema=declared))
    assert failure.value.reason == "SCHEMA_REFERENCE_EXTERNAL"
    assert [each.field for each in failure.value.violations] == ["direct.variables_schema"]


async def test_a_platform_key_has_no_project_to_complete_in() -> None:
    with pytest.raises(Invalid) as failure:
        await House().run("", direct=direct(QUESTION), tenant="")
    assert failure.value.reason == "TARGET_NEEDS_PROJECT"


async def test_a_mock_response_asks_nobody_and_leaves_nothing() -> None:
    house = House()
    run = await house.run(mock_response="Rome.")

    assert run.answer is not None
    assert (run.answer.message.content, run.cost_usd_micros) == ("Rome.", None)
    assert run.decision is not None
    assert not house.provider.requests
    assert not house.records.opened
    assert not house.records.closed
    assert await house.stream(mock_response="Rome.") == [Started("test-model"), Delta("Rome."), None]


async def test_a_mock_response_is_refused_what_a_real_call_is() -> None:
    with pytest.raises(Invalid) as failure:
        await House().run(mock_response="x", variables_json="{}")
    assert failure.value.reason == "MISSING_VARIABLES"


async def test_the_configuration_of_a_call_is_what_it_would_send_everywhere() -> None:
    spare = Fallback("prv_other", "spare", b"0.1", 0, None)
    house = House(fallbacks=(spare,))
    call = house.call(messages=(QUESTION,), overrides=over(parameters=Parameters(temperature=0.5)), routing_key="u")
    told, job, sent = await house.executor.get_config(call)

    assert not house.provider.requests
    assert not house.records.opened
    run = await house.executor.run(call)
    [asked] = house.provider.requests
    assert sent[0] == house.provider.request_of(asked, streamed=False)
    assert [place.request.model for place in job.places] == ["test-model", "spare"]
    assert told.version == run.version
    assert told.decision is not None
    assert run.decision is not None
    assert told.decision.variant == run.decision.variant


async def test_the_configuration_says_where_a_call_could_not_ask() -> None:
    house = House(kind=ProviderKind.OPENAI, fallbacks=(Fallback("prv_other", "spare", None, 0, None),))
    _, _, sent = await house.executor.get_config(house.call())
    assert [each for each in sent if isinstance(each, str) and "set one" in each] == list(sent)


async def test_what_never_ran_is_not_told_of_as_having_run() -> None:
    house = House(kind=ProviderKind.OPENAI)
    with pytest.raises(Precondition):
        await house.run(overrides=over(parameters=Parameters(temperature=0.5)))
    assert not house.recorded.attempts


async def test_a_version_that_is_brought_again_is_checked_and_made_once() -> None:
    house = House()
    runs = [await house.run("", direct=direct(SYSTEM, QUESTION)) for _ in range(3)]
    other = await house.run("", direct=direct(SYSTEM, QUESTION), variables_json="")
    assert len({run.version for run in runs}) == 1
    assert other.version != runs[0].version, "without variables, its messages are no templates"
    assert len(house.provider.prepared) == 2


async def test_callers_of_two_aliases_are_judged_by_their_own_contract() -> None:
    text = over(response_format={"type": "json_object"})
    await House(contract=None).run(overrides=text)
    with pytest.raises(Precondition):
        await House(contract=Contract("", "")).run(overrides=text)


async def test_what_the_caller_said_is_kept_wherever_it_stood() -> None:
    first = Message(Role.USER, "first")
    run = await House().run(messages=(QUESTION,), prefix_messages=(first,))
    assert run.said == (first, QUESTION)
    run = await House().run("", direct=direct(SYSTEM, QUESTION), messages=(first,))
    assert run.said == (QUESTION, first), "what is no part of the version"
    assert run.has_variables


async def test_callers_of_an_alias_without_a_contract_do_not_vouch_for_those_who_were_promised_text() -> None:
    house = House()
    views: Any = house.executor.catalog
    known = views.view.deployment("dep_1")
    revision = known.aliases["live"]
    both = replace(known, aliases={"live": revision, "held": revision}, contracts={"held": Contract("", "")})
    views.view = views.view.with_changes(2, [("deployment/dep_1", both)])
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    form: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    given = Unread(b"as json", lambda: Overrides(response_format=form))

    await house.run("assistant:live", overrides=given)

    with pytest.raises(Precondition, match="rely on it"):
        await house.run("assistant:held", overrides=given)
