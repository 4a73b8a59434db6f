"""From facts to findings: pure, so that each finding is shown by a test that makes up its facts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from agent.dagstore.failures import ErrorClass
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.mounts import shown
from agent.doctor.findings import Facts, FileFacts, Finding, LeftOver, Severity, ShardFacts

GIB = 1 << 30
LITTLE_SPACE = 0.05
STUCK_ATTEMPTS = 3
A_MOMENTS = 100
"""Shards that wait for the inverted index where nothing is wrong: it takes them in as they are indexed."""
OLD_S = 3600.0
"""A file that nothing names yet may be about to be named, where an agent runs."""
_INDEXED = (ShardState.AVAILABLE, ShardState.SERVING)


def diagnose(facts: Facts) -> list[Finding]:
    """What is not well, the worst first."""
    found = [*_state(facts), *_space(facts), *_left_over(facts), *_live(facts)]
    for shard in facts.shards:
        found += [*_data(shard), *_index(shard), *_errors(shard), *_verification(shard, facts)]
    order = list(Severity)
    return sorted(found, key=lambda one: (order.index(one.severity), one.check, one.key, one.path))


def _state(facts: Facts) -> Iterator[Finding]:
    if facts.catalogue:
        yield Finding(
            check="catalogue", severity=Severity.ERROR, corrupt=True, path=str(facts.path / "carfs.db"),
            what=f"the catalogue cannot be used: {facts.catalogue}",
            advice="restore it from a backup; or move it away and register the CARs anew, they are untouched",
        )  # fmt: skip
    for key, problem in facts.damaged_rows:
        yield Finding(
            check="catalogue-row", severity=Severity.ERROR, corrupt=True, key=key,
            what=f"the row of shard {key!r} is damaged: {problem}",
            advice="destroy the shard and register it again: its data is untouched",
        )  # fmt: skip
    if facts.mode & 0o022:
        yield Finding(
            check="permissions", severity=Severity.WARNING, path=str(facts.path), fixable=facts.owner == facts.user,
            what=f"others may write to {facts.path} (mode {facts.mode & 0o7777:04o})",
            advice=f"chmod go-w {facts.path}",
        )  # fmt: skip
    for path in facts.unwritable:
        yield Finding(
            check="permissions", severity=Severity.ERROR, path=str(path),
            what=f"{path} cannot be written to by uid {facts.user}",
            advice=f"chown -R it to the user of the agent, which is uid {facts.owner} by the owner of {facts.path}",
        )  # fmt: skip
    if facts.agent and not facts.agent_answers:
        yield Finding(
            check="agent", severity=Severity.ERROR, path=str(facts.path / "agent.sock"),
            what="an agent holds the repository and does not answer on its socket",
            advice="look at its log; kill -USR1 makes it print where its tasks wait",
        )  # fmt: skip
    for folder in facts.silent:
        yield Finding(
            check="silent", severity=Severity.ERROR, path=folder,
            what=f"{folder} did not answer: a dead disk or network share",
            advice="see whether it is mounted, and whether ls answers there",
        )  # fmt: skip


def _space(facts: Facts) -> Iterator[Finding]:
    if facts.free_bytes < min(GIB, facts.total_bytes * LITTLE_SPACE):
        severity = Severity.ERROR if facts.free_bytes < GIB // 16 else Severity.WARNING
        yield Finding(
            check="disk-space", severity=severity, path=str(facts.path),
            what=f"{facts.free_bytes} of {facts.total_bytes} bytes are free where {facts.path} lies",
            advice="make room there, or run `carfs dagstore gc`",
        )  # fmt: skip


def _left_over(facts: Facts) -> Iterator[Finding]:
    for one in facts.left_over:
        if not facts.agent or one.age_s > OLD_S:
            yield _orphan(one)


def _orphan(one: LeftOver) -> Finding:
    return Finding(
        check=f"orphan-{one.kind.replace(' ', '-')}", severity=Severity.NOTE, path=str(one.path), fixable=True,
        what=f"{one.kind} of {one.size} bytes that no shard has: {one.path}",
        advice="--fix removes it; so does the next start of the agent",
    )  # fmt: skip


def _live(facts: Facts) -> Iterator[Finding]:
    live = facts.live
    used = live.transient_bytes or facts.transient_bytes
    if live.transient_quota and used > live.transient_quota:
        yield Finding(
            check="transients-quota", severity=Severity.WARNING, path=str(facts.path / "dagstore" / "transients"),
            what=f"copies of remote data take {used} bytes, more than their quota of {live.transient_quota}",
            advice="run `carfs dagstore gc`; what is in use stays",
        )  # fmt: skip
    if live.inverted_missing and live.inverted_problem:
        yield Finding(
            check="inverted-stale", severity=Severity.WARNING,
            what=f"the blocks of {live.inverted_missing} shards cannot be looked up by CID: {live.inverted_problem}",
            advice="mend what it says; it is tried again by itself, and `carfs dagstore reindex` makes all of it anew",
        )  # fmt: skip
    elif live.inverted_missing > A_MOMENTS:
        yield Finding(
            check="inverted-behind", severity=Severity.NOTE,
            what=f"the blocks of {live.inverted_missing} shards cannot be looked up by CID yet",
            advice="wait: they are being taken in",
        )  # fmt: skip
    if live.overdue > max(10, live.scheduled // 20):
        yield Finding(
            check="scrub-backlog", severity=Severity.WARNING,
            what=f"{live.overdue} of {live.scheduled} shards are overdue for verification",
            advice="raise scrub.bandwidth or scrub.share, or scrub.interval_days",
        )  # fmt: skip
    for origin in live.open_breakers:
        yield Finding(
            check="origin-failing", severity=Severity.WARNING, path=origin,
            what=f"{origin} fails and is left alone for a while",
            advice="see whether it can be reached from here; it is tried again by itself",
        )  # fmt: skip


def _data(shard: ShardFacts) -> Iterator[Finding]:
    data, row = shard.data, shard.row
    if data is None or data.error == "timeout":
        return
    if data.error == "ENOENT":
        spare = f"; {len(row.replicas)} replicas are known" if row.replicas else ""
        yield Finding(
            check="data-gone", severity=Severity.ERROR, key=row.key, path=shown(row.url),
            what=f"the data of shard {row.key!r} is not at {shown(row.url)}{spare}",
            advice="put it back, or mount its disk; or `carfs dagstore destroy-shard`",
        )  # fmt: skip
    elif data.error:
        yield Finding(
            check="data-unreachable", severity=Severity.ERROR, key=row.key, path=shown(row.url),
            what=f"the data of shard {row.key!r} at {shown(row.url)} cannot be looked at: {data.error}",
            advice="see that the user of the agent may read it",
        )  # fmt: skip
    elif row.index is not None and row.state in _INDEXED and (changed := _difference(shard, data)):
        yield Finding(
            check="data-changed", severity=Severity.WARNING, key=row.key, path=shown(row.url),
            what=f"the data of shard {row.key!r} is not what was indexed: {changed}",
            advice="it is indexed anew when it is next used; if nobody was to write to it, find out who did",
        )  # fmt: skip


def _difference(shard: ShardFacts, data: FileFacts) -> str:
    assert shard.row.index is not None
    due = shard.row.index.fingerprint
    pairs = [("size", due.size, data.size)]
    if due.inode:
        pairs += [("mtime_ns", due.mtime_ns, data.mtime_ns), ("inode", due.inode, data.inode)]
    return ", ".join(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)


def _index(shard: ShardFacts) -> Iterator[Finding]:
    row, index = shard.row, shard.index
    if index is None or row.index is None:
        return
    problem = shard.index_problem
    if index.error:
        problem = "it is missing" if index.error == "ENOENT" else f"it cannot be looked at: {index.error}"
    elif index.size != row.index.size:
        problem = f"it has {index.size} bytes, {row.index.size} are due"
    if problem:
        yield Finding(
            check="index-damaged", severity=Severity.ERROR, key=row.key, path=row.index.name,
            corrupt=True, fixable=True,
            what=f"the index of shard {row.key!r} cannot be used: {problem}",
            advice="--fix has it made anew; so does the next start of the agent",
        )  # fmt: skip


def _errors(shard: ShardFacts) -> Iterator[Finding]:
    row = shard.row
    if row.state is not ShardState.ERRORED:
        return
    is_stuck = row.attempts >= STUCK_ATTEMPTS
    is_corrupt = row.error_class is ErrorClass.CORRUPT
    tried = f", tried {row.attempts} times" if row.attempts > 1 else ""
    yield Finding(
        check="errored-stuck" if is_stuck else "errored", severity=Severity.ERROR, key=row.key, corrupt=is_corrupt,
        fixable=not is_corrupt,
        what=f"shard {row.key!r} is errored ({row.error_class or 'bug'}{tried}): {row.error}",
        advice=f"mend what it says, then `carfs dagstore recover-shard {row.key}`",
    )  # fmt: skip


def _verification(shard: ShardFacts, facts: Facts) -> Iterator[Finding]:
    row, scrub = shard.row, shard.scrub
    if scrub.bad:
        first = scrub.bad[0]
        yield Finding(
            check="quarantine", severity=Severity.ERROR, key=row.key, corrupt=True, path=shown(row.url),
            what=f"{_blocks(len(scrub.bad))} of shard {row.key!r} cannot be read, the first at offset {first.offset}: "
                 f"{first.cid or first.multihash}",
            advice="register a replica and verify again, or restore the data; all other blocks can be read",
        )  # fmt: skip
    repaired = len(scrub.quarantined) - len(scrub.bad)
    if repaired:
        yield Finding(
            check="repaired", severity=Severity.NOTE, key=row.key, path=shown(row.url),
            what=f"of shard {row.key!r}, {_blocks(repaired)} bad where the data lies and read from a repair",
            advice="its disk may be failing: replace the data by a good copy when you can",
        )  # fmt: skip
    if scrub.home:
        yield Finding(
            check="stand-in", severity=Severity.WARNING, key=row.key, path=shown(scrub.home),
            what=f"shard {row.key!r} is read from its replica {shown(row.url)}, since {shown(scrub.home)} is not there",
            advice="bring the first one back; it takes over again by itself",
        )  # fmt: skip
    since = max([row.registered, *scrub.verified.values()], key=_seconds)
    late_s = facts.now_s - _seconds(since)
    if facts.scrub_interval_s and row.state in _INDEXED and late_s > 2 * facts.scrub_interval_s:
        yield Finding(
            check="unverified", severity=Severity.NOTE, key=row.key,
            what=f"shard {row.key!r} was last verified, or registered, {late_s / 86400:.0f} days ago ({since})",
            advice=f"carfs dagstore verify {row.key}",
        )  # fmt: skip


def _blocks(count: int) -> str:
    return "1 block" if count == 1 else f"{count} blocks"


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
