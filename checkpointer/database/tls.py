"""Certificates: those of the system, and what to say when a connection was not encrypted because of one."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["reason", "system_certificates"]

_CHAIN: Final = ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN


def system_certificates(given: Mapping[str, str]) -> ssl.SSLContext:
    """What `sslrootcert=system` asks for, with the other parameters of a connection string that are about encryption.

    Raises:
        OSError: a file cannot be read, or is not what it should be (`ssl.SSLError`).
        ValueError: no such version of the protocol.
    """
    context = ssl.create_default_context()
    if "sslcert" in given:
        _load_own(context, given)
    if "sslcrl" in given:
        context.load_verify_locations(given["sslcrl"])
        context.verify_flags |= _CHAIN
    if "ssl_min_protocol_version" in given:
        context.minimum_version = _version(given["ssl_min_protocol_version"])
    if "ssl_max_protocol_version" in given:
        context.maximum_version = _version(given["ssl_max_protocol_version"])
    return context


def reason(error: ssl.SSLError, given: Mapping[str, str]) -> str:
    """Why a connection was not encrypted, and what to do. Names parameters, never what is in their files.

    Args:
        error: what the attempt ended in.
        given: the parameters of the connection string.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the server's certificate was not accepted: {error.verify_message.rstrip('.')}. Name the authority that "
            f"signed it in sslrootcert, and the host that it is for in the URL."
        )
    if unusable := next(_unusable(given), None):
        return f"{unusable} cannot be used. Name files in PEM format, and the password of a locked key in sslpassword."
    return f"the encrypted connection failed ({error.reason or 'no reason given'}). Check sslmode and certificates."


def _unusable(given: Mapping[str, str]) -> Iterator[str]:
    """The parameters whose files OpenSSL does not take."""
    for name in ("sslrootcert", "sslcrl"):
        file = given.get(name, "system")
        try:
            if file != "system":
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        except OSError:
            yield f"the file of {name}"
    if "sslcert" not in given:
        return
    try:
        _load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), given)
    except OSError:
        yield "the certificate of sslcert, with the key of sslkey,"


def _load_own(context: ssl.SSLContext, given: Mapping[str, str]) -> None:
    # Without a password, not even an empty one, OpenSSL would ask for it on the terminal.
    context.load_cert_chain(given["sslcert"], given.get("sslkey"), given.get("sslpassword", ""))


def _version(name: str) -> ssl.TLSVersion:
    try:
        return ssl.TLSVersion[name.replace(".", "_")]
    except KeyError:
        raise ValueError(name) from None
