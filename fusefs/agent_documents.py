"""What `.carfs/` of a mount says of its agent: its answer now, or, while it is away, the last one and since when.

`metrics` alone has no last one: numbers that stand still would pass for true, so it then says `carfs_up 0`.
"""

from __future__ import annotations

import json
from typing import Any

from agent.client import AgentError, AgentUnreachable, Client

Json = Any  # any value that JSON can carry

ANSWER_S = 2.0
"""For the agent to answer: longer, and it counts as away."""
METHODS = {"status.json": "Carfs.Status", "resources.json": "Carfs.Resources", "tasks.json": "Carfs.Tasks"}
_AWAY = b"""\
# HELP carfs_up 1: the agent answers; in a mount 0 while it does not.
# TYPE carfs_up gauge
carfs_up 0.0
"""


class AgentDocuments:
    """Asks one agent; used by threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last: dict[str, Json] = {}

    def status(self) -> tuple[bool, Json]:
        """Whether the agent answers, and its status, or the last that is known, or {}."""
        return self._ask("status.json")

    def text(self, name: str) -> bytes:
        """The text of `resources.json`, `tasks.json` or `metrics`."""
        if name == "metrics":
            try:
                return str(self._client.call("Carfs.Metrics", timeout_s=ANSWER_S)).encode()
            except (AgentUnreachable, AgentError):
                return _AWAY
        is_reachable, found = self._ask(name)
        return rendered({"Reachable": is_reachable, **found})

    def _ask(self, name: str) -> tuple[bool, Json]:
        try:
            self._last[name] = self._client.call(METHODS[name], timeout_s=ANSWER_S)
        except (AgentUnreachable, AgentError):
            return False, self._last.get(name, {})
        return True, self._last[name]


def rendered(document: Json) -> bytes:
    """JSON for people and programs."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
