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
  ["error_reason", "metrics_service", "run_service", "table_service", "server_service"].map((file) => `rund_pb/v1/${file}.proto`),
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

const w = (n, p, o) => () => write(metrics, T(n), p, o);
await t("bytes ff", () => metrics.logScalars({run: run.name, rows:[{values:{entries:[{key:"q", value:{bytesValue: Buffer.from([255,254])}}]}}]}));
await t("read", async () => columns(await read(metrics, T("history"))));
await t("then text", () => ls({q: "x"}));
await t("read", async () => columns(await read(metrics, T("history"))));
await t("bignum then int", () => metrics.logScalars({run: run.name, rows:[{values:{entries:[{key:"bn", value:{bigIntValue: "123456789012345678901234567890"}}]}}]}));
await t("history columns", w("history", [col([{ name: "step", ints: { values: [5] } }, { name: "rank", ints: { values: [1] } }, { name: "a", doubles: { values: [1] } }])], {breakAt: 1}));
await t("read", async () => columns(await read(metrics, T("history"))));
await t("history columns text step", w("history", [col([{ name: "step", strings: { values: ["abc"] } }])], {breakAt: 1}));
await t("read", async () => columns(await read(metrics, T("history"))));
const tables = new rund.TableService(address, grpc.credentials.createInsecure());
const input = await new Promise((res, rej) => { const c = tables.writeTable((e, a) => e ? rej(e) : res(a.table)); c.write({ open: { parent: "projects/probe/datasets/d", tableId: "in", ifExists: "IF_EXISTS_RENAME" } }); c.write({ arrowStream: arrow.tableToIPC(samples(0n), "stream") }); c.end(); }).catch(explain);
say("input", { name: input.name, url: input.url, id: input.inputTableId, rc: input.rowCount });
const mt = (await metrics.createMetricsTable({ parent: run.name, tableId: "joined", metricsTable: { foreignTableUrl: input.url, constants: map({ epoch: 3n }), columns: [{ name: "loss", role: "COLUMN_ROLE_UNSPECIFIED", unit: "nat" }] } })).metricsTable;
say("created", { ...mt, arrowSchema: mt.arrowSchema.length });
await t("joined ints", w("joined", [col([{ name: "example_id", ints: { values: [0, 1] } }, { name: "loss", doubles: { values: [0, 1] } }])], { breakAt: 1 }));
await t("joined ints with id", w("joined", [col([{ name: "example_id", ints: { values: [0, 1] } }, { name: "input_table_id", ints: { values: [input.inputTableId, input.inputTableId] } }, { name: "loss", doubles: { values: [0, 1] } }])], { breakAt: 1 }));
await t("joined no id", w("joined", [col([{ name: "loss", doubles: { values: [0, 1] } }])], { breakAt: 1 }));
await t("joined out of range", w("joined", [col([{ name: "example_id", ints: { values: [5] } }, { name: "loss", doubles: { values: [0] } }])], { breakAt: 1 }));
await t("joined double id", w("joined", [col([{ name: "example_id", doubles: { values: [1] } }, { name: "loss", doubles: { values: [0] } }])], { breakAt: 1 }));
await t("joined int32 id", w("joined", [{ arrowStream: arrow.tableToIPC(new arrow.Table({ example_id: arrow.makeVector(Int32Array.of(1)), loss: arrow.vectorFromArray([1.5]) }), "stream") }], { breakAt: 1 }));
await t("read joined", async () => columns(await read(metrics, T("joined"))));
const batches = Array.from({ length: 3000 }, (_, n) => col([{ name: "n", ints: { values: [n] } }]));
for (let i = 0; i < 20; i++) {
  const streamId = randomUUID(), name = T(`r${i}`);
  const first = await write(metrics, name, batches, { streamId, breakAt: 1 + 37 * i });
  const second = await write(metrics, name, batches, { streamId }).catch(explain);
  const rows = [...(await read(metrics, name)).getChild("n")].map(Number);
  say("resume", { first, second, ok: rows.length === 3000 && rows.every((x, j) => x === j) });
}
await t("read sealed", () => tables.close());
for (const client of [metrics, runs, server, tables]) client.close();
