"""`carfs deal import`, `retry`, `end` and `unseal`."""

from __future__ import annotations

import sys

import click

from agent.cli.calls import call, shown
from agent.cli.client.given import absolute
from agent.cli.command import command, example, json_option
from agent.cli.deal.showing import deal_argument
from agent.cli.exits import AgentUnreachable, CommandFailed
from agent.cli.output import emit_json

deals_argument = click.argument(
    "deals", metavar="DEAL...", nargs=-1, required=True, type=click.IntRange(min=0)
)


@command(epilog=example("carfs deal import 1790000000000000001 photos.car"))
@deal_argument
@click.argument("car", metavar="CAR")
@json_option
def import_(deal: int, car: str, as_json: bool) -> None:
    """Bring the data of the offline deal DEAL: a CAR, which the agent reads where it is, verifies, and packs.

    It must be the CAR that the client has computed the piece of: `carfs client export --car`.
    """
    one = call("Carfs.ImportDealData", {"Deal": deal, "Path": absolute(car)})
    if as_json:
        emit_json(one)
    else:
        print(f"Deal {one['ID']} has its data: {shown(car)}")


@command(epilog=example("carfs deal retry 1790000000000000001"))
@deals_argument
def retry(deals: tuple[int, ...]) -> None:
    """Begin each DEAL that has failed once more; what has come of its data is not fetched again."""
    _each("Carfs.RetryDeal", deals, "Begun again")


@command(epilog=example("carfs deal end 1790000000000000001"))
@deals_argument
def end(deals: tuple[int, ...]) -> None:
    """End each DEAL. The last one about a piece takes the shard and the piece with it, once nobody reads them."""
    _each("Carfs.EndDeal", deals, "Ended")


@command(
    epilog=example("carfs deal unseal --check 1790000000000000001", "carfs deal unseal 1790000000000000001")
)
@deal_argument
@click.option("--check", is_flag=True, help="Only ask whether it is unsealed.")
@json_option
def unseal(deal: int, check: bool, as_json: bool) -> None:
    """Have the piece of DEAL unsealed, which may take hours. Nothing else ever unseals anything."""
    found = call("Carfs.DealUnsealed" if check else "Carfs.UnsealDeal", {"Deal": deal}, timeout_s=None)
    if as_json:
        emit_json(found)
    elif found["Unsealed"]:
        print(f"Deal {deal} is unsealed: {shown(found['File'])}, offset {found['Offset']}")
    else:
        print(f"Deal {deal} is not unsealed")


def _each(method: str, deals: tuple[int, ...], done: str) -> None:
    """One that fails does not keep the others from it."""
    failed: CommandFailed | None = None
    for number in deals:
        try:
            call(method, {"Deal": number})
        except AgentUnreachable:
            raise
        except CommandFailed as error:
            if len(deals) == 1:
                raise
            print(f"carfs: {error}", file=sys.stderr)
            failed = failed or error
        else:
            print(f"{done}: deal {number}")
    if failed is not None:
        raise CommandFailed("not all of them", failed.code)
