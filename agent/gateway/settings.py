"""`[gateway]` of the configuration."""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class GatewayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[gateway]`: what is served over HTTP to whom; on the Unix socket it always is."""

    listen: tuple[
        str, ...
    ] = ()  # TCP addresses such as 127.0.0.1:8480, for anybody, without a token; none: no TCP
    allowed_hosts: tuple[str, ...] = ()  # names by which web pages may call this machine; others get 403
    max_requests: Count = 256  # requests that are answered at once; 0: no limit
    max_per_client: Count = 64  # of one address; 0: no limit
    retry_after_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = (
        5  # seconds after which one that was too many may come again
    )
    readers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8  # threads that read and hash for it
    deny_list: str = ""  # file with what is not served, from $CARFS_PATH; "": all is
    tls_certificate: str = ""  # file (PEM) with the certificate chain; with it, HTTPS and HTTP/2 alone
    tls_key: str = ""  # file (PEM) with its key; "": in the same file
