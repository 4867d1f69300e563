"""
What a stolen pilot token is good for: its own site's slots, and nothing else.

Every refusal comes from the real daemons, after the same command succeeded with a token that may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from testbed import model
from tests.system.conftest import Bed
from tests.system.thief import Refused, do, sign
from tokens.model import AP_SCOPES, PILOT_SCOPES, READ_SCOPES

QUIET = {"State": '"Owner"', "Activity": '"Idle"', "Start": "false", "Requirements": "false", "ClassAdLifetime": "60"}
"""No job may ever be matched to an ad of these tests, and one that is left over goes away by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The daemons' addresses and a token of each kind."""

    collector: str
    ap1: str
    pilot_alpha: str
    pilot_beta: str
    factory: str
    factory_at_ap1: str
    ap1_daemon: str

    def filed(self, name: str) -> list[dict[str, str]]:
        """The ads of that name that the collector holds."""
        found = do(self.factory, "look", self.collector, f'Name == "{name}"', ["Name", "MyType", "GlideinSite"])
        assert isinstance(found, list), found
        return found

    def advertise(self, token: str, command: str, name: str, **attributes: str) -> list[dict[str, str]]:
        """Send an ad and see what the collector then holds; it refuses silently, so only that tells."""
        text = "[ " + "; ".join(f"{k} = {v}" for k, v in ({"Name": f'"{name}"'} | QUIET | attributes).items()) + " ]"
        do(token, "advertise", self.collector, command, [text])
        return self.filed(name)

    def forget(self, token: str, command: str, name: str) -> None:
        """Take an ad out of the collector again."""
        query = f'[ MyType = "Query"; TargetType = "Any"; Name = "{name}"; Requirements = Name == "{name}" ]'
        do(token, "advertise", self.collector, command, [query])


@pytest.fixture(scope="module")
def pool(bed: Bed) -> Iterator[Pool]:
    collector = f"{model.host_named('cm').addresses[0][1]}:9618"
    factory = sign(bed, host="cm", kid="cm", subject="factory-read@pool", scopes=READ_SCOPES)
    schedds = do(factory, "look", collector, 'MyType == "Scheduler" && Name == "ap1.pool"', ["MyAddress"])
    assert isinstance(schedds, list)
    made = Pool(
        collector=collector,
        ap1=schedds[0]["MyAddress"],
        pilot_alpha=sign(bed, host="cm", kid="pilot-alpha", subject="pilot-alpha@pool", scopes=PILOT_SCOPES),
        pilot_beta=sign(bed, host="cm", kid="pilot-beta", subject="pilot-beta@pool", scopes=PILOT_SCOPES),
        factory=factory,
        factory_at_ap1=sign(bed, host="ap1", kid="ap-ap1", subject="factory-read@pool", scopes=READ_SCOPES),
        ap1_daemon=sign(bed, host="cm", kid="cm", subject="ap-ap1@pool", scopes=AP_SCOPES),
    )
    yield made
    for name in ("thief-own", "thief-slot"):
        made.forget(made.pilot_alpha, "INVALIDATE_STARTD_ADS", name)
    made.forget(made.pilot_beta, "INVALIDATE_STARTD_ADS", "thief-beta")
    made.forget(made.ap1_daemon, "INVALIDATE_SCHEDD_ADS", "thief-schedd")


def slot_of(site: str, my_type: str = "Machine") -> dict[str, str]:
    return {
        "MyType": f'"{my_type}"',
        "Machine": '"thief.example"',
        "GlideinSite": f'"{site}"',
        "MyAddress": '"<192.0.2.1:1>"',
        "StartdIpAddr": '"<192.0.2.1:1>"',
    }


def test_pilot_token_advertises_its_own_site_and_no_other(pool: Pool) -> None:
    assert pool.advertise(pool.pilot_alpha, "UPDATE_STARTD_AD", "thief-own", **slot_of("alpha"))
    assert pool.advertise(pool.pilot_beta, "UPDATE_STARTD_AD", "thief-beta", **slot_of("beta"))

    assert pool.advertise(pool.pilot_alpha, "UPDATE_STARTD_AD", "thief-other", **slot_of("beta")) == []
    assert pool.advertise(pool.pilot_alpha, "UPDATE_MASTER_AD", "thief-other", **slot_of("beta", "DaemonMaster")) == []


@pytest.mark.parametrize("my_type", ["Slot", "StartD", "Scheduler", "Collector", "Negotiator", "Submitter", ""])
def test_no_forged_type_gets_another_sites_slot_in(pool: Pool, my_type: str) -> None:
    assert pool.advertise(pool.pilot_alpha, "UPDATE_STARTD_AD", "thief-slot", **slot_of("alpha", "Slot"))

    assert pool.advertise(pool.pilot_alpha, "UPDATE_STARTD_AD", "thief-forged", **slot_of("beta", my_type)) == []


def test_forged_identity_is_overwritten(pool: Pool) -> None:
    forged = slot_of("beta") | {"AuthenticatedIdentity": '"pilot-beta@pool"', "AuthenticationMethod": '"IDTOKENS"'}

    assert pool.advertise(pool.pilot_alpha, "UPDATE_STARTD_AD", "thief-identity", **forged) == []


def test_pilot_token_does_not_negotiate(bed: Bed, pool: Pool) -> None:
    # No token at all may negotiate; what may is the CM's own user, so the command is run on the CM with and without.
    proper = bed.attempt("cm", ["sh", "-c", NEGOTIATE], user="condor")
    try:
        assert proper.returncode == 0, proper.stderr.decode()
        assert pool.filed("thief-negotiator")
    finally:
        bed.run(
            "cm", ["sh", "-c", NEGOTIATE.replace("UPDATE_NEGOTIATOR_AD", "INVALIDATE_NEGOTIATOR_ADS")], user="condor"
        )
    assert pool.filed("thief-negotiator") == []

    stolen = bed.attempt("cm", ["sh", "-c", WITH_TOKEN + NEGOTIATE], user="condor", stdin=pool.pilot_alpha.encode())
    assert pool.filed("thief-negotiator") == []
    assert stolen.returncode != 0
    ad = slot_of("alpha", "Negotiator")
    assert pool.advertise(pool.pilot_alpha, "UPDATE_NEGOTIATOR_AD", "thief-negotiator-2", **ad) == []
    assert isinstance(do(pool.pilot_alpha, "ping", pool.ap1, "NEGOTIATOR"), Refused)


WITH_TOKEN = """
umask 077
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
cat >"$d/token"
export _CONDOR_SEC_TOKEN_DIRECTORY="$d" _CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY="$d"
export _CONDOR_SEC_CLIENT_AUTHENTICATION=REQUIRED _CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS=IDTOKENS
"""

NEGOTIATE = """
f=$(mktemp)
cat >"$f" <<'AD'
Name = "thief-negotiator"
MyType = "Negotiator"
TargetType = "Negotiator"
Requirements = Name == "thief-negotiator"
ClassAdLifetime = 60
AD
condor_advertise -tcp UPDATE_NEGOTIATOR_AD "$f"
status=$?
rm -f "$f"
exit $status
"""


def test_pilot_token_is_no_schedd(pool: Pool) -> None:
    ad = slot_of("alpha", "Scheduler") | {"Machine": '"ap1.pool"'}
    assert pool.advertise(pool.ap1_daemon, "UPDATE_SCHEDD_AD", "thief-schedd", **ad)
    pool.forget(pool.ap1_daemon, "INVALIDATE_SCHEDD_ADS", "thief-schedd")

    assert pool.advertise(pool.pilot_alpha, "UPDATE_SCHEDD_AD", "thief-schedd-2", **ad) == []
    assert pool.advertise(pool.pilot_alpha, "UPDATE_SUBMITTOR_AD", "thief-submitter", **ad) == []
    assert pool.advertise(pool.pilot_alpha, "UPDATE_AD_GENERIC", "thief-generic", **ad) == []


def test_one_ap_does_not_speak_for_another(pool: Pool) -> None:
    ad = slot_of("alpha", "Scheduler")
    assert pool.advertise(pool.ap1_daemon, "UPDATE_SCHEDD_AD", "thief-schedd", **(ad | {"Machine": '"ap1.pool"'}))
    pool.forget(pool.ap1_daemon, "INVALIDATE_SCHEDD_ADS", "thief-schedd")

    assert (
        pool.advertise(pool.ap1_daemon, "UPDATE_SCHEDD_AD", "thief-schedd-3", **(ad | {"Machine": '"ap2.pool"'})) == []
    )


def test_pilot_token_reads_neither_the_pool_nor_a_queue(pool: Pool) -> None:
    assert do(pool.factory, "look", pool.collector, 'MyType == "Collector"', ["Name"])
    assert isinstance(do(pool.factory_at_ap1, "queue", pool.ap1), int)
    assert isinstance(do(pool.factory_at_ap1, "epochs", pool.ap1), int)

    assert isinstance(do(pool.pilot_alpha, "look", pool.collector, 'MyType == "Collector"', ["Name"]), Refused)
    assert isinstance(do(pool.pilot_alpha, "queue", pool.ap1), Refused)
    assert isinstance(do(pool.pilot_alpha, "epochs", pool.ap1), Refused)


def test_rights_of_a_pilot_token_at_the_collector(pool: Pool) -> None:
    def allowed(token: str, level: str) -> bool:
        answer = do(token, "ping", f"<{pool.collector}>", level)
        return isinstance(answer, dict) and answer["AuthorizationSucceeded"] == "True"

    levels = ("ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ", "WRITE", "DAEMON", "NEGOTIATOR", "ADMINISTRATOR")
    assert [level for level in levels if allowed(pool.pilot_alpha, level)] == ["ADVERTISE_STARTD", "ADVERTISE_MASTER"]
    assert [level for level in levels if allowed(pool.factory, level)] == ["READ"]


def test_nobody_reads_without_a_token_from_a_strange_host(pool: Pool) -> None:
    looking = ("look", pool.collector, 'MyType == "Collector"', ["Name"])
    assert do(pool.factory, *looking)

    assert isinstance(do("", *looking, authentication="OPTIONAL"), Refused)
    assert isinstance(do("", "queue", pool.ap1, authentication="OPTIONAL"), Refused)


def test_factorys_token_for_one_ap_is_worth_nothing_at_another(bed: Bed, pool: Pool) -> None:
    assert isinstance(do(pool.factory_at_ap1, "queue", pool.ap1), int)
    at_ap2 = sign(bed, host="ap2", kid="ap-ap2", subject="factory-read@pool", scopes=READ_SCOPES)

    assert isinstance(do(at_ap2, "queue", pool.ap1), Refused)
    assert isinstance(do(pool.factory, "queue", pool.ap1), Refused)


def test_pilot_token_does_not_submit(bed: Bed) -> None:
    user = sign(bed, host="ap1", kid="ap-ap1", subject="alice@pool", scopes=("condor:/READ", "condor:/WRITE"))
    pilot = sign(bed, host="cm", kid="pilot-alpha", subject="pilot-alpha@pool", scopes=PILOT_SCOPES)
    argv = ["sh", "-c", WITH_TOKEN + SUBMIT]

    proper = bed.attempt("ap1", argv, user="alice", stdin=user.encode())
    assert proper.returncode == 0, proper.stderr.decode()
    refused = bed.attempt("ap1", argv, user="alice", stdin=pilot.encode())
    assert refused.returncode != 0
    assert b"AUTHENTICATE" in refused.stderr + refused.stdout


SUBMIT = """
cd "$d"
printf 'executable=/bin/true\\nhold=true\\nqueue\\n' >job.sub
condor_submit -terse job.sub >id && condor_rm "$(cut -d' ' -f1 id | cut -d. -f1)"
"""


def test_nobody_is_given_a_token_by_a_daemon(bed: Bed) -> None:
    assert bed.as_user("ap1", "alice", "condor_q -allusers -totals")
    for ap_tool in ("condor_token_fetch", "condor_token_fetch -type SCHEDD"):
        refused = bed.attempt("ap1", ["sh", "-c", f"cd && {ap_tool}"], user="alice")
        assert refused.returncode != 0, ap_tool
        assert not refused.stdout.startswith(b"eyJ")
    # As root on the CM itself the request is let in, and the daemon says that it does not do such things.
    asked = bed.attempt("cm", ["timeout", "20", "condor_token_request", "-identity", "condor@pool"], user="root")
    assert asked.returncode not in (0, 124)
    assert b"disabled" in asked.stdout + asked.stderr


def test_ordinary_user_on_an_ap_sees_the_pool_and_why_a_job_waits(bed: Bed) -> None:
    assert "ap1.pool" in bed.as_user("ap1", "alice", "condor_status -schedd -af Name")
    job = bed.as_user(
        "ap1",
        "alice",
        "printf 'executable=/bin/true\\nrequest_memory=99999999\\nhold=true\\nqueue\\n' >see.sub"
        " && condor_submit -terse see.sub",
    ).split()[0]
    try:
        assert "RequestMemory = 99999999" in bed.as_user("ap1", "alice", f"condor_q -better-analyze {job}")
    finally:
        bed.as_user("ap1", "alice", f"condor_rm {job.partition('.')[0]}")


def test_project_cannot_be_made_up(bed: Bed) -> None:
    def submit(*lines: str) -> tuple[bool, str]:
        text = "".join(f"{line}\\n" for line in ("executable=/bin/true", "hold=true", *lines, "queue"))
        done = bed.attempt(
            "ap1", ["sh", "-c", f"cd && printf '{text}' >project.sub && condor_submit -terse project.sub"], user="alice"
        )
        return done.returncode == 0, (done.stdout + done.stderr).decode()

    def charged(answer: str) -> str:
        cluster = answer.split(".")[0]
        group = bed.as_user("ap1", "alice", f"condor_q {cluster} -af AccountingGroup").strip()
        edited = bed.attempt("ap1", ["condor_qedit", cluster, "AccountingGroup", '"bio01.dave"'], user="alice")
        assert edited.returncode != 0
        bed.as_user("ap1", "alice", f"condor_rm {cluster}")
        return group

    users = {user.name: user for user in model.USERS}
    own, foreign = users["alice"].projects, users["carol"].projects[0]
    ok, answer = submit()
    assert ok, answer
    assert charged(answer) == f"astro.{own[0]}.alice"
    ok, answer = submit(f"accounting_group={own[-1]}", "accounting_group_user=carol")
    assert ok, answer
    assert charged(answer) == f"astro.{own[-1]}.alice"

    ok, answer = submit(f"accounting_group={foreign}")
    assert not ok
    assert f"{foreign} is no project of alice; valid: {','.join(own)}" in answer


def test_keys_are_where_they_are_needed_and_nowhere_else(bed: Bed) -> None:
    def keys(host: str) -> set[str]:
        return set(bed.run(host, ["ls", "/etc/condor/passwords.d"], user="root").split())

    # The collector makes itself a key POOL at its first start; nothing is signed with it.
    assert keys("cm") - {"POOL"} == {"cm", *(f"pilot-{site.name}" for site in model.ALL_SITES)}
    for ap in model.APS:
        assert keys(ap) == {f"ap-{ap}"}
        modes = bed.run(
            ap, ["sh", "-c", "stat -c '%a %U' /etc/condor/passwords.d/* /etc/condor/tokens.d/*"], user="root"
        )
        assert set(modes.splitlines()) == {"600 root"}
