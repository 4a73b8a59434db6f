"""`Filecoin.Client…` of retrievals: names, parameters, results and words as Lotus' client has them.

A deal is a retrieval, and its DealID the number. Nobody is paid, so that all sums are "0".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.retrievals.offers import Elsewhere, Offer
from agent.retrievals.records import RetrievalRecord, Wanted
from agent.retrievals.transitions import State
from agent.rpc.backend import not_set_up
from agent.rpc.cids import CidLink, GivenCid, cid_of, text_of
from agent.rpc.methods.retrievals import retrievals
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, Params, Values, method, stream
from agent.rpc.services import Services
from carlib.cid import Cid

STATUS = {
    State.QUEUED: 0,  # DealStatusNew
    State.FETCHING: 6,  # DealStatusOngoing
    State.PAUSED: 6,
    State.DONE: 15,  # DealStatusCompleted
    State.FAILED: 17,  # DealStatusErrored
    State.CANCELLED: 25,  # DealStatusCancelled
}
"""go-fil-markets, retrievalmarket.DealStatus."""
POLL_S = 0.5  # between two looks at all retrievals, for who wants their updates


class RetrievalOrder(Params, frozen=True):
    """Lotus' RetrievalOrder, as far as it means something here: `Miner` and `MinerPeer` may name a source by a URL."""

    root: GivenCid
    piece: CidLink | None = None
    data_selector: str | None = None
    size: int = 0
    total: str = "0"
    unseal_price: str = "0"
    payment_interval: int = 0
    payment_interval_increase: int = 0
    client: str = ""
    miner: str = ""
    miner_peer: Any = None  # Lotus' RetrievalPeer
    remote_store: str | None = None


class OrderParams(Params, frozen=True):
    order: RetrievalOrder


class DealParams(Params, frozen=True):
    deal_id: int = msgspec.field(name="DealID")


class FindDataParams(Params, frozen=True):
    """`Piece` means nothing here: whoever has the root has it, in whatever piece."""

    root: GivenCid
    piece: CidLink | None = None


class MinerQueryOfferParams(Params, frozen=True):
    """`Miner`: a source by its URL."""

    miner: str
    root: GivenCid
    piece: CidLink | None = None


class RetrievalPeer(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' RetrievalPeer; its address is a URL here."""

    address: str
    id: str = msgspec.field(name="ID", default="")
    piece_cid: CidLink | None = msgspec.field(name="PieceCID", default=None)


class QueryOffer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Lotus' QueryOffer. `Err`: why there is none; `Size`: 0, which no gateway tells before it has sent all."""

    err: str
    root: CidLink
    piece: CidLink | None = None
    size: int = 0
    min_price: str = "0"
    unseal_price: str = "0"
    price_per_byte: str = "0"
    payment_interval: int = 0
    payment_interval_increase: int = 0
    miner: str
    miner_peer: RetrievalPeer


class RestrievalRes(msgspec.Struct, frozen=True):
    """Lotus' RestrievalRes, which is spelled so."""

    deal_id: int = msgspec.field(name="DealID")


class RetrievalInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Lotus' RetrievalInfo."""

    payload_cid: CidLink = msgspec.field(name="PayloadCID")
    id: int = msgspec.field(name="ID")
    piece_cid: CidLink | None = msgspec.field(name="PieceCID", default=None)
    price_per_byte: str = msgspec.field(name="PricePerByte", default="0")
    unseal_price: str = msgspec.field(name="UnsealPrice", default="0")
    status: int = msgspec.field(name="Status")
    message: str = msgspec.field(name="Message")
    provider: str = msgspec.field(name="Provider")
    bytes_received: int = msgspec.field(name="BytesReceived")
    bytes_paid_for: int = msgspec.field(name="BytesPaidFor")
    total_paid: str = msgspec.field(name="TotalPaid", default="0")
    transfer_channel_id: None = msgspec.field(name="TransferChannelID", default=None)
    data_transfer: None = msgspec.field(name="DataTransfer", default=None)
    event: int | None = msgspec.field(name="Event", default=None)


@method("Filecoin.ClientFindData", Permission.READ)
async def client_find_data(services: Services, params: FindDataParams) -> list[QueryOffer]:
    """Asks the sources of the configuration, and those that its routers name, whether they have a root."""
    root = cid_of(params.root)
    return [_query_offer(root, offer) for offer in await _elsewhere(services).offers(root)]


@method("Filecoin.ClientMinerQueryOffer", Permission.ADMIN)
async def client_miner_query_offer(services: Services, params: MinerQueryOfferParams) -> QueryOffer:
    """Asks one source, which may be at a private address."""
    root = cid_of(params.root)
    return _query_offer(root, await _elsewhere(services).offer(root, params.miner))


@method("Filecoin.ClientRetrieve", Permission.ADMIN)
async def client_retrieve(services: Services, params: OrderParams) -> RestrievalRes:
    """Begins to fetch a DAG, or the part that a selector names; answers with its number at once."""
    order = params.order
    root = text_of(order.root)
    source = order.miner if order.miner.startswith(("http://", "https://")) else ""
    wanted = Wanted(root, selector=order.data_selector or "")
    return RestrievalRes(retrievals(services).start(wanted, (source,) if source else ()))


@method("Filecoin.ClientRetrieveWait", Permission.ADMIN)
async def client_retrieve_wait(services: Services, params: DealParams) -> None:
    """Answers when it is done, or why it is not."""
    await retrievals(services).wait(params.deal_id)


@method("Filecoin.ClientListRetrievals", Permission.WRITE)
async def client_list_retrievals(services: Services, params: NoParams) -> list[RetrievalInfo]:
    """All of them, oldest first."""
    found = retrievals(services)
    return [_info(found.record(number)) for number in found.numbers()]


@method("Filecoin.ClientCancelRetrievalDeal", Permission.WRITE)
async def client_cancel_retrieval_deal(services: Services, params: DealParams) -> None:
    """Calls it off; what has come stays."""
    await retrievals(services).cancel(params.deal_id)


@stream("Filecoin.ClientGetRetrievalUpdates", Permission.WRITE, gives=RetrievalInfo)
async def client_get_retrieval_updates(services: Services, params: NoParams) -> Values:
    """Each retrieval as it is now, and again whenever it has changed."""
    return _updates(services)


@asynccontextmanager
async def _updates(services: Services) -> AsyncIterator[AsyncIterator[RetrievalInfo]]:
    async with aclosing(_changed(services)) as values:
        yield values


async def _changed(services: Services) -> AsyncGenerator[RetrievalInfo, None]:
    found = retrievals(services)
    told: dict[int, RetrievalInfo] = {}
    while True:
        for number in found.numbers():
            try:
                info = _info(found.record(number))
            except ShardError as error:
                if error.error_class is ErrorClass.NOT_FOUND:
                    continue
                raise
            if told.get(number) != info:
                told[number] = info
                yield info
        await trio.sleep(POLL_S)


def _info(record: RetrievalRecord) -> RetrievalInfo:
    return RetrievalInfo(
        payload_cid=CidLink(record.root),
        id=record.id,
        status=STATUS[State(record.state)],
        message=record.error,
        provider=record.source or next(iter(record.sources), ""),
        bytes_received=record.bytes,
        bytes_paid_for=record.bytes,
    )


def _query_offer(root: Cid, offer: Offer) -> QueryOffer:
    return QueryOffer(
        err=offer.error, root=CidLink(str(root)), miner=offer.source, miner_peer=RetrievalPeer(offer.source)
    )


def _elsewhere(services: Services) -> Elsewhere:
    found = retrievals(services).elsewhere
    if found is None:
        raise not_set_up("retrievals")
    return found
