from __future__ import annotations

import base64

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Invalid
from kit.paging import Cursor, Page, page, page_request, page_token

SHAPE = (int, str)
LIST = "things of prj_a"


@given(
    number=st.integers(-(1 << 63) + 1, (1 << 63) - 1),
    uid=st.text(st.characters(exclude_characters="\0", codec="utf-8")),
)
def test_a_token_brings_back_where_its_page_ended(number: int, uid: str) -> None:
    token = page_token((number, uid), subject=LIST)

    assert page_request(0, token, subject=LIST, shape=SHAPE).after == (number, uid)
    assert token.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_sizes_have_a_default_and_a_bound(asked: int, given_: int) -> None:
    assert page_request(asked, "", subject=LIST, shape=SHAPE).size == given_


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(Invalid) as failure:
        page_request(-1, "", subject=LIST, shape=SHAPE)

    assert (failure.value.reason, failure.value.violations[0].field) == ("PAGE_SIZE_NEGATIVE", "page_size")


def refused(token: str, subject: str = LIST) -> None:
    with pytest.raises(Invalid) as failure:
        page_request(0, token, subject=subject, shape=SHAPE)
    assert (failure.value.reason, failure.value.violations[0].field) == ("PAGE_TOKEN_INVALID", "page_token")


def test_a_token_of_another_list_is_refused() -> None:
    refused(page_token((1, "a"), subject=LIST), "things of prj_b")


@given(
    token=st.text(min_size=1, max_size=60)
    | st.binary(min_size=1, max_size=60).map(lambda b: base64.b64encode(b).decode())
)
def test_a_made_up_token_is_refused(token: str) -> None:
    refused(token)


@given(position=st.integers(0, 200), character=st.sampled_from("ABCabc019-_"))
def test_an_altered_token_is_refused_or_means_the_same(position: int, character: str) -> None:
    token = page_token((1, "a"), subject=LIST)
    position %= len(token)
    altered = token[:position] + character + token[position + 1 :]
    try:
        found = page_request(0, altered, subject=LIST, shape=SHAPE)
    except Invalid:
        return
    assert found.after == (1, "a"), "only bits that base64 ignores were altered"


@pytest.mark.parametrize(
    "cursor", [(1,), ("a", 1), (1, "a", 2), (True, "a"), (1 << 63, "a"), (1, "a\0"), (), (1.0, "a")]
)
def test_a_cursor_of_another_shape_or_beyond_the_database_is_refused(cursor: tuple[int | str, ...]) -> None:
    refused(page_token(cursor, subject=LIST))


@given(count=st.integers(0, 30), size=st.integers(1, 9))
def test_pages_hold_every_element_once_and_in_order(count: int, size: int) -> None:
    everything = list(range(count))
    found: list[int] = []
    token = ""
    while True:
        request = page_request(size, token, subject=LIST, shape=(int,))
        rest = [each for each in everything if request.after is None or (each,) > request.after]
        answer: Page[int] = page(rest[: size + 1], request, subject=LIST, cursor=_cursor)
        found += answer.items
        token = answer.next_token
        if not token:
            break
        assert len(answer.items) == size

    assert found == everything


def _cursor(element: int) -> Cursor:
    return (element,)


def test_a_token_is_no_readable_promise_but_says_nothing_secret() -> None:
    raw = base64.urlsafe_b64decode(page_token((7, "a"), subject=LIST) + "==")

    assert orjson.loads(raw[12:]) == [7, "a"]
