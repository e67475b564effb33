//! One provider: where it asks people who they are, and whether its word about them holds.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EndpointNotSet, EndpointSet, ExtraTokenFields, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RequestTokenError, Scope, StandardRevocableToken, StandardTokenResponse,
    TokenResponse, TokenUrl,
    basic::{
        BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
        BasicTokenIntrospectionResponse, BasicTokenType,
    },
};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use shared::api::{Email, Name};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    Error, Identity, github,
    id_token::{self, Claims, Expect, Nonce, Rejected},
    published::{Metadata, Published},
    wire::{Away, Wire},
};

/// How long a client secret that is made on demand is good.
const SECRET_LIFETIME_SECS: i64 = 5 * 60;

/// A provider as configured, and what it publishes.
pub struct Provider {
    /// Its name in paths and in the database.
    pub id: String,
    pub client_id: String,
    pub secret: Secret,
    pub scopes: Vec<String>,
    /// Whose `id_token`s native apps may show, besides our own client's.
    pub native_audiences: Vec<String>,
    pub kind: Kind,
}

/// How it speaks.
pub enum Kind {
    /// OpenID Connect.
    OpenId {
        published: Published,
        /// Whether it sends people back by a form: Apple does where it is asked for an address.
        by_form: bool,
    },
    /// GitHub's OAuth.
    GitHub { base: Url, api: Url },
}

/// What we show the provider.
pub enum Secret {
    /// Nothing: PKCE alone binds the code to us.
    None,
    Fixed(Zeroizing<String>),
    /// Apple's: a JWT that the developer's key signs.
    Signed {
        team_id: String,
        key_id: String,
        key: EncodingKey,
    },
}

/// The secrets of one sign-in.
pub struct Secrets {
    pub state: Zeroizing<String>,
    pub nonce: Zeroizing<String>,
    pub verifier: Zeroizing<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct WithIdToken {
    id_token: Option<String>,
}

impl ExtraTokenFields for WithIdToken {}

type Tokens = StandardTokenResponse<WithIdToken, BasicTokenType>;
type OAuth = Client<
    BasicErrorResponse,
    Tokens,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

impl Provider {
    /// The page of the provider at which somebody says who they are.
    pub async fn page(
        &self,
        wire: &Wire,
        redirect: &str,
        secrets: &Secrets,
        now: DateTime<Utc>,
    ) -> Result<Url, Error> {
        let client = self.client(wire, redirect, now).await?;
        let verifier = PkceCodeVerifier::new(secrets.verifier.to_string());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let scopes = self.scopes.iter().cloned().map(Scope::new);
        let mut page = client
            .authorize_url(|| CsrfToken::new(secrets.state.to_string()))
            .add_scopes(scopes)
            .set_pkce_challenge(challenge);
        if let Kind::OpenId { by_form, .. } = self.kind {
            page = page.add_extra_param("nonce", secrets.nonce.as_str());
            if by_form {
                page = page.add_extra_param("response_mode", "form_post");
            }
        }
        Ok(page.url().0)
    }

    /// Whether whoever sends somebody back calls itself what this provider does (RFC 9207 §2.4).
    pub async fn sent_back(
        &self,
        wire: &Wire,
        iss: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let Kind::OpenId { published, .. } = &self.kind else {
            return Ok(true);
        };
        if let Some(iss) = iss {
            return Ok(iss == published.issuer);
        }
        let metadata = published.metadata(wire, now).await?;
        Ok(!metadata.authorization_response_iss_parameter_supported)
    }

    /// Who came back with this code.
    pub async fn identify(
        &self,
        wire: &Wire,
        redirect: &str,
        code: String,
        secrets: &Secrets,
        now: DateTime<Utc>,
    ) -> Result<Identity, Error> {
        let client = self.client(wire, redirect, now).await?;
        let tokens = client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(PkceCodeVerifier::new(secrets.verifier.to_string()))
            .request_async(wire)
            .await
            .map_err(no_tokens)?;
        let access = tokens.access_token().secret();
        let published = match &self.kind {
            Kind::GitHub { base, api } => {
                return Ok(github::identify(wire, &self.id, (base, api), access).await?);
            }
            Kind::OpenId { published, .. } => published,
        };
        let token = tokens.extra_fields().id_token.as_deref();
        let token = token.ok_or(Rejected::Malformed)?;
        let keys = published.keys_for(wire, token, now).await?;
        let expect = Expect {
            issuer: &published.issuer,
            audiences: &[&self.client_id],
            nonce: Nonce::Ours(&secrets.nonce),
        };
        let mut claims = id_token::verify(token, &keys, &expect, now)?;
        if claims.email.is_none() {
            let metadata = published.metadata(wire, now).await?;
            ask_for_email(wire, &metadata, access, &mut claims).await?;
        }
        Ok(self.identity(published, claims))
    }

    /// Whose `id_token` it is that a native app shows, and until when it is one.
    pub async fn identify_native(
        &self,
        wire: &Wire,
        token: &str,
        nonce: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(Identity, DateTime<Utc>), Error> {
        let Kind::OpenId { published, .. } = &self.kind else {
            return Err(Error::UnknownProvider);
        };
        let keys = published.keys_for(wire, token, now).await?;
        let audiences = std::iter::once(&self.client_id).chain(&self.native_audiences);
        let expect = Expect {
            issuer: &published.issuer,
            audiences: &audiences.map(String::as_str).collect::<Vec<_>>(),
            nonce: Nonce::Shown(nonce),
        };
        let claims = id_token::verify(token, &keys, &expect, now)?;
        let over_at = claims.over_at().ok_or(Rejected::Time)?;
        Ok((self.identity(published, claims), over_at))
    }

    fn identity(&self, published: &Published, claims: Claims) -> Identity {
        Identity {
            provider: self.id.clone(),
            issuer: published.issuer.clone(),
            subject: claims.sub,
            email: claims.email.and_then(Email::parse),
            email_verified: claims.email_verified,
            name: claims.name.and_then(Name::parse),
        }
    }

    async fn client(
        &self,
        wire: &Wire,
        redirect: &str,
        now: DateTime<Utc>,
    ) -> Result<OAuth, Error> {
        let (authorize, token, basic) = match &self.kind {
            Kind::GitHub { base, .. } => (
                github::below(base, "login/oauth/authorize"),
                github::below(base, "login/oauth/access_token"),
                false,
            ),
            Kind::OpenId { published, .. } => {
                let metadata = published.metadata(wire, now).await?;
                let (authorize, token) =
                    (&metadata.authorization_endpoint, &metadata.token_endpoint);
                (authorize.clone(), token.clone(), prefers_basic(&metadata))
            }
        };
        let client = Client::new(ClientId::new(self.client_id.clone()))
            .set_auth_uri(AuthUrl::from_url(authorize))
            .set_token_uri(TokenUrl::from_url(token))
            .set_redirect_uri(RedirectUrl::new(redirect.to_owned()).expect("PUBLIC_URL is a URL"))
            .set_auth_type(if basic {
                AuthType::BasicAuth
            } else {
                AuthType::RequestBody
            });
        Ok(match self.secret(now)? {
            Some(secret) => client.set_client_secret(secret),
            None => client,
        })
    }

    fn secret(&self, now: DateTime<Utc>) -> Result<Option<ClientSecret>, Error> {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            iat: i64,
            exp: i64,
            aud: &'a str,
            sub: &'a str,
        }

        let (team_id, key_id, key) = match &self.secret {
            Secret::None => return Ok(None),
            Secret::Fixed(secret) => return Ok(Some(ClientSecret::new(secret.to_string()))),
            Secret::Signed {
                team_id,
                key_id,
                key,
            } => (team_id, key_id, key),
        };
        let Kind::OpenId { published, .. } = &self.kind else {
            return Ok(None);
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(key_id.clone());
        let claims = Claims {
            iss: team_id,
            iat: now.timestamp(),
            exp: now.timestamp() + SECRET_LIFETIME_SECS,
            aud: &published.issuer,
            sub: &self.client_id,
        };
        let secret = jsonwebtoken::encode(&header, &claims, key)
            .map_err(|_| Away::NotItsClient("our key does not sign".to_owned()))?;
        Ok(Some(ClientSecret::new(secret)))
    }
}

/// OpenID Connect Discovery 1.0 §3: `client_secret_basic` where nothing is said.
fn prefers_basic(metadata: &Metadata) -> bool {
    let methods = &metadata.token_endpoint_auth_methods_supported;
    let has = |name: &str| methods.iter().any(|method| method == name);
    methods.is_empty() || has("client_secret_basic") || !has("client_secret_post")
}

/// The rest of what a provider says of somebody (OpenID Connect Core 1.0 §5.3), where the token does
/// not say it.
async fn ask_for_email(
    wire: &Wire,
    metadata: &Metadata,
    access: &str,
    claims: &mut Claims,
) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct UserInfo {
        sub: String,
        email: Option<String>,
        #[serde(default, deserialize_with = "id_token::flag")]
        email_verified: bool,
        name: Option<String>,
    }

    let Some(url) = &metadata.userinfo_endpoint else {
        return Ok(());
    };
    let info: UserInfo = wire.get(url, Some(access), "userinfo").await?;
    if !bool::from(info.sub.as_bytes().ct_eq(claims.sub.as_bytes())) {
        return Err(Rejected::Subject.into());
    }
    claims.email = info.email;
    claims.email_verified = info.email_verified;
    claims.name = claims.name.take().or(info.name);
    Ok(())
}

/// Why a code brought no tokens: it is not good, or the provider is not.
fn no_tokens(error: RequestTokenError<Away, BasicErrorResponse>) -> Error {
    let refusal = match error {
        RequestTokenError::ServerResponse(refusal) => refusal,
        RequestTokenError::Request(away) => return away.into(),
        // GitHub says no with 200.
        RequestTokenError::Parse(_, body) => match serde_json::from_slice(&body) {
            Ok(refusal) => refusal,
            Err(_) => return Away::Unreadable("token response").into(),
        },
        RequestTokenError::Other(_) => return Away::Unreadable("token response").into(),
    };
    match refusal.error() {
        BasicErrorResponseType::InvalidGrant => Error::Refused,
        BasicErrorResponseType::Extension(code) if code == "bad_verification_code" => {
            Error::Refused
        }
        code => Away::NotItsClient(code.as_ref().chars().take(40).collect()).into(),
    }
}
