from __future__ import annotations

from typing import ClassVar

import pytest

from kit.values import Entity, Value, field, replace


class Money(Value):
    micros: int
    currency: str = "USD"


class Letter(Value):
    hidden: ClassVar = frozenset(("text",))

    to: str
    text: str


class Basket(Entity):
    hidden: ClassVar = frozenset(("owner",))

    owner: str
    goods: list[str] = field(default_factory=list)


def test_values_are_equal_and_hashed_by_their_fields() -> None:
    assert Money(5) == Money(5, "USD") != Money(5, "EUR")
    assert len({Money(5), Money(5), Money(6)}) == 2


def test_values_of_two_types_differ() -> None:
    class Weight(Value):
        micros: int
        currency: str = "USD"

    assert Money(5) != Weight(5)  # type: ignore[comparison-overlap]


def test_a_value_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        setattr(Money(5), "micros", 6)  # noqa: B010  # mypy refuses the assignment

    assert replace(Money(5), micros=6) == Money(6)


def test_what_is_given_to_a_value_is_checked_by_name_alone() -> None:
    with pytest.raises(TypeError):
        Money(5, unit="cent")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Money()  # type: ignore[call-arg]


def test_entities_are_equal_to_themselves_alone_and_share_nothing() -> None:
    one, other = Basket("me"), Basket("me")
    one.goods.append("apple")

    assert one != other
    assert len({one, other}) == 2
    assert other.goods == []


def test_what_is_hidden_is_not_shown() -> None:
    assert repr(Letter("you", "a secret")) == "Letter(to='you')"
    assert Letter("you", "a secret").__rich_repr__() == [("to", "you")]
    assert repr(Basket("me", ["apple"])) == "Basket(goods=['apple'])"
    assert repr(Money(5)) == "Money(micros=5, currency='USD')"
