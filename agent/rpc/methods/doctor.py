"""The doctor: what is not well with the agent's state, and having it mended."""

from __future__ import annotations

from agent.doctor.findings import Finding
from agent.rpc.backend import not_set_up
from agent.rpc.peers import Permission
from agent.rpc.registry import Params, method
from agent.rpc.services import Services


class DoctorParams(Params, frozen=True):
    """`Fix`: mend what can be mended without a risk, which needs the level `admin`."""

    fix: bool = False

    def needs(self) -> Permission:
        return Permission.ADMIN if self.fix else Permission.READ


@method("Carfs.Doctor", Permission.READ)
async def doctor(services: Services, params: DoctorParams) -> list[Finding]:
    """What is not well, the worst first: catalogue, data, indices, quarantine, space, permissions, origins."""
    if services.doctor is None:
        raise not_set_up("doctor")
    return await services.doctor(with_fix=params.fix)
