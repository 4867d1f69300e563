# Only what overlay/ uses of htcondor2 25.14.1.
from enum import IntEnum, IntFlag

import classad2

class HTCondorException(Exception): ...

class AdType(IntEnum):
    Startd = ...
    Schedd = ...
    Collector = ...
    Any = ...

class QueryOpt(IntFlag):
    Default = 0x00
    AutoCluster = 0x01
    GroupBy = 0x02
    DefaultMyJobsOnly = 0x04
    SummaryOnly = 0x08
    IncludeClusterAd = 0x10

class Collector:
    def __init__(self, pool: str | None = ...) -> None: ...
    def query(
        self,
        ad_type: AdType = ...,
        constraint: str | None = ...,
        projection: list[str] | None = ...,
    ) -> list[classad2.ClassAd]: ...

class Schedd:
    def __init__(self, location: classad2.ClassAd | None = ...) -> None: ...
    def query(
        self,
        constraint: str = ...,
        projection: list[str] = ...,
        callback: None = ...,
        limit: int = ...,
        opts: QueryOpt = ...,
    ) -> list[classad2.ClassAd]: ...
    def history(
        self,
        constraint: str | None = ...,
        projection: list[str] = ...,
        match: int = ...,
        since: str | None = ...,
    ) -> list[classad2.ClassAd]: ...
    def jobEpochHistory(
        self,
        constraint: str | None = ...,
        projection: list[str] = ...,
        match: int = ...,
        since: str | None = ...,
        *,
        ad_type: str | list[str] | None = ...,
    ) -> list[classad2.ClassAd]: ...

    def submit(self, description: Submit, count: int = ..., spool: bool = ...) -> SubmitResult: ...
    def spool(self, result: SubmitResult) -> None: ...
    def edit(self, job_spec: str, attr: str, value: str) -> int: ...
    def act(self, action: JobAction, job_spec: str, reason: str | None = ...) -> classad2.ClassAd: ...

class JobAction(IntEnum):
    Remove = 3

class Submit:
    def __init__(self, input: dict[str, str]) -> None: ...

class SubmitResult:
    def cluster(self) -> int: ...

def version() -> str: ...
