// What the Wasm asks of JavaScript: each a call that does as it is told and decides nothing.
import { not_reached, took } from "./build/edge.js";

export const randomId = () => crypto.randomUUID();

// Loading it takes an isolate milliseconds, and not every one verifies.
let node;
const nodeCrypto = () => (node ??= process.getBuiltinModule("node:crypto"));

export const publicKey = (bytes) => {
  const x = Buffer.from(bytes).toString("base64url");
  return nodeCrypto().createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
};

export const hasSigned = (key, message, signature) => nodeCrypto().verify(null, message, key, signature);

// Headers cross as one text, a name and a value each on a line of its own.
function pairs(text) {
  const lines = text.split("\n");
  const headers = {};
  for (let i = 0; i + 1 < lines.length; i += 2) headers[lines[i]] = lines[i + 1];
  return headers;
}

function setAll(headers, text) {
  const lines = text.split("\n");
  for (let i = 0; i + 1 < lines.length; i += 2) {
    // What an answer varies by adds up.
    if (lines[i] === "vary") headers.append(lines[i], lines[i + 1]);
    else headers.set(lines[i], lines[i + 1]);
  }
}

// A head of `size` characters, and the body behind it. Most answers have the head of the last one.
let lastHead;
let lastHeaders;
export function respond(status, size, text) {
  const head = text.slice(0, size);
  if (head !== lastHead) {
    lastHead = head;
    lastHeaders = new Headers(pairs(head));
  }
  return new Response(text.slice(size) || null, { status, headers: lastHeaders });
}

// As bytes, which cross at an eighth of what a text costs. The address is by the one header that
// Cloudflare sets itself, whatever the client sent.
const encoder = new TextEncoder();
const room = new Uint8Array(8_192);
export function head({ method, url, headers }) {
  const address = headers.get("cf-connecting-ip") ?? "";
  const origin = headers.get("origin") ?? "";
  const text = `${method}\n${url}\n${address}\n${origin}\n${headers.get("authorization") ?? ""}`;
  const { read, written } = encoder.encodeInto(text, room);
  return read < text.length ? encoder.encode(text) : room.subarray(0, written);
}

export const pause = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

export const headerNames = (request) => [...request.headers.keys()].join("\n");

// The request's own body goes on, unread; the host's own answer comes back. A `Request` that is made
// before it is fetched costs as much again.
export async function handOn(request, url, dropped, headers, answerHeaders, timeoutMillis, requestId) {
  const onward = new Headers(request.headers);
  if (dropped) for (const name of dropped.split("\n")) onward.delete(name);
  setAll(onward, headers);
  const { method } = request;
  // A GET that says it has a body of no bytes has one here, and may not.
  const body = method === "GET" || method === "HEAD" ? undefined : request.body;
  const begun = Date.now();
  let isAnswered = true;
  const none = (why, isLate) => {
    isAnswered = false;
    console.error(`request_id=${requestId} no answer from ${new URL(url).host}: ${why}`);
    return not_reached(isLate, requestId);
  };
  let timer;
  let answer;
  try {
    const late = new Promise((resolve) => (timer = setTimeout(resolve, timeoutMillis)));
    // A cache between would give one person's answer to another: who asks is in no URL.
    const init = { method, headers: onward, body, redirect: "manual", cache: "no-store" };
    // What comes too late ends with this request: to abort it here would cost every one that does not.
    answer = (await Promise.race([fetch(url, init), late])) ?? none("in time", true);
  } catch (error) {
    answer = none(error, false);
  } finally {
    clearTimeout(timer);
  }
  took(Date.now() - begun, isAnswered);
  // A socket cannot be put into another answer.
  if (!answerHeaders || answer.webSocket) return answer;
  answer = new Response(answer.body, answer);
  setAll(answer.headers, answerHeaders);
  return answer;
}

export function report({ NUMBERS }, values, line) {
  if (NUMBERS) NUMBERS.writeDataPoint({ indexes: ["edge"], doubles: [...values] });
  else console.log(line);
}

// The body as text, or undefined when there is more than `limit` bytes of it.
export async function readBody(request, limit) {
  if (Number(request.headers.get("content-length")) > limit) return undefined;
  const parts = [];
  let size = 0;
  for await (const part of request.body ?? []) {
    size += part.byteLength;
    if (size > limit) return undefined;
    parts.push(part);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts));
}

export async function fetchText(method, url, headers, body, timeoutMillis) {
  const signal = AbortSignal.timeout(timeoutMillis);
  const told = pairs(headers);
  if (body !== undefined) told["content-type"] = "application/json";
  const answer = await fetch(url, { method, headers: told, body, redirect: "manual", signal, cache: "no-store" });
  return [answer.status, answer.headers.get("etag") ?? "", await answer.text()];
}

// A cache of its own within the zone's: neither a request nor a `fetch` finds what is under a
// host that cannot exist, RFC 2606.
const copies = () => caches.open("tollgate");
const place = (name) => `https://tollgate.invalid/${encodeURIComponent(name)}`;

export async function kept(name, limit, timeoutMillis) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, timeoutMillis)));
  const found = copies()
    .then((cache) => cache.match(place(name)))
    .then((copy) => copy && readBody(copy, limit));
  return Promise.race([found, late]).finally(() => clearTimeout(timer));
}

export async function keep(name, text, maxAgeSecs) {
  const headers = { "cache-control": `max-age=${maxAgeSecs}` };
  const cache = await copies();
  await cache.put(place(name), new Response(text, { headers }));
}
