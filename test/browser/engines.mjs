// The browsers behind one small face: Chromium by Playwright, Firefox ESR by WebDriver BiDi, which Playwright does not speak with it.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const profile = () => mkdtempSync(join(tmpdir(), 'profile-'));

// launch starts a browser. It has a version, people (contexts that share nothing), a close, and calls gone when it has ended.
export const launch = (options, gone) => (options.browser === 'firefox' ? firefox : chromium)(options, gone);

async function chromium({ executable, wav }, gone) {
  const { chromium } = await import('playwright-core');
  const browser = await chromium.launch({
    executablePath: executable, headless: true, env: { ...process.env, HOME: profile() },
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--autoplay-policy=no-user-gesture-required', '--ignore-certificate-errors',
      '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', `--use-file-for-fake-audio-capture=${wav}`,
    ],
  });
  browser.on('disconnected', gone);
  return {
    version: browser.version(),
    close: () => browser.close(),
    async person(looks) {
      const context = await browser.newContext({ ignoreHTTPSErrors: true, permissions: ['microphone', 'notifications'], ...looks });
      return { tab: async () => byPlaywright(await context.newPage()), close: () => context.close() };
    },
  };
}

// byPlaywright is a tab of Chromium.
function byPlaywright(page) {
  const find = ({ role, name }) => page.getByRole(role, { name, exact: true });
  return {
    page,
    listen(said, failed) { page.on('console', (m) => said(m.text())); page.on('pageerror', failed); },
    before: (script) => page.addInitScript(script),
    goto: (url) => page.goto(url),
    reload: () => page.reload(),
    close: () => page.close(),
    evaluate: (f, arg) => page.evaluate(f, arg),
    press: (key) => page.keyboard.press(key),
    type: (text) => page.keyboard.type(text),
    click: (what) => find(what).click({ timeout: 8000 }),
    fill: (what, text) => find(what).fill(text, { timeout: 8000 }),
    count: (what) => find(what).count(),
    text: (what) => (what ? find(what) : page.locator('body')).innerText(),
    shot: (path) => page.screenshot({ path, fullPage: true }),
    async axe() {
      const { AxeBuilder } = await import('@axe-core/playwright');
      const { violations } = await new AxeBuilder({ page }).analyze();
      return violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, at: nodes.map((n) => n.html.slice(0, 200)) }));
    },
  };
}

// soundCard runs a sound server that plays to nobody: without any, Firefox never starts an AudioContext. Its sink computes 50 ms ahead; by
// default that would be 2 s, for which a new page's first sound would wait.
async function soundCard() {
  const dir = profile();
  const socket = join(dir, 'socket');
  spawn('pulseaudio', [
    '-n', '--daemonize=no', '--exit-idle-time=-1', '--use-pid-file=no', '--disable-shm=yes', '--log-level=error',
    '-L', `module-native-protocol-unix socket=${socket} auth-anonymous=1`, '-L', 'module-null-sink sink_name=nobody norewinds=1',
  ], { env: { ...process.env, HOME: dir, XDG_RUNTIME_DIR: dir }, stdio: ['ignore', 'ignore', 'inherit'] }).unref();
  for (let i = 0; i < 200 && !existsSync(socket); i++) await new Promise((yes) => setTimeout(yes, 20));
  return 'unix:' + socket;
}

async function firefox({ executable, hz }, gone) {
  const { default: puppeteer } = await import('puppeteer-core');
  const browser = await puppeteer.launch({
    browser: 'firefox', executablePath: executable, acceptInsecureCerts: true, headless: true, defaultViewport: { width: 1280, height: 900 },
    env: { ...process.env, HOME: profile(), PULSE_SERVER: await soundCard() },
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true, 'media.navigator.audio.fake_frequency': hz, 'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0, 'media.autoplay.blocking_policy': 0, 'media.autoplay.block-webaudio': false,
      'network.captive-portal-service.enabled': false, 'network.connectivity-service.enabled': false,
    },
  });
  browser.on('disconnected', gone);
  const person = async () => {
    const context = await browser.createBrowserContext();
    return { tab: async () => byBiDi(await context.newPage()), close: () => context.close() };
  };
  await warm(await person());
  return { version: await browser.version(), close: () => browser.close(), person };
}

// warm has the browser open its sound card, which takes more than a second at first.
async function warm(person) {
  const tab = await person.tab();
  await tab.evaluate(() => new AudioContext().resume());
  await person.close();
}

// byBiDi is a tab of Firefox.
function byBiDi(page) {
  const selector = ({ role, name }) => `aria/${name ?? ''}[role="${role}"]`;
  const labelled = (name) => [...document.querySelectorAll('input')].find((i) => i.labels[0]?.innerText === name || i.ariaLabel === name);
  const find = async (what) => {
    if (what.role !== 'textbox') return page.waitForSelector(selector(what), { timeout: 8000 });
    return (await page.waitForFunction(labelled, { timeout: 8000 }, what.name)).asElement(); // to BiDi a field for a password has no role
  };
  return {
    page,
    listen(said, failed) { page.on('console', (m) => said(m.text())); page.on('pageerror', failed); },
    before: (script) => page.evaluateOnNewDocument(script),
    goto: (url) => page.goto(url),
    reload: () => page.reload(),
    close: () => page.close(),
    evaluate: (f, arg) => page.evaluate(f, arg),
    press: (key) => page.keyboard.press(key),
    type: (text) => page.keyboard.type(text),
    click: (what) => page.locator(selector(what)).setTimeout(8000).click(), // waits until it stands still
    async fill(what, text) {
      const field = await find(what);
      await field.evaluate((f) => f.select());
      await field.type(text);
    },
    count: async (what) => (await page.$$(selector(what))).length,
    text: async (what) => (what ? await find(what) : await page.$('body')).evaluate((e) => e.innerText),
    shot: (path) => page.screenshot({ path, fullPage: true }),
  };
}
