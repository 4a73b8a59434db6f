"""A provider elsewhere: its agent's RPC over TCP, with a token."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.cli import calls
from agent.cli.calls import shown
from agent.cli.exits import AgentRefused, AgentUnreachable, CommandFailed, Exit

Json = Any  # any value that JSON can carry
TIMEOUT_S = 30.0
_Function = TypeVar("_Function", bound=Callable[..., object])


def provider_options(function: _Function) -> _Function:
    """Adds `--provider` and `--token-file`."""
    token = click.option(
        "--token-file", type=click.Path(dir_okay=False), metavar="FILE",
        help="File with the token that the provider has given.  [default: $CARFS_PROVIDER_TOKEN]",
    )(function)  # fmt: skip
    return click.option(
        "--provider",
        metavar="URL",
        help="The RPC of the provider's agent, such as https://provider.example:3453.",
    )(token)


def call(provider: str | None, token_file: str | None, method: str, params: Json) -> Json:
    """The result of a call of the provider, or of this machine's agent if none is named; raises CommandFailed."""
    if provider is None:
        return calls.call(method, params, timeout_s=None)
    url = f"{provider.rstrip('/')}/rpc/v0"
    if not url.startswith(("http://", "https://")):
        raise CommandFailed(
            f"a provider is a URL such as https://host:3453, not {shown(provider)}", Exit.USAGE
        )
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    headers = {"Content-Type": "application/json"}
    if token := _token(token_file):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        text = error.read(500).decode(errors="replace").strip()
        hint = "; give its token with --token-file" if error.code == 401 else ""
        raise AgentRefused(shown(f"{provider}: HTTP {error.code}: {text}{hint}"), "denied") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise AgentUnreachable(shown(f"{provider} does not answer: {reason}")) from error
    if "error" in answer:
        found = answer["error"]
        error_class = str((found.get("data") or {}).get("class", "bug"))
        raise AgentRefused(shown(f"{provider}: {found['message']}"), error_class)
    return answer["result"]


def _token(token_file: str | None) -> str:
    if token_file is None:
        return os.environ.get("CARFS_PROVIDER_TOKEN", "").strip()
    return Path(token_file).read_text().strip()
