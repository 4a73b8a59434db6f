"""What may stand behind `--connect`, and where the token comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.workers.remote.where import Where, find_token


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("10.0.0.7:3453", "http://10.0.0.7:3453"),
        ("tcp:agent.local:3453", "http://agent.local:3453"),
        ("tcp://[::1]:3453", "http://[::1]:3453"),
        ("http://localhost:3453/", "http://localhost:3453"),
        ("https://agent.example.org", "https://agent.example.org"),
        ("https://agent.example.org:8443", "https://agent.example.org:8443"),
    ],
)
def test_hosts_and_urls(text: str, url: str) -> None:
    where = Where.parse(text)
    assert (where.socket, where.url, where.needs_token, str(where)) == (None, url, True, url)


@pytest.mark.parametrize("text", ["{0}/a.sock", "unix:{0}/a.sock", "unix://{0}/a.sock"])
def test_paths_of_sockets(text: str, tmp_path: Path) -> None:
    where = Where.parse(text.format(tmp_path))
    assert (where.socket, where.needs_token) == (tmp_path / "a.sock", False)


def test_a_state_folder_stands_for_the_socket_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    for text in (str(tmp_path / "state"), "state", "./state"):
        assert Where.parse(text).socket == tmp_path / "state" / "agent.sock"


@pytest.mark.parametrize(
    "text", ["", "unix:", "host:", "host:port", "ftp://host:21", "http://user@host:1", "http://h:1/x"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="socket"):
        Where.parse(text)


def test_a_token_is_in_a_file_or_the_environment_and_the_file_wins(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc.def\n")
    assert find_token(tmp_path / "token", {"CARFS_TOKEN": "other"}) == "abc.def"
    assert find_token(None, {"CARFS_TOKEN": " abc.def "}) == "abc.def"
    assert find_token(None, {}) == ""


def test_what_is_no_token_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret but two words")
    with pytest.raises(ValueError, match="holds no token") as raised:
        find_token(tmp_path / "token")
    assert "secret" not in str(raised.value)
