"""`turnout logs`, against a log that answers what a test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.cells import cell_len
from typer.testing import Result

from cli import output
from kit import ids
from tests.cli.routers import Router, decision, serving
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.router.v1 import decision_pb2

Asked: TypeAlias = Callable[..., Result]
MATCHED = decision()
DEFAULT = decision(evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED, rule="", rule_name="", propensity=0.7)
OUTSIDE = decision(outside_coverage=True, propensity=0.0001)
REFUSED = decision(variant="", variant_slug="", propensity=0)
COLUMNS = ["time", "request", "deployment", "variant", "status", "latency", "tokens", "attempts", "by", "propensity"]
UNDECIDED = decision_pb2.Decision(deployment="dep_1", alias="live", revision="rev_1", revision_number="1.3")


def logged(decided: decision_pb2.Decision, **fields: Any) -> request_pb2.RequestServed:
    uid = ids.new_uid("req")
    start = Timestamp()
    start.FromMilliseconds(ids.time_ms_of(uid))
    usual: dict[str, Any] = {
        "request_id": uid,
        "deployment_slug": "guide",
        "start_time": start,
        "decision": decided,
        "status": request_pb2.REQUEST_STATUS_OK,
        "source": execution_pb2.SOURCE_API,
    }
    return request_pb2.RequestServed(**(usual | fields))


@pytest.fixture
def router() -> Router:
    return Router(logged=[logged(each) for each in (MATCHED, DEFAULT, OUTSIDE, REFUSED, UNDECIDED)])


@pytest.fixture
def asked(turnout: Callable[..., Result], router: Router) -> Iterator[Asked]:
    with serving(router) as address:
        yield lambda *arguments: turnout(*arguments, TURNOUT_ADDRESS=address, TURNOUT_PROJECT="shop")


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [line.rstrip() for line in result.stdout.splitlines()]


def test_what_decided_and_how_likely_stands_behind_each_request(asked: Asked) -> None:
    header, *rows = lines(asked("logs"))

    assert header.split() == COLUMNS
    assert [" ".join(row.split()[-3:]) for row in rows] == [
        "Spanish 30 %",
        "default 70 %",
        "< 0.1 %",
        "0 Spanish –",
        "0 – –",
    ]
    assert "baseline" in rows[2]


@pytest.mark.parametrize("width", [116, 120])
def test_a_narrow_terminal_shows_what_it_showed_without_that(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    whole = lines(asked("logs"))
    monkeypatch.setattr(output, "_room", lambda: width)

    narrow = lines(asked("logs"))

    assert narrow == [line[: whole[0].index("  by")].rstrip() for line in whole]


@pytest.mark.parametrize("width", [60, 80])
def test_no_line_is_longer_than_a_terminal_and_ids_stay_whole(
    asked: Asked, router: Router, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    refused = logged(UNDECIDED, status=request_pb2.REQUEST_STATUS_ERROR, reason="DEPLOYMENT_KIND_MISMATCH")
    router.logged = [refused]
    monkeypatch.setattr(output, "_room", lambda: width)

    narrow = lines(asked("logs"))

    assert max(map(cell_len, narrow)) <= width
    for cell in (refused.start_time.ToJsonString(), f"request {refused.request_id}", "attempts 0"):
        assert cell in "\n".join(narrow)
    assert "status ERROR DEPLOYMENT_KIND_MISMATCH" in "\n".join(narrow)


def test_a_call_without_a_deployment_leaves_no_column_empty(asked: Asked, router: Router) -> None:
    router.logged = [logged(decision_pb2.Decision(), deployment_slug="")]

    assert lines(asked("logs"))[1].split()[2:5] == ["–", "–", "OK"]


def test_a_terminal_with_room_for_the_rule_alone_shows_it(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lines(asked("logs"))
    monkeypatch.setattr(output, "_room", lambda: cell_len(whole[0]) - 1)

    assert lines(asked("logs"))[0].endswith(" by")


def test_the_name_of_a_rule_that_is_long_is_cut(asked: Asked, router: Router) -> None:
    router.logged = [logged(decision(rule_name="漢" * 100))]

    assert f"  {'漢' * 15}…" in lines(asked("logs"))[1]


def test_one_request_is_shown_in_full(asked: Asked, router: Router) -> None:
    whole = logged(
        MATCHED,
        routing_key="user-42",
        context_json='{"country":"ES"}',
        provider="openai",
        model="gpt-4o",
        attempts=[execution_pb2.Attempt(provider="openai", model="gpt-4o", latency_us=1500)],
    )
    router.logged.append(whole)

    shown = "\n".join(lines(asked("logs", whole.request_id)))

    for line in (
        f"request      {whole.request_id}",
        "deployment   guide:live",
        "revision     1.3 (rev_1)",
        "status       OK",
        "evaluation   MATCHED by rule Spanish (rul_1)",
        "variant      spanish (var_1)",
        "propensity   30 % of random keys with this context get it",
        "sticks to    the routing key",
        "routing key  user-42",
        'context      {"country":"ES"}',
        "model        openai/gpt-4o",
    ):
        assert line in shown
    assert shown.splitlines()[-1].split() == ["1", "openai", "gpt-4o", "OK", "0.0", "ms", "1.5", "ms"]


def test_one_request_says_what_there_is_and_no_more(asked: Asked, router: Router) -> None:
    of = {
        name: "\n".join(" ".join(line.split()) for line in lines(asked("logs", router.logged[at].request_id)))
        for at, name in enumerate(("matched", "default", "outside", "refused", "undecided"))
    }

    assert "evaluation DEFAULT_MATCHED\n" in of["default"]
    assert "evaluation MATCHED by rule Spanish (rul_1); outside coverage: the baseline" in of["outside"]
    assert "evaluation MATCHED by rule Spanish (rul_1)\nvariant –\nsticks to" in of["refused"]
    assert "evaluation –\nvariant –\nsource api" in of["undecided"]
    assert "revision 1.3 (rev_1)" in of["undecided"]
    for told in of.values():
        assert not {"routing", "thread", "context", "attempt"} & {line.split()[0] for line in told.splitlines()}


def test_programs_get_one_request_as_in_the_list(asked: Asked, router: Router) -> None:
    uid = router.logged[0].request_id

    found = json.loads(asked("--json", "logs", uid).stdout)

    assert found == next(
        each for each in json.loads(asked("--json", "logs").stdout) if each["request"]["request_id"] == uid
    )


def test_a_request_that_is_not_there_or_is_asked_for_with_more_is_refused(asked: Asked) -> None:
    missing = asked("logs", ids.new_uid("req"))
    assert (missing.exit_code, "REQUEST_NOT_FOUND" in missing.stderr) == (1, True)
    assert asked("logs", ids.new_uid("req"), "--errors").exit_code == 2
