"""``aerotow site``: describe a site from what it says of itself, and check a description against it."""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import click

from aerotow.cli.app import App, known, pass_app
from aerotow.cli.failure import FAILED, PARTLY, USAGE, Failure
from aerotow.cli.show import json_option, plain, print_json, say
from config.model import Config
from config.names import NAME
from factory.policy import site_policy
from factory.sitecheck import (
    Finding,
    bad,
    canary_request,
    judge_canary,
    judge_collector,
    judge_here,
    judge_htcondor,
    judge_node,
    judge_site,
    node_request,
    not_tried,
    run_to_report,
)
from factory.sites.condor import CondorSite
from factory.sites.probe import NoProbe, read_probe, site_file
from factory.sites.shell import LocalShell, Shell, SshShell
from factory.sites.texts import sbatch_options
from factory.wiring import make_site, renderer

_CANARY_IDLE = timedelta(seconds=20)
_WORDS = {"good": "good", "bad": "BAD", "not_tried": "not tried"}


@click.group()
def site() -> None:
    """A site's description: write a first one, check one."""


@site.command()
@click.argument("login")
@click.option("--name", help="What to call the site; default: from the host's name.")
@click.option("--ssh-option", "options", multiple=True, help="Further OpenSSH option, for example -oProxyJump=gate.")
@pass_app
def probe(app: App, login: str, name: str | None, options: tuple[str, ...]) -> None:
    """
    Ask LOGIN (user@host, or 'local') what it offers, and print a commented site file.

    \b
    aerotow site probe pilot@login.example.org > /etc/aerotow/sites.d/example.toml
    """
    where = None if login == "local" else login
    chosen = name or name_of(login)
    if NAME.match(chosen) is None:
        raise Failure(f"'{chosen}' is no site name; give --name, a letter and then letters or digits", exit_code=USAGE)
    with _shell(chosen, where, options) as shell:
        found = read_probe(shell, nonce=secrets.token_hex(8), clock=app.now_s)
    if isinstance(found, NoProbe):
        raise Failure(f"{login}: {found.reason}")
    click.echo(site_file(found, name=chosen, login=where, now_s=app.now_s()), nl=False)


def name_of(login: str) -> str:
    """A site name from a host's: the first part that is not just 'login'."""
    labels = [re.sub(r"[^a-z0-9]", "", label.lower()) for label in login.rpartition("@")[2].split(".")]
    telling = [label for label in labels if label and not re.fullmatch(r"(login|gate|head|ssh|submit)[0-9]*", label)]
    return ((telling or labels)[0])[:20]


@site.command()
@click.argument("name")
@click.option("--canary", is_flag=True, help="Ask for one whole pilot too, and see whether it joins the pool.")
@click.option("--wait", "wait_s", type=click.IntRange(10, 86_400), default=300, show_default=True, metavar="SECONDS")
@json_option
@pass_app
def check(app: App, name: str, canary: bool, wait_s: int, as_json: bool) -> None:
    """
    Compare the description of site NAME with the site.

    It submits one job of a core and a few seconds, which looks at a compute node; with --canary one whole pilot. Each
    may wait --wait seconds for its turn. Ends with 1 if something is bad, with 3 if something could not be tried.
    """
    known(name, app.config.sites, what="site", where=str(app.config_path))
    findings: list[Finding] = []
    for finding in _findings(app, name, canary=canary, wait_s=wait_s):
        findings.append(finding)
        if not as_json:
            say(f"{_WORDS[finding.verdict]:9}  {finding.what}: {finding.text}")
            if finding.remedy:
                say(f"{'':9}  remedy: {finding.remedy}")
    if as_json:
        print_json({"site": name, "findings": plain(findings)})
    verdicts = {finding.verdict for finding in findings}
    click.get_current_context().exit(FAILED if "bad" in verdicts else PARTLY if "not_tried" in verdicts else 0)


def _findings(app: App, name: str, *, canary: bool, wait_s: float) -> Iterator[Finding]:
    """Everything in its order, told as it comes: what costs nothing first, jobs last, and none that must fail."""
    config = app.config
    site_config = config.sites[name]
    here = judge_here(config, name)
    yield from here
    yield judge_collector(config.pool.collector)
    if site_config.schedd is not None:
        yield from _htcondor(app, name, canary=canary and all(one.verdict == "good" for one in here), wait_s=wait_s)
        return
    if site_config.rest is not None and site_config.login is None:
        # The adapter carries the jobs of the check; what Slurm's commands would say, nobody can be asked.
        yield not_tried("site", "the site is spoken to by REST alone, so its partitions and limits were not compared")
        yield from _jobs(config, name, canary=canary and all(one.verdict == "good" for one in here), wait_s=wait_s)
        return
    with _shell(name, site_config.login, site_config.ssh_options) as shell:
        options = tuple(one for one in sbatch_options("aerotow-check", site_policy(name, site_config).offer)[1:])
        found = read_probe(shell, options=options, nonce=secrets.token_hex(8), clock=app.now_s)
    if isinstance(found, NoProbe):
        remedy = f"see that 'ssh {site_config.login or 'HOST'} squeue' works for this user without a question"
        yield bad("login", found.reason, remedy)
        return
    judged = judge_site(site_config, found)
    yield from judged
    if any(one.verdict == "bad" for one in judged if one.what != "clock"):
        yield not_tried("node", "no job is submitted before the above is mended")
        return
    able = all(one.verdict == "good" for one in here)
    yield from _jobs(config, name, canary=canary and able, wait_s=wait_s)
    if canary and not able:
        yield not_tried("canary", "no pilot is submitted before the above is mended")


def _htcondor(app: App, name: str, *, canary: bool, wait_s: float) -> Iterator[Finding]:
    """A site whose schedd is all that there is to ask."""
    with _private(app.config) as private:
        adapter = make_site(name, private.sites[name], private)
        assert isinstance(adapter, CondorSite)
        judged = tuple(judge_htcondor(private.sites[name], adapter.look((), now_s=app.now_s()), adapter.machines()))
        yield from judged
        if any(one.verdict == "bad" for one in judged if one.what != "clock"):
            yield not_tried("node", "no job is submitted before the above is mended")
            return
        try:
            yield from _node(private, name, wait_s=wait_s)
            if canary:
                yield _canary(private, name, wait_s=wait_s)
        finally:
            adapter.leave()


def _jobs(config: Config, name: str, *, canary: bool, wait_s: float) -> Iterator[Finding]:
    """What only a job on a compute node finds out."""
    with _private(config) as private:
        yield from _node(private, name, wait_s=wait_s)
        if canary:
            yield _canary(private, name, wait_s=wait_s)


def _node(config: Config, name: str, *, wait_s: float) -> Iterator[Finding]:
    """The job on a compute node."""
    adapter = make_site(name, config.sites[name], config)
    try:
        request = node_request(config, name, instance=config.instance.name, nonce=secrets.randbits(16))
        waited = run_to_report(adapter, request, wait_s=wait_s, submit_s=_submit_s(config))
    finally:
        adapter.close()
    if waited.report is None:
        yield not_tried("node", waited.problem)
        return
    window = (waited.began_s, waited.ended_s)
    yield from judge_node(waited.report, site=config.sites[name], collector=config.pool.collector, window=window)


def _canary(config: Config, name: str, *, wait_s: float) -> Finding:
    """A whole pilot that leaves as soon as it has seen that there is no work."""
    quick = config.factory.model_copy(update={"idle_timeout": _CANARY_IDLE})
    config = config.model_copy(update={"factory": quick})
    adapter = make_site(name, config.sites[name], config)
    try:
        problem = adapter.prepare()
        if problem:
            return bad("canary", problem, "see that the pilot account's home has room, and that bundle.path is right")
        request = canary_request(
            config, name, instance=config.instance.name, nonce=secrets.randbits(16), render=renderer(config)
        )
        waited = run_to_report(adapter, request, wait_s=wait_s, submit_s=_submit_s(config))
    finally:
        adapter.close()
    return not_tried("canary", waited.problem) if waited.report is None else judge_canary(waited.report, name=name)


def _submit_s(config: Config) -> float:
    return 4 * config.factory.command_timeout.total_seconds()


@contextmanager
def _private(config: Config) -> Iterator[Config]:
    """The configuration with an instance name and connections of its own, so that no factory sees our jobs as its."""
    with tempfile.TemporaryDirectory(prefix="aerotow-") as directory:
        name = f"check{secrets.token_hex(4)}"
        instance = config.instance.model_copy(update={"name": name, "state_dir": Path(directory)})
        yield config.model_copy(update={"instance": instance})


@contextmanager
def _shell(name: str, login: str | None, options: tuple[str, ...]) -> Iterator[Shell]:
    """A way to the site's Slurm commands, closed at the end."""
    with tempfile.TemporaryDirectory(prefix="aerotow-") as directory:
        shell: Shell = (
            LocalShell()
            if login is None
            else SshShell(site=name, login=login, control_dir=Path(directory), options=options)
        )
        try:
            yield shell
        finally:
            shell.close()
