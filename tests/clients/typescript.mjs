import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
const [url, key, mode] = process.argv.slice(2);
const client = new Client({ name: 'ts', version: '1' }, mode === 'auto' ? { versionNegotiation: { mode: 'auto' } } : {});
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${key}` } } }));
const { tools } = await client.listTools();
const r = await client.callTool({ name: 'list_products', arguments: { limit: 1 } });
console.log(JSON.stringify({ mode, tools: tools.length, isError: !!r.isError, rows: r.structuredContent?.products?.length, version: client.getNegotiatedProtocolVersion?.() }));
await client.close();
