// npm `@durable-streams/server-conformance-tests`, run by vitest: every test passes but those that are named here,
// and there are as many as there were.
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";

// The suite's own server (0.3.7) passes so many.
const PASSED_MIN = 326;
// Tests that may fail, each with its reason. None does.
const FAILING = new Map([]);
// Skipped unless they are asked for: subscriptions by webhook and by pull are not part of the protocol's streams.
// Turnwise has work queues, topics and callbacks in their place.
const SKIPPED = new Set(
  [
    "creates and idempotently re-confirms a webhook subscription",
    "rejects unsafe webhook URLs",
    "webhook synchronous done auto-acks the wake snapshot",
    "webhook callback acks and fences stale wake generations",
    "adds and removes explicit subscription streams",
    "pull-wake claim, ack, and release use subscription-scoped leases",
  ].map((name) => `Reserved subscription APIs ${name}`),
);
// Some tests wait until a long-poll ends with nothing, which takes 20 s here.
const TEST_TIMEOUT_MS = 60_000;

const [server] = process.argv.slice(2);
const report = "streams-report.json";
rmSync(report, { force: true });
const run = spawnSync(
  "node_modules/.bin/vitest",
  ["run", "streams.test.mjs", `--testTimeout=${TEST_TIMEOUT_MS}`, "--reporter=json", `--outputFile=${report}`],
  { env: { ...process.env, STREAMS_URL: `${server}/streams`, CI: "true" }, encoding: "utf8" },
);
let tests;
try {
  const files = JSON.parse(readFileSync(report, "utf8")).testResults;
  tests = files.flatMap((file) => file.assertionResults);
} catch (error) {
  console.error(`vitest left no report: ${error.message}\n${run.stdout}\n${run.stderr}`);
  process.exit(1);
}
const wrong = [];
let passed = 0;
for (const { fullName, status, failureMessages } of tests) {
  const may = status === "failed" ? FAILING.has(fullName) : SKIPPED.has(fullName);
  if (status === "passed") passed += 1;
  else if (!may) wrong.push(`${status}: ${fullName}\n  ${(failureMessages ?? []).join("\n  ").slice(0, 600)}`);
  if (status === "passed" && FAILING.has(fullName)) wrong.push(`passes by now, so do not name it: ${fullName}`);
}
if (passed < PASSED_MIN) wrong.push(`only ${passed} of ${tests.length} passed, not ${PASSED_MIN}`);
if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log(`${passed} of ${tests.length} passed, ${SKIPPED.size} skipped, ${FAILING.size} known to fail`);
