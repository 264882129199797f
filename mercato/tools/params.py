"""Parameters that many tools share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Limit = Annotated[int, Field(ge=1, le=25, description="How many to return, 25 at most.")]
Cursor = Annotated[
    str | None, Field(max_length=1000, description="`next_cursor` of the page before, to get the next one.")
]
Query = Annotated[str, Field(min_length=1, max_length=200, description="What to look for.")]
Detail = Annotated[
    Literal["concise", "full"], Field(description="`concise` for the essentials, `full` for every field.")
]
