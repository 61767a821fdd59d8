"""What `turnout stats` prints; that it counts what was called, the tests of commands say."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from cli import output, stats
from turnout.analytics.v1 import metrics_service_pb2 as pb

COLUMNS = "deployment variant requests errors cancelled lost tokens in tokens out cost p50 p95 p99"


def row(deployment: str = "", variant: str = "", *, lost: int = 0) -> pb.MetricsRow:
    return pb.MetricsRow(
        deployment_slug=deployment,
        variant_slug=variant,
        requests=1200,
        cancelled=lost,
        lost=lost,
        input_tokens=16400,
        output_tokens=13200,
        unknown_cost_requests=5,
        latency_p50_us=1_239_400,
        latency_p95_us=8_132_400,
        latency_p99_us=8_132_400,
    )


def lines(capsys: pytest.CaptureFixture[str], *, lost: int = 0) -> list[str]:
    rows = [row("travel-assistant", "plain", lost=lost), row()]
    stats.tell(pb.QueryMetricsResponse(rows=rows, total=row(lost=lost)))
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_pipe_gets_every_column_in_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    header, *rows = lines(capsys)

    assert " ".join(header.split()) == COLUMNS
    assert [line.split()[0] for line in rows] == ["travel-assistant", "(none)", "total"]


def test_a_terminal_with_less_room_does_without_what_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cell_len(lines(capsys)[0])
    monkeypatch.setattr(output, "_room", lambda: whole - len("  lost  cancelled") - 1)

    assert " ".join(lines(capsys)[0].split()) == COLUMNS.replace(" cancelled lost", "").replace(" p99", "")
    monkeypatch.setattr(output, "_room", lambda: whole - 1)
    assert " ".join(lines(capsys, lost=1)[0].split()) == COLUMNS.replace(" p99", "")


@pytest.mark.parametrize("width", [60, 80])
def test_no_line_is_longer_than_a_terminal_and_no_count_is_lost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(output, "_room", lambda: width)

    narrow = lines(capsys, lost=1)

    assert max(map(cell_len, narrow)) <= width
    shown = " ".join("\n".join(narrow).split())
    assert "travel-assistant variant plain requests 1,200 errors 0 cancelled 1 lost 1 tokens in 16,400" in shown
    assert "tokens out 13,200 cost $0 + 5 unknown p50 1,239.4 ms p95 8,132.4 ms" in shown
