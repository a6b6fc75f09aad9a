// Debian's chromium, driven by npm `playwright-core`: a page of a listed origin submits and reads the stream with
// the browser's own EventSource through the cutting proxy; a page of another origin gets nothing.
import { createServer } from "node:http";
import { chromium } from "playwright-core";
import { compare, read, submit } from "./turn.mjs";

const [server, proxy, port, executablePath] = process.argv.slice(2);
const page = "<!doctype html><title>interop</title><link rel=icon href=data:,>";
const pages = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end(page));
await new Promise((listening) => pages.listen(Number(port), "127.0.0.1", listening));
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
try {
  const listed = await browser.newPage();
  await listed.goto(`http://127.0.0.1:${port}/`);
  const [cut, whole] = await listed.evaluate(inPage, [server, proxy, `${submit}`, `${read}`]);
  compare(cut, whole);

  const other = await browser.newPage();
  await other.goto(`http://localhost:${port}/`);
  const refused = await other.evaluate((url) => fetch(url).then(() => "read", (error) => error.name), `${server}/health`);
  if (refused !== "TypeError") throw new Error(`a page of an origin that is not listed: ${refused}`);
} finally {
  await browser.close();
  pages.close();
}

/** Runs in the page. */
async function inPage([server, proxy, submit, read]) {
  globalThis.TEXT = "hello [[events=8 gap=30]]";
  const [submitted, reading] = [submit, read].map((text) => (0, eval)(`(${text})`));
  const stream = await submitted(server, "browser");
  return Promise.all([reading(EventSource, stream(proxy)), reading(EventSource, stream(server))]);
}
