"""Calls of an IPFS node's RPC API. Nothing that it gives is believed; what it refuses is told in its own words.

Source: Kubo RPC API v0: POST only, errors are 500 with `{"Message", "Code", "Type": "error"}`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.fetcher import Answer, Body, Poster
from agent.dagstore.mounts.mount import TryLater
from agent.dagstore.mounts.urls import HttpUrl
from agent.ipfs.address import api_url
from agent.ipfs.settings import IpfsConfig
from carlib.cid import Cid
from carlib.errors import CarError

_MOST_SAID: Final = 64 << 10
_MOST_TOLD: Final = 16 << 20  # of the answer to an import: a line for each root
_PINS_AT_ONCE: Final = 64  # CIDs in one URL
_ANSWER_S: Final = 30.0  # for what a node answers at once


class _Refusal(msgspec.Struct, frozen=True):
    message: str = msgspec.field(name="Message")


class _Version(msgspec.Struct, frozen=True):
    version: str = msgspec.field(name="Version")


class _Link(msgspec.Struct, frozen=True):
    text: str = msgspec.field(name="/")


class _Root(msgspec.Struct, frozen=True):
    cid: _Link = msgspec.field(name="Cid")
    error: str = msgspec.field(name="PinErrorMsg", default="")


class _Stats(msgspec.Struct, frozen=True):
    blocks: int = msgspec.field(name="BlockCount")
    bytes: int = msgspec.field(name="BlockBytesCount")


class _Imported(msgspec.Struct, frozen=True):
    """A line of the answer to `dag/import`."""

    root: _Root | None = msgspec.field(name="Root", default=None)
    stats: _Stats | None = msgspec.field(name="Stats", default=None)


@dataclass(frozen=True, slots=True)
class Car:
    """A CARv1 to be sent: so many bytes, in pieces."""

    root: Cid
    size: int
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class IpfsNode:
    """The one at a URL. Everything raises ShardError: busy (`TryLater`: it cannot be reached, or broke off), denied,
    not-found (it does not have it), invalid (what is there is no such API), corrupt (it gave something else)."""

    base: HttpUrl
    poster: Poster
    config: IpfsConfig

    @classmethod
    def of(cls, address: str, poster: Poster, config: IpfsConfig) -> IpfsNode:
        """`address` wins over that of the configuration; raises ShardError(invalid)."""
        return cls(api_url(address or config.address, os.environ), poster, config)

    @property
    def name(self) -> str:
        return f"ipfs:{self.base.shown.rstrip('/')}"

    async def version(self) -> str:
        """Its version, as proof that it is one."""
        async with self._call("version", {}) as answer:
            said = await _all(answer, _MOST_SAID)
        try:
            return msgspec.json.decode(said, type=_Version).version
        except msgspec.MsgspecError:
            raise ShardError(ErrorClass.INVALID, f"{self.name} is not the API of an IPFS node") from None

    async def block(self, cid: Cid, most: int) -> bytes:
        """One block of at most so many bytes, not verified."""
        async with self._call("block/get", {"arg": str(cid)}) as answer:
            return await _all(answer, most)

    @asynccontextmanager
    async def dag(self, root: Cid) -> AsyncIterator[AsyncIterator[bytes]]:
        """A CARv1 of all below a root, not verified. Its end proves nothing: errors in the middle are told in a
        trailer, so whoever reads it has to look whether all is there."""
        async with self._call("dag/export", {"arg": str(root), "progress": "false"}) as answer:
            yield answer.body

    async def take(self, car: Car, *, whole: bool) -> int:
        """Has it keep the blocks of a CAR; those of a whole DAG are pinned by its root. Returns how many there were."""
        await (
            self.version()
        )  # before much is sent; and its connection is a fresh one for what is sent once only
        head, tail, kind = _multipart("data.car")
        size = len(head) + car.size + len(tail)

        async def body() -> AsyncIterator[bytes]:
            yield head
            async for piece in car.pieces:
                yield piece
            yield tail

        query = {"pin-roots": "true" if whole else "false", "stats": "true", "allow-big-block": "true"}
        headers = {"content-type": kind, "content-length": str(size)}
        async with self._call("dag/import", query, headers, body(), self.config.answer_timeout_s) as answer:
            said = await _all(answer, _MOST_TOLD)
        return self._imported(car.root, said, whole=whole)

    def _imported(self, root: Cid, said: bytes, *, whole: bool) -> int:
        """Blocks, if its answer says that all went well: a pin that failed is told in a line, not in the status."""
        try:
            lines = [msgspec.json.decode(line, type=_Imported) for line in said.splitlines() if line.strip()]
            pinned = {
                Cid.parse(line.root.cid.text): line.root.error for line in lines if line.root is not None
            }
        except (msgspec.MsgspecError, CarError) as error:
            raise ShardError(
                ErrorClass.INVALID, f"{self.name} gave no answer to dag/import: {error}"
            ) from None
        if whole and pinned.get(root, "it does not say so"):
            why = pinned.get(root, "it does not say so")
            raise ShardError(ErrorClass.CORRUPT, f"{self.name} has not pinned {root}: {why}")
        stats = next((line.stats for line in lines if line.stats is not None), None)
        if stats is None:  # the last line: without it, the answer was cut off
            raise TryLater(f"{self.name}: its answer to dag/import ended too early")
        return stats.blocks

    async def pin(self, cids: Sequence[Cid]) -> None:
        """Pins single blocks, without what is below them; those that are pinned stay as they are."""
        for start in range(0, len(cids), _PINS_AT_ONCE):
            part = cids[start : start + _PINS_AT_ONCE]
            try:
                await self._pin(part)
            except ShardError as error:
                if error.error_class is not ErrorClass.NOT_FOUND:
                    raise
                for (
                    cid
                ) in part:  # one that is pinned with all below it is refused, and its neighbours with it
                    if not await self._is_pinned(cid):
                        await self._pin([cid])

    async def _pin(self, cids: Sequence[Cid]) -> None:
        query = "&".join(f"arg={cid}" for cid in cids)
        async with self._call("pin/add", {"recursive": "false"}, more=query) as answer:
            await _all(answer, _MOST_SAID)

    async def _is_pinned(self, cid: Cid) -> bool:
        try:
            async with self._call("pin/ls", {"arg": str(cid), "type": "recursive"}) as answer:
                await _all(answer, _MOST_SAID)
        except ShardError as error:
            if error.error_class is not ErrorClass.NOT_FOUND:
                raise
            return False
        return True

    @asynccontextmanager
    async def _call(
        self,
        command: str,
        query: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        patience_s: float = _ANSWER_S,
        more: str = "",
    ) -> AsyncIterator[Answer]:
        if not self.config.online_mode:
            query = {**query, "offline": "true"}
        text = "&".join(
            [*(f"{name}={quote(value, safe='')}" for name, value in query.items()), *filter(None, [more])]
        )
        base = self.base
        path = base.target.rstrip("/").removesuffix("/api/v0")
        url = HttpUrl(base.scheme, base.host, base.port, f"{path}/api/v0/{command}?{text}", base.user)
        fields = {"content-length": "0", **(headers or {}), **base.authorization}
        async with self.poster.post(url, fields, body, patience_s=patience_s) as answer:
            if answer.status != 200:
                raise await self._refusal(command, answer)
            yield answer

    async def _refusal(self, command: str, answer: Answer) -> ShardError:
        """By the shape of the answer and not by its words, which are other ones in each version."""
        said = await _all(answer, _MOST_SAID)
        try:
            message = msgspec.json.decode(said, type=_Refusal).message
        except msgspec.MsgspecError:
            line = said.decode("utf-8", "replace").partition("\n")[0][:200]
            message = f"{self.name} answered {answer.status} to {command}: {line}"
            if answer.status in (401, 403):
                return ShardError(ErrorClass.DENIED, message)
            if answer.status == 429 or answer.status >= 500:
                return TryLater(message)
            return ShardError(ErrorClass.INVALID, f"{message} (is it the API of an IPFS node?)")
        shown = "".join(char if char.isprintable() else " " for char in message[:500])
        return ShardError(ErrorClass.NOT_FOUND, f"{self.name} refuses {command}: {shown}")


def _multipart(filename: str) -> tuple[bytes, bytes, str]:
    """What stands before and after the one part of a body, and the type of it (RFC 7578)."""
    boundary = f"carfs-{os.urandom(16).hex()}"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode(), f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


async def _all(answer: Answer, most: int) -> bytes:
    data = bytearray()
    async for piece in answer.body:
        data += piece
        if len(data) > most:
            raise ShardError(
                ErrorClass.CORRUPT, f"an IPFS node gave more than {most} bytes where fewer may be"
            )
    return bytes(data)
