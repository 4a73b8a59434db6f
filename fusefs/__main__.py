"""`python -m fusefs [CAR]... MOUNTPOINT`: the same as `carfs mount`."""

import sys

from agent.cli.exits import run_to_exit_code
from fusefs.command import mount

sys.exit(
    run_to_exit_code(lambda: mount.main(sys.argv[1:], prog_name="python -m fusefs", standalone_mode=False))
)
