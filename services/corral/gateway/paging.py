"""Lists as OpenAI's clients page through them: behind the id of the last item that they have.

Knows nothing of what is listed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Query
from pydantic import BaseModel

from corral.errors import InvalidRequestError

Item = TypeVar("Item")
After = Annotated[str | None, Query(description="The id of the last item of the page before.")]


class ListOf(BaseModel, Generic[Item]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


async def page_of(
    items: AsyncGenerator[Item], after: str | None, limit: int, id_of: Callable[[Item], str]
) -> tuple[list[Item], bool]:
    """At most `limit` items behind the one with the id `after`, and whether there are more.

    Raises InvalidRequestError where there is no such item.
    """
    found: list[Item] = []
    is_behind = after is None
    async with aclosing(items):
        async for item in items:
            if is_behind and len(found) == limit:
                return found, True
            if is_behind:
                found.append(item)
            is_behind = is_behind or id_of(item) == after
    if not is_behind:
        raise InvalidRequestError(f"after: {after!r:.80} is not in this list.")
    return found, False
