"""`turnout simulate`, against a router and a log that answer what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import Result

from kit import ids
from tests.cli.routers import Router, decision, serving, trace
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb

Asked: TypeAlias = Callable[..., Result]


@pytest.fixture
def router() -> Router:
    return Router(simulated=pb.SimulateResponse(revision="2.0", decided_count=1, trace=trace()))


@pytest.fixture
def asked(turnout: Callable[..., Result], router: Router) -> Iterator[Asked]:
    with serving(router) as address:
        yield lambda *arguments: turnout(*arguments, TURNOUT_ADDRESS=address, TURNOUT_PROJECT="shop")


def many(router: Router) -> pb.SimulateResponse:
    """Let it answer for 10,000 units."""
    answer = pb.SimulateResponse(revision="2.0", decided_count=10_000, matched_count=7000, outside_count=205)
    answer.shares.add(variant="var_1", variant_slug="spanish", count=7010, share=0.701, expected_share=0.7)
    answer.shares.add(variant="var_2", variant_slug="plain", count=2990, share=0.299, expected_share=0.3)
    answer.rules.add(rule="rul_1", display_name="Spanish", count=7000)
    router.simulated.CopyFrom(answer)
    return router.simulated


def done(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.stdout
    return " ".join(result.stderr.replace("│", " ").split())


def test_one_call_shows_the_way_to_its_decision(asked: Asked, router: Router) -> None:
    shown = asked("simulate", "guide", "--revision", "2.0", "-c", "country=ES", "--key", "user-42")

    assert done(shown).startswith("guide, revision 2.0\n├── rules, asked in order\n")
    assert "`turnout logs` has it as req_1" in shown.stderr
    [request] = router.requests
    assert request == pb.SimulateRequest(
        deployment="projects/shop/deployments/guide",
        revision="2.0",
        calls=[pb.SimulatedCall(context_json='{"country":"ES"}', routing_key="user-42")],
    )


def test_one_call_is_compared_in_a_sentence(asked: Asked, router: Router) -> None:
    comparison = router.simulated.comparison
    comparison.revision = "1.3"
    comparison.movements.add(from_variant="var_2", from_slug="plain", to_variant="var_1", to_slug="spanish", count=1)
    comparison.moved_count = 1

    assert done(asked("simulate", "guide", "--compare", "live")).endswith("by revision 1.3 it would be plain\n")
    comparison.moved_count = 0
    assert done(asked("simulate", "guide", "--compare", "live")).endswith("by revision 1.3 it would be plain, too\n")


def test_a_population_shows_shares_as_bars_beside_what_is_expected(asked: Asked, router: Router) -> None:
    many(router)

    shown = asked("simulate", "guide", "--population", "10000", "--prefix", "u", "--context", "country=ES")

    assert done(shown).splitlines() == [
        "10,000 decided by revision 2.0: 7,000 by a rule, 205 outside coverage",
        "",
        "variant  count   share                  expected                ",
        "spanish  7,010  70.1 %  ██████████████      70 %  ██████████████",
        "plain    2,990  29.9 %  ██████              30 %  ██████        ",
        "",
        "rule                count  share",
        "Spanish             7,000   70 %",
        "(none: by weights)  3,000   30 %",
    ]
    [request] = router.requests
    population = pb.Population(size=10_000, prefix="u", contexts_json=['{"country":"ES"}'])
    assert request == pb.SimulateRequest(deployment="projects/shop/deployments/guide", population=population)


def test_it_is_said_that_rules_saw_nothing(asked: Asked, router: Router) -> None:
    many(router)

    assert "rules saw an empty context" in asked("simulate", "guide", "--population", "10000").stderr
    assert "empty context" not in asked("simulate", "guide", "--population", "9", "-c", "a=1").stderr


def test_movement_is_a_table_below_a_sentence(asked: Asked, router: Router) -> None:
    comparison = many(router).comparison
    comparison.revision, comparison.moved_count, comparison.moved_share = "1.3", 1234, 0.1234
    for before, after, count in (("spanish", "spanish", 8766), ("plain", "spanish", 1200), ("plain", "", 34)):
        comparison.movements.add(
            from_variant=before, from_slug=before, to_variant=after, to_slug=after, count=count, share=count / 10_000
        )

    shown = done(asked("simulate", "guide", "--population", "10000", "--compare", "1.3"))

    assert shown.splitlines()[-6:] == [
        "1,234 of 10,000 (12.3 %) would get another variant than by revision 1.3",
        "",
        "from     to         count   share",
        "spanish  (stays)    8,766  87.7 %",
        "plain    spanish    1,200    12 %",
        "plain    (refused)     34   0.3 %",
    ]
    comparison.moved_count = 0
    shown = done(asked("simulate", "guide", "--population", "10000", "--compare", "1.3"))
    assert "none of 10,000 would get another variant than by revision 1.3" in shown


def test_a_file_has_a_call_a_line_or_the_contexts_of_a_population(asked: Asked, router: Router, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text('{"country": "ES"}\n{"country": "FR"}\n')

    done(asked("simulate", "guide", "--contexts", str(file), "--user", "u"))
    done(asked("simulate", "guide", "--contexts", str(file), "--population", "10"))

    calls, population = router.requests
    assert [(each.context_json, each.user) for each in calls.calls] == [
        ('{"country":"ES"}', "u"),
        ('{"country":"FR"}', "u"),
    ]
    assert not population.calls
    assert list(population.population.contexts_json) == ['{"country":"ES"}', '{"country":"FR"}']


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--contexts", "x", "--context", "a=1"], "not both"),
        (["--prefix", "u"], "goes with --population"),
        (["--population", "5", "--key", "k"], "keys of its own"),
        (["--population", "0"], "greater than or equal to 1"),
        (["--population", "100001"], "less than or equal to 100000"),
        (["--replay", "req_1", "--key", "k"], "only --revision and --compare"),
        (["--replay", "req_1", "--population", "5"], "only --revision and --compare"),
        (["--contexts", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: Asked, router: Router, options: list[str], said: str) -> None:
    assert said in refused(asked("simulate", "guide", *options))
    assert router.requests == []


def logged(**fields: Any) -> request_pb2.RequestServed:
    uid = ids.new_uid("req")
    start = Timestamp()
    start.FromMilliseconds(ids.time_ms_of(uid))
    usual: dict[str, Any] = {
        "request_id": uid,
        "deployment_slug": "guide",
        "start_time": start,
        "decision": decision(),
        "context_json": '{"country":"ES"}',
        "thread": "t-1",
    }
    return request_pb2.RequestServed(**(usual | fields))


def test_a_logged_request_is_decided_again_as_it_was(asked: Asked, router: Router) -> None:
    router.logged = [logged() for _ in range(5)]
    wanted = router.logged[-1]

    shown = asked("simulate", "guide:staging", "--replay", wanted.request_id)

    assert done(shown).splitlines()[-1] == (
        f"{wanted.request_id} got spanish by revision 1.3 at {wanted.start_time.ToJsonString()}; "
        "the same variant comes out"
    )
    assert router.requests[-1] == pb.SimulateRequest(
        deployment="projects/shop/deployments/guide:staging",
        revision="rev_1",
        calls=[pb.SimulatedCall(context_json='{"country":"ES"}', thread="t-1", request_id=wanted.request_id)],
    )
    pages = router.requests[:-1]
    assert [each.page_token for each in pages] == ["", "2", "4"]
    assert {each.deployment for each in pages} == {"guide"}
    assert all(each.end_time.seconds - each.start_time.seconds <= 5 for each in pages)


def test_it_is_told_if_another_variant_comes_out(asked: Asked, router: Router) -> None:
    router.logged = [logged(decision=decision(variant="var_9", variant_slug="former"), context_json="")]
    uid = router.logged[0].request_id

    shown = asked("simulate", "guide", "--replay", uid)
    other = asked("simulate", "guide", "--replay", uid, "--revision", "2.0")
    found = json.loads(done(asked("--json", "simulate", "guide", "--replay", uid)))

    assert "got former by revision 1.3" in done(shown)
    assert done(shown).endswith("now spanish does\n")
    assert done(other).endswith("now spanish does by revision 2.0\n")
    assert router.requests[3].revision == "2.0"
    assert found["replayed"] == {
        "request_id": uid,
        "revision": "1.3",
        "variant": "var_9",
        "variant_slug": "former",
        "rule": "rul_1",
        "refused": False,
        "same": False,
    }


NOBODY = {"variant": "", "variant_slug": "", "propensity": 0.0}
NO_RULE = {"evaluation": decision_pb2.EVALUATION_DEFAULT_MATCHED, "rule": "", "rule_name": ""}


def refusing(router: Router, *, draw: float = 0.25, is_matched: bool = True) -> None:
    """Let it refuse what it is asked."""
    told = trace(refusal="nobody is active", coverage_draw=draw)
    told.ClearField("decision")
    for rule in told.rules:
        if rule.outcome == pb.RULE_OUTCOME_TRUE:
            rule.rule, rule.display_name = "rul_1", "Spanish"
            rule.outcome = pb.RULE_OUTCOME_TRUE if is_matched else pb.RULE_OUTCOME_FALSE
    router.simulated.trace.CopyFrom(told)


@pytest.mark.parametrize(
    ("then", "draw", "why"),
    [
        ({}, 0.25, "rule Spanish has nothing active to send it to"),
        ({"outside_coverage": True}, 0.9, "it is outside coverage, and the baseline is not active"),
        (NO_RULE, 0.25, "no rule matched, and no variant with a weight is active"),
    ],
)
def test_a_refused_request_is_refused_again_by_the_same(
    asked: Asked, router: Router, then: dict[str, Any], draw: float, why: str
) -> None:
    router.logged = [logged(reason="NO_ACTIVE_VARIANT", decision=decision(**NOBODY | then))]
    wanted = router.logged[0]
    refusing(router, draw=draw, is_matched=then is not NO_RULE)

    shown = asked("simulate", "guide", "--replay", wanted.request_id)
    found = json.loads(done(asked("--json", "simulate", "guide", "--replay", wanted.request_id)))

    assert "refused: nobody is active" in done(shown)
    assert done(shown).splitlines()[-1] == (
        f"{wanted.request_id} was refused by revision 1.3 at {wanted.start_time.ToJsonString()}, as {why}; "
        "the same refusal comes again"
    )
    assert router.requests[1].revision == "rev_1"
    assert found["replayed"] == {
        "request_id": wanted.request_id,
        "revision": "1.3",
        "variant": "",
        "variant_slug": "",
        "rule": wanted.decision.rule,
        "refused": True,
        "same": True,
    }


def test_it_is_told_if_a_refusal_comes_out_otherwise(asked: Asked, router: Router) -> None:
    router.logged = [logged(decision=decision(**NOBODY)), logged()]
    refused, served = [each.request_id for each in router.logged]
    by_other = ("--revision", "2.0")

    assert done(asked("simulate", "guide", "--replay", refused)).endswith("; now spanish comes out\n")
    assert done(asked("simulate", "guide", "--replay", refused, *by_other)).endswith(
        "; now spanish comes out by revision 2.0\n"
    )
    refusing(router, draw=0.9)
    outside = "it is outside coverage, and the baseline is not active"
    assert done(asked("simulate", "guide", "--replay", served)).endswith(f"; now it is refused, as {outside}\n")
    assert done(asked("simulate", "guide", "--replay", refused)).endswith(f"; it is refused again, but as {outside}\n")
    assert not json.loads(done(asked("--json", "simulate", "guide", "--replay", refused)))["replayed"]["same"]
    refusing(router)
    assert done(asked("simulate", "guide", "--replay", refused, *by_other)).endswith(
        "; the same refusal comes again by revision 2.0\n"
    )


def test_what_was_a_replay_itself_is_replayed_with_the_same_key(asked: Asked, router: Router) -> None:
    first = ids.new_uid("req")
    repeated = logged(
        source=execution_pb2.SOURCE_SIMULATOR, metadata_json=json.dumps({"simulated_request_id": first}), thread=""
    )
    alone = logged(source=execution_pb2.SOURCE_SIMULATOR)
    of_a_caller = logged(source=execution_pb2.SOURCE_API, metadata_json='{"simulated_request_id":"mine"}')
    router.logged = [repeated, alone, of_a_caller]

    for each, uid in ((repeated, first), (alone, alone.request_id), (of_a_caller, of_a_caller.request_id)):
        done(asked("simulate", "guide", "--replay", each.request_id))
        assert router.requests[-1].calls[0].request_id == uid


def test_a_request_whose_clock_was_put_right_is_found_too(asked: Asked, router: Router) -> None:
    late = logged()
    late.start_time.FromMilliseconds(ids.time_ms_of(late.request_id) + 90_000)
    router.logged = [late]

    assert "the same variant comes out" in done(asked("simulate", "guide", "--replay", late.request_id))


def test_what_cannot_be_replayed_is_told_in_a_sentence(asked: Asked, router: Router) -> None:
    called = {"variant": "", "variant_slug": "", "evaluation": 0, "propensity": 0, "key_kind": 0, "rule": ""}
    undecided = logged(reason="JSON_MALFORMED", decision=decision(**called, rule_name=""))
    direct = logged(reason="PROVIDER_FAILED", decision=None)
    router.logged = [undecided, direct]

    for uid, said in (
        (undecided.request_id, "nothing to replay: it ended before it was decided (JSON_MALFORMED)"),
        (direct.request_id, "nothing to replay: it ended before it was decided (PROVIDER_FAILED)"),
        (ids.new_uid("req"), "REQUEST_NOT_FOUND"),
        ("req_" + "7" + "z" * 25, "REQUEST_NOT_FOUND"),
        ("req_00000000000000000000000000", "REQUEST_NOT_FOUND"),
        ("chg_00000000000000000000000000", "REQUEST_MALFORMED"),
        ("yesterday's", "REQUEST_MALFORMED"),
    ):
        shown = asked("simulate", "guide", "--replay", uid)
        assert shown.exit_code == 1
        assert said in shown.stderr
