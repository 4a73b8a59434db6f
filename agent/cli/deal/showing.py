"""`carfs deal list`, `show` and `wait`."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.calls import shown
from agent.cli.command import command, example, json_option
from agent.cli.deal.provider import call, provider_options
from agent.cli.output import Styled, color_option, emit_json, emit_table, seconds, size_text

Json = Any  # any value that JSON can carry
_COLORS = {"Active": "green", "Error": "red", "ProposalRejected": "red", "Expired": "yellow"}

deal_argument = click.argument("deal", metavar="DEAL", type=click.IntRange(min=0))


@command(epilog=example("carfs deal list", "carfs deal list --provider https://provider.example:3453"))
@provider_options
@color_option
@json_option
def list_(provider: str | None, token_file: str | None, color: bool, as_json: bool) -> None:
    """List the deals that this agent has as a provider, or those of a provider elsewhere; oldest first."""
    records = call(provider, token_file, "Carfs.ListDeals", {})
    if as_json:
        emit_json(records)
        return
    rows = [_row(one) for one in records]
    if rows:
        emit_table(("ID", "State", "Label", "Piece", "Size", "Sector", "Client"), rows, color=color)


def _row(one: Json) -> tuple[object, ...]:
    state = _state(one)
    sector = "" if one["Sector"] is None else f"{one['Sector']}+{one['Offset']}"
    return (
        one["ID"], Styled(state, _COLORS.get(state, "blue")), shown(one["Label"]), one["PieceCID"],
        size_text(one["PieceSize"]), sector, shown(one["Client"]),
    )  # fmt: skip


def _state(one: Json) -> str:
    return str(one["State"]).removeprefix("StorageDeal")


@command(epilog=example("carfs deal show 1790000000000000001"))
@deal_argument
@provider_options
@json_option
def show(deal: int, provider: str | None, token_file: str | None, as_json: bool) -> None:
    """Show all that is known of DEAL."""
    one = call(provider, token_file, "Carfs.GetDeal", {"Deal": deal})
    if as_json:
        emit_json(one)
        return
    print(f"ID:       {one['ID']}")
    print(f"State:    {_state(one)}")
    if one["Error"]:
        print(f"Error:    {shown(one['Error'])}")
    print(f"Root:     {one['Root']}")
    print(f"Piece:    {one['PieceCID']}, {one['PieceSize']} padded bytes")
    if one["PayloadSize"] is not None:
        print(f"CAR:      {one['PayloadSize']} bytes")
    if one["Sector"] is not None:
        print(f"Sector:   {one['Sector']}, offset {one['Offset']}")
    print(f"Source:   {shown(one['Source']) or 'offline'}")
    print(f"Label:    {shown(one['Label'])}")
    print(f"Client:   {shown(one['Client'])}")
    print(f"Created:  {seconds(one['Created'])}")
    print(f"Updated:  {seconds(one['Updated'])}")
    if one["EndsAt"]:
        print(f"Ends:     {shown(one['EndsAt'])}")


@command(epilog=example("carfs deal wait 1790000000000000001"))
@deal_argument
@json_option
def wait(deal: int, as_json: bool) -> None:
    """Wait until DEAL of this agent is active, waits for its data, or has ended."""
    one = call(None, None, "Carfs.WaitDeal", {"Deal": deal})
    if as_json:
        emit_json(one)
    else:
        print(f"Deal {one['ID']}: {_state(one)}")
