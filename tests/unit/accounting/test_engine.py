"""The database file: durable, migrated once, and one clear error with a remedy for whatever is wrong with it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from ledger_samples import NOW, commit, intent
from record_samples import MIDNIGHT, epoch, seen
from sqlalchemy import Engine, text

from accounting.engine import NEWEST, open_database, reading, writing
from accounting.errors import LedgerUnavailable, SchemaTooNew
from accounting.ingest import Usage
from accounting.ledger import Ledger
from accounting.model import JournalBounds
from accounting.orm import Base
from accounting.schema import alembic_config
from accounting.usage import usage

HEAD = ScriptDirectory.from_config(alembic_config()).get_current_head()

needs_a_user_to_drop_to = pytest.mark.skipif(os.geteuid() != 0, reason="drops from root to nobody")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "aerotow.db"


def opened(path: Path) -> Engine:
    return open_database(f"sqlite:///{path}")


def whole(path: Path) -> bool:
    """Whether SQLite finds no fault in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return list(connection.execute("PRAGMA integrity_check")) == [("ok",)]


# Mutation that turns it red: change a column in orm.py without a migration.
def test_migrations_make_the_schema_that_the_code_expects(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


# Mutation that turns it red: leave out any of the pragmas.
def test_sqlite_is_durable_strict_and_lets_readers_be(path: Path) -> None:
    with opened(path).connect() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
        assert values == ["wal", 2, 1]
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 15_000


# Mutation that turns it red: migrate in a transaction without the write lock.
def test_several_that_open_an_empty_database_at_once_migrate_it_once(url: str) -> None:
    code = "import sys; from accounting.engine import open_database; open_database(sys.argv[1])"
    openers = [subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        engines = list(pool.map(open_database, [url] * 3))
    assert [(opener.communicate()[1], opener.returncode) for opener in openers] == [(b"", 0)] * 3
    for engine in engines:
        with engine.connect() as connection:
            assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [(HEAD,)]
        engine.dispose()


def test_newer_schema_is_refused_and_left_alone(url: str) -> None:
    engine = open_database(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(SchemaTooNew, match=r"schema is 9999, and this aerotow knows up to \d+; run the aerotow that"):
        open_database(url)


# Mutation that turns it red: open_database begins with the migration's transaction (a write lock) always.
def test_reader_opens_and_reads_while_a_writer_writes(path: Path) -> None:
    engine = opened(path)
    with writing(engine) as session:
        session.execute(text("INSERT INTO remembered_sites VALUES ('alpha', '{}')"))
        started = time.monotonic()
        assert Ledger(opened(path)).remembered_sites() == {}
        assert time.monotonic() - started < 5
    assert Ledger(opened(path)).remembered_sites() == {"alpha": "{}"}


# Mutation that turns it red: BEGIN instead of BEGIN IMMEDIATE (the second upgrade of a read lock fails at once).
def test_two_writers_wait_for_each_other_and_lose_nothing(url: str) -> None:
    ledgers = [Ledger(open_database(url)) for _ in range(2)]

    def work(writer: int) -> None:
        for n in range(20):
            pilot = intent(100 * writer + n)
            commit(ledgers[writer], pilot, at_s=NOW + n, bounds=JournalBounds(entries=1000, size_bytes=2**30))
            ledgers[writer].settle_submits(((pilot.pilot_id, "submitted", str(n)),), NOW + n)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))

    assert len(ledgers[0].open_pilots("demo")) == 40
    assert sum(span.count for span in ledgers[0].journal_list("demo", 1000)) == 40


KILLED = """
import sys
sys.path[:0] = [sys.argv[2]]
from accounting.engine import open_database
from accounting.ledger import Ledger
from accounting.ingest import Usage
from accounting.model import JournalBounds
from ledger_samples import NOW, commit, intent
from record_samples import MIDNIGHT, epoch, seen
engine = open_database(sys.argv[1])
ledger, taken = Ledger(engine), Usage(engine)
first = len(ledger.pilots("demo", limit=10**6))
bounds = JournalBounds(entries=10**6, size_bytes=2**30)
print("ready", flush=True)
for n in range(first, first + 10**5):
    commit(ledger, *(intent(10 * n + k) for k in range(10)), at_s=NOW + n, bounds=bounds)
    taken.ingest(seen(*(epoch(10 * n + k, end_s=MIDNIGHT + 2000 + n) for k in range(10)), taken_s=MIDNIGHT + 10**6), 0)
    print(n, flush=True)
"""


# Mutation that turns it red: commit the intents and the journal, or the attempts and the mark, apart.
def test_killed_at_any_time_it_holds_whole_transactions_and_every_committed_one(path: Path) -> None:
    here = str(Path(__file__).parent)
    for round_ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, f"sqlite:///{path}", here], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.037 * round_)
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.communicate()[0].splitlines() if line.strip().isdigit()]
        engine = opened(path)
        ledger = Ledger(engine)
        pilots = {pilot.pilot_id for pilot in ledger.pilots("demo", limit=10**6)}
        decisions = sum(span.count for span in ledger.journal_list("demo", 10**6))
        mark_s = max((state.mark_s for state in Usage(engine).stream_states()), default=None)
        attempts = sum(row.attempts for row in usage(engine))
        with reading(engine) as session:
            newest_s = session.execute(text("SELECT max(end_s) FROM attempts")).scalar()
        engine.dispose()

        assert len(pilots) == 10 * decisions
        assert attempts % 10 == 0
        assert all(intent(10 * said_n + k).pilot_id in pilots for said_n in said for k in range(10))
        assert mark_s == newest_s
    assert whole(path)


# Mutation that turns it red: catch nothing in `writing`.
def test_full_database_is_one_clear_error_and_goes_on_when_there_is_room(path: Path) -> None:
    engine = opened(path)
    ledger = Ledger(engine)
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        assert isinstance(pages, int)
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
        connection.rollback()

    with pytest.raises(LedgerUnavailable, match=r"the disk is full .*; make room"):
        commit(ledger, *(intent(n) for n in range(1000)))
    assert ledger.open_pilots("demo") == ()
    assert ledger.journal_latest("demo") is None
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    commit(ledger, *(intent(n) for n in range(1000)))
    assert len(ledger.open_pilots("demo")) == 1000


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096) > 0:
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_full_disk_is_one_clear_error_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False).returncode != 0:
        pytest.skip("no right to mount")
    try:
        engine = opened(disk / "aerotow.db")
        ledger = Ledger(engine)
        commit(ledger, intent(1))
        ballast = disk / "ballast"
        fill(ballast)
        with pytest.raises(LedgerUnavailable, match=r"make room|is full"):
            commit(ledger, *(intent(n) for n in range(2, 2000)))
        with pytest.raises(LedgerUnavailable):
            Usage(engine).ingest(seen(*(epoch(n) for n in range(5000))), MIDNIGHT)
        assert [pilot.pilot_id for pilot in ledger.open_pilots("demo")] == [intent(1).pilot_id]
        assert Usage(engine).mark("ap1") == 0
        ballast.unlink()
        commit(ledger, intent(2))
        assert len(ledger.open_pilots("demo")) == 2
        engine.dispose()
        assert whole(disk / "aerotow.db")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_file_size_limit_is_an_error_too(path: Path) -> None:
    opened(path).dispose()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so the write itself fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(LedgerUnavailable, match="disk"):
            commit(Ledger(opened(path)), *(intent(n) for n in range(5000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert whole(path)


def in_child_as_nobody(code: str, path: Path) -> str:
    """What a user without rights on the file gets."""
    done = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{path}", f"sqlite:///{path.parent / 'other.db'}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    return done.stdout + done.stderr


WRITE_AS_NOBODY = """
import os, sys
from accounting.engine import open_database
from accounting.schema import alembic_config
from accounting.errors import LedgerUnavailable
from accounting.ledger import Ledger
# Load everything first: nobody may not be able to read this Python.
Ledger(open_database(sys.argv[2])).remember_site("alpha", "{}")
os.setgid(65534)
os.setuid(65534)
try:
    Ledger(open_database(sys.argv[1])).remember_site("alpha", "{}")
except LedgerUnavailable as error:
    print(error)
"""


@needs_a_user_to_drop_to
def test_database_that_may_not_be_written_says_so(path: Path) -> None:
    opened(path).dispose()
    path.chmod(0o444)
    for directory in (path.parent, *path.parent.parents[:2]):
        directory.chmod(0o755)

    assert "let the user that runs aerotow write" in in_child_as_nobody(WRITE_AS_NOBODY, path)


# Mutation that turns it red: a writer that fails for ever, or with SQLAlchemy's error.
def test_database_that_is_locked_says_so(path: Path) -> None:
    engine = opened(path)
    with engine.connect() as connection:
        # The pool hands this connection out again.
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")
        connection.rollback()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    with pytest.raises(LedgerUnavailable, match=r"another process holds its lock .*fuser"):
        Ledger(engine).remember_site("alpha", "{}")
    blocker.execute("ROLLBACK")
    Ledger(engine).remember_site("alpha", "{}")


def test_path_that_cannot_be_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match=r"nowhere/aerotow.db: it cannot be opened .*make its directory"):
        opened(tmp_path / "nowhere" / "aerotow.db")


def test_file_that_is_no_database_is_left_alone(path: Path) -> None:
    path.write_text("something of someone else's, long enough to be looked at " * 20)
    with pytest.raises(LedgerUnavailable, match="no SQLite database"):
        opened(path)
    assert path.read_text().startswith("something of someone else's")


# Mutation that turns it red: put the URL or the driver's text of it into the error.
@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://eva:hunter2@127.0.0.1:1/aerotow",
        "postgresql+nodriver://eva:hunter2@127.0.0.1/aerotow",
        "hunter2",
    ],
)
def test_database_that_does_not_answer_is_an_error_without_its_password(url: str) -> None:
    with pytest.raises(LedgerUnavailable, match=r"instance\.database|installed|server") as raised:
        open_database(url)
    assert "hunter2" not in str(raised.value)


def test_reader_cannot_write_on_a_server(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no read-only transactions")
    with pytest.raises(LedgerUnavailable), reading(engine) as session:
        session.execute(text("INSERT INTO remembered_sites VALUES ('alpha', '{}')"))
    Ledger(engine).remember_site("alpha", "{}")


def test_the_newest_migration_by_name_is_the_head() -> None:
    # Mutation: a migration file whose number is not its revision.
    assert HEAD == NEWEST
