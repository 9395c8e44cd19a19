//! What of this machine's files a confined program needs beside its own: the one list of them.
//!
//! An image's Go may be anything, and sees no more of `/etc` than this: no keys, no users' passwords, no
//! settings of other programs.

/// What the network is set up in, and where certificates are.
pub const FOR_THE_NETWORK: [&str; 17] = [
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/resolv.conf",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/run/systemd/resolve",
    "/usr/lib/ssl",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
];

/// What programs of this machine need on top, git and ssh among them: themselves, their libraries, and the
/// settings that these read before they do anything.
pub const FOR_PROGRAMS: [&str; 28] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/etc/alternatives",
    "/etc/crypto-policies",
    "/etc/gitconfig",
    "/etc/gnutls",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/locale.alias",
    "/etc/passwd",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssh/ssh_config",
    "/etc/ssh/ssh_config.d",
    "/etc/ssh/ssh_known_hosts",
    "/etc/ssh/ssh_known_hosts2",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/openssl.cnf.d",
];
