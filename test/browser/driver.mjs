// Runs one browser for the tests. Commands come as lines of JSON on standard input, each is answered by a line on standard output;
// what pages say on their consoles goes to standard error. The browser ends with the input.
import { createServer } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import esbuild from 'esbuild';
import { launch } from './engines.mjs';

const options = JSON.parse(process.argv[2]); // browser, executable, wav and hz of its microphone, log
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');

// site serves the pages of the tests: an origin that is not the node's, and one that browsers trust with a microphone.
async function site() {
  const kinds = ['pair', 'jssip', 'sipjs', 'watch'];
  const built = await esbuild.build({
    entryPoints: kinds.map((k) => join(import.meta.dirname, 'pages', k + '.js')),
    bundle: true, write: false, outdir: '/', define: { global: 'window' }, logLevel: 'error',
  });
  const scripts = Object.fromEntries(built.outputFiles.map((f) => [f.path, f.text]));
  const server = createServer((req, res) => {
    const path = new URL(req.url, 'http://x').pathname;
    if (scripts[path]) return res.setHeader('Content-Type', 'text/javascript; charset=utf-8').end(scripts[path]);
    if (!kinds.includes(path.slice(1))) return res.writeHead(404).end();
    res.setHeader('Content-Type', 'text/html; charset=utf-8');
    res.end(`<!doctype html><html lang="en"><title>a page of the tests</title><link rel="icon" href="data:,"><script src="${path}.js"></script></html>`);
  });
  await new Promise((yes) => server.listen(0, '127.0.0.1', yes));
  server.unref();
  return { origin: `http://127.0.0.1:${server.address().port}`, watch: scripts['/watch.js'] };
}

const input = createInterface({ input: process.stdin });
const [browser, { origin, watch }] = await Promise.all([launch(options, gone), site()]);
const tabs = new Map(); // by number
let last = 0;

function gone() {
  if (!input.closed) console.error(`${options.browser} is gone`);
  process.exit(input.closed ? 0 : 1);
}

const commands = {
  // open opens a tab for a person of its own, or a further one for the person of another tab. A page of the node's is watched.
  async open({ url, beside, watched, looks }) {
    const person = beside ? tabs.get(beside).person : await browser.person(looks);
    const tab = { ...(await person.tab()), person };
    const n = ++last;
    tabs.set(n, tab);
    tab.listen((text) => options.log && console.error(`page ${n}: ${text}`), (e) => console.error(`page ${n}: ${e.stack ?? e}`));
    if (watched) await tab.before(watch);
    await tab.goto(new URL(url, origin).href);
    return n;
  },
  // run calls a function of the page's phone.
  run: ({ tab, name, args = [] }) => tab.evaluate(([name, args]) => window.phone[name](...args), [name, args]),
  eval: ({ tab, text }) => tab.evaluate(text),
  goto: async ({ tab, url }) => { await tab.goto(new URL(url, origin).href); },
  reload: async ({ tab }) => { await tab.reload(); },
  press: ({ tab, key }) => tab.press(key),
  type: ({ tab, text }) => tab.type(text),
  click: ({ tab, what }) => tab.click(what),
  fill: ({ tab, what, text }) => tab.fill(what, text),
  count: ({ tab, what }) => tab.count(what),
  text: ({ tab, what }) => tab.text(what),
  shot: async ({ tab, path }) => { await tab.shot(path); },
  axe: ({ tab }) => tab.axe(),
  async close({ tab, page }) {
    tabs.delete(page);
    await tab.close();
    if (![...tabs.values()].some((t) => t.person === tab.person)) await tab.person.close();
  },
};

// Tabs are opened and closed one after the other: Firefox opens none beside one that just goes.
let door = Promise.resolve();

function inTurn(act) {
  const done = door.then(act);
  door = done.catch(() => {});
  return done;
}

async function obey(line) {
  const { id, command, ...rest } = JSON.parse(line);
  const act = () => commands[command]({ tab: tabs.get(rest.page), ...rest });
  try {
    say({ id, value: (await (['open', 'close'].includes(command) ? inTurn(act) : act())) ?? null });
  } catch (e) {
    say({ id, error: String(e.message ?? e) });
  }
}

input.on('line', obey);
input.on('close', () => browser.close());
say({ ready: true, version: browser.version, origin });
