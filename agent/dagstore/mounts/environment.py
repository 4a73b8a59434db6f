"""What mounts need to do I/O. They are values and hold none of it; whoever asks them hands it in."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.mounts.fetcher import PooledFetcher
from agent.dagstore.mounts.pieces import PieceDirectory, PieceStore
from agent.dagstore.mounts.remote import Web
from agent.dagstore.mounts.signer import Signer
from agent.dagstore.mounts.threads import Threads
from agent.dagstore.mounts.urls import HttpUrl


@dataclass(frozen=True, slots=True)
class Environment:
    """The means; one without arguments knows this machine's disks and no network."""

    threads: Threads = field(default_factory=Threads)
    remote: Web | None = None
    s3: Signer | None = None
    pieces: PieceStore | None = None
    tls: ssl.SSLContext | None = None  # whom we trust, for others that ask servers

    def web(self) -> Web:
        """How to read from servers; raises ShardError(invalid) where there is no network."""
        return _given(self.remote)

    def signer(self) -> Signer:
        """How to sign for S3; likewise."""
        return _given(self.s3)

    def piece_store(self) -> PieceStore:
        """Where pieces are; raises ShardError(invalid) where there are none."""
        if self.pieces is None:
            raise ShardError(ErrorClass.INVALID, "this process has no piece store (mounts.piece_directory)")
        return self.pieces


T = TypeVar("T")


def _given(means: T | None) -> T:
    if means is None:
        raise ShardError(ErrorClass.INVALID, "this process reads local files only")
    return means


@asynccontextmanager
async def open_environment(
    config: MountsConfig, home: Path | None = None, environ: Mapping[str, str] = os.environ
) -> AsyncIterator[Environment]:
    """The environment that the configuration describes, for the time of the block; raises ShardError(invalid).

    `home` is $CARFS_PATH, which relative paths in the configuration are from.
    """
    endpoint = config.s3_endpoint or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL", "")
    # What the operator names is no way into the network for others.
    trusted = frozenset({(found.host, found.port)} if (found := _endpoint(endpoint)) else ())
    region = config.s3_region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION", "")
    signer = Signer(endpoint=endpoint, region=region, anonymous=config.s3_anonymous)
    tls = await trio.to_thread.run_sync(_tls, config.ca_file)  # reads a few hundred certificates
    async with aclosing(PooledFetcher(config, tls=tls, trusted=trusted)) as fetcher:
        yield Environment(
            remote=Web(fetcher, config.max_redirects),
            s3=signer,
            pieces=_pieces(config.piece_directory, home),
            tls=tls,
        )


def _pieces(directory: str, home: Path | None) -> PieceDirectory | None:
    folder = Path(directory) if home is None else home / directory
    return PieceDirectory(folder) if directory and folder.is_absolute() else None


def _endpoint(text: str) -> HttpUrl | None:
    try:
        return HttpUrl.parse(text) if text else None
    except ShardError as error:
        raise ShardError(ErrorClass.INVALID, f"mounts.s3_endpoint: {error}") from error


def _tls(ca_file: str) -> ssl.SSLContext:
    """What the system trusts, and the operator."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            message = f"mounts.ca_file: {ca_file}: {error.strerror or error}"
            raise ShardError(ErrorClass.INVALID, message) from error
    return context
