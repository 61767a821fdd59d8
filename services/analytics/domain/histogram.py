"""Latencies as counts in logarithmic buckets: added up without loss, and read as quantiles with a bounded error.

Source: C. Masson, J. E. Rim, H. K. Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees" (2019), PVLDB 12(12), 2195-2205.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

GAMMA: Final = 1.02
"""Ratio of a bucket's bounds: a value is told with a relative error of at most (γ − 1) / (γ + 1) = 0.99 %."""
ZERO_BUCKET: Final = -1
"""Holds latencies of 0 µs, which have no logarithm."""

_LOG_GAMMA: Final = math.log(GAMMA)


def bucket_of(latency_us: int) -> int:
    """The bucket ⌈log_γ x⌉, which holds (γ^(i−1), γ^i]; :data:`ZERO_BUCKET` for 0.

    :param latency_us: microseconds, not negative
    """
    return math.ceil(math.log(latency_us) / _LOG_GAMMA) if latency_us else ZERO_BUCKET


def latency_of(bucket: int) -> int:
    """The value, in whole microseconds, that stands for a bucket: 2 γ^i / (γ + 1), equally far from both bounds."""
    return 0 if bucket == ZERO_BUCKET else round(2 * GAMMA**bucket / (GAMMA + 1))


def quantiles(counts: Mapping[int, int], wanted: Sequence[float]) -> list[int] | None:
    """Latencies, in microseconds, below or at which these shares of the counted values lie (nearest rank).

    Within 1 % of the exact ones, plus half a microsecond of rounding.

    :param counts: by bucket
    :param wanted: shares in (0, 1], ascending
    :return: None if nothing is counted
    """
    total = sum(counts.values())
    if not total:
        return None
    ranks = [max(1, math.ceil(share * total)) for share in wanted]
    found: list[int] = []
    passed = 0
    for bucket in sorted(counts):
        passed += counts[bucket]
        while len(found) < len(ranks) and passed >= ranks[len(found)]:
            found.append(latency_of(bucket))
    return found
