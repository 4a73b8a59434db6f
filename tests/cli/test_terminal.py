"""What commands print on a terminal: bars and tables by rich, tried on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path


def on_terminal(program: str) -> str:
    """What a Python program prints where its output is a terminal; it must succeed."""
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"TERM": "xterm"}, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    printed = b""
    try:
        while piece := os.read(ours, 4096):
            printed += piece
    except OSError:  # how Linux says that the other end was closed
        pass
    os.close(ours)
    assert process.wait() == 0, printed
    return printed.decode()


def test_a_bar_shows_what_is_done_and_goes_away() -> None:
    shown = on_terminal(
        "from agent.cli.progress import progress\n"
        "with progress('packing a[bold]b') as step:\n"
        "    step(1 << 20, 4 << 20)\n"
        "print('done')"
    )
    assert "packing a[bold]b" in shown
    assert "1.0/4.0 MiB" in shown
    assert shown.endswith("done\r\n")


def test_what_is_printed_beside_a_bar_is_above_it_as_it_is() -> None:
    line = "a word " * 40
    shown = on_terminal(
        "from agent.cli.progress import progress\n"
        "with progress('verifying') as step:\n"
        "    step(1, 2)\n"
        f"    print({line!r})\n"
    )
    assert line in shown


def test_what_is_printed_beside_a_bar_goes_where_output_goes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = on_terminal(
        f"import os; os.dup2(os.open({str(out)!r}, os.O_WRONLY | os.O_CREAT), 1)\n"
        "from agent.cli.progress import progress\n"
        "with progress('verifying', unit='shards') as step:\n"
        "    step(1, 2)\n"
        "    print('found')\n"
    )
    assert out.read_text() == "found\n"
    assert "found" not in shown
    assert "1/2" in shown
    assert "shards" in shown


def test_tables_take_cells_as_data_and_not_as_markup() -> None:
    shown = on_terminal("from agent.cli.output import emit_table; emit_table(['key'], [['[bold]x']])")
    assert "[bold]x" in shown
