"""What somebody asks to import, and what becomes of that as far as it can be told without reading it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.records import Kind, Wanted
from agent.imports.sources import Found
from carlib.unixfs.profile import CARFS, PROFILES, Profile

PRESERVED = ("", "mode", "mtime", "all")


@dataclass(frozen=True, slots=True)
class Request:
    """`kind` "auto": a CAR if it begins as one does, else references. `hidden` None: as the profile has it.
    `preserve`: what of modes and times is stored. `share`: a dense import refers to files of other imports that have
    the same blocks, instead of storing them."""

    kind: Wanted = "auto"
    name: str = ""  # "": the last component of the path
    profile: str = CARFS.name
    hidden: bool | None = None
    preserve: str = ""
    share: bool = False

    def check(self) -> Profile:
        """Raises ShardError(invalid) for what no source could make right."""
        profile = PROFILES.get(self.profile)
        if profile is None:
            raise ShardError(
                ErrorClass.INVALID, f"no such profile: {self.profile!r}; there is {', '.join(PROFILES)}"
            )
        if self.preserve not in PRESERVED:
            raise ShardError(
                ErrorClass.INVALID, f"cannot preserve {self.preserve!r}; there is {', '.join(PRESERVED[1:])}"
            )
        return profile


def kind_for(request: Request, path: Path, found: Found, *, taken_over: bool) -> Kind:
    """How the source is to be imported; raises ShardError(invalid). What is `taken_over` does not stay where it is, so
    nothing can refer to it."""
    profile = request.check()
    kind: str = request.kind
    if kind == "auto":
        kind = "car" if found.is_car else "ref"
    if kind == "car":
        if found.is_folder:
            raise ShardError(ErrorClass.INVALID, f"{path} is a directory, and not a CAR")
        return Kind.CAR
    if kind == "dense" or taken_over:
        return Kind.DENSE
    if not profile.raw_leaves or (request.preserve and not profile.raw_with_attributes):
        hint = "import it dense, or with another profile"
        message = f"profile {profile.name} has leaves that are in no file, so that nothing can refer to them"
        raise ShardError(ErrorClass.INVALID, f"{message}; {hint}")
    return Kind.REF
