// Verifies a token as a service does that has never heard of Tollgate, and prints whose it is.
import { createRemoteJWKSet, jwtVerify } from "jose";

const [keys, issuer, token] = process.argv.slice(2);
const expect = { issuer, audience: "tollgate", typ: "at+jwt", algorithms: ["EdDSA"] };
const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL(keys)), expect);
console.log(payload.sub);
