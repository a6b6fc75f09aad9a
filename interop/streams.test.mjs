// The suite of those who publish the Durable Streams protocol. Run by streams_suite.mjs.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.STREAMS_URL });
