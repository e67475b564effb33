// A relying party by `openid-client`: `openid_client.mjs ISSUER CLIENT SECRET BACK`. It says where to send
// the browser, hears where that came back, and says what it has learned.
import { createInterface } from "node:readline/promises";
import * as client from "openid-client";

const [issuer, id, secret, back] = process.argv.slice(2);
const config = await client.discovery(new URL(issuer), id, undefined, client.ClientSecretBasic(secret), {
  execute: [client.allowInsecureRequests],
});
const verifier = client.randomPKCECodeVerifier();
const [state, nonce] = [client.randomState(), client.randomNonce()];
const url = client.buildAuthorizationUrl(config, {
  redirect_uri: back,
  scope: "openid profile email offline_access",
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
  state,
  nonce,
});
console.log(JSON.stringify({ url: url.href }));
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { value } = await lines.next();
const tokens = await client.authorizationCodeGrant(config, new URL(value), {
  pkceCodeVerifier: verifier,
  expectedState: state,
  expectedNonce: nonce,
  idTokenExpected: true,
});
const { sub } = tokens.claims();
const user = await client.fetchUserInfo(config, tokens.access_token, sub);
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
const live = await client.tokenIntrospection(config, refreshed.access_token);
await client.tokenRevocation(config, refreshed.refresh_token);
const dead = await client.tokenIntrospection(config, refreshed.access_token);
const again = await client.refreshTokenGrant(config, refreshed.refresh_token).catch(({ error }) => error);
console.log(JSON.stringify({ ...user, active: [live.active, dead.active], again, token: tokens.access_token }));
process.exit();
