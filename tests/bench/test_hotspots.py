from __future__ import annotations

from bench.hotspots import summary_of


def test_time_belongs_to_the_innermost_frame_and_to_its_library() -> None:
    summary = summary_of(
        [
            "main (services/__main__.py:1);run (kit/spool/spool.py:7) 30",
            "main (services/__main__.py:1);run (kit/spool/spool.py:8);get (aiohttp/client.py:2) 60",
            "main (services/__main__.py:1);f (/x/site-packages/aiohttp/web.py:2) 10",
        ]
    )

    lines = [line.split() for line in summary.splitlines()]
    assert ["aiohttp", "70.0", "%"] in lines
    assert ["kit/spool", "30.0", "%"] in lines
    assert ["run", "(kit/spool/spool.py)", "30.0", "%"] in lines
    assert ["run", "(kit/spool/spool.py)", "90.0", "%"] in lines
    assert ["main", "(services/__main__.py)", "100.0", "%"] in lines


def test_no_samples_are_said_to_be_none() -> None:
    assert summary_of([]) == "there is no profile: no samples"
