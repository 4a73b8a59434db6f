"""What was retrieved, made an import: a copy, which stays when the retrieval goes."""

from __future__ import annotations

from contextlib import aclosing

from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.imports import Imports, Outcome
from agent.imports.requests import Request
from agent.retrievals.handing import payload
from agent.retrievals.retrievals import Retrievals
from agent.retrievals.transitions import State


async def copied(retrievals: Retrievals, number: int, imports: Imports, name: str) -> Outcome:
    """`name`: of the import; "": the root. Raises ShardError."""
    record = retrievals.acquire(number)
    try:
        if record.state != State.DONE.value:
            raise ShardError(ErrorClass.BUSY, f"retrieval {record.name} is not done: {record.state}")
        if not retrievals.is_whole(number):
            message = (
                f"of {record.name} only a part was retrieved, and imports are whole; retrieve all of it first"
            )
            raise ShardError(ErrorClass.INVALID, message)
        async with aclosing(payload(retrievals.path(number), record.data_size)) as pieces:
            return await imports.add_stream(pieces, Request("car", name or record.root))
    finally:
        retrievals.release(number)
