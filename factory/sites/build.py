"""Make a site of what the operator wrote."""

from __future__ import annotations

import secrets
import time

from config.model import Config
from factory.errors import SiteSetupError
from factory.sites.shell import LocalShell, Shell, SshShell
from factory.sites.slurm import SlurmSettings, SlurmSite


def slurm_site(name: str, config: Config) -> SlurmSite:
    """The site ``name`` of the configuration, not yet connected; sockets go below ``instance.state_dir``."""
    site = config.sites.get(name)
    if site is None:
        raise SiteSetupError(site=name, problem="not in the configuration", remedy=f"add [sites.{name}]")
    shell: Shell
    if site.login is None:
        shell = LocalShell()
    else:
        shell = SshShell(
            site=name,
            login=site.login,
            control_dir=config.instance.state_dir / "ssh",
            options=site.ssh_options,
        )
    settings = SlurmSettings(
        site=name,
        instance=config.instance.name,
        bundle_path=config.bundle.path,
        bundle_sha256=config.bundle.sha256,
        command_timeout_s=config.factory.command_timeout.total_seconds(),
    )
    return SlurmSite(settings, shell, clock=time.time, nonce=lambda: secrets.token_hex(8))
