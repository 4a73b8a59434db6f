"""TLS for who asks over it: Kubo fetches over HTTPS and HTTP/2 alone."""

from __future__ import annotations

import ssl
from pathlib import Path

from agent.dagstore.failures import ErrorClass, ShardError
from agent.gateway.settings import GatewayConfig


def server_tls(config: GatewayConfig, home: Path) -> ssl.SSLContext | None:
    """What the configuration says, paths from `home`; None for plain HTTP. Raises ShardError(invalid)."""
    if not config.tls_certificate:
        return None
    certificate = home / config.tls_certificate
    key = home / config.tls_key if config.tls_key else None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        message = f"gateway.tls_certificate, tls_key: {certificate}: {error.strerror or error}"
        raise ShardError(ErrorClass.INVALID, message) from error
    return context
