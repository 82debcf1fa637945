"""Whom we trust behind https: one rule for the orchestrator's requests and for the load."""

import ssl
from typing import Final

_RENEW = "renew it (or set this machine's clock)"
_NAME = "use a name that the certificate holds"
ADVICE: Final = {9: _RENEW, 10: _RENEW, 62: _NAME, 64: _NAME}
"""By OpenSSL's X509_V_ERR: not yet valid, has expired, host name and IP address mismatch. The others doubt the CA."""


def client_context(*, ca: str | None, verify: bool) -> ssl.SSLContext:
    """The system's certificate authorities, or those of `ca`, a file of PEM certificates.

    Without `verify` any certificate will do, of any name. Raises OSError, ssl.SSLError among them, if `ca` cannot be
    used: `ca_line` makes the user's line of it.
    """
    context = ssl.create_default_context(cafile=ca)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def ca_line(ca: str | None, error: OSError) -> str:
    return f"tls.ca: {ca}: {error.strerror or error}; expected a file of PEM certificates"


def failure_line(error: OSError) -> str:
    """Why a handshake failed. Of a certificate: what is wrong with it, and where that is to be set right."""
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = ADVICE.get(error.verify_code, "name its CA's file in tls.ca")
        return (
            f"certificate verify failed: {error.verify_message.rstrip('.')}; {advice}, or do without the check "
            "(tls.verify: false)"
        )
    if isinstance(error, ssl.SSLError):
        if error.reason == "WRONG_VERSION_NUMBER":
            return "no TLS there: the port seems to speak plain HTTP"
        reason = (error.reason or str(error)).replace("_", " ").lower()
        return f"TLS handshake failed: {reason}"
    return f"TLS handshake failed: {error.strerror or error}"
