"""`Filecoin.Auth…`: bearer tokens, as Lotus has them, and their end."""

from __future__ import annotations

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, Params, method
from agent.rpc.services import Services
from agent.rpc.tokens import TokenRefused


class AuthNewParams(Params, frozen=True):
    """What the token is to allow: levels below the highest are named too, by Lotus' clients."""

    perms: tuple[str, ...]


class AuthVerifyParams(Params, frozen=True):
    token: str


@method("Filecoin.AuthNew", Permission.ADMIN)
async def auth_new(services: Services, params: AuthNewParams) -> bytes:
    """A token that allows this, until all tokens are revoked; in base64, as Go encodes bytes."""
    return services.tokens.issue(params.perms).encode()


@method("Filecoin.AuthVerify", Permission.READ)
async def auth_verify(services: Services, params: AuthVerifyParams) -> list[str]:
    """What a token allows; an error if it is not ours, or not any more."""
    try:
        highest = services.tokens.verify(params.token)
    except TokenRefused as error:
        raise ShardError(ErrorClass.DENIED, str(error)) from None
    return [level.name.lower() for level in Permission if level <= highest]


@method("Carfs.AuthRevokeAll", Permission.ADMIN)
async def auth_revoke_all(services: Services, params: NoParams) -> None:
    """Ends every token that there is, and the connections that live on one."""
    services.tokens.rotate()


class Addresses(msgspec.Struct, frozen=True, rename="pascal"):
    """Where clients with a token reach the agent."""

    listen: tuple[str, ...]


@method("Carfs.Addresses", Permission.READ)
async def addresses(services: Services, params: NoParams) -> Addresses:
    """The TCP addresses on which the agent listens; none unless it is configured."""
    return Addresses(tuple(services.addresses))
