//! Who the user is to a registry.

use super::Secret;

/// A user name that says that the password is an identity token.
const IDENTITY_USER: &str = "<token>";

/// Who the user is to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// No credentials.
    Anonymous,
    /// A user name and a password.
    Password {
        /// The user name.
        user: String,
        /// The password, or what a registry takes for one.
        password: Secret,
    },
    /// A token that is traded for tokens of one request each, OAuth's refresh token.
    IdentityToken(Secret),
    /// A token that is sent as it is.
    RegistryToken(Secret),
}

impl Login {
    /// Takes user name and password; the name `<token>` means that the password is an identity
    /// token.
    pub fn new(user: String, password: Secret) -> Self {
        match user.as_str() {
            IDENTITY_USER => Self::IdentityToken(password),
            _ => Self::Password { user, password },
        }
    }
}
