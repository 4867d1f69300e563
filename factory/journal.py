"""
Write down what a cycle saw, by which policy it decided, and what; and read it back to the same values.

One codec for the database's journal and for files: JSON, read by the types of the values themselves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from accounting.model import CycleRecord, Packed
from factory.errors import RecordUnreadable
from factory.model import Observation, Plan, Policy
from factory.parts import pack, unpack

FORMAT = 2
"""Of packed records and of exported files. 1: two whole texts without the policy, up to 0.1."""

_OBSERVATION: TypeAdapter[Observation] = TypeAdapter(Observation)
_PLAN: TypeAdapter[Plan] = TypeAdapter(Plan)
_POLICY: TypeAdapter[Policy] = TypeAdapter(Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One recorded cycle, and the equal ones after it; times are epoch seconds."""

    first_s: float
    last_s: float
    """Equal cycles in a row are one: the observation is of the first, and holds until then."""
    observation: Observation
    plan: Plan
    policy: Policy | None = None
    """The rules that it was decided by; None in records of format 1, which can be shown and not re-planned."""
    count: int = 1


def observation_json(observation: Observation) -> str:
    """The observation alone as JSON text."""
    return _OBSERVATION.dump_json(observation).decode()


def read_observation(text: str) -> Observation:
    """The observation that :func:`observation_json` wrote; ValueError when it is none."""
    return _OBSERVATION.validate_json(text)


def packed(observation: Observation, policy: Policy, plan: Plan) -> Packed:
    """A decision as the journal keeps it."""
    return pack(_tree(observation, policy, plan))


def read_record(record: CycleRecord) -> Recorded:
    """
    A decision from the journal.

    :raises RecordUnreadable: it was written by a version whose records this one cannot read, or is damaged.
    """
    what = f"the record of cycle {record.cycle}"
    if record.format == 1:
        try:
            texts = {"observation": record.root, "plan": record.parts["plan"]}
            trees = {key: json.loads(text.decode("utf-8", "surrogatepass")) for key, text in texts.items()}
        except ValueError as error:
            raise RecordUnreadable(what=what, problem=f"it is damaged: {error}") from error
    elif record.format == FORMAT:
        try:
            trees = unpack(record.root, record.parts)
        except (ValueError, KeyError, StopIteration, TypeError) as error:
            raise RecordUnreadable(what=what, problem=f"it is damaged: {error}") from error
    else:
        raise RecordUnreadable(what=what, problem=f"it has format {record.format}, and this aerotow knows 1 and 2")
    return _recorded(trees, what=what, first_s=record.first_s, last_s=record.last_s, count=record.count)


def to_file(recorded: Recorded) -> str:
    """
    A recorded cycle as the text of a file.

    :raises RecordUnreadable: it holds no policy, so nobody could re-plan it.
    """
    if recorded.policy is None:
        raise RecordUnreadable(what=f"the record of cycle {recorded.plan.cycle}", problem="it holds no policy")
    head = {"format": FORMAT, "first_s": recorded.first_s, "last_s": recorded.last_s, "count": recorded.count}
    return json.dumps(head | _tree(recorded.observation, recorded.policy, recorded.plan), indent=1) + "\n"


def from_file(text: str, *, name: str) -> Recorded:
    """
    A recorded cycle from the text of a file that :func:`to_file` made.

    :raises RecordUnreadable: it is none.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordUnreadable(what=name, problem=f"it is no JSON: {error}") from error
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        found = tree.get("format") if isinstance(tree, dict) else None
        raise RecordUnreadable(what=name, problem=f"its key 'format' is {found}, and this aerotow reads {FORMAT}")
    first_s, last_s, count = tree.get("first_s"), tree.get("last_s"), tree.get("count", 1)
    if not isinstance(first_s, int | float) or not isinstance(last_s, int | float) or not isinstance(count, int):
        raise RecordUnreadable(what=name, problem="its keys 'first_s', 'last_s' and 'count' are no numbers")
    return _recorded(tree, what=name, first_s=first_s, last_s=last_s, count=count)


def _tree(observation: Observation, policy: Policy, plan: Plan) -> dict[str, Any]:
    return {
        "observation": _OBSERVATION.dump_python(observation, mode="json"),
        "policy": _POLICY.dump_python(policy, mode="json"),
        "plan": _PLAN.dump_python(plan, mode="json"),
    }


def _recorded(trees: dict[str, Any], *, what: str, first_s: float, last_s: float, count: int) -> Recorded:
    """The values of the trees, checked by their types."""
    try:
        policy = trees.get("policy")
        return Recorded(
            first_s=first_s,
            last_s=last_s,
            count=count,
            observation=_OBSERVATION.validate_python(trees.get("observation")),
            plan=_PLAN.validate_python(trees.get("plan")),
            policy=None if policy is None else _POLICY.validate_python(policy),
        )
    except ValueError as error:
        first = next(iter(str(error).splitlines()[1:2]), "")
        raise RecordUnreadable(
            what=what, problem=f"it was written by another version of aerotow (first difference: {first})"
        ) from error
