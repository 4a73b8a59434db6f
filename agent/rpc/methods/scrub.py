"""What the verifications of a shard have shown."""

from __future__ import annotations

import msgspec

from agent.dagstore.scrub.records import BadBlock, Run, ScrubState, Verdict
from agent.rpc.backend import not_set_up
from agent.rpc.peers import Permission
from agent.rpc.registry import KeyParams, NoParams, method
from agent.rpc.services import Services


class ScrubFacts(msgspec.Struct, frozen=True, rename="pascal"):
    """All that is known of the verification of a shard; what is not (yet) is null."""

    run: Run | None  # under way, or cut short: it goes on there
    verdict: Verdict | None  # of the last one that ended
    verified: dict[str, str]  # by depth: when a run of it last came to a verdict
    quarantined: tuple[BadBlock, ...]  # by offset, those that are repaired too
    home: str  # URL of the first mount, while a replica stands in for it

    @classmethod
    def of(cls, state: ScrubState) -> ScrubFacts:
        return cls(state.run, state.verdict, state.verified, state.quarantined, state.home)


class Quarantined(msgspec.Struct, frozen=True, rename="pascal"):
    """A shard with blocks that cannot be read; all others of it can."""

    key: str
    quarantined: str  # in a line, for people


@method("Carfs.ListQuarantined", Permission.READ)
async def list_quarantined(services: Services, params: NoParams) -> list[Quarantined]:
    """The shards with blocks that cannot be read, by key."""
    found = {} if services.verifier is None else services.verifier.quarantined()
    return [Quarantined(key, text) for key, text in found.items()]


@method("Carfs.ScrubState", Permission.READ)
async def scrub_state(services: Services, params: KeyParams) -> ScrubFacts:
    """What verifications of a shard have shown, with every block that is in quarantine."""
    if services.verifier is None:
        raise not_set_up("verification")
    return ScrubFacts.of(services.verifier.state(params.key))
