async def test_say_hello_greets_in_the_name_of_the_tenant(mcp):
    result = await mcp.call_tool("say_hello", {"name": "Ada"})
    assert result.structured_content == {"text": "Hello Ada, from Acme."}


async def test_say_hello_says_what_is_missing(mcp):
    result = await mcp.call_tool("say_hello", {"name": " "})
    assert result.is_error
    assert result.content[0].text == "Say whom to greet: `name` is blank."
