// The TypeScript SDK's raw `Server`, which is the fastest of its own: definitions ready-made, arguments unvalidated.
// As its documentation has it, each request gets a server of its own. Node finds the packages next to this file's copy.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, Server } from '@modelcontextprotocol/server';

const tools = JSON.parse(readFileSync(process.argv[2], 'utf8'));

function answer(itemId, status) {
    const lines = [{ sku: 'SHOE-42-BLUE', quantity: 2, price_minor: 4995 }];
    return { id: itemId, name: `#${itemId}`, status, total_minor: 9990, note: null, lines };
}

function build() {
    const server = new Server({ name: 'bench', version: '1' }, { capabilities: { tools: {} } });
    server.setRequestHandler('tools/list', async () => ({ tools }));
    server.setRequestHandler('tools/call', async ({ params }) => {
        const structuredContent = answer(params.arguments.item_id, params.arguments.status);
        return { content: [{ type: 'text', text: JSON.stringify(structuredContent) }], structuredContent };
    });
    return server;
}

const listener = createServer(toNodeHandler(createMcpHandler(build, { responseMode: 'json' })));
listener.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: listener.address().port })));
process.on('SIGTERM', () => process.exit(0));
