"""`[mounts]` of the configuration: how patient and how trusting mounts are.

A zero never means that nothing goes: it is refused, or means "no limit", as each line says.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]


class MountsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[mounts]`."""

    allow_private: bool = False  # whether loopback, 10.0.0.0/8 and the like may be read from
    connections: Annotated[int, msgspec.Meta(ge=0, le=4096)] = (
        32  # connections to servers at once; 0: no limit
    )
    queue_timeout_s: Seconds = 60.0  # seconds to wait for a connection to be free
    connect_timeout_s: Seconds = 10.0  # seconds for name, TCP and TLS
    response_timeout_s: Seconds = 30.0  # seconds from the request to the last header of the answer
    stall_timeout_s: Seconds = 30.0  # seconds without a byte, or below min_rate_bytes
    min_rate_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = (
        1024  # bytes a second that are too few; 0: any rate above none
    )
    max_redirects: Annotated[int, msgspec.Meta(ge=0, le=50)] = 5  # redirects that are followed; 0: none
    piece_directory: str = "pieces"  # where `lotus:` finds pieces, from $CARFS_PATH
    s3_endpoint: str = ""  # http(s)://host:port of the S3 store; "": $AWS_ENDPOINT_URL, else Amazon's
    s3_region: str = ""  # region of the store; "": $AWS_REGION, $AWS_DEFAULT_REGION, else us-east-1
    s3_anonymous: bool = (
        False  # whether to send no credentials; they come from $AWS_ACCESS_KEY_ID, … and from no file
    )
    ca_file: str = ""  # certificates (PEM) that are trusted besides the system's
