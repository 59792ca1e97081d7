// Opens a page in a headless Chromium, over its debugging pipe, and prints a line of JSON whenever what is to be read on it changes:
// its text, whether the page is still the one that was loaded, whether it says that nothing answers, and what went wrong in it.
// At the end of its standard input it takes a picture and ends. usage: node browser.mjs URL PICTURE [no-script]
import { spawn } from 'node:child_process';
import { writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [url, picture, script] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), 'baa-browser-'));
const options = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--remote-debugging-pipe', `--user-data-dir=${profile}`];
const chromium = spawn('chromium', [...options, 'about:blank'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
chromium.on('error', (error) => { console.error(String(error)); process.exit(69); });
const [, , , out, into] = chromium.stdio;
const waiting = new Map(), troubles = [];
let serial = 0, rest = '';
into.on('data', (bytes) => {
  const parts = (rest + bytes).split('\0');
  rest = parts.pop();
  for (const message of parts.map((part) => JSON.parse(part))) {
    if (message.id) waiting.get(message.id)?.(message.error ? { failed: message.error } : message.result);
    if (message.method === 'Runtime.exceptionThrown') troubles.push(message.params.exceptionDetails.text);
    if (message.method === 'Log.entryAdded') troubles.push(message.params.entry.text);
  }
});
const ask = (method, params = {}, sessionId) => new Promise((resolve) => {
  serial += 1;
  waiting.set(serial, resolve);
  out.write(JSON.stringify({ id: serial, method, params, sessionId }) + '\0');
});
const { targetId } = await ask('Target.createTarget', { url: 'about:blank' });
const { sessionId } = await ask('Target.attachToTarget', { targetId, flatten: true });
const page = (method, params) => ask(method, params, sessionId);
await page('Runtime.enable');
await page('Log.enable');
if (script === 'no-script') await page('Emulation.setScriptExecutionDisabled', { value: true });
await page('Emulation.setDeviceMetricsOverride', { width: 1000, height: 800, deviceScaleFactor: 1, mobile: false });
await page('Page.navigate', { url });
const look = `(() => {
  if (!document.body || document.readyState !== 'complete') return null;
  window.loads ??= Math.random();
  return JSON.stringify({ text: document.body.innerText, load: window.loads, off: document.getElementById('off')?.hidden === false });
})()`;
let ended = false, last = '';
process.stdin.resume();
process.stdin.on('end', () => { ended = true; });
while (!ended) {
  const { result } = await page('Runtime.evaluate', { expression: look });
  const line = result?.value ? JSON.stringify({ ...JSON.parse(result.value), troubles }) : '';
  if (line && line !== last) console.log(line);
  last = line || last;
  await new Promise((resolve) => setTimeout(resolve, 50));
}
const { data } = await page('Page.captureScreenshot', { format: 'png' });
writeFileSync(picture, Buffer.from(data, 'base64'));
chromium.kill('SIGKILL');
chromium.on('exit', () => { rmSync(profile, { recursive: true, force: true, maxRetries: 20 }); process.exit(0); });
