"""What processes have imported before their first task."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.scheduler.table import KINDS

MODULES = (
    "agent.workers.process",
    *sorted({kind.function.partition(":")[0] for kind in KINDS.values()} - {""}),
)


@pytest.mark.parametrize("module", MODULES)
def test_a_worker_process_has_no_event_loop_since_each_start_would_pay_for_it(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{'trio', 'ssl', 'sqlite3', 'rich'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_the_agent_does_not_carry_what_only_workers_and_commands_need() -> None:
    """numpy alone is 14 MiB that it would hold for good."""
    program = (
        "import sys, agent.service; print(*sorted({'numpy', 'rich', 'prometheus_client'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
