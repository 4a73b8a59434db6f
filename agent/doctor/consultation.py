"""A consultation: facts, findings and, if asked for, fixes; with the agent's help or without an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import trio

from agent import config
from agent.dagstore.breaker import BreakerState
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.scrub.scrubber import Scrubber
from agent.doctor.diagnosis import diagnose
from agent.doctor.examination import examine
from agent.doctor.findings import Facts, Finding, Live
from agent.doctor.fixes import fix, try_again
from agent.repository import Repository, RepositoryLocked, locked


async def consult(
    repository: Repository,
    dagstore: Dagstore,
    live: Callable[[], Live],
    *,
    scrub_interval_s: float,
    with_fix: bool,
) -> list[Finding]:
    """What `Carfs.Doctor` answers: for the agent itself, which goes on meanwhile."""
    look = partial(examine, repository, agent=True, live=live(), scrub_interval_s=scrub_interval_s)
    findings = diagnose(await trio.to_thread.run_sync(look))
    if not with_fix:
        return findings
    findings = await trio.to_thread.run_sync(fix, findings)
    return await try_again(findings, partial(_again, dagstore))


def live_of(dagstore: Dagstore, scrubber: Scrubber) -> Live:
    """What the agent knows that no file says."""
    scrubs, transients, inverted = (
        scrubber.statistics(),
        dagstore.transients(),
        dagstore.inverted.statistics(),
    )
    origins = dagstore.unhealthy_origins().items()
    return Live(
        overdue=scrubs.overdue,
        scheduled=scrubs.scheduled,
        transient_bytes=transients.used_bytes,
        transient_quota=transients.limit_bytes,
        inverted_missing=inverted.pending,
        inverted_problem=inverted.problem,
        open_breakers=tuple(sorted(url for url, one in origins if one.state is not BreakerState.CLOSED)),
    )


async def _again(dagstore: Dagstore, key: str) -> None:
    """Looks at a shard, and has it indexed anew if it is errored or its index cannot be used."""
    await dagstore.upkeep.look(key)
    if dagstore.upkeep.life(key).state is ShardState.ERRORED:
        await dagstore.recover(key)
        return
    record = dagstore.record(key)
    if record.index_path is not None and dagstore.upkeep.life(key).state is not ShardState.RECOVERING:
        dagstore.upkeep.distrust_index(
            key, record.index_path.rpartition("/")[2], "the doctor cannot read its index"
        )
    await dagstore.acquire(key)
    dagstore.release(key)


def consult_alone(
    repository: Repository, *, environ: Mapping[str, str] | None = None, fix: bool
) -> list[Finding]:
    """What `carfs doctor` does where no agent answers; `environ` configures it as it would an agent.

    Raises ShardError(not-found) where there is no repository, ConfigError.
    """
    settings = config.load(repository.config, required=False, environ=environ or {})
    repository = replace(repository, dagstore=settings.dagstore.root_dir)
    with ExitStack() as stack:
        agent = False
        if repository.lock.exists():
            try:
                stack.enter_context(locked(repository))
            except RepositoryLocked:
                agent = True
            except PermissionError:
                pass  # whoever may not even lock it can only look
        interval_s = settings.scrub.interval_days * 86400
        return _alone(repository, agent=agent, scrub_interval_s=interval_s, with_fix=fix and not agent)


def _alone(repository: Repository, *, agent: bool, scrub_interval_s: float, with_fix: bool) -> list[Finding]:
    try:
        facts: Facts = examine(
            repository, agent=agent, agent_answers=not agent, scrub_interval_s=scrub_interval_s
        )
    except FileNotFoundError as error:
        hint = "there is no state yet; `carfs agent` makes it"
        raise ShardError(ErrorClass.NOT_FOUND, f"{repository.path}: {hint}") from error
    findings = diagnose(facts)
    return fix(findings) if with_fix else findings
