"""The journal as stored: what entries share is there once, the oldest go first, and what is named is kept."""

from __future__ import annotations

import zlib
from random import Random

from alembic import command
from ledger_samples import commit, packed_of
from sqlalchemy import Engine, text

from accounting.engine import open_database
from accounting.journal import SEGMENTS
from accounting.ledger import Ledger
from accounting.model import CycleRecord, JournalBounds, Part
from accounting.schema import alembic_config

MIB = 2**20


def noise(seed: int, size: int) -> bytes:
    """Bytes that nothing compresses."""
    return Random(seed).randbytes(size)


def part(seed: int, size: int, *children: str) -> Part:
    return Part(data=noise(seed, size), children=children)


def at(ledger: Ledger, at_s: float) -> CycleRecord:
    found = ledger.journal_at("demo", at_s)
    assert found is not None
    return found


def test_a_shared_part_is_stored_once_and_read_with_all_below_it(ledger: Ledger) -> None:
    # Mutation: _write_parts takes nothing for present; the second entry then collides with the first.
    shared = {"a": part(1, 50_000, "b"), "b": part(2, 50_000)}
    for at_s in range(5):
        packed = packed_of(f"root {at_s}", digest=str(at_s), parts=shared | {f"own{at_s}": part(10 + at_s, 100)})
        commit(ledger, at_s=at_s, packed=packed, bounds=JournalBounds(entries=100, size_bytes=8 * MIB))
    assert ledger.journal_bytes("demo") < 110_000
    for at_s in range(5):
        record = at(ledger, at_s)
        assert f"root {at_s}".encode() == record.root
        assert {"a": noise(1, 50_000), "b": noise(2, 50_000), f"own{at_s}": noise(10 + at_s, 100)} == record.parts


def test_a_part_below_one_that_is_there_is_there_too(ledger: Ledger) -> None:
    # Mutation: _write_parts does not look at children of missing parts.
    first = {"top": part(1, 100, "low"), "low": part(2, 100)}
    second = {"other": part(3, 100, "low", "new"), "low": part(2, 100), "new": part(4, 100)}
    for at_s, parts in enumerate((first, second)):
        packed = packed_of("root", digest=str(at_s), parts=parts)
        commit(ledger, at_s=at_s, packed=packed, bounds=JournalBounds(entries=9, size_bytes=MIB))
        assert {name: one.data for name, one in parts.items()} == at(ledger, at_s).parts


def test_the_oldest_go_first_and_every_entry_that_stays_is_whole(ledger: Ledger) -> None:
    # Mutation: _segment always gives the newest segment: the bound is passed, or everything goes at once.
    # Mutation: _drop_beyond drops the parts of a segment and keeps its entries.
    bound = 64_000
    shared = {"a": part(1, 2000)}
    for at_s in range(100):
        parts = shared | {f"own{at_s}": part(10 + at_s, 1000)}
        packed = packed_of(f"root {at_s}", digest=str(at_s), parts=parts)
        commit(ledger, at_s=at_s, packed=packed, bounds=JournalBounds(entries=10**6, size_bytes=bound))
        assert ledger.journal_bytes("demo") <= bound
    kept = [span.first_s for span in ledger.journal_list("demo", 1000)]
    assert kept == [float(at_s) for at_s in range(99, 99 - len(kept), -1)]
    assert len(kept) > 30
    for at_s in kept:
        assert {"a": noise(1, 2000), f"own{int(at_s)}": noise(10 + int(at_s), 1000)} == at(ledger, at_s).parts


def test_one_entry_larger_than_the_bound_is_kept_alone(ledger: Ledger) -> None:
    # Mutation: _drop_beyond drops the newest segment too; there would be no picture of the pool at all.
    for at_s in range(3):
        packed = packed_of("root", digest=str(at_s), parts={f"own{at_s}": part(at_s, 10_000)})
        commit(ledger, at_s=at_s, packed=packed, bounds=JournalBounds(entries=9, size_bytes=SEGMENTS * 10))
    assert [2.0] == [span.first_s for span in ledger.journal_list("demo")]
    assert noise(2, 10_000) == at(ledger, 2).parts["own2"]


def test_the_bound_is_of_each_instance(ledger: Ledger) -> None:
    # Mutation: the queries in _drop_beyond without the instance.
    bounds = JournalBounds(entries=3, size_bytes=8000)
    commit(ledger, instance="other", packed=packed_of("o", digest="o", parts={"a": part(1, 900)}), bounds=bounds)
    for at_s in range(20):
        packed = packed_of("root", digest=str(at_s), parts={f"own{at_s}": part(at_s, 900)})
        commit(ledger, at_s=at_s, packed=packed, bounds=bounds)
    other = ledger.journal_latest("other")
    assert other is not None
    assert {"a": noise(1, 900)} == other.parts
    assert ledger.journal_bytes("demo") <= 8000


def test_decisions_of_the_first_schema_stay_readable(url: str) -> None:
    # Mutation: give the new column 'format' the default 2.
    engine = open_database(url)
    with engine.begin() as connection:
        config = alembic_config(connection)
        command.downgrade(config, "0001")
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO journal (instance, cycle, first_s, last_s, count, digest, observation, plan) "
                "VALUES ('demo', 'c', 1, 2, 2, 'd', :seen, :plan)"
            ),
            {"seen": zlib.compress(b"seen"), "plan": zlib.compress(b"plan")},
        )
    engine.dispose()
    ledger = Ledger(open_database(url))
    record = at(ledger, 1)
    assert (1, b"seen", {"plan": b"plan"}) == (record.format, record.root, record.parts)
    commit(ledger, at_s=5)
    assert 2 == at(ledger, 6).format


def test_an_empty_journal_takes_nothing(engine: Engine) -> None:
    assert 0 == Ledger(engine).journal_bytes("demo")
