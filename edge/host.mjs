// What the Wasm asks of JavaScript: each a call that does as it is told and decides nothing.
import { createPublicKey, randomUUID, verify } from "node:crypto";
import { not_reached } from "./build/edge.js";

export const randomId = randomUUID;

export const publicKey = (bytes) => {
  const x = Buffer.from(bytes).toString("base64url");
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
};

export const hasSigned = (key, message, signature) => verify(null, message, key, signature);

// Headers cross as one text, a name and a value each on a line of its own.
function pairs(text) {
  const lines = text.split("\n");
  const headers = {};
  for (let i = 0; i + 1 < lines.length; i += 2) headers[lines[i]] = lines[i + 1];
  return headers;
}

function setAll(headers, text) {
  for (const [name, value] of Object.entries(pairs(text))) headers.set(name, value);
}

// A plain object costs less than `Headers` does here.
export function respond(status, headers, body) {
  return new Response(body || null, { status, headers: pairs(headers) });
}

// The address by the one header that Cloudflare sets itself, whatever the client sent.
export function head({ method, url, headers }) {
  const address = headers.get("cf-connecting-ip") ?? "";
  const origin = headers.get("origin") ?? "";
  return `${method}\n${url}\n${address}\n${origin}\n${headers.get("authorization") ?? ""}`;
}

export const headerNames = (request) => [...request.headers.keys()].join("\n");

// The host's own request goes on, its body unread; the host's own answer comes back.
export async function handOn(request, url, dropped, headers, answerHeaders, timeoutMillis, requestId) {
  let answer;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), timeoutMillis);
  try {
    const onward = new Request(url, request);
    for (const name of dropped.split("\n")) if (name) onward.headers.delete(name);
    setAll(onward.headers, headers);
    // A cache between would give one person's answer to another: who asks is in no URL.
    answer = await fetch(onward, { redirect: "manual", signal: late.signal, cache: "no-store" });
  } catch (error) {
    console.error(`request_id=${requestId} no answer from ${new URL(url).host}: ${error}`);
    answer = not_reached(late.signal.aborted, requestId);
  } finally {
    clearTimeout(timer);
  }
  // A socket cannot be put into another answer.
  if (!answerHeaders || answer.webSocket) return answer;
  answer = new Response(answer.body, answer);
  for (const [name, value] of Object.entries(pairs(answerHeaders))) {
    // What an answer varies by adds up.
    if (name === "vary") answer.headers.append(name, value);
    else answer.headers.set(name, value);
  }
  return answer;
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
