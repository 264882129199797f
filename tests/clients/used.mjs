// What every TypeScript client does once it is connected.

/** List the tools and call one; return what came of it. */
export async function used(client) {
  const { tools } = await client.listTools();
  const called = await client.callTool({ name: 'list_products', arguments: { limit: 1 } });
  return {
    version: client.getNegotiatedProtocolVersion(),
    tools: tools.map(({ name }) => name),
    rows: called.structuredContent?.products?.length ?? 0,
  };
}
