"""Calls: with a token, in both eras: the server introduces itself, lists its tools, and runs one that only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mercato.server.doctor.challenge import parse_challenge
from mercato.server.doctor.finding import Finding, fault, ok, warning
from mercato.server.doctor.judgement import redirected, refused, slow, unanswered
from mercato.server.doctor.messages import HANDSHAKE, MODERN, Line, error_code_of, result_of
from mercato.server.doctor.wire import Answer

if TYPE_CHECKING:
    from mercato.server.doctor.examination import Examination

Tool = dict[str, Any]

_WRONG_TOKEN = "connector-doctor-wrong-token"  # noqa: S105  # wrong on purpose
_OTHER_ERA = {-32601, -32022, -32600, -32602, -32000}
"""What servers of one era answer to the first request of the other."""
_MOST_PAGES = 20


async def check_calls(examination: Examination) -> list[Finding]:
    """Check a wrong token, then each era with the right one, then one call."""
    found = [judge_wrong_token(await Line(examination.wire, examination.url, MODERN, _WRONG_TOKEN).hello())]
    served: list[tuple[Line, list[Tool]]] = []
    for era in (MODERN, HANDSHAKE):
        line = Line(examination.wire, examination.url, era, examination.access_token)
        greeted, tools = await _greet_and_list(line)
        found += greeted
        if tools is not None:
            served.append((line, tools))
    found += judge_eras([tools for _, tools in served])
    if served:
        found += await _call_one(*served[0])
    for line, _ in served:
        await line.end()
    return found


def judge_wrong_token(answer: Answer) -> Finding:
    """Check that a token that is not good sends the client to renew it."""
    missing = unanswered(answer)
    if missing is not None:
        return missing
    if answer.status == 401 and parse_challenge(answer).get("error") == "invalid_token":
        return ok("a wrong token is answered 401 invalid_token")
    mend = 'Answer 401 with `WWW-Authenticate: Bearer error="invalid_token", …`: clients renew their token then.'
    if answer.status == 401:
        return warning("a wrong token is answered 401, but not with invalid_token", mend)
    return fault(f"a wrong token is answered {answer.status}", mend)


async def _greet_and_list(line: Line) -> tuple[list[Finding], list[Tool] | None]:
    """Return what an era showed, and its tools; None where it is not served."""
    hello = await line.hello()
    result = result_of(hello)
    if result is None:
        return [_not_greeted(hello, line.era)], None
    if line.era == HANDSHAKE:
        await line.notify("notifications/initialized")
    listed = await line.request("tools/list")
    seconds, tools = listed.seconds, _tools(listed)
    if tools is None:
        return [_not_answered(listed, f"{line.era}: tools/list")], None
    for _ in range(_MOST_PAGES):
        cursor = (result_of(listed) or {}).get("nextCursor")
        if not isinstance(cursor, str) or not cursor:
            break
        listed = await line.request("tools/list", {"cursor": cursor})
        seconds += listed.seconds
        tools += _tools(listed) or []
    said = f"{line.era}: greeted in {hello.seconds:.2f} s, {len(tools)} tools listed in {seconds:.2f} s"
    return [ok(said), *slow(hello), *slow(listed)], tools


def _tools(answer: Answer) -> list[Tool] | None:
    listed = (result_of(answer) or {}).get("tools")
    return [tool for tool in listed if isinstance(tool, dict)] if isinstance(listed, list) else None


def _not_greeted(answer: Answer, era: str) -> Finding:
    if answer.status in {200, 400, 404, 405} and error_code_of(answer) in _OTHER_ERA:
        mend = "Serve both eras for now: clients are moving from the one to the other."
        return warning(f"{era} is not served", mend)
    return _not_answered(answer, era)


def _not_answered(answer: Answer, what: str) -> Finding:
    trouble = unanswered(answer) or (redirected(answer) if answer.location else refused(answer))
    if trouble is not None:
        return trouble
    if answer.status == 401:
        mend = "Compare the token's audience and issuer with what the server expects; see MERCATO_PUBLIC_URL."
        return fault(f"{what}: the token is refused (401)", mend)
    if answer.status == 403:
        return fault(f"{what}: 403, the token lacks a scope", "Grant what the challenge's scope names.")
    code = error_code_of(answer)
    said = f"{answer.status}" if code is None else f"{answer.status}, error {code}"
    return fault(f"{what}: no result ({said})", "Read the server's log; it answers no message of this form.")


def judge_eras(lists: list[list[Tool]]) -> list[Finding]:
    """Compare what the eras list."""
    if not lists:
        return [fault("no tools can be listed", "Mend what is said above first.")]
    if not lists[0]:
        mend = "Switch categories on, or grant more: see what the tenant has on and what was ticked at the consent."
        return [warning("the list of tools is empty", mend)]
    names = [[tool.get("name") for tool in tools] for tools in lists]
    if any(other != names[0] for other in names[1:]):
        return [warning("the eras list different tools", "Serve one list: clients of both eras are the same people.")]
    return []


async def _call_one(line: Line, tools: list[Tool]) -> list[Finding]:
    name = harmless(tools)
    if not name:
        return [ok("no tool was called: none is read-only and without required arguments")] if tools else []
    answer = await line.request("tools/call", {"name": name, "arguments": {}})
    result = result_of(answer)
    if result is None:
        return [_not_answered(answer, f"tools/call of {name}")]
    if result.get("isError") is True:
        return [warning(f"{name} was called and says that it failed", "Call it from a client to read why.")]
    return [ok(f"{name} answered in {answer.seconds:.2f} s"), *slow(answer)]


def harmless(tools: list[Tool]) -> str:
    """Return the name of the first tool that only reads and needs no arguments; empty where there is none."""
    for tool in tools:
        hints, schema = tool.get("annotations"), tool.get("inputSchema")
        reads = isinstance(hints, dict) and hints.get("readOnlyHint") is True
        if reads and isinstance(schema, dict) and not schema.get("required") and isinstance(tool.get("name"), str):
            return str(tool["name"])
    return ""
