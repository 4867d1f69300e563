"""Build the working factory from the operator's file: ledger, sites, pool and everything that a cycle needs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import structlog
from pydantic import ValidationError

from accounting.engine import open_database
from accounting.ledger import Ledger
from accounting.model import JournalBounds, PilotRecord
from config.errors import ConfigError
from config.load import difference, parse_texts, read_texts, renames
from config.model import Config
from config.model import Site as SiteConfig
from config.names import pilot_identity, pilot_key
from factory.crash import Crash, never
from factory.cycle import World
from factory.habits import Habits
from factory.loop import Clocks
from factory.matching import ObservationMatcher
from factory.policy import lifetimes_of, policy_of, vo_map_of
from factory.sites.condor import CondorSettings, CondorSite
from factory.sites.condortexts import bundle_file
from factory.sites.contract import Site
from factory.sites.meter import CallMeter
from factory.sites.pyslurmsite import PyslurmSite, worker_command
from factory.sites.restapi import RestSettings
from factory.sites.resthttp import Server
from factory.sites.shell import LocalShell, SshShell
from factory.sites.slurm import SlurmSettings, SlurmSite, bundle_name
from factory.sites.slurmrestd import SlurmrestdSite
from factory.watch import Nobody, Watcher
from glidein.epconfig import PoolFacts
from glidein.script import TOKEN, BundleRef, SiteFacts, pilot_script_text, spool_files
from overlay.client import PoolClient
from overlay.pool import HtcondorPool
from overlay.remote import Remote
from overlay.sparing import Contacts
from tokens.keys import read_key
from tokens.mint import mint
from tokens.model import PILOT_SCOPES, TokenRequest, pilot_token_lifetime

log = structlog.get_logger()

CHANGES_SHOWN = 100
"""Changed keys that the log names when a configuration is taken into force."""

SPOOL_TO_HOME = PurePosixPath("../../../..")
"""From ``~/.aerotow/<instance>/pilots/<pilot id>`` to the home directory, whose name only the site knows."""


NODE_POLICY_FILE = PurePosixPath("/etc/aerotow/site-policy.conf")
"""Where pilots of an HTCondor site look for the file of the site's admin, unless the configuration names another."""


def open_ledger(config: Config) -> Ledger:
    """The instance's ledger; a SQLite file's directory is made, 0700, where it is missing."""
    if config.instance.database is None:
        config.instance.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Ledger(open_database(config.instance.database_url))


def make_pool(config: Config, contacts: Contacts | None = None) -> HtcondorPool:
    """The HTCondor side, asked with the factory's READ tokens; ``contacts`` is what it remembers from before."""
    client = PoolClient(
        collector=config.pool.collector,
        tokens_dir=config.pool.secrets_dir / "tokens.d",
        timeout_s=config.factory.query_timeout.total_seconds(),
        busy_interval_s=config.politeness.busy_interval.total_seconds(),
        contacts=Contacts() if contacts is None else contacts,
    )
    return HtcondorPool(
        client=client,
        schedds={name: ap.schedd for name, ap in config.access_points.items()},
        ads_max_age_s=config.pool.ads_max_age.total_seconds(),
        slot_attributes=tuple(sorted({name for site in config.sites.values() for name in site.slot_attributes})),
    )


def clocks_of(config: Config) -> Clocks:
    """Pauses of the loop; the patience lies above every deadline of one round of answers."""
    factory = config.factory
    slowest_s = max(factory.command_timeout.total_seconds(), factory.query_timeout.total_seconds())
    return Clocks(
        cycle_s=factory.cycle.total_seconds(),
        usage_s=factory.usage_interval.total_seconds(),
        lease_s=factory.lease.total_seconds(),
        patience_s=slowest_s + 10,
    )


def make_site(name: str, site: SiteConfig, config: Config, *, meter: CallMeter | None = None) -> Site:
    """The adapter of one site; ``meter`` goes on counting where the site's settings change, default a new one."""
    meter = CallMeter() if meter is None else meter
    meter.limit = site.max_calls_per_minute
    state_dir = config.instance.state_dir
    if site.schedd is not None:
        return _condor_site(name, site, config, meter)
    sockets = state_dir / "ssh"
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    shell = (
        LocalShell(home=site.shared_dir)
        if site.login is None
        else SshShell(site=name, login=site.login, control_dir=sockets, options=site.ssh_options)
    )
    settings = SlurmSettings(
        site=name,
        instance=config.instance.name,
        bundle_path=config.bundle.path,
        bundle_sha256=config.bundle.sha256,
        command_timeout_s=config.factory.command_timeout.total_seconds(),
        account=site.account,
        policy_file=site.policy_file,
    )
    if site.pyslurm:
        return PyslurmSite(
            settings,
            shell,
            command=worker_command(),
            clock=time.time,
            nonce=lambda: secrets.token_hex(8),
            meter=meter,
        )
    if site.rest is None:
        return SlurmSite(settings, shell, clock=time.time, nonce=lambda: secrets.token_hex(8), meter=meter)
    assert site.token_file is not None, "the configuration has seen to it"
    rest = RestSettings(
        server=Server.at(site.rest, authority=site.ca_file, limit_bytes=site.rest_limit * 1024 * 1024),
        token_file=site.token_file,
        user=site.rest_user,
        timeout_s=settings.command_timeout_s,
    )
    return SlurmrestdSite(settings, rest, shell, clock=time.time, nonce=lambda: secrets.token_hex(8), meter=meter)


def _condor_site(name: str, site: SiteConfig, config: Config, meter: CallMeter) -> CondorSite:
    """The adapter of a site that runs HTCondor."""
    assert site.schedd is not None
    assert site.collector is not None
    assert site.token_file is not None
    work_dir = config.instance.state_dir / "condor" / name
    work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = CondorSettings(
        site=name,
        instance=config.instance.name,
        account=site.account,
        bundle_path=config.bundle.path,
        bundle_sha256=config.bundle.sha256,
        command_timeout_s=config.factory.command_timeout.total_seconds(),
    )
    remote = Remote(
        collector=site.collector,
        schedd=site.schedd,
        token_file=site.token_file,
        ca_file=site.ca_file,
        work_dir=work_dir,
    )
    return CondorSite(settings, remote, clock=time.time, meter=meter)


class Worldmaker:
    """
    Gives the world before every cycle, and looks at the configuration's files each time, those of ``sites.d`` too.

    A changed file that is good takes effect at once; a bad one is reported and the last good one stays in force. A site
    that was removed stays in the world, without a policy, until its pilots have ended: it is watched, and gets nothing.
    """

    def __init__(self, path: Path, *, ledger: Ledger, crash: Crash = never) -> None:
        self.watcher: Watcher = Nobody()
        """Told of every cycle from the next world on."""
        self._path = path
        self._ledger = ledger
        self._crash = crash
        self._texts = read_texts(path)
        self._config = parse_texts(self._texts)
        self._match = ObservationMatcher()
        self._sites: dict[str, tuple[str, Site]] = {}
        """Name to the settings that the adapter was made from, and the adapter."""
        self._meters: dict[str, CallMeter] = {}
        self._habits = Habits(ledger.usual_run_times)
        self._contacts = Contacts()
        """Where each schedd was last seen: it outlives the cycle, or a restarted collector would hide every queue."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    def __call__(self) -> World:
        """The world as of now."""
        self._reload()
        config = self._config
        policy = policy_of(config)
        factory = config.factory
        return World(
            instance=config.instance.name,
            policy=policy,
            sites=self._adapters(),
            aps=tuple(sorted(config.access_points)),
            pool=make_pool(config, self._contacts),
            match=self._match,
            render=renderer(config),
            clock=time.time,
            nonce=lambda: secrets.randbits(16),
            crash=self._crash,
            submit_patience_s=int(4 * factory.command_timeout.total_seconds()),
            journal=JournalBounds(entries=factory.journal_cycles, size_bytes=factory.journal_size * 1024 * 1024),
            habits=self._habits,
            watcher=self.watcher,
        )

    @property
    def meters(self) -> Mapping[str, CallMeter]:
        """What each site was asked by this process."""
        return self._meters

    def _meter(self, name: str) -> CallMeter:
        """The site's meter, which outlives its adapter."""
        return self._meters.setdefault(name, CallMeter())

    def close(self) -> None:
        """End all connections."""
        for _, site in self._sites.values():
            site.close()

    def _reload(self) -> None:
        """Take a changed file into force if it is good."""
        try:
            texts = read_texts(self._path)
            if texts == self._texts:
                return
            changed = parse_texts(texts)
        except ConfigError as error:
            log.error("config.not_taken", problem=str(error))
            return
        if changed.instance != self._config.instance:
            log.error("config.not_taken", problem="[instance] cannot change while the factory runs; restart it")
            return
        before, after = set(self._config.sites), set(changed.sites)
        log.warning(
            "config.taken",
            added=sorted(after - before),
            removed=sorted(before - after),
            renamed=renames(self._config, changed),
            changes=difference(self._config, changed)[:CHANGES_SHOWN],
        )
        self._texts, self._config = texts, changed

    def _adapters(self) -> Mapping[str, Site]:
        """Adapters of configured sites and of those that are only watched; connections of others are ended."""
        wanted = {name: (site.model_dump_json(), site) for name, site in self._config.sites.items()}
        remembered = dict(self._ledger.remembered_sites())
        for name, (settings, _) in wanted.items():
            if remembered.get(name) != settings:
                self._ledger.remember_site(name, settings)
        with_pilots = {pilot.offer.site for pilot in self._ledger.open_pilots(self._config.instance.name)}
        for name in sorted(set(remembered) - set(wanted)):
            if name not in with_pilots:
                self._ledger.forget_site(name)
                continue
            site = _remembered(name, remembered[name])
            if site is not None:
                wanted[name] = (remembered[name], site)
        for name in set(self._sites) - set(wanted):
            self._sites.pop(name)[1].close()
        for name, (settings, site) in wanted.items():
            key = f"{settings} {self._config.bundle.model_dump_json()}"
            if name not in self._sites or self._sites[name][0] != key:
                if name in self._sites:
                    self._sites[name][1].close()
                self._sites[name] = (key, make_site(name, site, self._config, meter=self._meter(name)))
        return {name: site for name, (_, site) in sorted(self._sites.items())}


def _remembered(name: str, settings: str) -> SiteConfig | None:
    """A removed site's last settings; None when this version cannot read them."""
    try:
        return SiteConfig.model_validate_json(settings)
    except ValidationError as error:
        log.error("site.not_watched", site=name, problem=str(error))
        return None


def renderer(config: Config) -> Callable[[PilotRecord], tuple[tuple[str, bytes], ...]]:
    """A function that makes a pilot's spool files; the token is minted at that moment and kept nowhere."""
    pool = PoolFacts(collector=config.pool.collector, trust_domain=config.pool.trust_domain)
    lifetimes = lifetimes_of(config)

    def render(pilot: PilotRecord) -> tuple[tuple[str, bytes], ...]:
        files = spool_files(
            pilot_id=pilot.pilot_id,
            offer=pilot.offer,
            pool=pool,
            lifetimes=lifetimes,
            bundle=_bundle_ref(config, pilot.offer.site),
            site=site_facts(config, pilot.offer.site),
        )
        return (
            ("pilot.sh", pilot_script_text().encode()),
            *((file.name, file.text.encode()) for file in files),
            (TOKEN, f"{pilot_token(config, pilot)}\n".encode()),
        )

    return render


def _bundle_ref(config: Config, name: str) -> BundleRef:
    """Where the pilots of a site find the bundle: in the account's home, or in HTCondor's sandbox beside the pilot."""
    sha256 = config.bundle.sha256
    if config.sites[name].schedd is not None:
        return BundleRef(path=PurePosixPath(bundle_file(sha256)), sha256=sha256)
    return BundleRef(path=SPOOL_TO_HOME / bundle_name(sha256), sha256=sha256)


def site_facts(config: Config, name: str) -> SiteFacts:
    """What a pilot must know of its site."""
    site = config.sites[name]
    if site.schedd is not None and site.policy_file.startswith("~/"):
        # A job of HTCondor has no home.
        return SiteFacts(scratch_dir=site.scratch, rules_file=NODE_POLICY_FILE, vo_map=vo_map_of(config))
    below_home = site.policy_file.removeprefix("~/")
    path = PurePosixPath(site.policy_file) if below_home == site.policy_file else SPOOL_TO_HOME / below_home
    return SiteFacts(scratch_dir=site.scratch, rules_file=path, vo_map=vo_map_of(config))


def pilot_token(config: Config, pilot: PilotRecord) -> str:
    """A token for one pilot of one site: two scopes, and a life that outlasts queue and walltime."""
    site = pilot.offer.site
    key = pilot_key(site=site)
    request = TokenRequest(
        subject=pilot_identity(site=site, trust_domain=config.pool.trust_domain),
        issuer=config.pool.trust_domain,
        scopes=PILOT_SCOPES,
        issued_at=datetime.now(tz=UTC),
        lifetime=pilot_token_lifetime(
            max_queue_wait=config.factory.max_queue_wait,
            walltime=timedelta(seconds=pilot.offer.shape.walltime_s),
            slack=timedelta(minutes=30),
        ),
        jti=secrets.token_hex(16),
    )
    return mint(read_key(config.pool.secrets_dir / "keys.d" / key), key, request)
