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


@dataclass(slots=True)
class _Vo:
    share: VoShare
    projects: dict[str, _Project] = field(default_factory=dict)
    served: float = 0.0
    """Cores that it has or was given, for the whole of the time that pilots are counted on."""

    def rank(self) -> tuple[bool, float, str]:
        """The least comes first."""
        return self.served >= self.share.guaranteed_cores, self.served / self.share.weight, self.share.vo


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
        self._quantum = quantum
        for bucket in buckets:
            self._project(bucket.group).queue.append((bucket, bucket.jobs))
        for vo in self._vos.values():
            for project in vo.projects.values():
                project.queue.reverse()
        for group, cores in sorted(running.items()):
            project = self._project(group)
            project.served += cores
            self._vo(group).served += cores

    def __iter__(self) -> Iterator[Turn]:
        """Turn after turn, until every job has had one; tell :meth:`served` in between."""
        waiting = [vo for _, vo in sorted(self._vos.items()) if any(p.queue for p in vo.projects.values())]
        while waiting:
            vo = min(waiting, key=_Vo.rank)
            project = min((p for p in vo.projects.values() if p.queue), key=lambda p: (p.served / p.weight, p.name))
            alone = len(waiting) == 1 and sum(bool(p.queue) for p in vo.projects.values()) == 1
            yield self._turn(vo, project, alone=alone)
            if not any(p.queue for p in vo.projects.values()):
                waiting.remove(vo)

    def served(self, bucket: Bucket, jobs: int) -> None:
        """So many of the jobs were given to pilots."""
        cores = jobs * self._cores(bucket)
        self._project(bucket.group).served += cores
        self._vo(bucket.group).served += cores

    def drop(self, bucket: Bucket) -> int:
        """Take back what is left of a kind that nobody takes any more: how many jobs that is."""
        queue = self._project(bucket.group).queue
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

    def _vo(self, group: str) -> _Vo:
        name = self._vo_of.get(group.lower(), NOBODY)
        if name not in self._vos:
            self._vos[name] = _Vo(self._shares.get(name) or VoShare(vo=name))
        return self._vos[name]

    def _project(self, group: str) -> _Project:
        vo, name = self._vo(group), group.lower()
        if name not in vo.projects:
            weight = dict(vo.share.projects).get(name, 1.0)
            vo.projects[name] = _Project(name, weight)
        return vo.projects[name]


_ROUNDING = 1e-9
"""What sums of fractions may be short of a whole job."""
