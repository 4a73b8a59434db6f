"""What environment variables say of what tasks need, instead of the table: Lotus' names, `<KIND>_<SIZE>_<FIELD>`, then
`<KIND>_<FIELD>`.

They are read once, where the worker runs, and what is malformed is refused: a limit that silently became 0 would be
none. `table` has the kinds' short names and the sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from agent.scheduler import table
from agent.scheduler.requirement import Requirement

SIZE_FIELDS: Final = ("MIN_MEMORY", "MAX_MEMORY", "BASE_MIN_MEMORY", "DISK")
COUNT_FIELDS: Final = {"MAX_PARALLELISM": -1, "MAX_CONCURRENT": 0}  # the least that each may be
FIELDS: Final = (*SIZE_FIELDS, *COUNT_FIELDS)
_UNITS: Final = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")
_COUNT: Final = re.compile(r"-?[0-9]{1,19}")
_MAX: Final = 1 << 62


class OverrideError(ValueError):
    """A variable that says nothing sensible; the message names it, its value and what would be right."""

    def __init__(self, variable: str, value: str, expected: str) -> None:
        super().__init__(f"{variable}={value}: {expected}")
        self.variable = variable
        self.value = value


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values by variable; without any, the table holds."""

    values: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    """The variables as they were written."""
    warnings: tuple[str, ...] = ()
    """Variables that look like ours and are not."""

    def value(self, kind: str, size_class: str, name: str) -> int | None:
        """What is said of one field for tasks of that kind and size, if anything is."""
        short = table.KINDS[kind].short
        sized = self.values.get(f"{short}_{size_class}_{name}")
        return self.values.get(f"{short}_{name}") if sized is None else sized

    def apply(self, kind: str, size_bytes: int, requirement: Requirement) -> Requirement:
        """The requirement with what is said of it in place of its own values.

        Where only one of least and most memory is said and it does not fit to the other, the other gives way.
        """
        if not self.values:
            return requirement
        size_class = table.size_class(size_bytes)
        given = {name.lower(): self.value(kind, size_class, name) for name in FIELDS}
        said = {name: value for name, value in given.items() if value is not None}
        changed = replace(requirement, **said) if said else requirement  # type: ignore[arg-type]  # ints, all of them
        if changed.min_memory <= changed.max_memory:
            return changed
        if "min_memory" in said:
            return replace(changed, max_memory=changed.min_memory)
        return replace(changed, min_memory=changed.max_memory)

    def lines(self, *, all: bool = False, default: bool = False) -> list[str]:
        """`KEY=value`, sorted: what is set; or, for each kind and size, what holds now (`all`), or would if nothing
        were set (`default`)."""
        if all or default:
            return sorted(_held(self if all else NONE))
        return sorted(f"{key}={value}" for key, value in self.texts.items())


NONE: Final = Overrides()


def from_environment(environment: Mapping[str, str]) -> Overrides:
    """What the variables say; raises OverrideError."""
    values: dict[str, int] = {}
    texts: dict[str, str] = {}
    warnings = []
    for variable, text in sorted(environment.items()):
        name = _field_of(variable)
        if name in FIELDS:
            values[variable], texts[variable] = _parsed(variable, name, text), text
        elif name is not None:
            warnings.append(f"{variable} means nothing here; the fields are {', '.join(FIELDS)}")
    overrides = Overrides(values, texts, tuple(warnings))
    _refuse_crossed(overrides)
    return overrides


def parse_size(text: str) -> int:
    """Bytes of "536870912", "512MiB" or "1.5 GiB"; raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or ("." in match[1] and unit == 1):
        raise ValueError("a size is a number of bytes, or a number and one of KiB, MiB, GiB, TiB")
    size = int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit
    if size > _MAX:
        raise ValueError(f"a size is at most {_MAX} bytes")
    return size


def _field_of(variable: str) -> str | None:
    """What follows a kind's short name, and a size if there is one; None: the variable is not about a kind."""
    for kind in table.KINDS.values():
        if variable.startswith(f"{kind.short}_"):
            rest = variable.removeprefix(f"{kind.short}_")
            size, _, name = rest.partition("_")
            return name if size in table.SIZE_CLASSES else rest
    return None


def _parsed(variable: str, name: str, text: str) -> int:
    if name in SIZE_FIELDS:
        try:
            return parse_size(text)
        except ValueError as error:
            raise OverrideError(variable, text, str(error)) from None
    least = COUNT_FIELDS[name]
    if not _COUNT.fullmatch(text.strip()) or not least <= int(text) <= _MAX:
        what = "or -1 for 92 % of the CPUs" if least < 0 else "0 for any number"
        raise OverrideError(variable, text, f"a whole number from 0 on is needed, {what}")
    return int(text)


def _refuse_crossed(overrides: Overrides) -> None:
    for kind in table.KINDS.values():
        for size_class in table.SIZE_CLASSES:
            least = overrides.value(kind.name, size_class, "MIN_MEMORY")
            most = overrides.value(kind.name, size_class, "MAX_MEMORY")
            if least is not None and most is not None and least > most:
                sized = f"{kind.short}_{size_class}_MIN_MEMORY"
                variable = sized if sized in overrides.values else f"{kind.short}_MIN_MEMORY"
                sized_most = f"{kind.short}_{size_class}_MAX_MEMORY"
                other = sized_most if sized_most in overrides.values else f"{kind.short}_MAX_MEMORY"
                expected = f"it must not be more than {other}={overrides.texts[other]}"
                raise OverrideError(variable, overrides.texts[variable], expected)


def _held(overrides: Overrides) -> Iterator[str]:
    for kind in table.KINDS.values():
        for size_class, size_bytes in table.SIZE_CLASSES.items():
            values = asdict(overrides.apply(kind.name, size_bytes, kind.requirement(size_bytes)))
            for name in FIELDS:
                yield f"{kind.short}_{size_class}_{name}={values[name.lower()]}"
