"""What bash parts at colons is completed as one word."""

from __future__ import annotations

import pytest

from cli.bash_words import joined


@pytest.mark.parametrize(
    ("words", "current", "prefix", "told"),
    [
        (["turnout", "run", "guests"], 2, "", "guests"),
        (["turnout", "run", "guests", ":"], 3, "guests:", "guests:"),
        (["turnout", "run", "guests", ":", "st"], 4, "guests:", "guests:st"),
        (["turnout", "run", "guests:st"], 2, "", "guests:st"),
        (["turnout", "run", "guests", ":", "st", "--var"], 5, "", "--var"),
        (["turnout", "run", "guests", ":", "st", ""], 5, "", ""),
        (["turnout", "run", "guests", ":", "st", "more"], 4, "guests:", "guests:st"),
    ],
)
def test_words_that_colons_part_are_one(words: list[str], current: int, prefix: str, told: str) -> None:
    environment = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(current)}

    assert joined(environment) == prefix
    whole = [*environment["COMP_WORDS"].split("\n"), ""]
    assert whole[int(environment["COMP_CWORD"])] == told
    assert whole[:2] == ["turnout", "run"]


def test_what_is_not_of_bash_stays() -> None:
    environment = {"COMP_WORDS": "turnout run"}

    assert joined(environment) == ""
    assert environment == {"COMP_WORDS": "turnout run"}
