"""Write an observation and a plan as JSON, and read them back to the same values."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import TypeAdapter

from factory.model import Observation, Plan

_OBSERVATION: TypeAdapter[Observation] = TypeAdapter(Observation)
_PLAN: TypeAdapter[Plan] = TypeAdapter(Plan)

_VOLATILE = frozenset({"cycle", "now_s", "taken_s", "last_s", "slot_seen_s", "clock_offset_s", "calls_last_minute"})
"""Keys that differ between two cycles in which nothing happened."""


def observation_json(observation: Observation) -> str:
    """The observation as JSON text."""
    return _OBSERVATION.dump_json(observation).decode()


def plan_json(plan: Plan) -> str:
    """The plan as JSON text."""
    return _PLAN.dump_json(plan).decode()


def read_observation(text: str) -> Observation:
    """The observation that :func:`observation_json` wrote; ValueError when it is none."""
    return _OBSERVATION.validate_json(text)


def read_plan(text: str) -> Plan:
    """The plan that :func:`plan_json` wrote; ValueError when it is none."""
    return _PLAN.validate_json(text)


def digest(observation: str, plan: str) -> str:
    """A name for what happened in a cycle, equal for cycles that differ in their clocks only."""
    steady = [_steady(json.loads(text)) for text in (observation, plan)]
    return hashlib.sha256(json.dumps(steady, sort_keys=True).encode()).hexdigest()


def _steady(value: Any) -> Any:
    """The value without its clocks."""
    if isinstance(value, dict):
        return {key: _steady(inner) for key, inner in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return [_steady(inner) for inner in value]
    return value
