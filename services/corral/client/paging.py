"""Lists that come in pages.

Knows nothing of what is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from corral.client.wire import PAGE_SIZE

_Item = TypeVar("_Item")


def all_pages(
    page: Callable[[str, int], tuple[Sequence[_Item], str]], limit: int | None = None
) -> Iterator[_Item]:
    """The items of page after page, at most `limit`.

    `page` fetches one, given its token and how many items it may have, and says the next one's token.
    """
    token, left = "", limit
    while left is None or left > 0:
        items, token = page(token, PAGE_SIZE if left is None else min(PAGE_SIZE, left))
        yield from islice(items, left)
        if not token:
            return
        left = None if left is None else left - len(items)
