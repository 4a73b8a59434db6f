"""`carfs dagstore gc` and `destroy-shard`: what can go."""

from __future__ import annotations

from agent.cli.calls import call, shown
from agent.cli.command import command, example, json_option
from agent.cli.dagstore.given import key_argument
from agent.cli.exits import Exit
from agent.cli.output import Styled, color_option, emit_json, size_text


@command(epilog=example("carfs dagstore gc", "carfs dagstore gc --json"))
@color_option
@json_option
def gc(color: bool, as_json: bool) -> int:
    """Remove local copies of remote data that nobody uses; they are fetched again when somebody does.

    The exit code is 1 if one could not be removed.
    """
    collected = call("Filecoin.DagstoreGC", timeout_s=None)
    if as_json:
        emit_json(collected)
    elif not collected:
        print("no shards collected")
    else:
        for one in collected:
            word = Styled("SUCCESS", "green") if one["Success"] else Styled("ERROR", "red")
            rest = size_text(one["FreedBytes"]) if one["Success"] else shown(one["Error"])
            print(f"{shown(one['Key'])} {word.text_in(color)} {rest}")
        print(f"{size_text(sum(one['FreedBytes'] for one in collected))} freed")
    return Exit.DONE if all(one["Success"] for one in collected) else Exit.FAILED


@command(epilog=example("carfs dagstore destroy-shard photos"))
@key_argument
@json_option
def destroy_shard(key: str, as_json: bool) -> None:
    """Forget the shard KEY and remove its index; the CAR stays. Refused while a mount uses the shard."""
    call("Filecoin.DagstoreDestroyShard", [key])
    if as_json:
        emit_json({"Key": key})
    else:
        print(f"Destroyed shard {shown(key)}")
