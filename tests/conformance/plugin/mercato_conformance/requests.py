"""Raw tools that ask the client for what `ctx.ask` cannot say: sampling, roots, several things at once, titled enums.

The tools of 2025-11-25 send the client a request; those of 2026-07-28 return what they need as their result.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import mcp_types as mcp
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from mercato_conformance.category import conformance
from mercato_conformance.schemas import NO_ARGUMENTS

_CHOICES = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": [{"const": f"value{number}", "title": f"Option {number}"} for number in (1, 2, 3)],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
        "titledMulti": {
            "type": "array",
            "items": {"anyOf": [{"const": f"value{number}", "title": f"Choice {number}"} for number in (1, 2, 3)]},
        },
    },
}
_NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_PROMPT = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "description": "What to ask the model."}},
    "required": ["prompt"],
}

Result = mcp.CallToolResult | mcp.InputRequiredResult


@conformance.raw_tool(input_schema=_PROMPT, read_only=True)
async def test_sampling(raw: Any, arguments: dict[str, Any]) -> Result:
    """Have the client's model answer a prompt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        answer = await raw.ctx.session.create_message(
            messages=_question(arguments["prompt"]), max_tokens=100, related_request_id=raw.ctx.request_id
        )
    return said(f"LLM response: {_text_of(answer)}")


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_elicitation_sep1330_enums(raw: Any, arguments: dict[str, Any]) -> Result:
    """Ask with each kind of choice."""
    answer = await raw.ctx.session.elicit_form("Please choose", _CHOICES, related_request_id=raw.ctx.request_id)
    return said(f"User response: action={answer.action}, content={json.dumps(answer.content)}")


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_missing_capability(raw: Any, arguments: dict[str, Any]) -> Result:
    """Refuse a client that has not declared sampling."""
    if not _can_sample(raw):
        raise MCPError(
            mcp.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This needs a client that can sample.",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return said("The client can sample.")


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_input_required_result_sampling(raw: Any, arguments: dict[str, Any]) -> Result:
    """Ask the client's model for a capital."""
    answer = _answers(raw).get("capital_question")
    if not isinstance(answer, mcp.CreateMessageResult):
        return _needs(capital_question=_sampling("What is the capital of France?", 100))
    return said(f"The model said: {_text_of(answer)}")


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_input_required_result_list_roots(raw: Any, arguments: dict[str, Any]) -> Result:
    """Ask for the client's roots."""
    answer = _answers(raw).get("client_roots")
    if not isinstance(answer, mcp.ListRootsResult):
        return _needs(client_roots=mcp.ListRootsRequest())
    return said("Roots: " + ", ".join(str(root.uri) for root in answer.roots))


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_input_required_result_multiple_inputs(raw: Any, arguments: dict[str, Any]) -> Result:
    """Ask the person, the model and the client at once."""
    questions: dict[str, Any] = {
        "user_name": _form("What is your name?"),
        "greeting": _sampling("Generate a greeting", 50),
        "client_roots": mcp.ListRootsRequest(),
    }
    if not questions.keys() <= _answers(raw).keys():
        return mcp.InputRequiredResult(input_requests=questions, request_state="asked")
    return said("All inputs received.")


@conformance.raw_tool(input_schema=NO_ARGUMENTS, read_only=True)
async def test_input_required_result_capabilities(raw: Any, arguments: dict[str, Any]) -> Result:
    """Ask only for what the client has declared."""
    questions: dict[str, Any] = {}
    if _can_sample(raw):
        questions["sample"] = _sampling("Say hello", 50)
    if (capabilities := raw.ctx.session.client_capabilities) and capabilities.elicitation is not None:
        questions["ask"] = _form("What is your name?")
    return mcp.InputRequiredResult(input_requests=questions or None, request_state="asked")


def said(text: str) -> mcp.CallToolResult:
    """Return a result of one text."""
    return mcp.CallToolResult(content=[mcp.TextContent(text=text)])


def _text_of(answer: mcp.CreateMessageResult) -> str:
    return answer.content.text if isinstance(answer.content, mcp.TextContent) else answer.content.type


def _answers(raw: Any) -> dict[str, Any]:
    return raw.params.input_responses or {}


def _can_sample(raw: Any) -> bool:
    capabilities = raw.ctx.session.client_capabilities
    return capabilities is not None and capabilities.sampling is not None


def _needs(**questions: Any) -> mcp.InputRequiredResult:
    return mcp.InputRequiredResult(input_requests=questions)


def _form(message: str) -> mcp.ElicitRequest:
    return mcp.ElicitRequest(params=mcp.ElicitRequestFormParams(message=message, requested_schema=_NAME))


def _sampling(text: str, max_tokens: int) -> mcp.CreateMessageRequest:
    return mcp.CreateMessageRequest(
        params=mcp.CreateMessageRequestParams(messages=_question(text), max_tokens=max_tokens)
    )


def _question(text: str) -> list[mcp.SamplingMessage]:
    return [mcp.SamplingMessage(role="user", content=mcp.TextContent(text=text))]
