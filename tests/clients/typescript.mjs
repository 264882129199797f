// The TypeScript client with a key: URL, key, and `legacy` or `auto` for the era.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { used } from './used.mjs';

const [url, key, mode] = process.argv.slice(2);
const client = new Client({ name: 'ts', version: '1' }, { versionNegotiation: { mode } });
const requestInit = { headers: { Authorization: `Bearer ${key}` } };
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
console.log(JSON.stringify(await used(client)));
await client.close();
