"""`Filecoin.Client…`: what a client of Lotus' does with data before it makes deals."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.rpc.cids import CidLink
from agent.rpc.peers import Permission
from agent.rpc.registry import Params, method
from agent.rpc.services import Services
from agent.workers import WorkerFailed


class CalcCommPParams(Params, frozen=True):
    """A file, by its absolute path where the agent runs."""

    inpath: str


class CommPRet(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' CommPRet: the piece CID, and the size of the piece, padding included."""

    root: CidLink
    size: int


@method("Filecoin.ClientCalcCommP", Permission.ADMIN)
async def client_calc_comm_p(services: Services, params: CalcCommPParams) -> CommPRet:
    """The piece that a file is. For admins, since the agent reads any file that it may.

    Unlike Lotus' it takes any file, not CARs alone.
    """
    path = Path(params.inpath)
    if not path.is_absolute() or "\0" in params.inpath:
        message = f"{params.inpath!r} is not an absolute path: the agent does not know your working directory"
        raise ShardError(ErrorClass.INVALID, message)
    if services.workers is None:
        raise ShardError(ErrorClass.INVALID, "nothing is computed here")
    try:
        found = await trio.to_thread.run_sync(os.stat, path, abandon_on_cancel=True)
        result = await services.workers.run(
            "commp", {"path": str(path)}, subject=str(path), size_bytes=found.st_size
        )
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{path}: {error.strerror}") from error
    except WorkerFailed as error:
        raise ShardError(error.error_class, str(error)) from error
    return CommPRet(CidLink(result["root"]), result["padded"])
