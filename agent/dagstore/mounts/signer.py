"""URLs that an S3 store answers, signed with the operator's credentials: obstore finds those and does the signing.

The bytes are then read as from any other web server, so that the bounds on time, connections and addresses hold, and a
cancel ends the transfer: obstore's own reads need asyncio, or threads that nothing can end.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore
import trio
from obstore.exceptions import BaseError
from obstore.store import S3Store

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.mount import TryLater
from agent.dagstore.mounts.s3 import S3Mount
from agent.dagstore.mounts.urls import HttpUrl

if TYPE_CHECKING:
    from obstore.store import S3Config  # not there at run time

VALID_FOR: Final = timedelta(minutes=15)  # a request must begin in this time
PATIENCE_S: Final = 30.0  # to get credentials, where a server has them (instance metadata, web identity)
THREADS: Final = 8
STORES_KEPT: Final = 64
DEFAULT_REGION: Final = "us-east-1"


class Signer:
    """Signs for any bucket; what a mount does not say comes from here."""

    def __init__(self, *, endpoint: str = "", region: str = "", anonymous: bool = False) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._region = region
        self._anonymous = anonymous
        self._threads = trio.CapacityLimiter(THREADS)
        self._stores: OrderedDict[tuple[str, str, str], S3Store] = OrderedDict()

    async def signed(self, mount: S3Mount) -> HttpUrl:
        """The URL for one GET; raises ShardError: denied (no credentials), busy (they do not come)."""
        with trio.move_on_after(PATIENCE_S):
            # In a thread, since credentials may come from a server; one that hangs ends by its own timeout.
            return await trio.to_thread.run_sync(
                self._sign, mount, abandon_on_cancel=True, limiter=self._threads
            )
        raise TryLater(f"{mount}: no credentials for S3 came in {PATIENCE_S:.0f} s")

    def _sign(self, mount: S3Mount) -> HttpUrl:
        try:
            text = obstore.sign(self._store(mount), "GET", mount.key, VALID_FOR)
        except (BaseError, OSError, ValueError) as error:
            hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or mounts.s3_anonymous"
            reason = str(error).partition("\n")[0]
            raise ShardError(
                ErrorClass.DENIED, f"{mount}: no credentials for S3; {hint} ({reason})"
            ) from error
        return HttpUrl.parse(text.partition("?")[0] if self._anonymous else text)

    def _store(self, mount: S3Mount) -> S3Store:
        """One for each bucket, since it keeps the credentials that it got until they end."""
        place = (mount.endpoint or self._endpoint, mount.region or self._region, mount.bucket)
        store = self._stores.pop(place, None) or self._open(*place)
        self._stores[place] = store
        while len(self._stores) > STORES_KEPT:
            self._stores.popitem(last=False)
        return store

    def _open(self, endpoint: str, region: str, bucket: str) -> S3Store:
        config: S3Config = {
            "region": region or DEFAULT_REGION,
            "virtual_hosted_style_request": not endpoint and "." not in bucket,
        }
        if endpoint:
            config["endpoint"] = endpoint
        if self._anonymous:  # the signature is taken off again
            config |= {"access_key_id": "none", "secret_access_key": "none"}
        return S3Store(
            bucket,
            config=config,
            client_options={"timeout": "5s", "connect_timeout": "5s", "allow_http": True},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
        )
