"""`carfs worker run`: what it takes, and what it refuses before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--connect", "here:1"], "http://here:1 needs a token, in CARFS_TOKEN or --token-file"),
        (["--connect", "s", "--only", "index,dig"], "cannot do 'dig'; it can do commp, index, verify"),
        (["--connect", "s", "--only", "invert"], "cannot do 'invert'"),
        (["--connect", "s", "--memory", "much"], "'much' is not a size"),
        (["--connect", "ftp://here"], "is neither the path of a socket, nor HOST:PORT"),
        (["--name", "x"], "carfs worker"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("begin", [["worker", "run"], ["worker"]])
def test_what_makes_no_sense_is_refused(
    begin: list[str],
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CARFS_TOKEN", raising=False)
    assert main([*begin, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_token_file_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "run", "--connect", "here:1", "--token-file", str(tmp_path / "none")]) == 3
    assert f"{tmp_path / 'none'}: No such file" in capsys.readouterr().err


def test_help_of_both_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "--help"]) == 0
    assert "Join an agent elsewhere as a worker of it." in capsys.readouterr().out
    assert main(["worker", "run", "--help"]) == 0
    assert "--token-file" in capsys.readouterr().out
