"""``aerotow token``: signing keys and tokens. Nothing here ever prints a key or a signature."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from aerotow.cli.app import App, known, pass_app
from aerotow.cli.failure import USAGE, Failure
from aerotow.cli.show import ago, clock_time, json_option, print_json, say, span, table
from config.model import Config
from config.names import (
    CM_KEY,
    ap_identity,
    ap_key,
    factory_admin_identity,
    factory_read_identity,
    pilot_identity,
    pilot_key,
)
from config.units import parse_span
from tokens.keys import read_key, store, write_key
from tokens.mint import describe_file, mint
from tokens.model import (
    ADMIN_SCOPES,
    AP_SCOPES,
    PILOT_SCOPES,
    READ_SCOPES,
    TokenDescription,
    TokenRequest,
    pilot_token_lifetime,
)

_KEY_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
_LONG = timedelta(days=365)


@click.group()
def token() -> None:
    """Signing keys and tokens; no command prints a secret."""


@token.command()
@click.argument("name")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to put it [default: keys.d below pool.secrets_dir].",
)
@pass_app
def key(app: App, name: str, directory: Path | None) -> None:
    """
    Make the signing key NAME (pilot-SITE, cm, ap-NAME), mode 0600; one that is there is never overwritten.

    HTCondor knows it by its file name below SEC_PASSWORD_DIRECTORY.
    """
    if _KEY_NAME.match(name) is None:
        raise Failure(f"'{name}' is no name of a key; use letters, digits, '-' and '_'", exit_code=USAGE)
    path = (directory or app.config.pool.secrets_dir / "keys.d") / name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_key(path)
    except OSError as error:
        raise Failure(f"{path}: cannot be written ({error.strerror}); run this as the owner of the secrets") from error
    say(f"{path}: made, mode 0600")
    if name.startswith("pilot-") or name == CM_KEY:
        say("Copy it to the central manager's SEC_PASSWORD_DIRECTORY, and to no access point; then condor_reconfig.")
    elif name.startswith("ap-"):
        say("Copy it to that access point's SEC_PASSWORD_DIRECTORY, and to no other host; then condor_reconfig.")


@token.command("mint")
@click.argument("role", type=click.Choice(["pilot", "read", "ap", "admin"]))
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it, mode 0600.")
@click.option("--lifetime", help="For example '30 d' [default: what a pilot of the site needs; 365 d for the others].")
@pass_app
def mint_token(app: App, role: str, name: str, out: Path | None, lifetime: str | None) -> None:
    """
    Sign a token and write it to a file; it goes to no terminal.

    \b
    pilot SITE     a pilot of SITE: may advertise its slots and nothing else
    read cm|AP     the factory towards the central manager or an AP: may look
                   [default --out: tokens.d/NAME below pool.secrets_dir]
    admin cm       the factory towards the central manager: may drain pilots
    ap AP          an AP's daemons towards the central manager
    """
    asked = _request(app, role, name, _lifetime(app.config, role, name, lifetime))
    path = out
    if path is None:
        if role != "read":
            raise Failure("this token is for another host: say where to write it with --out FILE", exit_code=USAGE)
        path = app.config.pool.secrets_dir / "tokens.d" / name
    kid = _kid(role, name)
    signed = mint(read_key(app.config.pool.secrets_dir / "keys.d" / kid), kid, asked)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        store(path, signed)
    except OSError as error:
        raise Failure(f"{path}: cannot be written ({error.strerror}); give another --out") from error
    say(f"{path}: token of {asked.subject}, {' '.join(asked.scopes)}, good for {span(asked.lifetime.total_seconds())}")


@token.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@pass_app
def show(app: App, file: Path, as_json: bool) -> None:
    """Say what the tokens in FILE say of themselves, unverified and without their signatures."""
    found = describe_file(file)
    if as_json:
        print_json([_json(one) for one in found])
        return
    now_s = app.now_s()
    for one in found:
        table(
            ("", ""),
            (
                ("subject", one.subject),
                ("issuer", one.issuer),
                ("scopes", " ".join(one.scopes) or "none: it carries all rights of its subject"),
                ("key", one.kid),
                ("algorithm", one.algorithm),
                ("issued", _instant(one.issued_at, now_s)),
                ("expires", _end(one, now_s)),
                ("jti", one.jti),
            ),
        )


def _request(app: App, role: str, name: str, lifetime: timedelta) -> TokenRequest:
    """What is to be signed for a role."""
    domain = app.config.pool.trust_domain
    scopes: tuple[str, ...]
    where = str(app.config_path)
    match role:
        case "pilot":
            known(name, app.config.sites, what="site", where=where)
            subject, scopes = pilot_identity(site=name, trust_domain=domain), PILOT_SCOPES
        case "read":
            known(name, (CM_KEY, *app.config.access_points), what="reader's target", where=where)
            subject, scopes = factory_read_identity(trust_domain=domain), READ_SCOPES
        case "admin":
            known(name, (CM_KEY,), what="administrator's target", where=where)
            subject, scopes = factory_admin_identity(trust_domain=domain), ADMIN_SCOPES
        case _:
            known(name, app.config.access_points, what="access point", where=where)
            subject, scopes = ap_identity(ap=name, trust_domain=domain), AP_SCOPES
    return TokenRequest(
        subject=subject,
        issuer=domain,
        scopes=scopes,
        issued_at=datetime.fromtimestamp(app.now_s(), tz=UTC),
        lifetime=lifetime,
        jti=secrets.token_hex(16),
    )


def _kid(role: str, name: str) -> str:
    """The key that signs: pilots by their site's, readers by the key of what they read, APs by the CM's."""
    match role:
        case "pilot":
            return pilot_key(site=name)
        case "read":
            return CM_KEY if name == CM_KEY else ap_key(ap=name)
        case _:
            return CM_KEY


def _lifetime(config: Config, role: str, name: str, asked: str | None) -> timedelta:
    """The lifetime asked for, else what the role needs."""
    if asked is not None:
        try:
            return parse_span(asked)
        except ValueError as error:
            raise Failure(f"--lifetime: {error}", exit_code=USAGE) from error
    if role != "pilot" or name not in config.sites:
        return _LONG
    return pilot_token_lifetime(
        max_queue_wait=config.factory.max_queue_wait, walltime=config.sites[name].walltime, slack=timedelta(hours=1)
    )


def _instant(at: datetime | None, now_s: float) -> str:
    """A time in UTC; a dash for none."""
    return clock_time(None if at is None else at.timestamp(), now_s)


def _end(one: TokenDescription, now_s: float) -> str:
    """When a token ends, and how far that is."""
    if one.expires_at is None:
        return "never: such a token cannot be outlived; make a new one"
    end_s = one.expires_at.timestamp()
    text = clock_time(end_s, now_s)
    return f"{text} ({ago(end_s, now_s)} ago)" if end_s <= now_s else f"{text} (in {span(end_s - now_s)})"


def _json(one: TokenDescription) -> dict[str, object]:
    """What a token says, for scripts."""
    return {
        "subject": one.subject,
        "issuer": one.issuer,
        "scopes": list(one.scopes),
        "kid": one.kid,
        "algorithm": one.algorithm,
        "issued_s": None if one.issued_at is None else int(one.issued_at.timestamp()),
        "expires_s": None if one.expires_at is None else int(one.expires_at.timestamp()),
        "jti": one.jti,
    }
