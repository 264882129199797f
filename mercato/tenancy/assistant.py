"""What a tenant decides about its assistants: which tools are listed, and what is asked before it is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

SECTION = "assistant"

Surface = Literal["full", "search"]


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"each name once, but {', '.join(sorted(twice))} is there more often")
    return names


Names = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(max_length=50), AfterValidator(_each_once)
]


class AssistantSettings(BaseModel):
    """The section `assistant`."""

    model_config = ConfigDict(frozen=True)

    surface: Surface = Field(
        default="full",
        description="`full` lists every tool; `search` lists a search, two to execute, and those pinned.",
    )
    pinned_tools: Names = Field(default=(), description="Tools that the search surface lists beside the search.")
    search_clients: Names = Field(
        default=(), description="Clients, by the name they send, that get the search surface at all times."
    )
    unconfirmed_categories: Names = Field(
        default=(), description="Categories whose tools do what cannot be undone without asking first."
    )

    def surface_for(self, client: str | None) -> Surface:
        """Return the surface of a client that asked for none."""
        return "search" if client is not None and client in self.search_clients else self.surface


def assistant_settings(stored: Mapping[str, Any]) -> AssistantSettings:
    """Return what is stored, over the defaults; what cannot be read any more counts as not set."""
    try:
        return AssistantSettings.model_validate(stored)
    except ValidationError as error:
        refused = {detail["loc"][0] for detail in error.errors(include_url=False) if detail["loc"]}
        return AssistantSettings.model_validate({key: value for key, value in stored.items() if key not in refused})
