// An app behind the edge: it keeps notes, and knows nothing of passwords, tokens or balances. Who asks is
// in headers that the edge sets and proves; what a call costs is in the edge's policy.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const PORT = Number(process.env.PORT ?? 4000);
const KEY = Buffer.from(process.env.PROOF_KEY ?? "", "base64");
if (KEY.length !== 32) throw new Error("PROOF_KEY must be 32 bytes in base64, the same as the edge has");

const WINDOW_SECS = 30;
const MAX_NOTE_BYTES = 10_000;
const SHORT_NOTE_CHARS = 100;

// The edge's proof: `v1,<seconds>,<MAC>`, an HMAC-SHA-256 over the time and over each part with its length
// before it. Without it anybody who finds this port could say to be anybody.
function isFromTheEdge({ method, url, headers }) {
  const [version, time, mac] = (headers["tollgate-proof"] ?? "").split(",");
  if (version !== "v1" || !/^\d{1,12}$/.test(time) || !mac) return false;
  if (Math.abs(Date.now() / 1000 - Number(time)) > WINDOW_SECS) return false;
  const number = (value) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(BigInt(value));
    return bytes;
  };
  const said = ["address", "subject", "role", "email", "request-id"].map((name) => headers[`tollgate-${name}`] ?? "");
  const wanted = createHmac("sha256", KEY).update(number(time));
  for (const part of ["forward", method, headers.host ?? "", url, ...said]) {
    wanted.update(number(Buffer.byteLength(part))).update(part);
  }
  const [ours, theirs] = [wanted.digest(), Buffer.from(mac, "base64url")];
  return ours.length === theirs.length && timingSafeEqual(ours, theirs);
}

async function read(request) {
  let text = "";
  for await (const part of request.setEncoding("utf8")) {
    text += part;
    if (text.length > MAX_NOTE_BYTES) throw new Error("too long");
  }
  return JSON.parse(text).text;
}

const notes = new Map();

createServer(async (request, response) => {
  const answer = (status, body, headers = {}) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify(body));
  };
  if (!isFromTheEdge(request)) return answer(403, { error: "ask the edge" });
  const own = notes.get(request.headers["tollgate-subject"]) ?? [];
  if (request.method === "GET") return answer(200, own);
  try {
    const text = await read(request);
    if (typeof text !== "string" || text === "") throw new Error("no text");
    notes.set(request.headers["tollgate-subject"], [...own, text]);
    // The policy says what a note costs at the most. A short one costs less.
    answer(201, { text }, text.length <= SHORT_NOTE_CHARS ? { "tollgate-cost": "1" } : {});
  } catch {
    // Whatever is not 2xx or 3xx costs nothing.
    answer(400, { error: 'send {"text": "…"}' });
  }
}).listen(PORT, "127.0.0.1", () => console.log(`notes at http://127.0.0.1:${PORT}`));
