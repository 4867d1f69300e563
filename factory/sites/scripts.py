r"""
The fixed sh scripts that run at a site, and the markers that frame what they print.

A script reads its data from stdin, line by line: a nonce, the instance's name, then one order per line, the last one
``end``. Everything it prints stands between lines ``@NONCE open NAME`` and ``@NONCE close NAME STATUS``, on stdout and
on stderr alike, the whole between ``@NONCE begin CLOCK`` and ``@NONCE end``. So a banner, an error page or an answer
that was cut short is never read as data, and a section that is missing is known to be missing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from glidein.siterules import RULES_MAX_BYTES

SQUEUE_FIELDS = ("job_id", "state", "submit", "start", "end", "cpus", "partition", "account", "nodes", "reason", "name")
SQUEUE_FORMAT = "%A|%T|%V|%S|%e|%C|%P|%a|%N|%r|%j"
SACCT_FIELDS = (
    "JobIDRaw,State,ExitCode,Submit,Start,End,ElapsedRaw,TimelimitRaw,AllocCPUS,Partition,Account,NodeList,"
    "Reason,JobName"
)
REPORT_MAX_BYTES = 8192
SBATCH_MAX_S = 20
"""sbatch gives up by itself after MessageTimeout, 10 s unless the site says otherwise (measured)."""
SBATCH_MIN_S = 3
"""With less than this until the deadline sbatch is not started."""

_PRELUDE = r"""main() {
umask 077
LC_ALL=C SLURM_TIME_FORMAT=%s
export LC_ALL SLURM_TIME_FORMAT
mark() {
  printf '\n@%s %s\n' "$nonce" "$*"
  printf '\n@%s %s\n' "$nonce" "$*" >&2
}
section() {
  section=$1
  shift
  mark open "$section"
  "$@" </dev/null
  status=$?
  mark close "$section" $status
  return $status
}
IFS= read -r nonce || exit 2
IFS= read -r instance || exit 2
top=$HOME/.aerotow
spool=$top/$instance/pilots
user=$(id -un)
# Slurm may be on the PATH of login shells only; the last line is the PATH, whatever the profile prints.
command -v squeue >/dev/null 2>&1 ||
  PATH=$(bash -lc 'printf "\n%s\n" "$PATH"' </dev/null 2>/dev/null | tail -n 1)
mark begin "$(date +%s)"
"""
_EPILOGUE = """
}
main
"""

# A squeue that took long met a controller that was stuck, and a submission from before may have been stuck in the same
# place. It takes effect within 1 s of the controller's return (measured), so look again after that.
_LOOK = r"""
queue() {
  section squeue squeue -h -t all -u "$(id -u)" -o "$nonce|__SQUEUE_FORMAT__|$nonce"
}
rules() {
  case $1 in "~/"*) file=$HOME/${1#??} ;; *) file=$1 ;; esac
  if [ -e "$file" ] && [ ! -f "$file" ]; then echo "it is no plain file" >&2; return 1; fi
  od -A n -v -t x1 -N __RULES_BYTES__ "$file"
}
spools() {
  if [ -d "$spool" ]; then ls -1 "$spool"; fi
}
reserved() {
  reservations=$(scontrol -o show reservation) || return
  printf '%s\n' "$reservations"
  case $reservations in *ReservationName=*) there=1 ;; esac
}
while IFS= read -r line; do
  rest=${line#* }
  case $line in
    reservations)
      # The partitions' nodes are asked for only where there is something that may take them.
      there= && mark user "$user"
      if section reservations reserved && [ -n "$there" ]; then
        section partitions sinfo -h -a -o '%R|%c|%N'
      fi ;;
    squeue)
      began=$(date +%s)
      if ! queue; then mark end; exit 0; fi
      if [ $(($(date +%s) - began)) -ge 3 ]; then sleep 2; queue; fi ;;
    "jobs "*)
      section sacct sacct -X -D -n -P -j "$rest" -o __SACCT_FIELDS__ ;;
    "names "*)
      section sacct sacct -X -D -n -P -S "now-${rest%% *}" --name "${rest#* }" -o __SACCT_FIELDS__ ;;
    "rules "*)
      section rules rules "$rest" ;;
    spools)
      section spools spools ;;
    "report "*)
      if [ -f "$spool/$rest/end.json" ]; then
        section "report:$rest" head -c __REPORT_BYTES__ "$spool/$rest/end.json"
      fi ;;
    end)
      mark end
      exit 0 ;;
  esac
done
exit 3
"""

# The last file of the archive is empty and says that the archive is whole: tar does not notice an end cut off.
_UPLOAD = r"""
receive() {
  mkdir -p "$spool" && chmod 700 "$top" "$top/$instance" "$spool" || return
  find "$spool" -maxdepth 1 -name '.upload.*' -mmin +60 -exec rm -rf {} +
  new=$(mktemp -d "$spool/.upload.XXXXXX") || return
  take "$new"
  status=$?
  rm -rf "$new"
  return $status
}
take() {
  tar -x -f - -C "$1" <&3 || return
  [ -f "$1/.complete" ] || { echo "the upload was cut short" >&2; return 1; }
  for dir in "$1"/*/; do
    name=${dir%/}
    name=${name##*/}
    rm -rf "${spool:?}/$name" && mv "$dir" "$spool/$name" || return
  done
}
exec 3<&0
section upload receive
mark end
"""

# The job's environment is made here: the default of sbatch exports every variable of this one, and NONE or NIL differ
# between versions (facts: NIL has no HOME on 24.11, and is NONE on 22.05).
_SUBMIT = r"""
sbatch=$(command -v sbatch) || sbatch=sbatch
set --
while IFS= read -r line; do
  rest=${line#* }
  case $line in
    "limit "*)
      limit=$rest ;;
    "option "*)
      set -- "$@" "$rest" ;;
    "submit "*)
      left=$((limit - $(date +%s)))
      if [ "$left" -lt __SBATCH_MIN__ ]; then
        mark late "$rest"
      elif [ ! -d "$spool/$rest" ]; then
        mark missing "$rest"
      else
        [ "$left" -le __SBATCH_MAX__ ] || left=__SBATCH_MAX__
        section "sbatch:$rest" timeout -k 1 "$left" env -i HOME="$HOME" USER="$user" LOGNAME="$user" \
          PATH=/usr/local/bin:/usr/bin:/bin ${SLURM_CONF:+SLURM_CONF="$SLURM_CONF"} \
          "$sbatch" "$@" --chdir="$spool/$rest" --output="$spool/$rest/slurm.out" \
          "$spool/$rest/pilot.sh" "$spool/$rest"
      fi
      set -- ;;
    end)
      mark end
      exit 0 ;;
  esac
done
exit 3
"""

# --ctld (23.11 and later) filters inside the controller, so a job that starts meanwhile is left alone; without it
# scancel filters by what it has read before, and the race is only narrowed.
_CANCEL = r"""
ctld=
if scancel --help </dev/null 2>/dev/null | grep -q -e '--ctld'; then ctld=--ctld; fi
while IFS= read -r line; do
  rest=${line#* }
  case $line in
    "job "*)
      section "scancel:${rest#* }" scancel $ctld --state=PENDING --user="$user" --name="${rest#* }" "${rest%% *}" ;;
    "name "*)
      section "scancel:$rest" scancel $ctld --state=PENDING --user="$user" --name="$rest" ;;
    end)
      mark end
      exit 0 ;;
  esac
done
exit 3
"""

_FORGET = r"""
while IFS= read -r line; do
  case $line in
    "spool "*)
      section "forget:${line#* }" rm -rf "${spool:?}/${line#* }" ;;
    end)
      mark end
      exit 0 ;;
  esac
done
exit 3
"""

# What the home directory is called, for requests that need whole paths.
_PLACE = r"""
mark home "$HOME"
mark spool "$spool"
mark user "$user"
mark end
"""

_BUNDLE_CHECK = r"""
IFS= read -r sha256 || exit 3
check() {
  if [ -f "$top/bundles/$sha256.tar.gz" ]; then sha256sum <"$top/bundles/$sha256.tar.gz"; fi
}
section bundle check
mark end
"""

_BUNDLE_PUT = r"""
IFS= read -r sha256 || exit 3
receive() {
  mkdir -p "$top/bundles" && chmod 700 "$top" || return
  find "$top/bundles" -maxdepth 1 -name '.upload.*' -mmin +60 -exec rm -f {} +
  new=$(mktemp "$top/bundles/.upload.XXXXXX") || return
  cat <&3 >"$new" && found=$(sha256sum <"$new") && [ "${found%% *}" = "$sha256" ] &&
    mv "$new" "$top/bundles/$sha256.tar.gz"
  status=$?
  [ $status -eq 0 ] || { rm -f "$new"; echo "the bundle arrived as sha256 ${found%% *}" >&2; }
  return $status
}
exec 3<&0
section bundle receive
mark end
"""


# What the site itself says it offers, for people who describe it or check a description of it. Orders: options of
# sbatch, then "test". Nothing here changes anything: --test-only asks when such a job would start.
_PROBE = r"""
nodes() { sinfo -h -N -o '%R|%c|%m|%G|%t|%n'; }
associations() {
  sacctmgr -n -P show assoc where user="$user" format=account,partition,qos,maxjobs,maxsubmit,grptres,maxwall
}
settings() { scontrol show config | grep -E '^(ClusterName|AccountingStorageEnforce) '; }
try() { printf '#!/bin/sh\nexit 0\n' | sbatch --test-only "$@"; }
mark user "$user"
section version sinfo --version
section partitions scontrol -o show partition
section nodes nodes
section associations associations
section settings settings
set --
while IFS= read -r line; do
  rest=${line#* }
  case $line in
    "option "*)
      set -- "$@" "$rest" ;;
    test)
      section test try "$@" ;;
    end)
      mark end
      exit 0 ;;
  esac
done
exit 3
"""


def _script(body: str) -> str:
    for word, text in (
        ("__SQUEUE_FORMAT__", SQUEUE_FORMAT),
        ("__SACCT_FIELDS__", SACCT_FIELDS),
        ("__RULES_BYTES__", str(RULES_MAX_BYTES + 1)),
        ("__REPORT_BYTES__", str(REPORT_MAX_BYTES + 1)),
        ("__SBATCH_MIN__", str(SBATCH_MIN_S)),
        ("__SBATCH_MAX__", str(SBATCH_MAX_S)),
    ):
        body = body.replace(word, text)
    return _PRELUDE + body + _EPILOGUE


LOOK = _script(_LOOK)
UPLOAD = _script(_UPLOAD)
SUBMIT = _script(_SUBMIT)
CANCEL = _script(_CANCEL)
FORGET = _script(_FORGET)
PROBE = _script(_PROBE)
PLACE = _script(_PLACE)
BUNDLE_CHECK = _script(_BUNDLE_CHECK)
BUNDLE_PUT = _script(_BUNDLE_PUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one command of a script printed; ``status`` is None when its end is missing."""

    name: str
    stdout: str
    stderr: str
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a script printed, as far as it came."""

    clock_s: int | None
    """The site's clock at the beginning; None when not even that came."""
    sections: tuple[Section, ...]
    marks: tuple[tuple[str, str], ...]
    """Further marks, as word and rest."""
    ended: bool

    def section(self, name: str) -> Section | None:
        """The last section of that name."""
        return next((section for section in reversed(self.sections) if section.name == name), None)


def parse_answer(stdout: str, stderr: str, nonce: str) -> Answer:
    """Take a script's output apart; any text gives an answer, if only an empty one."""
    marks, out_bodies = _split(stdout, nonce)
    _, err_bodies = _split(stderr, nonce)
    sections: list[Section] = []
    seen: Counter[str] = Counter()
    others: list[tuple[str, str]] = []
    clock_s: int | None = None
    for index, (word, rest) in enumerate(marks):
        match word:
            case "begin":
                clock_s = int(rest) if re.fullmatch(r"[0-9]{1,12}", rest) else None
            case "open":
                close = marks[index + 1] if index + 1 < len(marks) else ("", "")
                ordinal = seen[rest]
                seen[rest] += 1
                same = err_bodies.get(rest, [])
                sections.append(
                    Section(
                        name=rest,
                        stdout=out_bodies[rest][ordinal],
                        stderr=same[ordinal] if ordinal < len(same) else "",
                        status=_close_status(close, rest),
                    )
                )
            case "close" | "end":
                pass
            case _:
                others.append((word, rest))
    ended = clock_s is not None and bool(marks) and marks[-1] == ("end", "")
    return Answer(clock_s=clock_s, sections=tuple(sections), marks=tuple(others), ended=ended)


def _close_status(mark: tuple[str, str], name: str) -> int | None:
    """The status in the mark that closes a section, or None when it is another mark."""
    word, rest = mark
    closed, _, status = rest.rpartition(" ")
    return int(status) if word == "close" and closed == name and re.fullmatch(r"[0-9]{1,3}", status) else None


def _split(text: str, nonce: str) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """All marks of a stream in their order, and the texts of each section's occurrences by name."""
    marks: list[tuple[str, str]] = []
    bodies: dict[str, list[str]] = {}
    current: list[str] | None = None
    name = ""
    for line in text.split("\n"):
        if not line.startswith(f"@{nonce} "):
            if current is not None and line:
                current.append(line)
            continue
        word, _, rest = line[len(nonce) + 2 :].partition(" ")
        marks.append((word, rest))
        if current is not None:
            bodies[name].append("\n".join(current))
            current = None
        if word == "open":
            name, current = rest, []
            bodies.setdefault(name, [])
    if current is not None:
        bodies[name].append("\n".join(current))
    return marks, bodies
