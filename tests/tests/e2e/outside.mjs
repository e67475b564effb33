// An OpenID provider with one client, the origin, and the pages that the library has for trying it
// out: whoever types a name is that person, and has the address `name@example.org`. It has verified
// that; who is `unverified-name` has the same one, and has shown nobody that it is theirs. It ends
// when its stdin does.
import Provider from "oidc-provider";

const [providers, edge] = process.argv.slice(2);
const [{ id, issuer, clientId, clientSecret }] = JSON.parse(providers);
const UNVERIFIED = "unverified-";

const provider = new Provider(issuer, {
    clients: [
        {
            client_id: clientId,
            client_secret: clientSecret,
            redirect_uris: [`${edge}/api/v1/auth/oauth/${id}/callback`],
        },
    ],
    pkce: { required: () => true },
    cookies: { keys: ["for this run alone"] },
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
    findAccount: (_, name) => ({
        accountId: name,
        claims: () => ({
            sub: name,
            name: "Ada",
            email: `${name.replace(UNVERIFIED, "")}@example.org`,
            email_verified: !name.startsWith(UNVERIFIED),
        }),
    }),
});
provider.listen(Number(new URL(issuer).port), "127.0.0.1", () => console.log("listening"));
process.stdin.on("end", () => process.exit()).resume();
