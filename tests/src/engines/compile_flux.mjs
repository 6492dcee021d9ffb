// Reads queries as a JSON list, prints what the compiler of Flux finds wrong with each: see flux.rs. The compiler is the
// language server's, built for browsers; it is handed its WebAssembly here.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const folder = join(process.argv[2], '@influxdata/flux-lsp-browser');
// It logs.
for (const level of ['debug', 'log', 'info', 'warn']) console[level] = () => {};
const queries = JSON.parse(readFileSync(0, 'utf8'));

async function load() {
  // The module imports its WebAssembly, which Node does not; and Node takes a module for one by its file's name.
  const glue = readFileSync(join(folder, 'flux-lsp-browser_bg.js'), 'utf8');
  const memory = /^cached\w+ = new .*wasm\.memory\.buffer\);$/gm;
  const hand = `export const hand = (it) => { wasm = it; ${glue.match(memory).join(' ')} };`;
  const text = glue.replace(memory, '').replace(/^import \* as wasm from .*$/m, 'let wasm;') + hand;
  const own = mkdtempSync(join(tmpdir(), 'flux-'));
  writeFileSync(join(own, 'glue.mjs'), text);
  const module = await import(pathToFileURL(join(own, 'glue.mjs')).href);
  rmSync(own, { recursive: true });
  const code = readFileSync(join(folder, 'flux-lsp-browser_bg.wasm'));
  const { instance } = await WebAssembly.instantiate(code, { './flux-lsp-browser_bg.js': module });
  module.hand(instance.exports);
  instance.exports.__wbindgen_start?.();
  return module;
}

const { Lsp } = await load();
// Files of one folder would be one package.
const place = (at) => `file:///${at}/query.flux`;
const found = new Map();
const server = new Lsp();
server.onMessage((text) => {
  const message = JSON.parse(text);
  if (message.method === 'textDocument/publishDiagnostics') {
    const { uri, diagnostics } = message.params;
    found.set(uri, [...(found.get(uri) ?? []), ...diagnostics]);
  }
});
const running = server.run();
const send = (message) => server.send(JSON.stringify({ jsonrpc: '2.0', ...message }));
await send({ id: 1, method: 'initialize', params: { capabilities: {} } });
await send({ method: 'initialized', params: {} });
for (const [at, text] of queries.entries()) {
  const textDocument = { uri: place(at), languageId: 'flux', version: 1, text };
  await send({ method: 'textDocument/didOpen', params: { textDocument } });
}
await send({ id: 2, method: 'shutdown' });
await send({ method: 'exit' });
await running;
const said = queries.map((_, at) => {
  const diagnostics = found.get(place(at));
  return diagnostics ? diagnostics.map((it) => it.message) : ['the compiler said nothing'];
});
process.stdout.write(JSON.stringify(said));
