// npm `eventsource`, its connection cut at every event: nothing is lost, nothing comes twice, and it stops.
import { EventSource } from "eventsource";
import { compare, read, submit } from "./turn.mjs";

const [server, proxy] = process.argv.slice(2);
const stream = await submit(server, "eventsource");
const [cut, whole] = await Promise.all([read(EventSource, stream(proxy)), read(EventSource, stream(server))]);
compare(cut, whole);
