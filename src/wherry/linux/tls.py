"""TLS by OpenSSL: who the other side must be, and what went wrong, in the words of Go's crypto/tls, as Docker has them.

TLS 1.2 and 1.3 only. No session is resumed: each connection shows its certificate.
"""

import ssl

_UNKNOWN_CA = (2, 18, 19, 20, 21)  # X509_V_ERR_*: no issuer that is trusted
_EXPIRED = (9, 10)
_WRONG_PURPOSE = 26
_WRONG_NAME = (62, 64)
_ALERTS = {
    "unknown ca": "unknown certificate authority",
    "certificate expired": "expired certificate",
    "certificate revoked": "revoked certificate",
    "certificate unknown": "unknown certificate",
    "protocol version": "protocol version not supported",
}


def server_context(certificate: str, key: str, authority: str | None) -> ssl.SSLContext:
    """Make the context of a server.

    Args:
        certificate, key: paths of PEM files; the first may hold a chain.
        authority: path of the PEM file of the authorities, by one of which clients must have a certificate for client
            use; None accepts every client.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: a file is not what it should be, or the two do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    context.load_cert_chain(certificate, key, password=_no_password)
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authority: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """Make the context of a client.

    Args:
        authority: path of the PEM file of the authorities that a server's certificate must be from; None accepts every
            server.
        certificate, key: paths of PEM files; None shows none.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: a file is not what it should be, or the two do not belong together.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(authority)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # a renegotiation could ask for writes in the middle of reads, and costs the server a handshake each time
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    return context


def _no_password() -> str:
    # without it OpenSSL would ask at the terminal
    raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the key is encrypted")


def is_plain_http(error: ssl.SSLError) -> bool:
    """Whether the client of a handshake that failed speaks HTTP without TLS."""
    return error.reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST")


def words(error: Exception, host: str = "") -> str:
    """Say why a connection failed, or why a certificate cannot be used.

    Args:
        error: as OpenSSL or the kernel gave it.
        host: the name by which the server was called; empty where this is the server.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_certificate(error, host)}"
    if isinstance(error, ssl.SSLEOFError):
        return "EOF"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "tls: client didn't provide a certificate"
        if is_plain_http(error):
            return "client sent an HTTP request to an HTTPS server"
        if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
            if host:
                return "http: server gave HTTP response to HTTPS client"
            return "tls: first record does not look like a TLS handshake"
        if "ALERT_" in reason:
            alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
            return f"remote error: tls: {_ALERTS.get(alert, alert)}"
        return f"tls: {reason.replace('_', ' ').lower() or error.args[-1]}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _UNKNOWN_CA:
        return "certificate signed by unknown authority"
    if error.verify_code in _EXPIRED:
        return "certificate has expired or is not yet valid"
    if error.verify_code == _WRONG_PURPOSE:
        return "certificate specifies an incompatible key usage"
    if error.verify_code in _WRONG_NAME:
        return f"certificate is not valid for {host}"
    return error.verify_message
