"""`python -m tests.machine build | box COMMAND | run COMMAND`: the image, or one command in a machine, by hand."""

from __future__ import annotations

import os
import sys

from tests import machine
from tests.machine import image

USAGE = 2


def main(arguments: list[str]) -> int:
    """Gives an exit code. `build --if-possible` says why there is no image, and that is no failure."""
    match arguments:
        case ["build", *options]:
            why_not = image.build()
            print(
                f"carfs: {'no machine to boot for tests: ' + why_not if why_not else image.folder()}",
                file=sys.stderr,
            )
            return 0 if options == ["--if-possible"] or not why_not else 1
        case [("box" | "run") as kind, command]:
            if why_not := machine.why_not("box" if kind == "box" else "run"):
                print(f"carfs: {why_not}", file=sys.stderr)
                return 1
            place = ["--image", str(image.folder()), "--src", str(image.REPOSITORY)]
            os.execv(image.HERE / kind, [kind, *place, command])
    print(__doc__, file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
