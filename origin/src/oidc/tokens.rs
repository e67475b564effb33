//! What a relying party gets: an access token that is good at the userinfo endpoint and nowhere else, and
//! an `id_token` that says who somebody is. Pure, but for the keys.

use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use shared::{
    claims::{ACCESS_TOKEN_LIFETIME_SECS, LEEWAY_SECS},
    ids::{SessionId, TokenId},
    jwt,
};
use uuid::Uuid;

use crate::{
    app::App,
    config::Key,
    cookies,
    keys::{self, Ring},
    rim,
};

use super::{clients::Alg, store::Granted};

/// Somebody signed in with two factors, or with one.
pub const ACRS: [&str; 2] = ["urn:tollgate:acr:1", "urn:tollgate:acr:2"];

/// Claims of a relying party's access token. RFC 9068 §2.2, as far as a token of ours can be without
/// saying what its holder needs not know; `api/v1` and the edge refuse it by its `aud` alone, and it
/// lacks what they read.
#[derive(Deserialize, Serialize)]
pub struct Access {
    iss: String,
    aud: String,
    /// The person, or the client where it is for itself.
    pub sub: String,
    /// To whom it was given.
    pub client_id: String,
    /// The grant, without which it is worth nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<Uuid>,
    jti: TokenId,
    /// When it was made.
    pub iat: i64,
    /// When it ends.
    pub exp: i64,
    /// What it is for.
    pub scope: String,
}

/// The claims of an `id_token`. OpenID Connect Core 1.0 §2.
#[derive(Serialize)]
struct Identity<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    iat: i64,
    exp: i64,
    auth_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    acr: &'static str,
    amr: &'a [String],
    at_hash: String,
    sid: String,
}

/// What a hint at an earlier sign-in says.
#[derive(Deserialize)]
pub struct Hint {
    iss: String,
    /// The client.
    pub aud: String,
    /// The person.
    pub sub: String,
    /// The session, as the client knows it.
    pub sid: String,
}

/// Who may accept access tokens of relying parties.
pub fn audience(app: &App) -> String {
    format!("{}/oauth2/userinfo", app.expect.issuer)
}

/// A relying party's access token for what somebody has granted, with the scopes that it asks for now.
pub fn access(app: &App, ring: &Ring, client: &str, granted: &Granted, scope: String) -> String {
    let iat = granted.issued_at.timestamp();
    let claims = Access {
        iss: app.expect.issuer.clone(),
        aud: audience(app),
        sub: granted.user.to_string(),
        client_id: client.to_owned(),
        gid: Some(granted.grant),
        jti: rim::new_id(),
        iat,
        exp: iat + i64::from(ACCESS_TOKEN_LIFETIME_SECS),
        scope,
    };
    write("at+jwt", &claims, ring)
}

/// An access token of a client for itself: others ask us what it is worth.
pub fn own(app: &App, ring: &Ring, client: &str) -> String {
    let iat = rim::now().timestamp();
    let claims = Access {
        iss: app.expect.issuer.clone(),
        aud: format!("{}/oauth2/introspect", app.expect.issuer),
        sub: client.to_owned(),
        client_id: client.to_owned(),
        gid: None,
        jti: rim::new_id(),
        iat,
        exp: iat + i64::from(ACCESS_TOKEN_LIFETIME_SECS),
        scope: String::new(),
    };
    write("at+jwt", &claims, ring)
}

fn write(typ: &str, claims: &impl Serialize, ring: &Ring) -> String {
    let payload = serde_json::to_string(claims).expect("claims are plain JSON");
    jwt::sign_text(typ, &payload, &ring.signing)
}

/// What an access token of a relying party says, if it is good as of `now`. Whether its grant lives, the
/// database tells.
pub fn read(app: &App, token: &str, now: DateTime<Utc>) -> Result<Option<Access>, keys::Error> {
    let ring = app.keys.ring()?;
    let Ok((payload, _)) = jwt::open(token, &ring.set, "at+jwt") else {
        return Ok(None);
    };
    let claims = serde_json::from_str::<Access>(&payload).ok();
    Ok(claims.filter(|claims| {
        let ends = claims.exp.saturating_add(LEEWAY_SECS.into());
        claims.iss == app.expect.issuer
            && claims
                .aud
                .starts_with(&format!("{}/oauth2/", app.expect.issuer))
            && ends > now.timestamp()
    }))
}

/// Signs what a client reads with the algorithm that it knows.
pub fn sign(
    ring: &Ring,
    alg: Alg,
    typ: &str,
    claims: &impl Serialize,
) -> Result<String, keys::Error> {
    let payload = serde_json::to_string(claims).expect("claims are plain JSON");
    match alg {
        Alg::EdDsa => Ok(jwt::sign_text(typ, &payload, &ring.signing)),
        Alg::Rs256 => {
            let key = ring.rsa(rim::now())?;
            Ok(key.sign_text(typ, &payload))
        }
    }
}

/// The `id_token` beside an access token.
pub fn identity(
    app: &App,
    ring: &Ring,
    (client, alg): (&str, Alg),
    granted: &Granted,
    access_token: &str,
) -> Result<String, keys::Error> {
    let lifetime = TimeDelta::seconds(ACCESS_TOKEN_LIFETIME_SECS.into());
    let claims = Identity {
        iss: &app.expect.issuer,
        aud: client,
        sub: granted.user.to_string(),
        iat: granted.issued_at.timestamp(),
        exp: (granted.issued_at + lifetime).timestamp(),
        auth_time: granted.authenticated_at.timestamp(),
        nonce: granted.nonce.as_deref(),
        acr: ACRS[usize::from(granted.amr.iter().any(|method| method == "mfa"))],
        amr: &granted.amr,
        at_hash: at_hash(alg, access_token),
        sid: sid(&app.cookie_key, granted.session, client),
    };
    sign(ring, alg, "JWT", &claims)
}

/// What an `id_token` of ours says, however old it is.
pub fn hint(app: &App, token: &str) -> Result<Option<Hint>, keys::Error> {
    let ring = app.keys.ring()?;
    let payload = match jwt::open(token, &ring.set, "JWT") {
        Ok((payload, _)) => Some(payload.into_bytes()),
        Err(_) => ring.all_rsa().find_map(|key| key.open(token)),
    };
    let hint = payload.and_then(|payload| serde_json::from_slice::<Hint>(&payload).ok());
    Ok(hint.filter(|hint| hint.iss == app.expect.issuer))
}

/// What a client knows a browser's session by: no two clients the same.
pub fn sid(key: &Key, session: SessionId, client: &str) -> String {
    let subject = [session.uuid().as_bytes(), client.as_bytes()].concat();
    let derived = cookies::derive(key, b"tollgate sid of a client", &subject);
    Base64UrlUnpadded::encode_string(&derived[..16])
}

/// The left half of the hash that the algorithm uses (OpenID Connect Core 1.0 §3.1.3.6): Ed25519's is
/// SHA-512.
fn at_hash(alg: Alg, access_token: &str) -> String {
    match alg {
        Alg::EdDsa => Base64UrlUnpadded::encode_string(&Sha512::digest(access_token)[..32]),
        Alg::Rs256 => Base64UrlUnpadded::encode_string(&Sha256::digest(access_token)[..16]),
    }
}
