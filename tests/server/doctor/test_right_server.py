"""A server that does everything right: nothing is found, nothing is left behind, nothing secret is shown."""

from __future__ import annotations

from mercato.server.doctor import STEPS, Finding
from mercato.server.doctor.refusals import FOREIGN_REDIRECT
from tests.server.doctor.examining import findings_about, findings_of, worse
from tests.server.doctor.fake import API_KEY, FakeServer


async def test_a_right_server_has_neither_faults_nor_warnings_in_any_step():
    server = FakeServer()
    findings = await findings_about(server)
    assert worse(findings) == []
    assert list(dict.fromkeys(one.step for one in findings)) == [step.name for step in STEPS]


async def test_what_was_granted_is_given_back_and_sessions_are_ended():
    server = FakeServer()
    await findings_about(server)
    assert len(server.revoked) == 1
    assert server.called[-1] == "DELETE"


async def test_only_a_tool_that_reads_and_needs_nothing_is_called():
    server = FakeServer()
    findings = await findings_about(server)
    assert server.called.count("tools/call") == 1
    assert any(one.message.startswith("read_all answered") for one in findings)


async def test_no_finding_holds_a_code_a_token_or_a_verifier():
    server = FakeServer()
    shown = "".join(one.message + one.mend for one in await findings_about(server))
    secrets = {*server.access_tokens, *server.refresh_tokens, *server.renewed, *server.spent_codes}
    assert not [secret for secret in secrets if secret in shown]


async def test_without_a_sign_in_everything_is_checked_that_needs_no_person():
    server = FakeServer()
    findings = await findings_about(server, sign_in=None)
    assert worse(findings) == []
    assert {one.step for one in findings} == {step.name for step in STEPS[:7]}


async def test_with_a_token_the_tools_are_listed_and_one_is_called_at_once():
    server = FakeServer()
    findings = await findings_about(server, access_token=API_KEY)
    assert worse(findings) == []
    assert {one.step for one in findings} == {"url", "calls"}
    assert not [line for line in server.seen if "authorize" in line]


async def test_a_token_that_is_not_good_is_a_fault():
    findings = await findings_about(FakeServer(), access_token="expired")
    assert any("the token is refused (401)" in line for line in worse(findings))


async def test_no_redirect_is_followed_to_another_host():
    server = FakeServer(checks_redirects=False)
    await findings_about(server)
    assert not [line for line in server.seen if line.split()[1].startswith(FOREIGN_REDIRECT)]


async def test_a_server_on_loopback_may_speak_http():
    url = "http://127.0.0.1:8765"
    server = FakeServer(public_url=url, issuer=url)
    async with server.client() as http:
        findings = await findings_of(f"{url}/mcp", http, server.sign_in, wait_s=5)
    assert worse(findings) == []


async def test_a_server_of_one_era_gets_a_warning_and_is_served():
    findings = await findings_about(FakeServer(eras=("2025-11-25",)))
    assert [(one.status, one.message) for one in findings if one.status != "ok"] == [
        ("warning", "2026-07-28 is not served")
    ]


async def test_the_words_of_a_server_cannot_steer_a_terminal():
    findings = await findings_about(FakeServer(tools=[{**_tool(), "name": "a\x1b[2Jb"}]))
    assert any("a?[2Jb answered" in one.message for one in findings)


async def test_nobody_coming_back_is_a_fault_of_the_sign_in():
    async def nobody(url: str) -> None:
        assert "code_challenge_method=S256" in url

    findings = await findings_about(FakeServer(), sign_in=nobody, wait_s=0.01)
    assert [one.step for one in findings if one.status == "fault"] == ["sign in"]


def test_a_finding_as_json_has_four_keys_in_the_order_of_reading():
    assert list(Finding("ok", "m").at("url").as_json()) == ["step", "status", "message", "mend"]


def _tool() -> dict[str, object]:
    return {"annotations": {"readOnlyHint": True}, "inputSchema": {"type": "object"}}
