// rund from Node.js, written from protos/rund_pb/v1/*.proto alone: writes a run, reads one, says no to bad input.
//
//   node conformance.mjs ADDRESS [RUN]     ADDRESS as in daemon.json, RUN (to read) as projects/p/runs/r
//
// Every line it prints is a JSON object with one key, what was done, and what came of it. BigInts are printed as "1n".
import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import * as arrow from "apache-arrow";

const definition = loader.loadSync(
  ["error_reason", "metrics_service", "run_service", "server_service"].map((file) => `rund_pb/v1/${file}.proto`),
  { includeDirs: [fileURLToPath(new URL("../../protos", import.meta.url))], longs: String, enums: String, defaults: true, oneofs: true },
);
const rund = grpc.loadPackageDefinition(definition).rund.v1;

/** A service whose unary methods are promises and whose streams stay streams. */
function connect(Service, address) {
  // One response of a read may be larger than the 4 MiB that gRPC takes by default.
  const client = new Service(address, grpc.credentials.createInsecure(), { "grpc.max_receive_message_length": -1 });
  const unary = Object.values(Service.service).filter((method) => !method.requestStream && !method.responseStream);
  for (const { originalName: name } of unary) {
    const callback = client[name].bind(client);
    client[name] = (request) => new Promise((resolve, reject) => {
      callback(request, { deadline: Date.now() + 10_000 }, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }
  return client;
}

/** What rund says of an error, out of the trailer `grpc-status-details-bin`. */
function explain(error) {
  const [trailer] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!trailer) throw error;
  const details = definition["rund.v1.ErrorStatus"].deserialize(trailer).details.map(({ type_url, typeUrl, value }) => {
    const type = (typeUrl ?? type_url).replace(/.*google\.rpc\./, "");
    return [type, definition[`rund.v1.${type}`].deserialize(value)];
  });
  return { code: grpc.status[error.code], ...Object.fromEntries(details) };
}

/** A free-form value: BigInt is an integer, number a double. */
function value(x) {
  if (typeof x === "bigint") return { intValue: x };
  if (typeof x === "number") return { doubleValue: x };
  if (typeof x === "boolean") return { boolValue: x };
  if (typeof x === "string") return { stringValue: x };
  if (Array.isArray(x)) return { listValue: { items: x.map(value) } };
  return x === null ? {} : { mapValue: map(x) };
}
const map = (object) => ({ entries: Object.entries(object).map(([key, x]) => ({ key, value: value(x) })) });

/**
 * Sends payloads as the batches 1, 2, … of a stream and gives what the daemon said of them. Resends all of them, whatever is
 * committed already: the daemon keeps each once. `breakAt` drops the connection at the ack of that sequence.
 */
async function write(metrics, metricsTable, payloads, { streamId = randomUUID(), arrowSchema, breakAt = Infinity } = {}) {
  const call = metrics.writeMetrics();
  call.write({ open: { metricsTable, streamId, arrowSchema, createMissing: true } });
  const said = { opened: null, acked: 0, rowCount: null };
  for await (const answer of call) {
    if (answer.opened) {
      said.opened = Number(answer.opened.committedSequence);
      const batches = payloads.map((payload, i) => ({ batch: { sequence: i + 1, ...payload } }));
      const last = breakAt === Infinity ? [{ close: { seal: true } }] : [];
      Readable.from([...batches, ...last]).pipe(call, { end: last.length > 0 });
    }
    if (answer.ack) said.acked = Number(answer.ack.committedSequence);
    if (answer.closed) said.rowCount = Number(answer.closed.metricsTable.rowCount);
    if (said.acked >= breakAt) {
      call.cancel();
      break;
    }
  }
  return said;
}

/** A table's rows as an Arrow table. */
async function read(metrics, metricsTable) {
  const pieces = [];
  for await (const { schema, batch } of metrics.readMetrics({ metricsTable })) pieces.push(schema, batch);
  return arrow.tableFromIPC(Buffer.concat(pieces));
}
const columns = (table) => Object.fromEntries(table.schema.fields.map(({ name, type }) => [name, [String(type), ...table.getChild(name)]]));

/** Rows of per-sample metrics. Types are given, because apache-arrow would make a dictionary of texts. */
function samples(first) {
  const column = (type, values) => arrow.vectorFromArray(values, type);
  return new arrow.Table({
    example_id: column(new arrow.Int64(), [first, first + 1n]),
    big: column(new arrow.Int64(), [2n ** 63n - 1n, null]),
    loss: column(new arrow.Float64(), [NaN, 0.5]),
    ok: column(new arrow.Bool(), [true, null]),
    text: column(new arrow.Utf8(), ["ünï", null]),
    time: column(new arrow.TimestampMicrosecond("UTC"), [1_700_000_000_123, null]),
    embedding: column(new arrow.FixedSizeList(3, new arrow.Field("item", new arrow.Float32())), [[1, 2, 3.5], null]),
  });
}

/** Cuts an Arrow stream of one batch into its schema message and its record batch message. */
function cut(table) {
  const stream = Buffer.from(arrow.tableToIPC(table, "stream"));
  const end = 8 + stream.readInt32LE(4); // continuation mark, length, schema; then the batch; then eight bytes of end mark
  return { schema: stream.subarray(0, end), batch: stream.subarray(end, -8) };
}

const [address, other] = process.argv.slice(2);
const say = (what, came) => console.log(JSON.stringify({ [what]: came }, (_, x) => (typeof x === "bigint" ? `${x}n` : x)));
const metrics = connect(rund.MetricsService, address);
const runs = connect(rund.RunService, address);
const server = connect(rund.ServerService, address);

say("server", (await server.getServerInfo({})).serverInfo.version);
const parameters = map({ lr: 0.1, epochs: 10n, big: -(2n ** 63n), name: "ünï", nothing: null, nested: { list: [1n, 1.0, true] } });
const { run } = (await runs.createRun({ parent: "projects/node", run: { runName: "from node", parameters }, requestId: randomUUID() }));
say("run", { name: run.name, status: run.status });

const streamed = await write(metrics, `${run.name}/metrics/streamed`, [0n, 2n, 4n].map((first) => ({ arrowStream: arrow.tableToIPC(samples(first), "stream") })));
say("arrow_stream", streamed);
const [a, b] = [0n, 2n].map((first) => cut(samples(first)));
say("arrow_batch", await write(metrics, `${run.name}/metrics/batches`, [{ arrowBatch: a.batch }, { arrowBatch: b.batch }], { arrowSchema: a.schema }));
say("columns", await write(metrics, `${run.name}/metrics/columns`, [{ columns: { columns: [
  { name: "loss", doubles: { values: [NaN, -Infinity, 0] }, nullRows: [2] },
  { name: "n", ints: { values: [2n ** 63n - 1n, -1n, 0n] } },
  { name: "ok", bools: { values: [true, false, true] }, nullRows: [0] },
  { name: "text", strings: { values: ["ünï", "", "c"] }, nullRows: [1] },
  { name: "embedding", vectors: { width: 2, values: [1, 2, 3, 4, 5, 6.5] }, nullRows: [1] },
] } }]));
const row = (step, values) => ({ step, rank: 1, time: { seconds: 1_700_000_000 + Number(step), nanos: 123_456_000 }, values: map(values) });
const logged = { run: run.name, rows: [row(1n, { loss: 0.5, n: 7n }), row(0n, { loss: NaN, ok: true, text: "ünï", none: null })], requestId: randomUUID() };
say("log_scalars", [await metrics.logScalars(logged), await metrics.logScalars(logged)]);

const streamId = randomUUID();
const batches = [1, 2, 3, 4].map((n) => ({ columns: { columns: [{ name: "n", ints: { values: [n] } }] } }));
say("broken off", await write(metrics, `${run.name}/metrics/resumed`, batches.slice(0, 2), { streamId, breakAt: 2 }));
say("resumed", await write(metrics, `${run.name}/metrics/resumed`, batches, { streamId }));

say("no such run", await runs.getRun({ name: "projects/node/runs/absent" }).catch(explain));
say("bad name", await runs.createRun({ parent: "projects/node", run: { runName: "../etc" } }).catch(explain));
say("a dictionary", await write(metrics, `${run.name}/metrics/bad`, [{ arrowStream: arrow.tableToIPC(arrow.tableFromArrays({ text: ["a"] }), "stream") }]).catch(explain));
say("sealed", await write(metrics, `${run.name}/metrics/streamed`, batches).catch(explain));

const { metricsTables } = await metrics.listMetricsTables({ parent: other ?? run.name });
for (const { name } of metricsTables) say(`read ${name}`, columns(await read(metrics, name)));
await runs.finishRun({ name: run.name, requestId: randomUUID() });
for (const client of [metrics, runs, server]) client.close();
