"""Slurm's commands as scripts that say what a test wants, run by our real scripts under a real sh."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from factory.sites.scripts import parse_answer
from factory.sites.shell import LocalShell, Outcome, Script, ShellResult
from factory.sites.slurm import SlurmSettings, SlurmSite

COMMANDS = ("squeue", "sacct", "sbatch", "scancel")
STUB = """#!/bin/sh
if [ "$1" = --help ]; then cat '{base}/{name}.help' 2>/dev/null; exit 0; fi
{{ for arg; do printf '%s\\0' "$arg"; done; printf '\\n'; }} >>'{base}/{name}.calls'
env >'{base}/{name}.env'
[ ! -f '{base}/{name}.sh' ] || . '{base}/{name}.sh'
cat '{base}/{name}.err' >&2
sed "s/NONCE/$(sed -n 1p '{base}/nonce')/g" '{base}/{name}.out'
exit "$(cat '{base}/{name}.status')"
"""


@dataclass
class Stubs:
    """A directory of commands, each with output, words and status of its own."""

    base: Path
    home: Path

    @classmethod
    def make(cls, base: Path) -> Stubs:
        stubs = cls(base=base, home=base / "home")
        stubs.home.mkdir()
        (base / "bin").mkdir()
        (base / "nonce").write_text("")
        for name in COMMANDS:
            command = base / "bin" / name
            command.write_text(STUB.format(base=base, name=name))
            command.chmod(0o755)
            stubs.says(name)
        stubs.says("sbatch", "7\n")
        return stubs

    def says(self, name: str, out: str = "", err: str = "", status: int = 0, *, first: str = "") -> None:
        """What a command prints and its status; NONCE in it becomes the nonce. ``first`` is sh that it runs before."""
        (self.base / f"{name}.out").write_text(out)
        (self.base / f"{name}.err").write_text(err)
        (self.base / f"{name}.status").write_text(str(status))
        (self.base / f"{name}.sh").write_text(first)

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of every call of a command."""
        path = self.base / f"{name}.calls"
        if not path.exists():
            return []
        return [line.split("\0")[:-1] for line in path.read_text().split("\0\n")[:-1] for line in [line + "\0"]]

    def spool(self, pilot_id: str, instance: str = "aero") -> Path:
        return self.home / ".aerotow" / instance / "pilots" / pilot_id


@dataclass
class CountingShell:
    """A shell that counts its commands, and can spoil what comes back or pretend a failure."""

    stubs: Stubs
    inner: LocalShell = field(default_factory=LocalShell)
    scripts: list[Script] = field(default_factory=list)
    fail: dict[int, Outcome] = field(default_factory=dict)
    """Number of the command to how it fails, without running."""
    cut: int | None = None
    connection: int = 1

    def run(self, script: Script) -> ShellResult:
        self.scripts.append(script)
        (self.stubs.base / "nonce").write_text(script.data.decode(errors="replace").split("\n")[0])
        outcome = self.fail.get(len(self.scripts))
        if outcome is not None:
            return ShellResult(outcome=outcome, stderr=b"ssh: connect to host login port 22: Connection refused\n")
        result = self.inner.run(script)
        if self.cut is not None:
            return ShellResult(outcome=result.outcome, stdout=result.stdout[: self.cut], status=result.status)
        return result

    def close(self) -> None:
        pass


def make_site(stubs: Stubs, *, now_s: float | None = None) -> tuple[SlurmSite, CountingShell]:
    """A site behind a shell on this machine."""
    import time

    shell = CountingShell(stubs=stubs)
    bundle = stubs.base / "bundle"
    settings = SlurmSettings(
        site="alpha", instance="aero", bundle_path=bundle, bundle_sha256="0" * 64, command_timeout_s=20
    )
    clock = time.time if now_s is None else lambda: now_s
    return SlurmSite(settings, shell, clock=clock, nonce=lambda: secrets.token_hex(8)), shell


__all__ = ["CountingShell", "Stubs", "make_site", "parse_answer"]
