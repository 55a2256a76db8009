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
  { includeDirs: [fileURLToPath(new URL("file:///work/main/protos"))], longs: String, enums: String, defaults: true, oneofs: true },
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

const { run } = await runs.createRun({ parent: "projects/probe", run: { runName: "probe" } });
const T = (n) => `${run.name}/metrics/${n}`;
const col = (cols) => ({ columns: { columns: cols } });
const t = async (what, f) => say(what, await f().catch((e) => { try { return explain(e); } catch (x) { return String(x.message); } }));
const ls = (values, extra={}) => metrics.logScalars({ run: run.name, rows: [{ step: 1, values: map(values), ...extra }] });
await t("log int", () => ls({ a: 7n })); await t("log double", () => ls({ a: 7.5 })); await t("log str", () => ls({ a: "x" }));
await t("log bool", () => ls({ b: true })); await t("log int on bool", () => ls({ b: 3n }));
await t("log null", () => ls({ c: null })); await t("then str", () => ls({ c: "s" })); 
await t("double first", () => ls({ d: 1.5 })); await t("then int", () => ls({ d: 2n })); await t("then bigint", () => ls({ d: 2n**62n+1n }));
await t("list", () => ls({ l: [1] })); await t("step key", () => ls({ step: 1n })); await t("no rows", () => metrics.logScalars({run: run.name}));
await t("no values", () => metrics.logScalars({run: run.name, rows: [{}]}));
await t("time neg", () => ls({a: 1n}, {time: {seconds: -1, nanos: 5}})); await t("bytes", () => metrics.logScalars({run: run.name, rows:[{values:{entries:[{key:"q", value:{bytesValue: Buffer.from("a")}}]}}]}));
await t("bigIntValue", () => metrics.logScalars({run: run.name, rows:[{values:{entries:[{key:"q", value:{bigIntValue: "123456789012345678901234567890"}}]}}]}));
await t("same request other", async () => { const id = randomUUID(); await metrics.logScalars({run: run.name, rows:[{values: map({a:1n})}], requestId: id}); return metrics.logScalars({run: run.name, rows:[{values: map({a:2n})}], requestId: id}); });
await t("request id text", () => metrics.logScalars({run: run.name, rows:[{values: map({a:1n})}], requestId: "hello"}));
await t("history", async () => columns(await read(metrics, T("history"))));
const w = (n, p, o) => () => write(metrics, T(n), p, o);
await t("history columns", w("history", [col([{ name: "step", ints: { values: [5] } }, { name: "rank", ints: { values: [1] } }, { name: "a", doubles: { values: [1] } }])], {breakAt: 1}));
await t("bad in middle", w("middle", [col([{ name: "a", ints: { values: [1] } }]), col([{ name: "a", ints: { values: [2] } }]), col([{ name: "a", ints: { values: [3, 4] } }, { name: "b", ints: { values: [1] } }])]));
await t("unset values", w("unset", [col([{ name: "a", ints: { values: [1, 2] } }, { name: "x", nullRows: [0, 1] }])]));
await t("ints to int32", w("i32", [{ arrowStream: arrow.tableToIPC(new arrow.Table({ a: arrow.vectorFromArray([1], new arrow.Int32()), f: arrow.vectorFromArray([1], new arrow.Float32()) }), "stream") }, col([{ name: "a", ints: { values: [2] } }, { name: "f", doubles: { values: [1.1] } }])]));
await t("read i32", async () => columns(await read(metrics, T("i32"))));
await t("nullable differs", w("nul", [{ arrowStream: arrow.tableToIPC(new arrow.Table({ a: arrow.makeVector(Int32Array.of(1, 2)) }), "stream") }, { arrowStream: arrow.tableToIPC(new arrow.Table({ a: arrow.vectorFromArray([1, null], new arrow.Int32()) }), "stream") }]));
await t("read nul", async () => columns(await read(metrics, T("nul"))));
await t("null type", w("nulltype", [{ arrowStream: arrow.tableToIPC(new arrow.Table({ a: arrow.vectorFromArray([null, null]) }), "stream") }, { arrowStream: arrow.tableToIPC(new arrow.Table({ a: arrow.vectorFromArray(["a"], new arrow.Utf8()) }), "stream") }]));
await t("read nulltype", async () => columns(await read(metrics, T("nulltype"))));
await t("file format", w("file", [{ arrowStream: arrow.tableToIPC(new arrow.Table({ a: arrow.makeVector(Int32Array.of(1, 2)) }), "file") }]));
await t("arrow_batch whole stream", () => { const tb = samples(0n); return write(metrics, T("whole"), [{ arrowBatch: arrow.tableToIPC(tb, "stream") }], { arrowSchema: arrow.tableToIPC(tb, "stream") }); });
await t("arrow_batch no schema", () => { const tb = samples(0n); return write(metrics, T("whole2"), [{ arrowBatch: cut(tb).batch }]); });
await t("no batches payload", w("nopayload", [{}]));
await t("multi-batch stream", async () => { const x = samples(0n), y = samples(2n); return write(metrics, T("multi"), [{ arrowStream: arrow.tableToIPC(x.concat(y), "stream") }]); });
await t("empty table", w("empty", []));
const pieces = []; for await (const r of metrics.readMetrics({ metricsTable: T("empty") })) pieces.push({s: r.schema.length, b: r.batch.length, n: r.rowCount}); say("empty responses", pieces);
await t("zero rows", w("zero", [{ arrowStream: arrow.tableToIPC(new arrow.Table({ a: arrow.makeVector(Int32Array.of()) }), "stream") }]));
await t("read zero", async () => columns(await read(metrics, T("zero"))));
await t("gap", () => new Promise((res, rej) => { const c = metrics.writeMetrics(); c.on("error", rej); c.on("data", () => c.write({ batch: { sequence: 9, ...col([{ name: "a", ints: { values: [1] } }]) } })); c.write({ open: { metricsTable: T("gap"), streamId: "x", createMissing: true } }); }));
await t("no create", () => new Promise((res, rej) => { const c = metrics.writeMetrics(); c.on("error", rej); c.on("data", (d) => 0); c.write({ open: { metricsTable: T("nothere"), streamId: "x" } }); }));
await t("batch before open", () => new Promise((res, rej) => { const c = metrics.writeMetrics(); c.on("error", rej); c.on("data", (d) => 0); c.write({ batch: { sequence: 1 } }); }));
const big = new arrow.Table({ a: arrow.makeVector(new Float64Array(2_000_000)) });
await t("16 MB batch", w("big", [{ arrowStream: arrow.tableToIPC(big, "stream") }]));
const sizes = []; for await (const r of metrics.readMetrics({ metricsTable: T("big") })) sizes.push(r.schema.length + r.batch.length); say("read sizes", sizes);
const plain = new rund.MetricsService(address, grpc.credentials.createInsecure());
await t("read with default limits", async () => { let n = 0; for await (const r of plain.readMetrics({ metricsTable: T("big") })) n += r.batch.length; return n; });
const { serverInfo } = await server.getServerInfo({}); say("info", serverInfo);
await t("resource with space and unicode", () => runs.createRun({ parent: "projects/ünï code", run: { runName: "a b" } }).then((r) => [r.run.name, r.run.url]));
await t("empty table id", () => metrics.createMetricsTable({ parent: run.name }).then((r) => r.metricsTable.name));
await t("dup request createTable", async () => { const requestId = randomUUID(); return [await metrics.createMetricsTable({ parent: run.name, requestId }), await metrics.createMetricsTable({ parent: run.name, requestId })].map((r) => r.metricsTable.name); });
await t("finish w/o status", () => runs.finishRun({ name: run.name }).then((r) => r.run.status));
await t("log after finish", () => ls({ a: 1n }));
await t("update mask", () => runs.updateRun({ run: { name: run.name, description: "x", runName: "y" }, updateMask: { paths: ["description", "run_name"] } }).then((r) => r.run.name));
await t("update mask camel", () => runs.updateRun({ run: { name: "projects/probe/runs/y", description: "x", runName: "z" }, updateMask: { paths: ["runName"] } }).then((r) => r.run.name));
for (const client of [metrics, runs, server, plain]) client.close();
