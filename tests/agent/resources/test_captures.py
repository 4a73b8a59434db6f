"""What each captured machine must give; `captures/` has the files, and each says in its first line what it is."""

from __future__ import annotations

import pytest

from agent.resources import explaining, rule
from agent.resources.facts import Bound, Mode
from tests.agent.resources.captured import MIB, NAMES, captured
