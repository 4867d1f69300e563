"""
The portable HTCondor that pilots unpack: made from an installed system, runs on nodes with any C library.

Every program is the distribution's own ELF file in ``real/``; at its usual place stands a shell wrapper that starts it
through the bundle's own loader with the bundle's own libraries. No variable is set, so nothing leaks into a payload's
environment. Tried: a build from HTCondor 25.14.1, which needs glibc 2.38, runs on Debian 12 with glibc 2.36.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from glidein.errors import BadBundle, MissingLibrary, NoCondorHere

TOP = "condor"
"""The one directory at the top of the tarball; an upstream tarball has one too."""
MANIFEST = "manifest.json"
FORMAT = 1
LOADER = "ld-linux-x86-64.so.2"
LIMIT_BYTES = 1 << 30
"""No bundle is larger than this when unpacked; a tarball that claims more is not read further."""

PROGRAMS: tuple[tuple[str, str, bool], ...] = (
    ("sbin/condor_master", "usr/sbin/condor_master", True),
    ("sbin/condor_startd", "usr/sbin/condor_startd", True),
    ("sbin/condor_starter", "usr/sbin/condor_starter", True),
    ("sbin/condor_procd", "usr/sbin/condor_procd", True),
    ("libexec/condor_shared_port", "usr/libexec/condor/condor_shared_port", True),
    # payload.sh uses it to learn a payload's exact wait status.
    ("libexec/condor_pid_ns_init", "usr/libexec/condor/condor_pid_ns_init", True),
    ("libexec/curl_plugin", "usr/libexec/condor/curl_plugin", False),
    ("libexec/data_plugin", "usr/libexec/condor/data_plugin", False),
    ("libexec/condor_chirp", "usr/libexec/condor/condor_chirp", False),
    ("libexec/condor_gpu_discovery", "usr/libexec/condor/condor_gpu_discovery", False),
    ("libexec/condor_gpu_utilization", "usr/libexec/condor/condor_gpu_utilization", False),
    ("bin/condor_config_val", "usr/bin/condor_config_val", False),
    # The factory drains pilots with it, from the bundle that it ships anyway.
    ("bin/condor_drain", "usr/bin/condor_drain", False),
    ("bin/condor_nsenter", "usr/bin/condor_nsenter", False),
)
"""Place in the bundle, place in the system, whether a pilot cannot do without it. All are ELF programs."""

FILES: tuple[tuple[str, str], ...] = (
    ("libexec/condor_container_launcher.sh", "usr/libexec/condor/condor_container_launcher.sh"),
    ("libexec/condor_ssh_to_job_sshd_setup", "usr/libexec/condor/condor_ssh_to_job_sshd_setup"),
    ("libexec/condor_ssh_to_job_shell_setup", "usr/libexec/condor/condor_ssh_to_job_shell_setup"),
    ("lib/condor/condor_ssh_to_job_sshd_config_template", "usr/lib/condor/condor_ssh_to_job_sshd_config_template"),
)
"""Copied as they are, where the system has them."""

OPENED_AT_RUN_TIME = (
    "libSciTokens.so.0",
    "libnss_files.so.2",
    "libnss_dns.so.2",
    "libnss_compat.so.2",
    "libresolv.so.2",
    "libmunge.so.2",
    "libgcc_s.so.1",
)
"""Libraries that no ELF header names; HTCondor or the C library opens them by name."""

_WRAPPER = """\
#!/bin/sh
d=${{0%/*}}/..
exec "$d/lib/{loader}" --library-path "$d/lib" --argv0 "$0" "$d/real/{name}" "$@"
"""
_RESOLVED = re.compile(r"^\s*(?P<name>\S+) => (?P<path>/.*?)(?: \(0x[0-9a-f]+\))?$")
_NOT_FOUND = re.compile(r"^\s*(?P<name>\S+) => not found$")
_CANNOT_OPEN = re.compile(r"(?P<name>\S+): cannot open shared object file")
_VERSION = re.compile(rb"\$CondorVersion: [0-9][ -#%-~]{1,200}\$")
_PACKAGE = re.compile(
    r"^Package: (?P<name>condor|libc6|libstdc\+\+6|libssl3t64|libssl3)$.*?^Version: (?P<version>\S+)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """What a bundle is; the operator's file names it by path and sha256."""

    path: Path
    sha256: str
    size_bytes: int
    condor_version: str
    """HTCondor's own version string; empty for a tarball without our manifest."""
    built_from: tuple[tuple[str, str], ...]
    """System and packages it was made of: names and versions."""
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One file of the bundle before it is packed."""

    path: str
    mode: int
    data: bytes

    def described(self) -> dict[str, str | int]:
        """Its line in the manifest."""
        sha256 = hashlib.sha256(self.data).hexdigest()
        return {"path": self.path, "mode": f"{self.mode:o}", "size": len(self.data), "sha256": sha256}


def build_bundle(root: Path, out: Path) -> BundleInfo:
    """
    Make the bundle ``out`` of the HTCondor installed below ``root``, which is ``/`` or an exported container.

    The same tree gives the same bytes: sorted, no times, no owners. ``out`` appears complete or not at all.
    The tree's own loader is run to list the libraries, so the tree must be of this machine's kind.
    """
    missing = tuple(source for _, source, needed in PROGRAMS if needed and not _inside(root, source).is_file())
    if missing:
        raise NoCondorHere(root=root, missing=missing)
    entries = sorted(_entries(root), key=lambda entry: entry.path)
    version = _condor_version(entries)
    built_from = _built_from(root)
    manifest = {
        "format": FORMAT,
        "condor_version": version,
        "built_from": dict(built_from),
        "files": [entry.described() for entry in entries],
    }
    text = json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"
    packed = _pack([_Entry(path=MANIFEST, mode=0o644, data=text), *entries])
    partial = out.with_name(f".{out.name}.partial")
    partial.write_bytes(packed)
    partial.replace(out)
    return BundleInfo(
        path=out,
        sha256=hashlib.sha256(packed).hexdigest(),
        size_bytes=len(packed),
        condor_version=version,
        built_from=built_from,
        files=len(entries),
    )


def verify_bundle(path: Path, sha256: str) -> BundleInfo:
    """
    Check that ``path`` is the bundle with that sha256, that it is whole, and that a pilot could start from it.

    An upstream HTCondor tarball passes too: it has no manifest of ours, so only the sha256 vouches for its files.
    """
    remedy = "make it anew with 'aerotow bundle build' and put its sha256 into [bundle]"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadBundle(path=path, problem=error.strerror or str(error), remedy="check [bundle] path") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BadBundle(path=path, problem=f"its sha256 is {found}, not {sha256}", remedy=remedy)
    try:
        members = dict(_unpack(data))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise BadBundle(path=path, problem=f"not a readable tar.gz: {error}", remedy=remedy) from error
    tops = {PurePosixPath(name).parts[0] for name in members}
    if len(tops) != 1 or f"{(top := tops.pop())}/sbin/condor_master" not in members:
        raise BadBundle(path=path, problem="no single directory with sbin/condor_master in it", remedy=remedy)
    manifest_text = members.pop(f"{top}/{MANIFEST}", None)
    version, built_from = "", cast("tuple[tuple[str, str], ...]", ())
    if manifest_text is not None:
        version, built_from = _check_manifest(path, manifest_text, members, top, remedy)
    return BundleInfo(
        path=path,
        sha256=found,
        size_bytes=len(data),
        condor_version=version,
        built_from=built_from,
        files=len(members),
    )


def _check_manifest(
    path: Path, text: bytes, members: dict[str, bytes], top: str, remedy: str
) -> tuple[str, tuple[tuple[str, str], ...]]:
    try:
        manifest = json.loads(text)
        listed = {f"{top}/{line['path']}": line["sha256"] for line in manifest["files"]}
        version = str(manifest["condor_version"])
        built_from = tuple(sorted((str(k), str(v)) for k, v in manifest["built_from"].items()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadBundle(path=path, problem=f"its manifest cannot be read: {error!r}", remedy=remedy) from error
    wrong = sorted(
        name
        for name in listed.keys() | members.keys()
        if name not in members or listed.get(name) != hashlib.sha256(members[name]).hexdigest()
    )
    if wrong:
        raise BadBundle(path=path, problem=f"differs from its manifest in {', '.join(wrong[:5])}", remedy=remedy)
    return version, built_from


def _entries(root: Path) -> Iterator[_Entry]:
    loader = _inside(root, f"lib64/{LOADER}")
    if not loader.is_file():
        raise NoCondorHere(root=root, missing=(f"lib64/{LOADER}",))
    libraries: dict[str, Path] = {LOADER: loader}
    directories = _library_directories(root)
    for place, source, _ in PROGRAMS:
        real = _inside(root, source)
        if not real.is_file():
            continue
        name = PurePosixPath(place).name
        libraries.update(_needed(loader, directories, real))
        yield _Entry(path=place, mode=0o755, data=_WRAPPER.format(loader=LOADER, name=name).encode())
        yield _Entry(path=f"real/{name}", mode=0o755, data=real.read_bytes())
    for name in OPENED_AT_RUN_TIME:
        for directory in directories:
            if (found := _inside(root, str((directory / name).relative_to(root)))).is_file():
                libraries[name] = found
                libraries.update(_needed(loader, directories, found))
                break
    for name, library in libraries.items():
        yield _Entry(path=f"lib/{name}", mode=0o755 if name == LOADER else 0o644, data=library.read_bytes())
    for place, source in FILES:
        copied = _inside(root, source)
        if copied.is_file():
            mode = 0o755 if place.startswith("libexec/") else 0o644
            yield _Entry(path=place, mode=mode, data=copied.read_bytes())


def _library_directories(root: Path) -> tuple[Path, ...]:
    """Where Debian and Red Hat keep the libraries, below ``root``; those that exist."""
    fixed = ("usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib", "usr/lib/condor", "usr/lib64/condor", "lib64", "lib")
    return tuple(path for path in (root / name for name in fixed) if path.is_dir())


def _needed(loader: Path, directories: tuple[Path, ...], elf: Path) -> dict[str, Path]:
    """Names and files of all libraries that an ELF file needs, as the tree's own loader finds them."""
    search = ":".join(str(directory) for directory in directories)
    command = [str(loader), "--inhibit-cache", "--library-path", search, "--list", str(elf)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    absent = _CANNOT_OPEN.search(done.stderr)
    if done.returncode != 0:
        raise MissingLibrary(program=elf.name, library=absent["name"].rstrip(":") if absent else done.stderr.strip())
    libraries: dict[str, Path] = {}
    for line in done.stdout.splitlines():
        if (lost := _NOT_FOUND.match(line)) is not None:
            raise MissingLibrary(program=elf.name, library=lost["name"])
        if (found := _RESOLVED.match(line)) is not None:
            # The loader also looks in its built-in directories, which are those of the machine that builds.
            if not any(Path(found["path"]).parent == directory for directory in directories):
                raise MissingLibrary(program=elf.name, library=found["name"])
            libraries[PurePosixPath(found["name"]).name] = Path(found["path"])
    return libraries


def _inside(root: Path, name: str) -> Path:
    """
    Follow ``name`` below ``root`` with every absolute link read as relative to ``root``.

    In an exported file system such links otherwise lead to the files of the machine that does the export.
    """
    parts = [part for part in PurePosixPath(name).parts if part != "/"]
    done: list[str] = []
    for _ in range(200):
        if not parts:
            return root.joinpath(*done)
        part = parts.pop(0)
        if part == "..":
            done = done[:-1]
            continue
        here = root.joinpath(*done, part)
        if not here.is_symlink():
            done.append(part)
            continue
        target = PurePosixPath(here.readlink())
        if target.is_absolute():
            done = []
        parts = [p for p in target.parts if p != "/"] + parts
    raise NoCondorHere(root=root, missing=(name,))


def _condor_version(entries: list[_Entry]) -> str:
    for entry in entries:
        if (PurePosixPath(entry.path).name).startswith("libcondor_utils"):
            found = _VERSION.search(entry.data)
            if found is not None:
                return found[0].decode("ascii", "replace")
    return ""


def _built_from(root: Path) -> tuple[tuple[str, str], ...]:
    """System and packages of the tree, for people who ask later where a bundle came from."""
    facts: dict[str, str] = {}
    release = _inside(root, "etc/os-release")
    if release.is_file():
        named = re.search(r'^PRETTY_NAME="?([^"\n]*)"?$', release.read_text(errors="replace"), re.MULTILINE)
        facts["system"] = named[1] if named else ""
    status = root / "var/lib/dpkg/status"
    if status.is_file():
        for paragraph in status.read_text(errors="replace").split("\n\n"):
            found = _PACKAGE.match(paragraph)
            if found is not None:
                facts[found["name"]] = found["version"]
    return tuple(sorted(facts.items()))


def _pack(entries: list[_Entry]) -> bytes:
    raw = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as squeezed,
        tarfile.open(fileobj=cast("IO[bytes]", squeezed), mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for entry in entries:
            member = tarfile.TarInfo(f"{TOP}/{entry.path}")
            member.size = len(entry.data)
            member.mode = entry.mode
            tar.addfile(member, io.BytesIO(entry.data))
    return raw.getvalue()


def _unpack(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the plain files; links count by name only. Bounded by LIMIT_BYTES."""
    total = 0
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for member in tar:
            total += member.size
            if total > LIMIT_BYTES:
                raise ValueError(f"larger than {LIMIT_BYTES} bytes")
            name = str(PurePosixPath(member.name))
            if name.startswith(("/", "..")) or "/../" in name:
                raise ValueError(f"{name} leads out of the tarball")
            if member.isfile():
                stream = tar.extractfile(member)
                yield name, stream.read() if stream is not None else b""
            elif not member.isdir():
                yield name, b""
