"""Commands that a Markdown page shows, run in order and compared with the output shown beside them.

A block that begins with ```` ```console ```` holds lines `$ command` (`> ` continues one) and what each prints.
In shown output `…` stands for anything, a line of nothing but `…` for any number of lines.  A command must succeed
unless the output shown has a line that begins with the program's name and a colon, as errors do (`carfs: …`).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "\x1e"
TIMEOUT_S = 120
_BLOCK = re.compile(r"^```console *(?P<kind>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Shown:
    """One command of a page with the output it should have."""

    command: str
    output: str
    line: int

    @property
    def may_fail(self) -> bool:
        program = self.command.split()[0]
        return any(line.startswith(f"{program}: ") for line in self.output.splitlines())

    def explains(self, printed: str) -> bool:
        """Whether `printed` is what the page shows."""
        pattern = "".join(
            r"(?:.*\n)*?"
            if line.strip() == "…"
            else re.escape(line.rstrip()).replace("…", ".*") + r"[ \t]*\n"
            for line in self.output.splitlines()
        )
        return re.fullmatch(pattern, printed.rstrip() + "\n" if printed.strip() else "") is not None


def commands(page: str, kinds: Container[str]) -> Iterator[Shown]:
    """The commands in the console blocks of a page that are of these kinds: the word after `console`, often none."""
    for block in _BLOCK.finditer(page):
        if block["kind"] in kinds:
            line = page.count("\n", 0, block.start("body")) + 1
            yield from _commands_of(block["body"], line)


def _commands_of(body: str, first_line: int) -> Iterator[Shown]:
    command, output, begun = "", "", first_line
    for number, line in enumerate(body.splitlines(), first_line):
        if line.startswith("$ "):
            if command:
                yield Shown(command, output, begun)
            command, output, begun = line.removeprefix("$ "), "", number
        elif line.startswith("> ") and not output:
            command += "\n" + line.removeprefix("> ")
        else:
            output += line + "\n"
    if command:
        yield Shown(command, output, begun)


def disagreements(shown: list[Shown], folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Runs the commands in one shell in `folder`; says of each that failed, or printed something else, what it did."""
    script = "\n".join(f"{one.command}\nprintf '{MARK}%s{MARK}' $?" for one in shown)
    with subprocess.Popen(
        ["bash", "-c", f"exec 2>&1\n{script}"],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as run:
        try:
            printed = run.communicate(timeout=TIMEOUT_S)[0].split(MARK)
        except BaseException:
            _end(run.pid, folder)
            raise
    for position, one in enumerate(shown):
        output, code = (*printed[2 * position : 2 * position + 2], "never ran", "1")[:2]
        if not one.explains(output) or (code != "0") != one.may_fail:
            yield f"line {one.line}: $ {one.command}\n--- exit code {code}, printed:\n{output}--- shown:\n{one.output}"


def _end(group: int, folder: Path) -> None:
    """What a page that came to no end has left: its processes, and what it has mounted."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[1].startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
