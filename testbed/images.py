"""
Images, each cached under the hash of what it is made from.

The tag of an image ends in that hash, so "is it there?" is one look-up, from any clone on this machine.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from testbed import model
from testbed.engine import Say, cache_dir, client, docker_cli, run, step
from testbed.errors import CommandFailed, ImageFailed

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "Dockerfile"
FILES = Path(__file__).resolve().parent / "files"
PULL_TIMEOUT_S = 60.0
DEBOOTSTRAP_TIMEOUT_S = 900.0
PACKAGES = ("aerotow", "simulation", "factory", "accounting", "overlay", "glidein", "tokens", "config", "testbed")
HOST_SUITE_MIRROR = re.compile(r"^(?:deb\s+(?:\[[^]]*\]\s+)?|URIs:\s*)(https?://\S+)", re.MULTILINE)


def ensure_base(suite: str, say: Say) -> None:
    """
    Have ``debian:SUITE-slim``: present, pulled where a registry answers, else made with debootstrap.

    :raises ImageFailed: neither way worked.
    """
    tag = f"debian:{suite}-slim"
    if client().images.list(name=tag):
        return
    with step(say, f"base image {tag}"):
        try:
            # Not long: where a registry does not answer, or only slowly, debootstrap is there in half a minute.
            docker_cli("pull", "-q", tag, timeout_s=PULL_TIMEOUT_S)
        except (CommandFailed, subprocess.TimeoutExpired):
            _debootstrap(suite, tag)


def _debootstrap(suite: str, tag: str) -> None:
    scripts = Path("/usr/share/debootstrap/scripts")
    # A suite newer than the installed debootstrap is made by the script of one that it knows: they differ in name.
    script = scripts / suite if (scripts / suite).exists() else scripts / "trixie"
    if not script.exists():
        script = scripts / "sid"
    if shutil.which("debootstrap") is None:
        raise ImageFailed(
            image=tag, problem="no registry answers and debootstrap is missing: apt-get install debootstrap"
        )
    with tempfile.TemporaryDirectory(prefix="aerotow-base-", dir="/var/tmp") as scratch:
        tree = Path(scratch) / "root"
        try:
            run(
                ["debootstrap", "--variant=minbase", suite, str(tree), _mirror_of_this_machine(), str(script)],
                timeout_s=DEBOOTSTRAP_TIMEOUT_S,
            )
            for index in (tree / "var/lib/apt/lists").glob("*_*"):
                index.unlink()
            tar = subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE)
            imported = subprocess.run(
                ["docker", "import", "-c", f"LABEL {model.IMAGE_LABEL}=base", "-c", 'CMD ["sh"]', "-", tag],
                stdin=tar.stdout,
                capture_output=True,
                check=False,
            )
            if tar.wait() != 0 or imported.returncode != 0:
                raise ImageFailed(image=tag, problem=f"docker import: {imported.stderr.decode(errors='replace')}")
        except CommandFailed as error:
            raise ImageFailed(image=tag, problem=str(error)) from error


def _mirror_of_this_machine() -> str:
    """Address of the Debian mirror that this machine uses; empty (debootstrap's own default) if there is none."""
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        if not path.is_file():
            continue
        for address in HOST_SUITE_MIRROR.findall(path.read_text(errors="replace")):
            if "debian" in address and "security" not in address:
                return str(address)
    return ""


def stage_texts() -> dict[str, str]:
    """The Dockerfile cut at its FROM lines: the name of each stage and its text."""
    blocks = re.split(r"(?m)^(?=FROM )", DOCKERFILE.read_text())
    named = ((re.match(r"FROM \S+ AS (\S+)", block), block) for block in blocks)
    return {match[1]: block.strip() for match, block in named if match is not None}


def content_hash(parts: Iterable[str | bytes]) -> str:
    """Twelve hex digits that stand for all parts in their order."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:12]


def build(*, target: str, repository: str, variant: str, made_from: str, args: dict[str, str], say: Say) -> str:
    """
    Return the tag of an image of this target, built only if there is none from the same content.

    :raises ImageFailed: the build failed; the end of its log is in the text.
    """
    prefix = f"{repository}:{variant}-" if variant else f"{repository}:"
    tag = f"{prefix}{made_from}"
    if client().images.list(name=tag):
        return tag
    command = ["build", "--network", "host", "--target", target, "-t", tag]
    command += ["--label", f"{model.IMAGE_LABEL}=1", "--label", f"{model.HASH_LABEL}={made_from}"]
    for name, value in args.items():
        command += ["--build-arg", f"{name}={value}"]
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if target.startswith("aerotow") and certificates.exists():
        command += ["--secret", f"id=ca,src={certificates}"]
    with step(say, f"image {tag}"):
        try:
            docker_cli(*command, "-f", str(DOCKERFILE), str(ROOT))
        except CommandFailed as error:
            raise ImageFailed(image=tag, problem=str(error)) from error
    _forget_older(prefix, keep=tag)
    return tag


def _forget_older(prefix: str, *, keep: str) -> None:
    """Remove the tags that this one replaces; one that a container still uses stays until next time."""
    import docker.errors

    for image in client().images.list(filters={"label": f"{model.IMAGE_LABEL}=1"}):
        for tag in image.tags:
            if tag.startswith(prefix) and tag != keep:
                try:
                    client().images.remove(tag)
                except docker.errors.APIError:
                    continue


def site_image(site: model.SlurmSite, say: Say) -> str:
    """Tag of the image for the hosts of one site."""
    ensure_base(site.suite, say)
    base = f"debian:{site.suite}-slim"
    made_from = content_hash([stage_texts()["site"], base])
    return build(
        target="site",
        repository="aerotow-testbed/site",
        variant=site.suite,
        made_from=made_from,
        args={"BASE": base},
        say=say,
    )


def pool_image(say: Say) -> str:
    """Tag of the image for central manager and access points."""
    ensure_base("trixie", say)
    made_from = content_hash([stage_texts()["pool"], (FILES / "next-suite.sh").read_bytes(), model.CONDOR_SERIES])
    return build(
        target="pool",
        repository="aerotow-testbed/pool",
        variant="",
        made_from=made_from,
        args={"CONDOR_SERIES": model.CONDOR_SERIES},
        say=say,
    )


def aerotow_image(say: Say) -> str:
    """Tag of the image with aerotow itself, as it stands in this working tree."""
    deps = _dependencies_image(say)
    sources = _sources()
    made_from = content_hash(
        [stage_texts()["aerotow"], deps, *(part for name in sources for part in (name, sources[name]))]
    )
    if not client().images.list(name=f"aerotow:{made_from}"):
        _build_wheel(sources)
    tag = build(target="aerotow", repository="aerotow", variant="", made_from=made_from, args={"DEPS": deps}, say=say)
    client().images.get(tag).tag("aerotow", "latest")
    return tag


def _dependencies_image(say: Say) -> str:
    """Image with Python, ssh and the pinned packages; the wheels come from this machine, by their hashes."""
    ensure_base("bookworm", say)
    requirements = (ROOT / "requirements.txt").read_bytes()
    made_from = content_hash([stage_texts()["aerotow-deps"], requirements])
    if not client().images.list(name=f"aerotow-deps:{made_from}"):
        with step(say, "wheels for the factory's image"):
            _fetch_wheels(content_hash([requirements]))
    return build(target="aerotow-deps", repository="aerotow-deps", variant="", made_from=made_from, args={}, say=say)


def _fetch_wheels(made_from: str) -> None:
    """
    Put the wheels of requirements.txt into the build context, from a directory that all clones share.

    This machine can fetch them where a container cannot: it trusts the certificates of a network that inspects TLS.
    """
    shared, context = cache_dir() / f"wheels-{made_from}", ROOT / ".cache/wheels"
    if not shared.exists():
        partial = shared.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        # The image has Debian 12's Python 3.11 and glibc 2.36, whatever this machine has.
        platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (36, 35, 34, 31, 28, 27, 17, 12, 5)]
        platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64", "--platform=any"]
        run(
            [
                *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"),
                *("--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3"),
                *("--abi=none", *platforms, "--require-hashes", "-r", str(ROOT / "requirements.txt")),
                *("-d", str(partial)),
            ]
        )
        partial.rename(shared)
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(shared, context)


def _sources() -> dict[str, bytes]:
    """Path and content of every file that goes into our wheel."""
    paths = [ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"]
    for package in PACKAGES:
        paths += [path for path in sorted((ROOT / package).rglob("*")) if "__pycache__" not in path.parts]
    return {str(path.relative_to(ROOT)): path.read_bytes() for path in paths if path.is_file()}


def _build_wheel(sources: dict[str, bytes]) -> None:
    """Make our wheel for the build context, from a copy: setuptools keeps files of yesterday in its build directory."""
    dist = ROOT / ".cache/dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="aerotow-wheel-") as scratch:
        for name, content in sources.items():
            path = Path(scratch) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
        run([*command, "--disable-pip-version-check", "-w", str(dist), scratch])


def prune() -> None:
    """Forget images of ours that lost their last tag and that no container uses any more."""
    client().images.prune(filters={"dangling": True, "label": f"{model.IMAGE_LABEL}=1"})


def remove_images(say: Say) -> None:
    """Remove every image that we made, base images of our own making too."""
    for image in client().images.list(filters={"label": model.IMAGE_LABEL}):
        client().images.remove(image.id, force=True)
        say(f"removed image {', '.join(image.tags) or image.short_id}")
