"""Lists come in pages; people want them whole, up to a bound they can raise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Annotated, TypeAlias, TypeVar

import typer

Limit: TypeAlias = Annotated[int, typer.Option(help="How many to show at most.", min=1, max=100_000)]

Item = TypeVar("Item")


def items(page: Callable[[str], tuple[Iterable[Item], str]]) -> Iterator[Item]:
    """Items of all pages, each page only once it is needed.

    :param page: answers the items behind a page token, and the token of the next page
    """
    token = ""
    while True:
        found, token = page(token)
        yield from found
        if not token:
            return


def walk(page: Callable[[str], tuple[Iterable[Item], str]], limit: int) -> list[Item]:
    """Items of all pages until there are no more, or `limit`; `page` as in :func:`items`."""
    return list(islice(items(page), limit))
