"""The endpoint over HTTP: both eras, what may call, what is refused and in which words."""

from __future__ import annotations

import anyio
import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mercato.tenancy.rows import utc_now
from mercato.tenancy.tenants import Tenant
from tests.server import probe
from tests.server.conftest import Site, envelope, legacy, modern, shake_hands

LIBRARY_WORDS = ("pydantic", "errors.pydantic.dev", "Input should", "Traceback", "sqlalchemy", "asyncpg", "mcp.server")


def assert_no_library_words(text: str) -> None:
    assert not [word for word in LIBRARY_WORDS if word in text], text


async def test_a_modern_call_is_answered_as_plain_json(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client:
        response = await modern(client, "tools/call", {"name": "echo", "arguments": {"text": "hi"}})
    result = response.json()["result"]
    assert response.headers["content-type"] == "application/json"
    assert result["structuredContent"] == {"text": f"{acme.slug}: hi"}
    assert orjson.loads(result["content"][0]["text"]) == result["structuredContent"]
    assert result["resultType"] == "complete"


async def test_a_call_of_the_handshake_era_is_answered_on_the_same_address(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client:
        answer = await legacy(client, "tools/call", {"name": "echo", "arguments": {"text": "hi"}})
    assert answer["result"]["structuredContent"] == {"text": f"{acme.slug}: hi"}


async def test_initialize_and_discover_give_the_instructions_of_the_tenant(site: Site, acme: Tenant):
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    async with site.client(await site.key(acme)) as client:
        initialized = (await legacy(client, "initialize", hello))["result"]
        discovered = (await modern(client, "server/discover")).json()["result"]
    assert initialized["instructions"] == discovered["instructions"]
    assert "Acme" in discovered["instructions"]
    assert "probe: Tools of the tests." in discovered["instructions"]
    assert len(discovered["instructions"]) <= 500
    assert discovered["cacheScope"] == "private"
    assert discovered["supportedVersions"] == ["2026-07-28"]


async def test_a_list_is_private_says_every_hint_and_is_the_same_in_both_eras(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client:
        listed = (await modern(client, "tools/list")).json()["result"]
        before = (await legacy(client, "tools/list"))["result"]
    assert listed["cacheScope"] == "private"
    assert listed["ttlMs"] == 30_000
    assert [tool["name"] for tool in listed["tools"]] == [tool["name"] for tool in before["tools"]]
    for tool in listed["tools"]:
        assert {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint", "title"} <= tool[
            "annotations"
        ].keys()
        assert tool["outputSchema"]["type"] == "object" if "outputSchema" in tool else tool["name"] == "change"


async def test_without_a_key_the_answer_is_401_with_a_challenge(site: Site):
    async with site.client(None) as client:
        response = await modern(client, "tools/list")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == (
        f'Bearer realm="mercato", resource_metadata="{site.url}/.well-known/oauth-protected-resource/mcp", '
        'scope="tools:read tools:write"'
    )


async def test_a_key_that_is_not_good_is_401_invalid_token(site: Site, acme: Tenant):
    expired = await site.key(acme, expires_at=utc_now())
    for key in ("mck_nonsense", "eyJhbGciOiJIUzI1NiJ9.e30.x", expired):
        async with site.client(key) as client:
            response = await modern(client, "tools/list")
        assert response.status_code == 401
        assert 'error="invalid_token"' in response.headers["www-authenticate"]


async def test_a_key_is_taken_from_x_api_key_too(site: Site, acme: Tenant):
    async with site.client(None, **{"x-api-key": await site.key(acme)}) as client:
        assert (await modern(client, "tools/list")).status_code == 200


async def test_each_key_sees_its_own_tenant(site: Site, acme: Tenant, other_tenant: Tenant):
    for tenant in (acme, other_tenant):
        async with site.client(await site.key(tenant)) as client:
            read = await modern(client, "resources/read", {"uri": "probe://thing"})
        seen = read.json()
        if tenant is acme:
            assert seen["result"]["contents"][0]["text"] == f"the thing of {acme.slug}"
        else:
            assert "switched the category `probe` off" in seen["error"]["message"]


@pytest.mark.parametrize(
    ("scopes", "name", "status", "missing"),
    [
        (["tools:read"], "echo", 200, None),
        (["tools:read"], "change", 403, "tools:write"),
        (["tools:write"], "echo", 403, "tools:read"),
        (["tools:read", "commerce"], "echo", 403, "probe"),
        (["tools:read", "probe"], "echo", 200, None),
    ],
)
async def test_a_missing_scope_is_a_step_up_challenge_in_both_eras(
    site: Site, acme: Tenant, scopes: list[str], name: str, status: int, missing: str | None
):
    async with site.client(await site.key(acme, scopes)) as client:
        response = await modern(client, "tools/call", {"name": name, "arguments": {}})
        body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name}}
        before = await client.post("/mcp", json=body, headers={"mcp-session-id": await shake_hands(client)})
        listed = {tool["name"] for tool in (await modern(client, "tools/list")).json()["result"]["tools"]}
    assert (response.status_code, before.status_code) == (status, status)
    assert (name in listed) == (status == 200)
    if missing is not None:
        needed = " ".join(sorted({*scopes, missing}))
        assert response.headers["www-authenticate"] == (
            f'Bearer realm="mercato", error="insufficient_scope", scope="{needed}", '
            f'resource_metadata="{site.url}/.well-known/oauth-protected-resource/mcp"'
        )
        assert before.json()["id"] == 7


async def test_a_switched_off_category_says_who_can_switch_it_on(site: Site, tenant: Tenant):
    async with site.client(await site.key(tenant)) as client:
        result = (await modern(client, "tools/call", {"name": "echo", "arguments": {}})).json()["result"]
        listed = (await modern(client, "tools/list")).json()["result"]["tools"]
    assert result["isError"] is True
    assert f"mercato category enable probe --tenant {tenant.slug}" in result["content"][0]["text"]
    assert "echo" not in {tool["name"] for tool in listed}


async def test_a_tool_that_needs_an_integration_is_absent_until_it_is_connected(site: Site, acme: Tenant):
    from mercato.server.changes import Change
    from mercato.tenancy.connections import open_connection

    async with site.client(await site.key(acme)) as client:
        before = (await modern(client, "tools/call", {"name": "count_shop", "arguments": {}})).json()["result"]
        async with site.runtime.database.tenant(acme.id) as db:
            await open_connection(db, site.runtime.ring, "shopify", "acme.myshopify.com", {"token": "shpat_secret"})
        await site.runtime.changes.publish(Change("access", acme.id))
        after = (await modern(client, "tools/call", {"name": "count_shop", "arguments": {}})).json()["result"]
    assert before["isError"]
    assert "has not connected shopify" in before["content"][0]["text"]
    assert after["structuredContent"] == {"text": "acme.myshopify.com shp"}


async def test_what_is_unknown_is_invalid_params(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client:
        for method, params in (
            ("tools/call", {"name": "nope"}),
            ("prompts/get", {"name": "nope"}),
            ("resources/read", {"uri": "probe://nope"}),
            ("resources/read", {"uri": "probe://letters/gamma"}),
        ):
            error = (await modern(client, method, params)).json()["error"]
            assert (error["code"], error["message"][:8]) == (-32602, "There is")
        assert (await legacy(client, "resources/read", {"uri": "probe://nope"}))["error"]["code"] == -32002


async def test_an_unexpected_exception_is_a_reference_in_both_eras(
    site: Site, acme: Tenant, caplog: pytest.LogCaptureFixture
):
    async with site.client(await site.key(acme)) as client:
        answers = [
            (await modern(client, "tools/call", {"name": "break_down"})).json()["result"],
            (await legacy(client, "tools/call", {"name": "break_down"}))["result"],
        ]
    for answer in answers:
        assert answer["isError"]
        reference = answer["_meta"]["mercato/error"]["reference"]
        assert reference in answer["content"][0]["text"]
        assert "hunter2" not in orjson.dumps(answer).decode()


async def test_a_refusal_reaches_the_model_with_what_it_may_try(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client:
        answer = (await modern(client, "tools/call", {"name": "refuse"})).json()["result"]
    assert answer["content"][0]["text"] == "There is no such thing. Allowed: this, that. Try `that`."
    assert answer["_meta"]["mercato/error"] == {
        "code": "error",
        "retryable": False,
        "field": "thing",
        "allowed": ["this", "that"],
    }


async def test_wrong_arguments_are_answered_with_field_reason_and_example(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client:
        answer = await legacy(client, "tools/call", {"name": "wipe", "arguments": {"what": 5, "confirm": True}})
    text = answer["result"]["content"][0]["text"]
    assert text == '`what` must be a text. What to wipe. Example: {"what":"text"}'
    assert answer["result"]["_meta"]["mercato/error"]["field"] == "what"


async def test_a_destructive_tool_asks_a_modern_client_and_runs_with_its_answer(site: Site, acme: Tenant):
    params = {"name": "wipe", "arguments": {"what": "all"}}
    async with site.client(await site.key(acme)) as client, site.client(await site.key(acme)) as other:
        asked = (await modern(client, "tools/call", params, elicitation={"form": {}})).json()["result"]
        assert asked["resultType"] == "input_required"
        (key,) = asked["inputRequests"]
        answered = {
            **params,
            "inputResponses": {key: {"action": "accept", "content": {"confirm": True}}},
            "requestState": asked["requestState"],
        }
        done = (await modern(client, "tools/call", answered, elicitation={"form": {}})).json()["result"]
        stolen = await modern(other, "tools/call", answered, elicitation={"form": {}})
        moved = {**answered, "arguments": {"what": "something else"}}
        changed = await modern(client, "tools/call", moved, elicitation={"form": {}})
        asked = (await modern(client, "tools/call", params, elicitation={"form": {}})).json()["result"]
        declined = {**answered, "inputResponses": {key: {"action": "decline"}}, "requestState": asked["requestState"]}
        refused = (await modern(client, "tools/call", declined, elicitation={"form": {}})).json()["result"]
    assert done["structuredContent"] == {"text": "wiped all"}
    assert stolen.json()["error"]["code"] == changed.json()["error"]["code"] == -32602
    assert refused["isError"]
    assert "declined" in refused["content"][0]["text"]


async def test_an_answer_to_a_question_that_nobody_asked_does_not_count(site: Site, acme: Tenant):
    forged = {
        "name": "wipe",
        "arguments": {"what": "all"},
        "inputResponses": {"ask-1": {"action": "accept", "content": {"confirm": True}}},
    }
    async with site.client(await site.key(acme)) as client:
        asked = (await modern(client, "tools/call", forged, elicitation={"form": {}})).json()["result"]
        assert asked["resultType"] == "input_required"
        loose = {**forged, "requestState": asked["requestState"]}
        loose["inputResponses"] = {"ask-1": {"action": "accept", "content": {"confirm": "yes"}}}
        refused = (await modern(client, "tools/call", loose, elicitation={"form": {}})).json()["result"]
    assert refused["isError"]


async def test_the_question_shows_what_is_asked_for_without_hidden_characters(site: Site, acme: Tenant):
    params = {"name": "wipe", "arguments": {"what": "a\u202eb", "confirm": True}}
    async with site.client(await site.key(acme)) as client:
        asked = (await modern(client, "tools/call", params, elicitation={"form": {}})).json()["result"]
    assert asked["inputRequests"]["ask-1"]["params"]["message"].startswith('Wipe: {"what":"ab"}.')


async def test_a_destructive_tool_needs_confirm_where_nobody_can_be_asked(site: Site, acme: Tenant):
    params = {"name": "wipe", "arguments": {"what": "all"}}
    sure = {"name": "wipe", "arguments": {"what": "all", "confirm": True}}
    async with site.client(await site.key(acme)) as client:
        refused = [
            (await modern(client, "tools/call", params)).json()["result"],
            (await legacy(client, "tools/call", params))["result"],
        ]
        done = [
            (await modern(client, "tools/call", sure)).json()["result"],
            (await legacy(client, "tools/call", sure))["result"],
        ]
    assert all("confirm: true" in answer["content"][0]["text"] for answer in refused)
    assert all(answer["structuredContent"] == {"text": "wiped all"} for answer in done)


async def test_a_closed_connection_cancels_a_modern_call(site: Site, acme: Tenant):
    probe.log.__init__()
    body, headers = envelope("tools/call", {"name": "wait_for_ever", "arguments": {}})
    async with site.client(await site.key(acme)) as client, anyio.create_task_group() as group:
        group.start_soon(lambda: client.post("/mcp", json=body, headers=headers))
        with anyio.fail_after(10):
            await probe.log.started.wait()
        group.cancel_scope.cancel()
    with anyio.fail_after(10):
        await probe.log.cancelled.wait()


async def test_progress_travels_on_the_stream_of_its_request(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client:
        response = await modern(client, "tools/call", {"name": "count_up", "_meta": {"progressToken": "p"}})
    assert response.headers["content-type"].startswith("text/event-stream")
    messages = [orjson.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    assert [message["params"]["progress"] for message in messages[:-1]] == [1, 2, 3]
    assert messages[-1]["result"]["structuredContent"] == {"text": "counted"}


async def test_arguments_complete_and_prompts_come(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client:
        for ref in (
            {"type": "ref/prompt", "name": "talk_about"},
            {"type": "ref/resource", "uri": "probe://letters/{letter}"},
        ):
            name = "topic" if "name" in ref else "letter"
            params = {"ref": ref, "argument": {"name": name, "value": "al"}}
            answer = (await modern(client, "completion/complete", params)).json()["result"]
            assert answer["completion"]["values"] == ["alpha"]
        got = (await modern(client, "prompts/get", {"name": "talk_about", "arguments": {"topic": "tea"}})).json()[
            "result"
        ]
        wrong = (await modern(client, "prompts/get", {"name": "talk_about", "arguments": {}})).json()["error"]
    assert got["messages"][0]["content"]["text"] == "Talk about tea."
    assert "`topic` is missing" in wrong["message"]


async def test_a_header_of_a_parameter_must_agree_with_the_body(site: Site, acme: Tenant):
    body, headers = envelope("tools/call", {"name": "route", "arguments": {"text": "a"}})
    async with site.client(await site.key(acme)) as client:
        right = await client.post("/mcp", json=body, headers={**headers, "mcp-param-text": "a"})
        wrong = await client.post("/mcp", json=body, headers={**headers, "mcp-param-text": "b"})
    assert right.status_code == 200
    assert wrong.json()["error"]["code"] == -32020


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{nope", 400, -32700),
        (b"\xff\xfe", 400, -32700),
        (b"[]", 400, -32600),
        (b"5", 400, -32600),
        (b'{"id":1,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', 400, -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 100 + b"1" + b"}" * 101, 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 200_000, 413, -32600),
    ],
)
async def test_a_body_that_is_no_message_is_refused_in_our_words(
    site: Site, acme: Tenant, body: bytes, status: int, code: int
):
    async with site.client(await site.key(acme)) as client:
        response = await client.post("/mcp", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert_no_library_words(response.text)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413_however_it_is_sent(site: Site, acme: Tenant, chunked: bool):
    async def chunks():
        for _ in range(4):
            yield b"x" * 50_000

    async with site.client(await site.key(acme)) as client:
        response = await client.post("/mcp", content=chunks() if chunked else b"x" * 200_000)
    assert response.status_code == 413


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_methods = st.sampled_from(
    ["tools/call", "tools/list", "resources/read", "prompts/get", "completion/complete", "initialize", "x"]
)


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    """One key for all examples of the property below."""
    return {}


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=_methods, params=_json, version=st.sampled_from(["2026-07-28", "2025-11-25", "nonsense"]))
async def test_no_message_however_odd_breaks_the_server_or_shows_its_insides(
    site: Site, acme: Tenant, keys: dict[str, str], method: str, params: object, version: str
):
    key = keys.get("key") or keys.setdefault("key", await site.key(acme))
    try:
        content = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    except TypeError:  # a whole number beyond 64 bits, or half a surrogate pair, which no JSON of orjson holds
        return
    async with site.client(key) as client:
        headers = {"mcp-protocol-version": version, "mcp-method": method}
        response = await client.post("/mcp", content=content, headers=headers)
    assert response.status_code < 500
    assert_no_library_words(response.text)


async def test_a_method_that_is_none_of_ours_is_405_and_says_what_to_send(site: Site, acme: Tenant):
    without_sessions = {"mcp-protocol-version": "2026-07-28"}
    async with site.client(await site.key(acme)) as client:
        for response in (
            await client.put("/mcp"),
            await client.get("/mcp", headers=without_sessions),
            await client.delete("/mcp", headers=without_sessions),
        ):
            assert response.status_code == 405
            assert "POST" in response.headers["allow"]


async def test_a_foreign_host_is_421_and_a_foreign_origin_403(site: Site, acme: Tenant):
    async with site.client(await site.key(acme)) as client:
        assert (await client.post("/mcp", content=b"{}", headers={"host": "evil.example"})).status_code == 421
        assert (await client.post("/mcp", content=b"{}", headers={"host": "localhost.evil.example"})).status_code == 421
        assert (await client.post("/mcp", content=b"{}", headers={"origin": "https://evil.example"})).status_code == 403
        assert (await client.post("/mcp", content=b"{}", headers={"origin": "null"})).status_code == 403
        body, headers = envelope("tools/list")
        for host in ("mcp.example", "localhost:1234", "[::1]"):
            assert (await client.post("/mcp", json=body, headers={**headers, "host": host})).status_code == 200


async def test_health_probes_are_answered_under_any_host(site: Site):
    async with httpx.AsyncClient(base_url=site.url) as client:
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path, headers={"host": "10.0.0.7:8765"})).status_code == 200


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "//", "x" * 2000])
async def test_an_origin_that_is_none_is_403(site: Site, acme: Tenant, origin: str):
    async with site.client(await site.key(acme)) as client:
        assert (await client.post("/mcp", content=b"{}", headers={"origin": origin})).status_code == 403


async def test_a_key_that_may_not_read_gets_no_prompts_and_no_completions(site: Site, acme: Tenant):
    ref = {"ref": {"type": "ref/prompt", "name": "talk_about"}, "argument": {"name": "topic", "value": ""}}
    async with site.client(await site.key(acme, ["tools:write"])) as client:
        listed = (await modern(client, "prompts/list")).json()["result"]["prompts"]
        got = await modern(client, "prompts/get", {"name": "talk_about", "arguments": {"topic": "tea"}})
        completed = await modern(client, "completion/complete", ref)
    assert listed == []
    assert got.status_code == 403
    assert completed.json()["error"]["data"]["scope"] == "tools:read"


async def test_an_allowed_origin_is_answered_with_cors_and_its_preflight_too(site: Site, acme: Tenant):
    body, headers = envelope("tools/list")
    async with site.client(await site.key(acme)) as client:
        answered = await client.post("/mcp", json=body, headers={**headers, "origin": "https://app.example"})
    async with httpx.AsyncClient(base_url=site.url) as browser:
        wanted = {"access-control-request-method": "POST", "access-control-request-headers": "mcp-param-text"}
        preflight = await browser.options("/mcp", headers={"origin": "https://app.example", **wanted})
        unauthorized = await browser.post("/mcp", headers={"origin": "https://app.example"})
    assert answered.headers["access-control-allow-origin"] == "https://app.example"
    assert "www-authenticate" in unauthorized.headers["access-control-expose-headers"]
    assert preflight.status_code == 204
    assert {"authorization", "mcp-protocol-version", "mcp-param-text"} <= set(
        preflight.headers["access-control-allow-headers"].split(", ")
    )


async def test_every_answer_carries_a_request_id(site: Site):
    async with httpx.AsyncClient(base_url=site.url) as client:
        assert (await client.get("/healthz", headers={"x-request-id": "abc-12345"})).headers[
            "x-request-id"
        ] == "abc-12345"
        assert len((await client.get("/healthz", headers={"x-request-id": "a b"})).headers["x-request-id"]) == 16


async def test_readyz_tells_of_the_services_and_of_nothing_secret(site: Site):
    async with httpx.AsyncClient(base_url=site.url) as client:
        ready = (await client.get("/readyz")).json()
    assert ready["status"] == "ready"
    assert {name: service["status"] for name, service in ready["services"].items()} == {
        "database": "healthy",
        "cache": "healthy",
    }
    assert "probe" in ready["plugins"]["loaded"]
