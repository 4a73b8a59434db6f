"""A model of the imports, driven by chance: whatever is done, what is there is what should be there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.imports import Imports
from agent.imports.requests import Request
from tests.agent.imports.worlds import Threads, everything_below, imports_at

SOURCES = tuple("abcd")
NAMES = st.sampled_from(["", "one", "two"])


class ImportsModel(RuleBasedStateMachine):
    """Each rule opens the imports anew, as a restart would, does one thing, and compares with what is expected."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.path = Path(tempfile.mkdtemp(prefix="carfs-imports-"))
        self._stack.callback(shutil.rmtree, self.path)
        for letter in SOURCES:
            (self.path / letter).mkdir()
            (self.path / letter / "data").write_bytes(letter.encode() * 2000)
        self.there: dict[str, str] = {}  # name to source

    def teardown(self) -> None:
        self._stack.close()

    def _do(self, act: Callable[[Imports], Any]) -> Any:
        async def run() -> Any:
            async with imports_at(self.path, Threads()) as importing:
                result = await act(importing.imports)
                self._seen = {
                    record.name: record
                    for record in map(importing.imports.record, importing.imports.numbers())
                }
                return result

        return trio.run(run)

    @rule(source=st.sampled_from(SOURCES), name=NAMES, kind=st.sampled_from(["ref", "dense"]))
    def add(self, source: str, name: str, kind: Any) -> None:
        async def act(imports: Imports) -> str | ErrorClass:
            try:
                outcome = await imports.add(self.path / source, Request(kind, name), wait=True)
            except ShardError as error:
                return error.error_class
            return imports.record(outcome.number).name

        named = self._do(act)
        if name in self.there and name:
            assert named is ErrorClass.EXISTS
        elif source in self.there.values():
            assert self.there[named] == source
        else:
            assert named == name or not name
            self.there[named] = source

    @rule(source=st.sampled_from(SOURCES))
    def fail(self, source: str) -> None:
        async def act() -> None:
            workers = Threads()
            workers.fail = lambda kind: OSError(28, "No space left on device") if kind == "import" else None
            async with imports_at(self.path, workers) as importing:
                try:
                    await importing.imports.add(self.path / source, Request(), wait=True)
                except ShardError as error:
                    assert error.error_class is ErrorClass.NO_SPACE

        trio.run(act)

    @rule(source=st.sampled_from(SOURCES))
    def stop_in_the_middle(self, source: str) -> None:
        """The agent ends while somebody waits."""

        async def act() -> None:
            workers = Threads()
            async with imports_at(self.path, workers) as importing, trio.open_nursery() as nursery:
                await importing.imports.checked.wait()
                workers.hold()
                wanted = partial(importing.imports.add, self.path / source, Request(), wait=True)
                nursery.start_soon(wanted)
                while "import ref" not in workers.begun:
                    await trio.sleep(0)
                nursery.cancel_scope.cancel()

        trio.run(act)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.there:
            name = data.draw(st.sampled_from(sorted(self.there)))
            self._do(lambda imports: imports.remove(imports.find(name)))
            del self.there[name]

    @rule(data=st.data(), name=st.sampled_from(["one", "two", "three"]))
    def rename(self, data: st.DataObject, name: str) -> None:
        if not self.there:
            return
        old = data.draw(st.sampled_from(sorted(self.there)))

        async def act(imports: Imports) -> bool:
            try:
                imports.rename(imports.find(old), name)
            except ShardError as error:
                assert error.error_class is ErrorClass.EXISTS
                return False
            return True

        assert self._do(act) == (name not in self.there or name == old)
        if name not in self.there:
            self.there[name] = self.there.pop(old)

    @invariant()
    def what_is_there_is_what_should_be(self) -> None:
        async def act(imports: Imports) -> None:
            await imports.checked.wait()

        self._do(act)
        assert self._seen.keys() == self.there.keys()
        assert {record.state for record in self._seen.values()} <= {"ImportStateReady"}
        assert everything_below(self.path) == {f"imports/{record.id}.car" for record in self._seen.values()}
        assert len({record.root for record in self._seen.values()}) == len(self._seen)


ImportsModel.TestCase.settings = settings(max_examples=8, stateful_step_count=8, deadline=None)
TestImportsModel = ImportsModel.TestCase
