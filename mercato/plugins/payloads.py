"""Payload: what a job or an event is told, and in words what is wrong with one that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mercato.tools.arguments import reason_of

_LONGEST_FIELD = 100


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong with a payload. `field` is a path, such as `event.data.units`."""

    field: str
    reason: str


def faults_of(error: ValidationError) -> list[Fault]:
    """Return in words what a model refused; what was given is not repeated, for it may be a secret."""
    return [Fault(_path(detail), _reason(detail)) for detail in error.errors(include_url=False, include_input=False)]


def faults_in(model: type[BaseModel], payload: Mapping[str, Any]) -> list[Fault]:
    """Return all that keeps a payload from being one of the model's; nothing where it fits."""
    try:
        model.model_validate(dict(payload))
    except ValidationError as error:
        return faults_of(error)
    return []


def _path(detail: ErrorDetails) -> str:
    path = ".".join(map(str, detail["loc"])) or "payload"
    return path[:_LONGEST_FIELD].encode("utf-8", "replace").decode()


def _reason(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "is no field of it"
        case "literal_error" | "enum":
            return f"must be {detail['ctx']['expected']}"
        case _:
            return reason_of(detail)
