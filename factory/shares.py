"""
Whose jobs come next: virtual organisations and their projects by deficit.

Each turn goes to the organisation that has been served least for its weight, and within it to such a project; one that
has less than it is guaranteed comes before all others. So nobody starves, and where the caps bind the pilots are
divided by the weights. The turns depend on the demand, the policy and what runs alone, not on which pilots there are:
the next cycle takes the same turns, or it would pack the jobs otherwise and ask for more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Generic, Protocol, TypeVar

from factory.model import Policy, VoShare
from overlay.model import Bucket

NOBODY = ""
"""The organisation of jobs whose project is in none."""


@dataclass(slots=True)
class _Project:
    name: str
    weight: float
    queue: list[tuple[Bucket, int]] = field(default_factory=list)
    """Kinds of jobs with how many are left, the next one last."""
    served: float = 0.0

    def rank(self) -> tuple[float, str]:
        """The least comes first."""
        return self.served / self.weight, self.name


@dataclass(slots=True)
class _Vo:
    share: VoShare
    projects: dict[str, _Project] = field(default_factory=dict)
    served: float = 0.0
    """Cores that it has or was given, for the whole of the time that pilots are counted on."""
    waiting: _Line[_Project] = field(default_factory=lambda: _Line(()))

    def rank(self) -> tuple[bool, float, str]:
        """The least comes first."""
        return self.served >= self.share.guaranteed_cores, self.served / self.share.weight, self.share.vo


class _Ranked(Protocol):
    def rank(self) -> tuple[float | str, ...]: ...


_R = TypeVar("_R", bound=_Ranked)


class _Line(Generic[_R]):
    """
    Those who have jobs, the one of least rank first.

    Ranks only grow, since nothing that was served is taken back, so it is enough to look at the foremost: whoever has
    grown meanwhile goes back to where he belongs. No two ranks are the same.
    """

    def __init__(self, members: Iterable[_R]) -> None:
        self._heap = [(one.rank(), one) for one in members]
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def first(self) -> _R:
        """Whose turn it is."""
        if len(self._heap) == 1:
            return self._heap[0][1]
        while True:
            known, one = self._heap[0]
            rank = one.rank()
            if rank == known:
                return one
            heapreplace(self._heap, (rank, one))

    def leave(self, one: _R) -> None:
        """The one that came first last time has no more jobs."""
        assert self._heap[0][1] is one
        heappop(self._heap)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Some jobs of one kind that come next."""

    bucket: Bucket
    jobs: int
    over: str = ""
    """Why they get nothing: their organisation has all that it may have."""


class Turns:
    """The order in which jobs are given to pilots."""

    def __init__(self, buckets: Iterable[Bucket], policy: Policy, running: Mapping[str, int], *, quantum: int) -> None:
        """
        ``buckets`` come in the order in which a project's own shall come; ``running`` are cores by project.

        A turn is worth ``quantum`` cores: the largest pilot's, or turns of several projects would never fill it.
        """
        self._policy = policy
        self._vo_of = {project: vos[0] for project, vos in policy.project_vos if vos}
        self._shares = {share.vo: share for share in policy.shares}
        self._vos: dict[str, _Vo] = {}
        self._known: dict[str, tuple[_Vo, _Project]] = {}
        self._quantum = quantum
        for bucket in buckets:
            self._whose(bucket.group)[1].queue.append((bucket, bucket.jobs))
        for vo in self._vos.values():
            for project in vo.projects.values():
                project.queue.reverse()
        for group, cores in sorted(running.items()):
            vo, project = self._whose(group)
            project.served += cores
            vo.served += cores

    def __iter__(self) -> Iterator[Turn]:
        """Turn after turn, until every job has had one; tell :meth:`served` in between."""
        for vo in self._vos.values():
            vo.waiting = _Line(project for project in vo.projects.values() if project.queue)
        waiting = _Line(vo for vo in self._vos.values() if vo.waiting)
        while waiting:
            vo = waiting.first()
            project = vo.waiting.first()
            yield self._turn(vo, project, alone=len(waiting) == len(vo.waiting) == 1)
            if not project.queue:
                vo.waiting.leave(project)
                if not vo.waiting:
                    waiting.leave(vo)

    def served(self, bucket: Bucket, jobs: int) -> None:
        """So many of the jobs were given to pilots."""
        cores = jobs * self._cores(bucket)
        vo, project = self._whose(bucket.group)
        project.served += cores
        vo.served += cores

    def drop(self, bucket: Bucket) -> int:
        """Take back what is left of the kind whose turn it is, as nobody takes it any more: how many jobs that is."""
        queue = self._whose(bucket.group)[1].queue
        return queue.pop()[1] if queue and queue[-1][0] is bucket else 0

    def _turn(self, vo: _Vo, project: _Project, *, alone: bool) -> Turn:
        bucket, left = project.queue.pop()
        cores = self._cores(bucket)
        limit = vo.share.maximum_cores
        jobs = left
        if limit is not None:
            may = int((limit - vo.served) / cores + _ROUNDING)
            if may <= 0:
                text = f"{vo.share.vo or 'jobs of no organisation'} may have {limit} cores and has {vo.served:.0f}"
                return Turn(bucket=bucket, jobs=left, over=text)
            jobs = min(jobs, may)
        if not alone:
            jobs = min(jobs, max(1, int(self._quantum / cores)))
        if jobs < left:
            project.queue.append((bucket, left - jobs))
        return Turn(bucket=bucket, jobs=jobs)

    def _cores(self, bucket: Bucket) -> float:
        """Cores of one job, less where it is known to end before the time that pilots are counted on."""
        cores = max(1, bucket.cores)
        time_s = self._policy.drain_target_s
        expected_s = bucket.expected_s
        if expected_s is None or expected_s >= time_s:
            return cores
        return cores * max(1, expected_s) / time_s

    def _whose(self, group: str) -> tuple[_Vo, _Project]:
        """A group's organisation and project."""
        known = self._known.get(group)
        if known is None:
            name = group.lower()
            vo_name = self._vo_of.get(name, NOBODY)
            vo = self._vos.get(vo_name)
            if vo is None:
                vo = self._vos[vo_name] = _Vo(self._shares.get(vo_name) or VoShare(vo=vo_name))
            project = vo.projects.get(name)
            if project is None:
                project = vo.projects[name] = _Project(name, dict(vo.share.projects).get(name, 1.0))
            known = self._known[group] = vo, project
        return known


_ROUNDING = 1e-9
"""What sums of fractions may be short of a whole job."""
