//! Who may do what, and the token server at `/token`.

use serde_json::{Map, Value};

use super::fault::Answer;
use super::quirks::{Auth, Scopes, TokenAuth};
use super::state::{Call, State, Target};
use crate::support::tokens::{PASSWORD, USER, basic};

/// The refresh token that the server gives and takes.
const IDENTITY: &str = "an identity token";

/// What a token allows.
pub(super) struct Token {
    scopes: Vec<String>,
    left: usize,
}

impl State {
    pub fn checks_after_body(&self) -> bool {
        matches!(&self.quirks.auth, Auth::Token(tokens) if tokens.checks_after_body)
    }

    /// What a call is refused with; `None` lets it pass.
    pub fn authorize(&mut self, call: &Call) -> Option<Answer> {
        if call.target() == Target::Token {
            return None;
        }
        let authorization = call.header("authorization");
        let is_protected = self.quirks.auth != Auth::Open && call.target() != Target::Version;
        if let Some(status) = self.quirks.hides_with.filter(|_| is_protected)
            && authorization.is_none()
        {
            return Some(Answer::error(status, "NAME_UNKNOWN", "there is nothing for strangers"));
        }
        match self.quirks.auth.clone() {
            Auth::Open => None,
            Auth::Basic if authorization == Some(&basic(USER, PASSWORD)) => None,
            Auth::Basic => Some(unauthorized().header("WWW-Authenticate", "Basic realm=\"test\"")),
            Auth::Token(rules) => {
                let needed = needed_scope(call);
                let given = authorization.and_then(|header| header.strip_prefix("Bearer "));
                match given.and_then(|token| self.tokens.get_mut(token)) {
                    Some(token) if token.left == 0 => Some(self.expired(&rules, call)),
                    Some(token)
                        if needed.as_ref().is_none_or(|needed| allows(&token.scopes, needed)) =>
                    {
                        token.left = token.left.saturating_sub(1);
                        None
                    }
                    None if given.is_some() => Some(self.expired(&rules, call)),
                    _ => Some(self.challenge(&rules, call)),
                }
            }
        }
    }

    /// Makes the call's token invalid and answers as for such a token.
    pub fn expire(&mut self, call: &Call, status: u16) -> Answer {
        if let Some(token) = call.header("authorization").and_then(|it| it.strip_prefix("Bearer "))
        {
            self.tokens.remove(token);
        }
        match self.quirks.auth.clone() {
            Auth::Token(rules) => {
                self.expired(&TokenAuth { expired_status: status, ..rules }, call)
            }
            Auth::Open | Auth::Basic => unauthorized(),
        }
    }

    fn expired(&self, rules: &TokenAuth, call: &Call) -> Answer {
        if rules.expired_status == 401 {
            return self.challenge(rules, call);
        }
        let message = "Your authorization token has expired. Reauthenticate and try again.";
        Answer::error(rules.expired_status, "DENIED", message)
    }

    fn challenge(&self, rules: &TokenAuth, call: &Call) -> Answer {
        let own = format!("{}/token", self.base);
        let realm = rules.realm.as_ref().unwrap_or(&own);
        let scope = needed_scope(call).map_or_else(String::new, |(repository, action)| {
            format!(",scope=\"repository:{repository}:{action}\"")
        });
        let bearer =
            format!("{}Bearer realm=\"{realm}\",service=\"test\"{scope}", rules.challenges_before);
        let others = rules.other_challenges.iter();
        let answer =
            others.fold(unauthorized(), |answer, other| answer.header("WWW-Authenticate", other));
        answer.header("WWW-Authenticate", bearer)
    }

    /// Answers at `/token`.
    pub fn token(&mut self, call: &Call) -> Answer {
        let Auth::Token(rules) = self.quirks.auth.clone() else { return Answer::status(404) };
        let posted = call.method == "POST";
        if let Some(status) = rules.post_status
            && posted
        {
            return Answer::status(status);
        }
        let fields: Vec<_> = if posted {
            url::form_urlencoded::parse(&call.body).into_owned().collect()
        } else {
            call.query.clone()
        };
        let value =
            |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
        let known = call
            .header("authorization")
            .map(|header| header == basic(USER, PASSWORD))
            .or(value("refresh_token").map(|token| token == IDENTITY));
        if known == Some(false) {
            return Answer::error(401, "UNAUTHORIZED", "who are you?");
        }
        let scopes = fields.iter().filter(|(key, _)| key == "scope");
        let mut scopes: Vec<_> =
            scopes.flat_map(|(_, value)| value.split(' ')).map(str::to_owned).collect();
        let unreadable =
            |scope: &String| rules.unreadable.iter().any(|it| scope.contains(&format!(":{it}:")));
        if scopes.iter().any(unreadable) {
            return Answer::error(403, "DENIED", "a repository that nobody may read");
        }
        if rules.honours == Scopes::First {
            scopes.truncate(1);
        }
        if known.is_none() {
            scopes = if rules.anonymous_pull {
                scopes.iter().map(|it| pull_alone(it)).collect()
            } else {
                Vec::new()
            };
        }
        let token = format!("token-{}", self.next());
        self.tokens.insert(token.clone(), Token { scopes, left: rules.uses.unwrap_or(usize::MAX) });
        let body = Map::from_iter([
            (rules.field.to_owned(), Value::from(token)),
            ("expires_in".to_owned(), Value::from(300)),
        ]);
        Answer::status(200)
            .header("Content-Type", "application/json")
            .body(Value::from(body).to_string())
    }
}

fn unauthorized() -> Answer {
    Answer::error(401, "UNAUTHORIZED", "authentication required")
}

/// The repository and the actions that a call needs, `pull` or `pull,push`.
fn needed_scope(call: &Call) -> Option<(String, &'static str)> {
    let repository = call.target().repository()?.to_owned();
    Some((repository, if call.writes() { "pull,push" } else { "pull" }))
}

/// Whether scopes such as `repository:app:pull,push` allow the actions.
fn allows(scopes: &[String], (repository, actions): &(String, &'static str)) -> bool {
    let granted = |action: &str| {
        scopes.iter().any(|scope| {
            let parts = scope.strip_prefix("repository:").and_then(|rest| rest.rsplit_once(':'));
            parts.is_some_and(|(name, granted)| {
                name == repository && granted.split(',').any(|it| it == action || it == "*")
            })
        })
    };
    actions.split(',').all(granted)
}

fn pull_alone(scope: &str) -> String {
    let name = scope.rsplit_once(':').map_or(scope, |(name, _)| name);
    format!("{name}:pull")
}
