// rund from Node.js, written from protos/rund_pb/v1/*.proto alone: writes a run, reads one, and is told no.
//
//   node conformance.mjs ADDRESS [RUN]     ADDRESS of the daemon; RUN to read, projects/p/runs/r (else the one written)
//
// Each line printed is a JSON object with one key: what was done, and what came of it. 1n is "1n", NaN is "NaN".
import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import * as arrow from "apache-arrow";

const files = ["error_reason", "metrics_service", "run_service", "server_service"].map((x) => `rund_pb/v1/${x}.proto`);
const includeDirs = [fileURLToPath(new URL("../../protos", import.meta.url))];
const types = loader.loadSync(files, { includeDirs, longs: String, enums: String, defaults: true, oneofs: true });
const rund = grpc.loadPackageDefinition(types).rund.v1;

/** A service: unary methods give promises, streams stay streams. */
function connect(Service, address) {
  // The protos do not bound a response of a read, and gRPC takes 4 MiB unless told otherwise.
  const client = new Service(address, grpc.credentials.createInsecure(), { "grpc.max_receive_message_length": -1 });
  for (const { originalName: name, requestStream, responseStream } of Object.values(Service.service)) {
    if (requestStream || responseStream) continue;
    const method = promisify(client[name]).bind(client);
    client[name] = (request) => method(request, { deadline: Date.now() + 60_000 });
  }
  return client;
}

/** The code of an error and what the trailer `grpc-status-details-bin` holds, by type. */
function explain(error) {
  const [trailer] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!trailer) throw error;
  const details = types["rund.v1.ErrorStatus"].deserialize(trailer).details.map(({ type_url: url, value }) => {
    const type = url.replace("type.googleapis.com/google.rpc.", "");
    return [type, types[`rund.v1.${type}`].deserialize(value)];
  });
  return { code: grpc.status[error.code], ...Object.fromEntries(details) };
}

/** Free-form values. A BigInt is an integer, a number is a double. */
const mapValue = (object) => ({ entries: Object.entries(object).map(([key, x]) => ({ key, value: value(x) })) });
function value(x) {
  if (x === null) return {};
  if (Array.isArray(x)) return { listValue: { items: x.map(value) } };
  const kinds = { bigint: "intValue", number: "doubleValue", boolean: "boolValue", string: "stringValue" };
  return typeof x === "object" ? { mapValue: mapValue(x) } : { [kinds[typeof x]]: x };
}

/**
 * Sends payloads as the batches 1, 2, … of a stream and seals the table; gives what the daemon said. With `breakAtAck`
 * the connection is dropped at the first ack instead, with batches on their way.
 */
async function write(metricsTable, payloads, { streamId = randomUUID(), arrowSchema, breakAtAck = false } = {}) {
  const call = metrics.writeMetrics();
  call.write({ open: { metricsTable, streamId, arrowSchema, createMissing: true } });
  const said = {};
  for await (const answer of call) {
    if (answer.opened) {
      said.opened = said.acked = Number(answer.opened.committedSequence);
      // What is committed is sent again here, on purpose: the daemon keeps it once.
      const batches = payloads.map((payload, i) => ({ batch: { sequence: i + 1, ...payload } }));
      Readable.from(breakAtAck ? batches : [...batches, { close: { seal: true } }]).pipe(call);
    }
    if (answer.ack) said.acked = Number(answer.ack.committedSequence);
    if (answer.closed) said.rows = Number(answer.closed.metricsTable.rowCount);
    if (answer.ack && breakAtAck) break; // leaving the loop destroys the call
  }
  return said;
}

/** A metrics table's columns: `{name: [type, value, …]}`. */
async function read(metricsTable) {
  const pieces = [];
  for await (const { schema, batch } of metrics.readMetrics({ metricsTable })) pieces.push(schema, batch);
  const table = arrow.tableFromIPC(Buffer.concat(pieces));
  const columns = table.schema.fields.map(({ name, type }, i) => [name, [String(type), ...table.getChildAt(i)]]);
  return Object.fromEntries(columns);
}

/** Two rows of per-sample metrics. The types are given: left to itself, apache-arrow makes texts a dictionary. */
function samples(first) {
  const column = (type, ...values) => arrow.vectorFromArray(values, type);
  return new arrow.Table({
    example_id: column(new arrow.Int64(), first, first + 1n),
    big: column(new arrow.Int64(), 2n ** 63n - 1n, null),
    small: column(new arrow.Int8(), -128, null),
    loss: column(new arrow.Float64(), NaN, 0.5),
    ok: column(new arrow.Bool(), true, null),
    text: column(new arrow.Utf8(), "ünï", null),
    time: column(new arrow.TimestampMicrosecond("UTC"), 1_700_000_000_123, null),
    embedding: column(new arrow.FixedSizeList(3, arrow.Field.new("item", new arrow.Float32())), [1, 2, 3.5], null),
  });
}

/** The schema message and the record batch message in an Arrow stream of one batch. */
function cut(table) {
  const stream = Buffer.from(arrow.tableToIPC(table, "stream"));
  const end = 8 + stream.readInt32LE(4); // mark, length, schema | batch | end mark of 8 bytes
  return { arrowSchema: stream.subarray(0, end), arrowBatch: stream.subarray(end, -8) };
}

const [address, other] = process.argv.slice(2);
const [metrics, runs, server] = ["Metrics", "Run", "Server"].map((name) => connect(rund[`${name}Service`], address));
const printed = (_, x) => (typeof x === "bigint" ? `${x}n` : [NaN, Infinity, -Infinity].includes(x) ? `${x}` : x);
const say = (what, came) => console.log(JSON.stringify({ [what]: came }, printed));

say("server", (await server.getServerInfo({})).serverInfo.version);
const deep = { list: [1n, 1, true, "ünï", null] };
const settings = { runName: "a run", parameters: mapValue({ lr: 0.1, n: 10n, min: -(2n ** 63n), inf: Infinity, deep }) };
const { run } = await runs.createRun({ parent: "projects/node", run: settings, requestId: randomUUID() });
say("run", { name: run.name, status: run.status });
const table = (name) => `${run.name}/metrics/${name}`;

const streams = [0n, 2n, 4n].map((first) => ({ arrowStream: arrow.tableToIPC(samples(first), "stream") }));
say("arrow_stream", await write(table("streams"), streams));
const [{ arrowSchema, arrowBatch }, second] = [0n, 2n].map((first) => cut(samples(first)));
const batches = [{ arrowBatch }, { arrowBatch: second.arrowBatch }];
say("arrow_batch", await write(table("batches"), batches, { arrowSchema }));
say("columns", await write(table("columns"), [{ columns: { columns: [
  { name: "loss", doubles: { values: [NaN, -Infinity, 0] }, nullRows: [2] },
  { name: "n", ints: { values: [2n ** 63n - 1n, -1, 0] } },
  { name: "ok", bools: { values: [false, false, true] }, nullRows: [0] },
  { name: "text", strings: { values: ["ünï", "", ""] }, nullRows: [1] },
  { name: "embedding", vectors: { width: 2, values: [1, 2, 0, 0, 5, 6.5] }, nullRows: [1] },
] } }]));
const time = { seconds: 1_700_000_000, nanos: 123_456_000 };
const rows = [{ loss: 0.5, n: 2n ** 62n + 1n }, { loss: NaN, ok: true, text: "ünï" }]
  .map((values, i) => ({ step: 1 - i, rank: 1, time, values: mapValue(values) }));
const scalars = { run: run.name, rows, requestId: randomUUID() };
say("log_scalars, and again", [await metrics.logScalars(scalars), await metrics.logScalars(scalars)]);

const streamId = randomUUID();
const many = Array.from({ length: 2000 }, (_, n) => ({ columns: { columns: [{ name: "n", ints: { values: [n] } }] } }));
say("broken off", await write(table("resumed"), many, { streamId, breakAtAck: true }));
say("resumed", await write(table("resumed"), many, { streamId }));

say("no run", await runs.getRun({ name: "projects/node/runs/absent" }).catch(explain));
say("bad name", await runs.createRun({ parent: "projects/node", run: { runName: "../a" } }).catch(explain));
const dictionary = { arrowStream: arrow.tableToIPC(arrow.tableFromArrays({ text: ["a"] }), "stream") };
say("dictionary", await write(table("refused"), [dictionary]).catch(explain));
say("sealed", await write(table("streams"), streams).catch(explain));

const { metricsTables } = await metrics.listMetricsTables({ parent: other ?? run.name });
for (const { name } of metricsTables) if (!/resumed$/.test(name)) say(`read ${name}`, await read(name));
say("finished", (await runs.finishRun({ name: run.name, requestId: randomUUID() })).run.status);
for (const client of [metrics, runs, server]) client.close();
