// What people write today: hono for the routes, jose for the tokens, each verified every time.
import { Hono } from "hono";
import { createRemoteJWKSet, jwtVerify } from "jose";

const app = new Hono();
let keys;

async function verified(context) {
  const { PUBLIC_URL, ORIGIN_URL, TOKEN_AUDIENCE } = context.env;
  keys ??= createRemoteJWKSet(new URL("/api/v1/auth/jwks", ORIGIN_URL));
  const token = context.req.header("authorization")?.replace(/^Bearer /, "") ?? "";
  const expect = { issuer: PUBLIC_URL, audience: TOKEN_AUDIENCE, typ: "at+jwt", algorithms: ["EdDSA"] };
  const { payload } = await jwtVerify(token, keys, expect);
  return payload;
}

// The same answer as ours.
app.get("/api/v1/auth/validate", async (context) => context.json({ valid: true, payload: await verified(context) }));

app.get("*", async (context) => {
  const { sub } = await verified(context);
  const { pathname, search } = new URL(context.req.url);
  const onward = new Request(context.env.ORIGIN_URL + pathname + search, context.req.raw);
  onward.headers.set("tollgate-subject", sub);
  return fetch(onward);
});

app.onError((error, context) => context.json({ error: error.message }, 401));

export default app;
