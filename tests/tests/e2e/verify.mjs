// Verifies tokens as services do that have never heard of Tollgate: one that keeps the key set for as
// long as the library does, and one that has just started. Takes a token a line; tells in a line by
// which key it is signed, and to each of the two whose it is, or why it is refused.
import { createInterface } from "node:readline";
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from "jose";

const [url, issuer] = process.argv.slice(2);
const expect = { issuer, audience: "tollgate", typ: "at+jwt", algorithms: ["EdDSA"] };
const keySet = () => createRemoteJWKSet(new URL(url));
const kept = keySet();

const whose = (token, keys) =>
    jwtVerify(token, keys, expect).then(
        ({ payload }) => payload.sub,
        (why) => why.code ?? String(why),
    );

for await (const token of createInterface({ input: process.stdin })) {
    const { kid } = decodeProtectedHeader(token);
    const [warm, cold] = [await whose(token, kept), await whose(token, keySet())];
    console.log(JSON.stringify({ kid, warm, cold }));
}
