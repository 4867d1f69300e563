"""The tool that drains pilots, out of the bundle that they get."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from config.model import Config
from factory.errors import DrainUnavailable
from overlay.drain import DrainClient

TOOL = "bin/condor_drain"
ADMIN_TOKENS = "admin.d"
"""Below ``pool.secrets_dir``: the token for ADMINISTRATOR at the collector, and no other."""
_UNPACKED = (TOOL, "real/condor_drain")


@contextmanager
def drain_client(config: Config) -> Iterator[DrainClient]:
    """
    The tool, unpacked for this one use, and the token.

    :raises DrainUnavailable: there is no token, or the bundle has no such tool; with the remedy.
    """
    tokens = config.pool.secrets_dir / ADMIN_TOKENS
    if not tokens.is_dir() or not any(tokens.iterdir()):
        raise DrainUnavailable(
            problem=f"no token in {tokens}",
            remedy="mint one for factory-admin on the central manager (docs/operators.md, 'Draining a pilot')",
        )
    with tempfile.TemporaryDirectory(prefix="aerotow-drain-") as directory:
        tool = _unpack(config.bundle.path, Path(directory))
        yield DrainClient(
            tool=tool,
            collector=config.pool.collector,
            tokens_dir=tokens,
            timeout_s=config.factory.query_timeout.total_seconds(),
        )


def _unpack(bundle: Path, directory: Path) -> Path:
    """The tool with the libraries of the bundle, in a directory of ours."""
    try:
        with tarfile.open(bundle) as tar:
            for member in tar:
                place = PurePosixPath(*PurePosixPath(member.name).parts[1:])
                content = tar.extractfile(member) if member.isfile() and _is_wanted(place) else None
                if content is None:
                    continue
                path = directory / place
                path.parent.mkdir(mode=0o700, exist_ok=True)
                with path.open("xb") as file:
                    shutil.copyfileobj(content, file)
                path.chmod(0o700)
    except (OSError, tarfile.TarError) as error:
        raise DrainUnavailable(problem=f"{bundle}: {error}", remedy="see 'aerotow bundle verify'") from error
    tool = directory / TOOL
    if not tool.is_file():
        raise DrainUnavailable(
            problem=f"{bundle} has no {TOOL}", remedy="build the bundle anew with this release ('aerotow bundle build')"
        )
    return tool


def _is_wanted(place: PurePosixPath) -> bool:
    """The tool and libraries; nothing deeper than one directory, so nothing leaves ours."""
    in_lib = len(place.parts) == 2 and place.parts[0] == "lib" and ".." not in place.parts
    return in_lib or str(place) in _UNPACKED
