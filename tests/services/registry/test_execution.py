"""How hard variants try: stored, converted and compared by values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.version import Parameters
from completions.version import Version as Content
from kit.errors import Invalid
from services.registry import domain
from services.registry.convert.execution import (
    execution_from_proto,
    execution_to_proto,
    fallback_names,
    pack_execution,
    unpack_execution,
)
from services.registry.domain import (
    USUAL,
    Bump,
    Completion,
    Execution,
    Fallback,
    OutputPolicy,
    Project,
    Record,
    Revision,
    Variant,
    Version,
    bump_of,
    differences,
)
from services.registry.domain.execution import MAX_PARAMETERS_BYTES
from turnout.registry.v1 import deployment_pb2 as pb

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VARIANT = Variant("var_1", 1, "a", "A", "", True, 100, Completion("ver_1", 0, None))
REVISION = Revision("rev_1", "", "", 1, 0, "salt", "somebody", "", NOW, False, (VARIANT,))

words = st.text(min_size=1, max_size=12)
times = st.none() | st.integers(1000, 3_600_000_000).map(lambda each: timedelta(microseconds=each))
parameters = st.builds(
    Parameters,
    temperature=st.none() | st.floats(0, 2),
    stop=st.lists(words, max_size=3).map(tuple),
    seed=st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
    extra=st.dictionaries(words, st.none() | st.integers(-9, 9) | words, max_size=3),
)
fallbacks = st.builds(
    Fallback,
    provider=words,
    model=words,
    parameters=st.none() | parameters,
    max_retries=st.integers(0, 10),
    attempt_timeout=times,
    provider_uid=words,
)
executions = st.builds(
    Execution,
    fallbacks=st.lists(fallbacks, max_size=3).map(tuple),
    retry_statuses=st.sets(st.integers(400, 599), max_size=4).map(lambda each: tuple(sorted(each))),
    first_token_timeout=times,
    idle_timeout=times,
    output_policy=st.sampled_from(OutputPolicy),
)


def serving(execution: Execution) -> Revision:
    return replace(REVISION, variants=(replace(VARIANT, serving=Completion("ver_1", 0, None, execution=execution)),))


@given(executions)
def test_what_is_stored_is_read_back_and_nothing_is_stored_of_the_usual(execution: Execution) -> None:
    packed = pack_execution(execution)

    assert unpack_execution(packed, [each.provider_uid for each in execution.fallbacks]) == execution
    assert (packed is None) is (execution == USUAL)
    assert fallback_names(packed or b"") == [(each.provider, each.model) for each in execution.fallbacks]


@given(executions)
def test_what_callers_read_is_what_they_may_send_again(execution: Execution) -> None:
    asked = replace(execution, fallbacks=tuple(replace(each, provider_uid="") for each in execution.fallbacks))

    assert execution_from_proto(execution_to_proto(execution), field="variant.completion") == asked


def test_absent_parameters_are_the_versions_and_empty_ones_are_none_at_all() -> None:
    completion = pb.CompletionVariant()
    completion.fallbacks.add(provider="p", model="m")
    completion.fallbacks.add(provider="p", model="m").parameters.SetInParent()
    read = execution_from_proto(completion, field="c")

    assert [each.parameters for each in read.fallbacks] == [None, Parameters()]
    assert execution_to_proto(read).fallbacks == completion.fallbacks


def test_statuses_in_another_order_are_the_same() -> None:
    read = [
        execution_from_proto(pb.CompletionVariant(retry_statuses=each), field="c") for each in ([429, 500], [500, 429])
    ]

    assert read[0] == read[1]


def test_extra_parameters_that_are_no_json_are_named_by_their_fallback() -> None:
    completion = pb.CompletionVariant()
    completion.fallbacks.add(provider="p", model="m")
    completion.fallbacks.add(provider="p", model="m").parameters.extra_json = "[1"

    with pytest.raises(Invalid) as refusal:
        execution_from_proto(completion, field="variant.completion")

    assert [each.field for each in refusal.value.violations] == [
        "variant.completion.fallbacks[1].parameters.extra_json"
    ]


@given(executions, executions)
def test_trying_harder_is_a_minor_change_and_another_version_a_major_one(one: Execution, other: Execution) -> None:
    retried = replace(VARIANT, serving=Completion("ver_1", 3, timedelta(seconds=1)))
    another = replace(VARIANT, serving=Completion("ver_2", 0, None, execution=one))

    assert bump_of(serving(one), serving(other)) is Bump.MINOR
    assert bump_of(serving(one), replace(REVISION, variants=(retried,))) is Bump.MINOR
    assert bump_of(serving(one), replace(REVISION, variants=(another,))) is Bump.MAJOR


def test_differences_are_told_by_path() -> None:
    project = Project("prj_1", 1, "shop", "Shop", Record(NOW, NOW, 1, 1))
    version = Version("ver_1", project, "prv_1", Content("main", "small"), NOW, 1, NOW)
    before = Execution((Fallback("a", "small", provider_uid="prv_1"),), (429,), timedelta(seconds=2))
    after = Execution(
        (
            Fallback("a", "large", Parameters(temperature=0.5), 2, timedelta(seconds=1.5), "prv_1"),
            Fallback("b", "huge", provider_uid="prv_2"),
        ),
        (),
        idle_timeout=timedelta(seconds=3),
        output_policy=OutputPolicy.FAIL,
    )

    told = {each.path: (each.before_json, each.after_json) for each in differences(
        serving(before), [version], serving(after), [version]
    )}  # fmt: skip

    path = "variants[a].completion"
    assert told == {
        f"{path}.fallbacks[0].model": ('"small"', '"large"'),
        f"{path}.fallbacks[0].parameters.temperature": ("", "0.5"),
        f"{path}.fallbacks[0].max_retries": ("0", "2"),
        f"{path}.fallbacks[0].attempt_timeout_seconds": ("", "1.5"),
        f"{path}.fallbacks[1].provider": ("", '"b"'),
        f"{path}.fallbacks[1].model": ("", '"huge"'),
        f"{path}.fallbacks[1].max_retries": ("", "0"),
        f"{path}.retry_statuses": ("[429]", ""),
        f"{path}.first_token_timeout_seconds": ("2", ""),
        f"{path}.idle_timeout_seconds": ("", "3"),
        f"{path}.output_policy": ('"mark"', '"fail"'),
    }


def test_a_fallback_that_goes_where_the_call_failed_is_told_once_each() -> None:
    execution = Execution(tuple(Fallback(*target) for target in (("a", "x"), ("b", "x"), ("a", "y"), ("b", "x"))))

    assert list(domain.repeated_targets("a", "x", execution)) == [
        "fallback 1 (a/x) is the same provider and model as the version's own",
        "fallback 4 (b/x) is the same provider and model as fallback 2",
    ]


def test_the_parameters_of_all_fallbacks_together_are_bounded() -> None:
    half = Parameters(extra={"a": "x" * (MAX_PARAMETERS_BYTES // 2 - 8)})
    domain.check_parameters_size(Execution((Fallback("a", "x", half), Fallback("a", "y", half))), field="f")

    with pytest.raises(Invalid) as refusal:
        domain.check_parameters_size(
            Execution((Fallback("a", "x", half), Fallback("a", "y", replace(half, stop=("é",))))), field="f"
        )

    assert (refusal.value.reason, refusal.value.violations[0].field) == ("FALLBACKS_TOO_LARGE", "f")
