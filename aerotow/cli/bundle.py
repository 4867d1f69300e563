"""``aerotow bundle``: make and check the portable HTCondor that pilots unpack."""

from __future__ import annotations

from pathlib import Path

import click

from aerotow.cli.show import json_option, print_json, say
from glidein.bundle import BundleInfo, build_bundle, verify_bundle


@click.group()
def bundle() -> None:
    """The HTCondor that pilots unpack."""


@bundle.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("/"),
    show_default=True,
    help="Root of a system with HTCondor installed: this one, or an exported container.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The tar.gz to write.")
@json_option
def build(root: Path, out: Path, as_json: bool) -> None:
    """Make the bundle and print its sha256; the same system gives the same bytes."""
    made = build_bundle(root, out)
    if as_json:
        print_json(_json(made))
        return
    _describe(made)
    say()
    say("Put this into the operator's file:")
    say("[bundle]")
    say(f'path = "{made.path.absolute()}"')
    say(f'sha256 = "{made.sha256}"')


@bundle.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sha256", required=True, help="The sha256 that it must have.")
@json_option
def verify(file: Path, sha256: str, as_json: bool) -> None:
    """Check that FILE is the bundle with that sha256, whole, and that a pilot could start from it."""
    found = verify_bundle(file, sha256)
    if as_json:
        print_json(_json(found))
        return
    _describe(found)
    say("fine: a pilot would take it")


def _describe(found: BundleInfo) -> None:
    """What the bundle is, for people."""
    say(f"bundle    {found.path}")
    say(f"sha256    {found.sha256}")
    say(f"size      {found.size_bytes / 1e6:.1f} MB, {found.files} files")
    say(f"HTCondor  {found.condor_version or 'unknown: an upstream tarball has no manifest of ours'}")
    facts = dict(found.built_from)
    if facts:
        say(f"made of   {', '.join(f'{name} {version}' for name, version in found.built_from)}")


def _json(found: BundleInfo) -> dict[str, object]:
    """What the bundle is, for scripts."""
    return {
        "path": str(found.path),
        "sha256": found.sha256,
        "size_bytes": found.size_bytes,
        "condor_version": found.condor_version,
        "built_from": dict(found.built_from),
        "files": found.files,
    }
