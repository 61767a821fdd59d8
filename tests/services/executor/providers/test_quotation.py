from __future__ import annotations

import html
import json
import random
import re
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.view import Provider, ProviderKind
from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from kit.secrets import Secret
from services.executor.domain import ProviderRequest
from services.executor.providers.quotation import MAX_COMPARED_CHARACTERS, MAX_QUOTED_CHARACTERS, quoted

CREDENTIAL = "sk-planted-credential-0123456789"
PROVIDER = Provider("p", "prj", "main", ProviderKind.OPENAI, "https://x")


def quotation(words: str, *messages: Message | str) -> str:
    said = tuple(Message(Role.USER, each) if isinstance(each, str) else each for each in messages)
    return quoted(words, ProviderRequest(PROVIDER, Secret(CREDENTIAL), "m", b"", said))


@pytest.mark.parametrize(
    "words",
    [
        "temperature must be at most 2",
        "Invalid schema for function 'get_weather': object has no properties",
        "max_tokens: 8193 > 8192, which is the maximum allowed for claude-3-5-sonnet-20241022",
        "The user's question could not be answered",
    ],
)
def test_what_a_provider_says_of_its_own_is_kept(words: str) -> None:
    assert quotation(words, "What is the capital of France?", "My number is 078-05-1120.") == f': "{words}"'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("bad input near 'number is 078-05-1120'", "my social security number is 078-05-1120."),
        ("bad input 078-05-1120.", "It is 078-05-1120"),
        ("bad input <id_078-05-1120>", "(078-05-1120)"),
        ("bad token 078-05-1120", "ref:A-078-05-1120-Z"),
        ("cannot mail ada99@example.org!", "write to ada99@example.org"),
        ("near 'e ate lunch with Grace'", "She ate lunch with Grace Hopper"),
        ("near 'ate lunch with Grace Hop'", "She ate\nlunch   with\tGrace Hopper"),
        ("near 'ate lunch\nwith Grace Hop'", "She ate lunch with Grace Hopper"),
        ("near 'secret!!'", "secret!!"),
        ("invalid value '4711'", "my PIN is 4711"),
        ("invalid value '030 12 34'", "call me at 030 12 34"),
    ],
)
def test_a_part_of_what_was_said_is_not_repeated(words: str, said: str) -> None:
    quote = quotation(words, said)
    assert "<content>" in quote
    for piece in ("078-05-1120", "ada99", "lunch with", "secret!!"):
        assert piece not in quote
    assert quote.startswith(': "' + words.split()[0])


@pytest.mark.parametrize("wrap", [json.dumps, repr, html.escape, lambda text: json.dumps(json.dumps(text))])
@pytest.mark.parametrize(
    "said",
    [
        "Name: Bob Smith\nTel: 030 1234567\nPIN: 4711",
        "Меня зовут Иван Петров, у меня долг",
        'She said "no" & <left> the "old" house in C:\\users',
        "smile \U0001f600 and be well, Grace",
        'a text with "\\n" and "\\u041c" and &amp; in it',
    ],
)
def test_what_is_escaped_is_the_same_text(wrap: Callable[[str], str], said: str) -> None:
    kept = quotation(f"bad input {wrap(said)}", said).replace("bad input", "").replace("<content>", "")
    assert kept.strip(" :'\"\\") == ""


def test_all_that_a_call_says_counts() -> None:
    message = Message(
        Role.ASSISTANT,
        parts=(
            TextPart("born 1815-12-10"),
            ImagePart("https://x/?token=t0ken-9"),
            ImagePart("data:image/png;base64,iVBORw0KGgoAAA"),
        ),
        tool_calls=(ToolCall("c", "pay", '{"card": "4111-1111-1111-1111"}'),),
        reasoning="the pin is 90210",
        name="ada1815",
    )
    for piece in ("1815-12-10", "t0ken-9", "iVBORw0KGgoAAA", "4111-1111-1111-1111", "90210", "ada1815"):
        assert quotation(f"cannot take {piece} here", message) == ': "cannot take <content> here"'


LETTERS = "".join(random.Random(5).choices(string.ascii_lowercase, k=2000))


@pytest.mark.parametrize("at", range(1, 40))
def test_sixteen_characters_are_a_part_wherever_they_stand(at: int) -> None:
    assert quotation(f"no {LETTERS[at : at + 16]}!", LETTERS) == ': "no <content>!"'
    assert quotation(f"no {LETTERS[at : at + 15]}!", LETTERS) == f': "no {LETTERS[at : at + 15]}!"'


@pytest.mark.parametrize("before", range(1000, 1024))
def test_what_is_cut_in_two_where_comparing_ends_is_not_shown(before: int) -> None:
    said, other = LETTERS[: before - 1], LETTERS[1500:1516]
    quote = quotation(f"{said}!{other} and so on", said, other)
    assert [at for at in range(13) if other[at : at + 4] in quote] == []


def test_a_credential_is_masked_before_anything_is_cut() -> None:
    assert quotation(f"{CREDENTIAL} is no key", CREDENTIAL[:20]) == ': "<secret> is no key"'


def test_beside_a_very_long_call_nothing_is_quoted() -> None:
    assert quotation("too long", "x" * MAX_COMPARED_CHARACTERS) == ': "too long"'
    assert quotation("too long", "x" * MAX_COMPARED_CHARACTERS, "y") == ""
    # A picture that is sent along is compared in part only.
    picture = ImagePart("data:image/png;base64," + "A" * MAX_COMPARED_CHARACTERS)
    assert quotation("picture too large", Message(Role.USER, parts=(picture,))) == ': "picture too large"'


def test_nothing_to_quote_is_nothing() -> None:
    assert quotation("", "Hi.") == quotation(" \n\x00", "Hi.") == ""


def test_a_long_quotation_is_cut() -> None:
    quote = quotation("no " * 1000, "Hi.")
    assert quote.endswith('…"')
    assert len(quote) == MAX_QUOTED_CHARACTERS + len(': ""')


@pytest.mark.parametrize("text", ["a", "1", "ab1-", "a@@@@@@@", "a\n", "x\x00"])
def test_whatever_is_said_it_is_compared_in_no_time(text: str) -> None:
    long = (text * MAX_COMPARED_CHARACTERS)[:MAX_COMPARED_CHARACTERS]
    assert len(quotation(text * 30_000, long)) < 300
    assert len(quotation(text * 30_000, *[text * 8] * 20_000)) < 300


alphabet = st.sampled_from("ab1-. \n\x00é")
texts = st.text(alphabet, max_size=60)


@st.composite
def echoes(draw: st.DrawFn) -> tuple[str, list[str]]:
    """What a call says, and an error that repeats parts of it among words of its own."""
    said = draw(st.lists(texts, min_size=1, max_size=4))
    pieces = []
    for _ in range(draw(st.integers(1, 60))):
        text = draw(st.sampled_from(said))
        start = draw(st.integers(0, len(text)))
        pieces += [draw(st.sampled_from(["", " ", "no: ", "x"])), text[start : start + draw(st.integers(0, 40))]]
    return "".join(pieces), said


@given(echoes(), st.sampled_from([str, json.dumps]))
def test_no_run_and_no_number_of_a_call_is_in_its_error(echo: tuple[str, list[str]], wrapped: type[str]) -> None:
    words, said = echo
    quote = quotation(wrapped(words), *said)
    assert len(quote) <= MAX_QUOTED_CHARACTERS + len(': ""')
    for kept in quote[3:-1].replace("…", "<content>").split("<content>"):
        runs = {kept[at : at + 16] for at in range(len(kept) - 15)}
        assert not [run for run in runs for text in said if run in text]
        numbers = [token for token in re.findall(r"[\w@.+-]{5,15}", kept) if re.search(r"\d", token)]
        assert not [token for token in numbers for text in said if token in text.split()]
