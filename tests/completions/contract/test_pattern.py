import pytest

from completions.contract.pattern import looks_around, positions, steps_of


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", 0),
        ("abc", 3),
        ("(ab){3}", 6),
        ("((a{10}){10}){10}", 1000),
        ("[a-z]{2,5}|\\d?", 6),
        ("a{2,}b*", 3),
        ("\\p{L}{3}[\\]{9}]{2}", 5),
        ("(?:ab){2}", 4),
        ("a{1000000000}{99}", 1 << 30),
        ("))((", 2),
    ],
)
def test_positions_are_counted_as_often_as_they_are_repeated(pattern: str, expected: int) -> None:
    assert positions(pattern) == expected


@pytest.mark.parametrize(
    "pattern", ["(?=a)", "(?!a)", "(?<=a)", "(?>a)", "(a)\\1", "a++", "(?(1)a|b)", "\\Ga", "\\b?a", "(?:\\b|a)*"]
)
def test_what_may_try_again_and_again_is_known_by_its_text(pattern: str) -> None:
    assert looks_around(pattern)


def test_a_pattern_costs_by_how_many_matches_may_be_under_way() -> None:
    assert steps_of("^[0-9a-f]{8}-[0-9a-f]{4}$").each == 20
    assert steps_of("^[a-z0-9-]{1,64}$").each == 20
    assert steps_of("[a-z0-9-]{1,64}$").each == 1280
    assert steps_of("^.*a.{100}$").each > 2000
    assert steps_of("(?=.*a)b").each > 10 * steps_of("^.*a.{100}$").each
