// A public relying party by `oauth4webapi`: `oauth4webapi.mjs ISSUER CLIENT - BACK`, as `openid_client.mjs`.
import { createInterface } from "node:readline/promises";
import * as oauth from "oauth4webapi";

const [issuer, id, , back] = process.argv.slice(2);
const plain = { [oauth.allowInsecureRequests]: true };
const found = await oauth.discoveryRequest(new URL(issuer), plain);
const server = await oauth.processDiscoveryResponse(new URL(issuer), found);
const client = { client_id: id };
const verifier = oauth.generateRandomCodeVerifier();
const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()];
const url = new URL(server.authorization_endpoint);
for (const [name, value] of Object.entries({
  client_id: id,
  redirect_uri: back,
  response_type: "code",
  scope: "openid profile email offline_access",
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
  state,
  nonce,
})) {
  url.searchParams.set(name, value);
}
console.log(JSON.stringify({ url: url.href }));
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { value } = await lines.next();
// It checks `iss` too (RFC 9207).
const answer = oauth.validateAuthResponse(server, client, new URL(value), state);
const exchange = () =>
  oauth.authorizationCodeGrantRequest(server, client, oauth.None(), answer, back, verifier, plain);
const tokens = await oauth.processAuthorizationCodeResponse(server, client, await exchange(), {
  expectedNonce: nonce,
  requireIdToken: true,
});
const { sub } = oauth.getValidatedIdTokenClaims(tokens);
const told = await oauth.userInfoRequest(server, client, tokens.access_token, plain);
const user = await oauth.processUserInfoResponse(server, client, sub, told);
const refresh = (token) => oauth.refreshTokenGrantRequest(server, client, oauth.None(), token, plain);
const renewed = await refresh(tokens.refresh_token);
const refreshed = await oauth.processRefreshTokenResponse(server, client, renewed);
// A code that comes twice ends what came of it (RFC 9700 §4.5).
const replayed = (await exchange()).status;
const ended = await refresh(refreshed.refresh_token);
const again = await oauth.processRefreshTokenResponse(server, client, ended).catch(({ error }) => error);
console.log(JSON.stringify({ ...user, replayed, again, token: tokens.access_token }));
process.exit();
