// Applies every migration to the database of DATABASE_URL, in order. It stands in for the
// origin's own `migrate`, which cannot be built before its queries are known.
import { readFileSync, readdirSync } from "node:fs";
import pg from "pg";

const database = new pg.Client(process.env.DATABASE_URL);
await database.connect();
// The table in which sqlx notes what it did: the origin reads it.
await database.query("CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, success BOOLEAN NOT NULL)");
for (const name of readdirSync("migrations").filter((name) => name.endsWith(".sql")).sort()) {
  await database.query(readFileSync(`migrations/${name}`, "utf8"));
}
await database.end();
