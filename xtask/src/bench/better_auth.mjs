// The peer of `bench sign-in`: better-auth as its documentation sets it up, on Node and Postgres.
// Each look at a session refreshes it (`updateAge: 0`), unless the query asks otherwise.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import pg from "pg";

const port = Number(process.env.PORT);
const options = {
  baseURL: `http://127.0.0.1:${port}`,
  secret: "a secret of the bench, which protects nobody",
  database: new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 16 }),
  emailAndPassword: { enabled: true },
  session: { updateAge: 0 },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { level: "error" },
};
await (await getMigrations(options)).runMigrations();
const handler = toNodeHandler(betterAuth(options));
const server = createServer((request, response) => {
  if (request.url === "/ready") return response.end("ready");
  return handler(request, response);
});
// Its connections wait while others have their turn.
server.keepAliveTimeout = 0;
server.listen(port, "127.0.0.1");
