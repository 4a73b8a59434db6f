"""Bearer tokens for TCP: HS256 JSON Web Tokens that carry `{"Allow": ["read", …]}`, as Lotus issues them.

The secret lies in a file that only the agent's user may read. All tokens end when it is replaced: that is how one is
revoked. Nothing is kept of the tokens themselves.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.rpc.peers import Permission
from carlib.durable import replacing

# PyJWT is imported when it is used: it brings a library of ciphers along, an eighth of a second of every start.

logger = logging.getLogger(__name__)

SECRET_BYTES = 32
ALGORITHM = "HS256"
LEVELS = {level.name.lower(): level for level in Permission}


class TokenRefused(Exception):
    """A token that is not ours, or not any more, or carries nothing."""


class Tokens:
    """Issues and verifies tokens with the secret at `path`, which is made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secret: bytes | None = None
        self._holders: set[Callable[[], None]] = set()

    def issue(self, allow: Sequence[str]) -> str:
        """A token that allows this; it does not expire. Raises ShardError: a level that there is not, no secret."""
        unknown = [one for one in allow if one not in LEVELS]
        if unknown or not allow:
            known = ", ".join(LEVELS)
            message = f"no such level: {unknown[0]!r}" if unknown else "a token that allows nothing"
            raise ShardError(ErrorClass.INVALID, f"{message}; there is {known}")
        import jwt

        return jwt.encode({"Allow": list(allow)}, self._key(), algorithm=ALGORITHM)

    def verify(self, token: str) -> Permission:
        """The highest level that a token of ours carries; in constant time. Raises TokenRefused, ShardError."""
        import jwt

        try:
            claims = jwt.decode(token, self._key(), algorithms=[ALGORITHM])
        except jwt.InvalidTokenError as error:
            raise TokenRefused(f"JWT verification failed: {error}") from None
        allow = claims.get("Allow")
        levels = [LEVELS[one] for one in allow if one in LEVELS] if isinstance(allow, list) else []
        if not levels:
            raise TokenRefused("the token carries no permission")
        return max(levels)

    def rotate(self) -> None:
        """Replaces the secret: every token so far is refused from now on, and connections that came with one end."""
        self._secret = self._make()
        logger.info("all tokens were revoked")
        for end in list(self._holders):
            end()

    @contextlib.contextmanager
    def held(self, end: Callable[[], None]) -> Iterator[None]:
        """For the time that somebody lives on a token: `end` is called if that is revoked."""
        self._holders.add(end)
        try:
            yield
        finally:
            self._holders.discard(end)

    def _key(self) -> bytes:
        if self._secret is None:
            self._secret = self._read()
        return self._secret

    def _read(self) -> bytes:
        try:
            mode = self._path.stat().st_mode
            text = self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return self._make()
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(self._path, error) from error
        if stat.S_IMODE(mode) & 0o077:
            hint = (
                f"chmod 600 it, and revoke what others may have made with it (mode {stat.S_IMODE(mode):04o})"
            )
            raise ShardError(ErrorClass.DENIED, f"{self._path} can be read by others: {hint}")
        try:
            secret = bytes.fromhex(text)
        except ValueError as error:
            raise _unusable(self._path, error) from error
        if len(secret) < SECRET_BYTES:
            message = f"{self._path} holds {len(secret)} bytes and a secret has {SECRET_BYTES}"
            raise ShardError(ErrorClass.CORRUPT, f"{message}; remove it, and tokens are issued anew")
        return secret

    def _make(self) -> bytes:
        secret = secrets.token_bytes(SECRET_BYTES)
        try:
            with replacing(self._path, mode=0o600) as file:
                file.write(secret.hex().encode() + b"\n")
        except OSError as error:
            raise _unusable(self._path, error) from error
        return secret


def _unusable(path: Path, error: Exception) -> ShardError:
    what = error.strerror if isinstance(error, OSError) else str(error)
    error_class = class_of_os_error(error) if isinstance(error, OSError) else ErrorClass.CORRUPT
    return ShardError(error_class, f"the secret of tokens, {path}: {what}")
