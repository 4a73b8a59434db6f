"""`python -m tests.fuzz [--seconds N] [TARGET…]`: atheris on each target, beginning with the sample files.

New inputs are kept in `.fuzz/TARGET/`, one that raises anything but CarError as `.fuzz/crash-…`: then the exit code
is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fixtures import REPOSITORY, fixtures

FOLDER = REPOSITORY / ".fuzz"
MAX_INPUT = 64 * 1024


def run_one(name: str, seconds: int) -> None:
    """In a process of its own: atheris ends it when time is up or something was found."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]  # `make fuzz` installs it

    with atheris.instrument_imports(include=["carlib"]):  # so nothing of it may be imported before
        from carlib.errors import CarError
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]

    def attempt(data: bytes) -> None:
        try:
            target(data)
        except CarError:
            return

    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(fixtures("**/*.car", "**/*.carindex", "**/*.bin", "**/*.block")):
        (corpus / f"sample-{number}").write_bytes(sample.read_bytes()[:MAX_INPUT])
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT}",
        f"-artifact_prefix={FOLDER}/crash-{name}-",
    ]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], attempt)
    atheris.Fuzz()


def main() -> int:
    """Each target in turn; 1 if one of them found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="all of tests/fuzz/targets.py by default"
    )
    parser.add_argument("--seconds", type=int, default=20, help="for each target (default: 20)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        run_one(arguments.targets[0], arguments.seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    if unknown := set(arguments.targets) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))} (there are {', '.join(TARGETS)})")
    found = []
    FOLDER.mkdir(exist_ok=True)
    for name in arguments.targets or TARGETS:
        log = FOLDER / f"{name}.log"
        with log.open("wb") as out:
            command = [
                sys.executable,
                "-m",
                "tests.fuzz",
                "--inside",
                "--seconds",
                str(arguments.seconds),
                name,
            ]
            code = subprocess.run(command, cwd=REPOSITORY, stdout=out, stderr=out, check=False).returncode
        runs = _runs(log)
        print(
            f"{name:14} {runs:>10} inputs  {'nothing found' if code == 0 else f'FOUND: see {log}'}",
            flush=True,
        )
        if code:
            found.append(name)
    return 1 if found else 0


def _runs(log: Path) -> str:
    """How many inputs were tried, as the log's last line has it."""
    counted = [
        line for line in log.read_text(errors="replace").splitlines() if "number_of_executed_units" in line
    ]
    return counted[-1].split()[-1] if counted else "?"


if __name__ == "__main__":
    sys.exit(main())
