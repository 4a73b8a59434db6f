"""The check of all imports at the start, in Lotus' words, which its users grep for.

Lotus looks whether the CAR is there. Here its header, index and table of references are read, and the files that it
refers to are looked at; which of these is not well is told behind the words.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from agent.dagstore.failures import ShardError
from agent.imports import wording
from agent.imports.imports import Imports
from agent.imports.looking import TOGETHER, Looks
from agent.imports.records import ImportRow
from agent.imports.tasks import Found

logger = logging.getLogger(__name__)


async def check(imports: Imports, looks: Looks) -> None:
    """Looks at all imports that are made; then `imports.checked` is set."""
    logger.info(wording.BEGIN)
    ends_s = trio.current_time() + imports.settings.check_seconds
    broken, total = 0, 0
    numbers = imports.numbers()
    for start in range(0, len(numbers), TOGETHER):
        rows = []
        for number in numbers[start : start + TOGETHER]:
            total += 1
            row = _row(imports, number)
            if row is None:
                continue
            if row.facts is None:
                if row.error_class is not None:
                    broken += 1
                    logger.warning("%s", _line(wording.LACKS_CAR, row, error=row.error))
            else:
                rows.append(row)
        broken += await _checked(looks, rows, ends_s - trio.current_time())
    logger.info("%s", wording.line(wording.END, broken=broken, total=total))
    imports.checked.set()


async def _checked(looks: Looks, rows: Sequence[ImportRow], seconds: float) -> int:
    """How many are broken. What there is no time to read is looked at from outside."""
    late = list(rows)
    found: list[Found] = []
    try:
        if rows and seconds > 0:
            checked = await looks.at(rows, "start", seconds=seconds)
            late = [row for row, one in zip(rows, checked, strict=True) if one.is_unknown]
            found = [one for one in checked if not one.is_unknown]
        if late:
            found += await looks.at(late, "look")
    except ShardError as error:
        logger.warning("%d imports could not be checked: %s", len(rows), error)
        return 0
    known = {one.id: one for one in found}
    for number, row in enumerate(rows, 1):
        _tell(row, known[row.id])
        if number % 16 == 0:
            await trio.lowlevel.checkpoint()
    return sum(bool(one.broken) for one in found)


def _tell(row: ImportRow, found: Found) -> None:
    if found.broken:
        logger.warning("%s", _line(wording.BROKEN_CAR, row, error=found.broken))
    elif found.count:
        stale = "import is stale: files are not as they were; verify, repair or reimport it"
        logger.warning("%s", _line(stale, row, files=found.files[:3], count=found.count))
    else:
        logger.info("%s", _line(wording.OK, row, size=found.size))


def _row(imports: Imports, number: int) -> ImportRow | None:
    try:
        return imports.row(number)
    except ShardError as error:
        logger.warning("%s", wording.line(wording.NO_METADATA, id=number, error=str(error)))
        return None


def _line(message: str, row: ImportRow, **more: object) -> str:
    root = "" if row.facts is None else row.facts.root
    return wording.line(message, **wording.about(row.id, row.source.value, root, row.filename), **more)
