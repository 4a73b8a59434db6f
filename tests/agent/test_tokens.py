"""Bearer tokens: Lotus' form, a level each, ended by a new secret, and refused when anything about them is not ours."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import jwt
import pytest

from agent.dagstore.failures import ErrorClass, ShardError
from agent.rpc.peers import Permission
from agent.rpc.tokens import TokenRefused, Tokens


def part(token: str, number: int) -> object:
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_a_token_is_what_lotus_would_issue(tmp_path: Path) -> None:
    token = Tokens(tmp_path / "s").issue(["read", "write"])
    assert part(token, 0) == {"alg": "HS256", "typ": "JWT"}
    assert part(token, 1) == {"Allow": ["read", "write"]}


@pytest.mark.parametrize(
    ("allow", "permission"),
    [
        (["read"], Permission.READ),
        (["read", "write"], Permission.WRITE),
        (["read", "write", "sign"], Permission.SIGN),
        (["read", "write", "sign", "admin"], Permission.ADMIN),
    ],
)
def test_a_token_carries_its_level(tmp_path: Path, allow: list[str], permission: Permission) -> None:
    tokens = Tokens(tmp_path / "s")
    assert tokens.verify(tokens.issue(allow)) is permission


def test_tokens_outlive_the_agent_and_end_with_the_secret(tmp_path: Path) -> None:
    token = Tokens(tmp_path / "s").issue(["admin"])
    tokens = Tokens(tmp_path / "s")
    assert tokens.verify(token) is Permission.ADMIN
    tokens.rotate()
    for verifier in (tokens, Tokens(tmp_path / "s")):
        with pytest.raises(TokenRefused, match="JWT verification failed"):
            verifier.verify(token)
    assert tokens.verify(tokens.issue(["read"])) is Permission.READ


def test_whoever_lives_on_a_token_is_ended_by_its_revocation(tmp_path: Path) -> None:
    tokens, ended = Tokens(tmp_path / "s"), []
    with tokens.held(lambda: ended.append("past")):
        pass
    with tokens.held(lambda: ended.append("here")):
        tokens.rotate()
    assert ended == ["here"]


def test_the_secret_is_for_its_owner_only(tmp_path: Path) -> None:
    Tokens(tmp_path / "s").issue(["read"])
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    (tmp_path / "s").chmod(0o640)
    with pytest.raises(ShardError, match="can be read by others: chmod 600 it") as raised:
        Tokens(tmp_path / "s").issue(["read"])
    assert raised.value.error_class is ErrorClass.DENIED


def signed(claims: object, path: Path, algorithm: str = "HS256") -> str:
    secret = bytes.fromhex(path.read_text())
    assert isinstance(claims, dict)
    return jwt.encode(claims, secret if algorithm != "none" else "", algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ["none", "HS512"])
def test_another_algorithm_is_refused(tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "s").write_text("ab" * 64)
    (tmp_path / "s").chmod(0o600)
    token = signed({"Allow": ["admin"]}, tmp_path / "s", algorithm)
    with pytest.raises(TokenRefused):
        Tokens(tmp_path / "s").verify(token)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"Allow": []},
        {"Allow": "admin"},
        {"Allow": [5]},
        {"Allow": ["root"]},
        {"Allow": ["read"], "exp": 1},
    ],
    ids=str,
)
def test_a_token_that_allows_nothing_or_has_expired_is_refused(
    tmp_path: Path, claims: dict[str, object]
) -> None:
    tokens = Tokens(tmp_path / "s")
    tokens.issue(["read"])
    with pytest.raises(TokenRefused):
        tokens.verify(signed(claims, tmp_path / "s"))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é" * 10, "." * 1000, "\x00"])
def test_what_is_no_token_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(TokenRefused):
        Tokens(tmp_path / "s").verify(token)


@pytest.mark.parametrize(("allow", "message"), [([], "allows nothing"), (["root"], "no such level: 'root'")])
def test_a_level_that_there_is_not_is_named(tmp_path: Path, allow: list[str], message: str) -> None:
    with pytest.raises(ShardError, match=message):
        Tokens(tmp_path / "s").issue(allow)


@pytest.mark.parametrize(("content", "message"), [("short", "token-secret"), ("00" * 8, "holds 8 bytes")])
def test_a_damaged_secret_is_an_error_and_not_a_weak_one(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "token-secret"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ShardError, match=message) as raised:
        Tokens(path).verify("x")
    assert raised.value.error_class is ErrorClass.CORRUPT
