"""What is written into a file reads as it was."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli.apply.export import Dumper
from cli.apply.text import documents
from kit.json import Json

texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.from_regex(r"[-+0-9.eE_:xo~<>*&!|%@`'\"#{}\[\], \n\t]{1,12}", fullmatch=True),
    st.sampled_from(
        ["no", "Yes", "null", "~", "true", "1e5", "012", "09", "1_000", "12:30:00", "0x1f", "=", "<<", ".5", "a\n b\n"]
    ),
)
values: st.SearchStrategy[Json] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@given(values)
def test_any_value_that_is_written_is_read_as_it_was(value: Json) -> None:
    written = yaml.dump({"value": value}, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)

    [found] = documents(written.encode(), source="f.yaml")

    assert found.plain() == {"value": value}


def test_long_texts_are_written_as_people_read_them() -> None:
    text = "You greet guests.\n\nBe brief.\n"

    assert yaml.dump({"content": text}, Dumper=Dumper) == "content: |\n  You greet guests.\n\n  Be brief.\n"
