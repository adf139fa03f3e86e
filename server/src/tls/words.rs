//! What went wrong in a handshake, in the words of Go's TLS: people search for them, and etcd's tests wait for them.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// An error of the system without its number: `no such file or directory`.
pub(super) fn of_io(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// A failed handshake.
pub(super) fn of_handshake(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => of_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => of_io(error),
    }
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => format!("remote error: tls: {}", of_alert(*alert)),
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::NoApplicationProtocol => "tls: client requested unsupported application protocols".to_owned(),
        Error::InvalidCertificate(why) => of_certificate(why),
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "tls: no cipher suite supported by both client and server".to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => "tls: client offered only unsupported versions".to_owned(),
        other => format!("tls: {other}"),
    }
}

/// The error of a certificate that is good but of no allowed name.
pub(super) fn not_allowed() -> Error {
    // Of the errors there are, this one makes the alert that Go's servers send, "bad certificate".
    CertificateError::NotValidForName.into()
}

/// A client's certificate that was refused: with the alert that Go's servers send, which are three.
pub(super) fn as_go_alerts(error: Error) -> Error {
    let Error::InvalidCertificate(why) = error else { return error };
    match why {
        CertificateError::UnknownIssuer
        | CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => why.into(),
        // The others become a "bad certificate", and keep their words in a place that is free here: no name is asked of
        // a client.
        other => {
            let presented = vec![reason(&other)];
            CertificateError::NotValidForNameContext { expected: nobody(), presented }.into()
        }
    }
}

fn nobody() -> ServerName<'static> {
    ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidForName => "client certificate authentication failed".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } if *expected == nobody() => {
            format!("tls: failed to verify certificate: x509: {}", presented.concat())
        }
        other => format!("tls: failed to verify certificate: x509: {}", reason(other)),
    }
}

fn reason(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid: current time is after the certificate's".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid: current time is before the certificate's".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".to_owned()
        }
        other => other.to_string(),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    let text = match alert {
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::InternalError => "internal error",
        AlertDescription::UnexpectedMessage => "unexpected message",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        AlertDescription::UserCanceled => "user canceled",
        other => return format!("alert({})", u8::from(other)),
    };
    text.to_owned()
}
