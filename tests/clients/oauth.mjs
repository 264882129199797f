// The TypeScript client signing in: URL, and `legacy` or `auto` for the era.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { used } from './used.mjs';

/** Waits on loopback for the browser to come back. */
class Listener {
  constructor() {
    this.answer = new Promise((resolve) => (this.arrived = resolve));
    this.server = createServer((request, response) => {
      response.end('You may close this window.');
      this.arrived(new URL(request.url, this.address).searchParams);
    });
  }

  async listen() {
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.address = `http://127.0.0.1:${this.server.address().port}/callback`;
  }

  close() {
    this.server.close();
    this.server.closeAllConnections();
  }
}

/** Remembers everything for as long as the process lives. */
class Provider {
  kept = {};
  expected = randomUUID();

  constructor(redirectUrl) {
    this.redirectUrl = redirectUrl;
    this.clientMetadata = {
      client_name: 'TypeScript client',
      redirect_uris: [redirectUrl],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    };
  }

  state = () => this.expected;
  clientInformation = () => this.kept.client;
  saveClientInformation = (client) => void (this.kept.client = client);
  tokens = () => this.kept.tokens;
  saveTokens = (tokens) => void (this.kept.tokens = tokens);
  codeVerifier = () => this.kept.verifier;
  saveCodeVerifier = (verifier) => void (this.kept.verifier = verifier);
  discoveryState = () => this.kept.discovery;
  saveDiscoveryState = (discovery) => void (this.kept.discovery = discovery);

  redirectToAuthorization(address) {
    const opener = process.platform === 'darwin' ? 'open' : 'xdg-open';
    spawn(opener, [address.href], { stdio: 'ignore', detached: true }).unref();
  }
}

const [url, mode] = process.argv.slice(2);
const listener = new Listener();
await listener.listen();
const authProvider = new Provider(listener.address);
const connecting = () => {
  const client = new Client({ name: 'ts', version: '1' }, { versionNegotiation: { mode } });
  const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider });
  return { client, transport, connected: client.connect(transport) };
};

const first = connecting();
const refusal = await first.connected.then(() => undefined, (error) => error);
if (!(refusal instanceof UnauthorizedError)) throw refusal ?? new Error('The server let in who had not signed in.');
const answer = await listener.answer;
if (answer.get('state') !== authProvider.expected) throw new Error('The state that came back is another one.');
await first.transport.finishAuth(answer);
listener.close();

const second = connecting();
await second.connected;
console.log(JSON.stringify(await used(second.client)));
await second.client.close();
