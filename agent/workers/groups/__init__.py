"""A cgroup for each worker process, so that one that outgrows its reservation dies alone."""

from agent.workers.groups.group import Group, NoGroup
from agent.workers.groups.opening import Groups, open_groups

__all__ = ["Group", "Groups", "NoGroup", "open_groups"]
