from __future__ import annotations

from typing import Any

import pytest

from recommenders.artifact import ArtifactFile, Manifest
from services.inference import domain


@pytest.mark.parametrize(
    ("failures", "uniform", "seconds"),
    [(1, 0.0, 0.5), (1, 1.0, 1.0), (2, 1.0, 2.0), (6, 1.0, 32.0), (7, 1.0, 60.0), (10_000, 1.0, 60.0), (7, 0.0, 30.0)],
)
def test_loading_is_tried_again_after_a_doubling_time_up_to_a_minute(
    failures: int, uniform: float, seconds: float
) -> None:
    assert domain.retry_seconds(failures, uniform) == seconds


def test_microseconds_are_rounded_down_and_never_negative() -> None:
    assert [domain.microseconds(seconds) for seconds in (0.0000019, -1.0)] == [1, 0]


def manifest(**sizes: int) -> Any:
    files = tuple(ArtifactFile(f"{name}.npy", size, "0" * 64) for name, size in sizes.items())
    return Manifest("d" * 64, "als", {}, {}, 10, 100, 50, files, 1)


def test_the_work_of_a_model_is_what_it_multiplies_for_one_user() -> None:
    assert domain.multiplications_of(manifest(item_factors=4 * 100 * 64, user_factors=999_999)) == 6400
    # 20 similarities an item, 5 items a user.
    assert domain.multiplications_of(manifest(similarity_data=4 * 100 * 20)) == 100
    assert domain.multiplications_of(manifest(popularity=800)) == 0
