// A live client with nothing but Node: logs on, subscribes, and walks the record headers.
//
// usage: node live_client.mjs HOST PORT KEY DATASET SCHEMA STYPE_IN SYMBOLS RECORDS
// Prints one JSON line. Exit codes: 0 as many records of data as asked for; 3 refused at the logon; 4 an ErrorMsg.
import { createHash } from "node:crypto";
import { connect } from "node:net";

const [host, port, key, dataset, schema, stypeIn, symbols, wanted] = process.argv.slice(2);
const SYMBOL_MAPPING = 0x16, ERROR = 0x15, SYSTEM = 0x17;
const CONTROL = new Set([SYMBOL_MAPPING, ERROR, SYSTEM]);

let buffer = Buffer.alloc(0);
let state = "lines";
let records = 0, bytes = 0, version = 0;

function end(code, said) {
  console.log(JSON.stringify({ records, bytes, version, ...said }));
  socket.destroy();
  process.exitCode = code;
}

function takeLine(line) {
  const fields = new Map(line.split("|").map((part) => {
    const at = part.indexOf("=");
    return at < 0 ? [part, ""] : [part.slice(0, at), part.slice(at + 1)];
  }));
  if (fields.has("cram")) {
    const digest = createHash("sha256").update(`${fields.get("cram")}|${key}`).digest("hex");
    socket.write(`auth=${digest}-${key.slice(-5)}|dataset=${dataset}|encoding=dbn|ts_out=0|client=plain node\n`);
  } else if (fields.get("success") === "1") {
    socket.write(`schema=${schema}|stype_in=${stypeIn}|symbols=${symbols}\nstart_session\n`);
    state = "header";
  } else if (fields.has("success")) {
    end(3, { refused: fields.get("error") });
  }
}

// Each takes one thing from the front of the buffer; false when it is not whole yet.
const steps = {
  lines() {
    const at = buffer.indexOf(10);
    if (at < 0) return false;
    const line = buffer.subarray(0, at).toString("utf8");
    buffer = buffer.subarray(at + 1);
    takeLine(line);
    return true;
  },
  header() {
    if (buffer.length < 8) return false;
    if (buffer.toString("latin1", 0, 3) !== "DBN") throw new Error("no DBN header");
    const length = 8 + buffer.readUInt32LE(4);
    if (buffer.length < length) return false;
    version = buffer[3];
    buffer = buffer.subarray(length);
    state = "records";
    return true;
  },
  records() {
    if (buffer.length < 16) return false;
    const length = buffer[0] * 4, rtype = buffer[1];
    if (buffer.length < length) return false;
    const record = buffer.subarray(0, length);
    buffer = buffer.subarray(length);
    if (rtype === ERROR) {
      end(4, { error: record.toString("utf8", 16, record.indexOf(0, 16)) });
      return false;
    }
    if (!CONTROL.has(rtype)) {
      records += 1;
      bytes += length;
      if (records >= Number(wanted)) {
        end(0, {});
        return false;
      }
    }
    return true;
  },
};

const socket = connect(Number(port), host);
socket.on("data", (data) => {
  if (process.exitCode !== undefined) return;
  buffer = buffer.length ? Buffer.concat([buffer, data]) : data;
  while (steps[state]());
});
socket.on("end", () => process.exitCode === undefined && end(5, { error: "closed" }));
socket.on("error", (error) => process.exitCode === undefined && end(6, { error: error.message }));
