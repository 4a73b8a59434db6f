"""Work done in threads a little ahead of who wants its results, which come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """``work`` of each item, in their order; at most twice as many are under way or done as there are ``threads``.

    What ``work`` raises comes out where its result would.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, "carfs-ahead") as executor:
        try:
            for item in items:
                waiting.append(executor.submit(work, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
