"""What a worker process has and does before its first task."""

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
