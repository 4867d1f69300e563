#!/bin/sh
# testbed-host COMMAND ...: stands in for an init system inside one container of the test-bed.
#
#   init                  process 1: prepares the host, starts its daemons once, then only reaps; restarts nothing
#   start|stop|kill NAME  stop is TERM and waits, kill is KILL; both leave the daemon down
#   signal NAME SIGNAL    for fault tests: STOP, CONT, HUP ...
#   heal                  start what is down, continue what is stopped
#   status                one line per daemon: NAME running|frozen|down PID SECONDS
#
# /etc/testbed/host.env says which host this is: ROLE, DAEMONS and, at a site, CLUSTER.
set -u
. /etc/testbed/host.env
READY=/tmp/.testbed-ready

say() { echo "$(date -u +%H:%M:%S) $*"; }
die() { echo "testbed-host: $*" >&2; exit 1; }

# A factory is one process among short commands of the same name, so it is known by its command line.
pid_of() {
    case $1 in
        condor) pgrep -x -o condor_master ;;
        aerotow) pgrep -o -f '^/opt/aerotow/bin/python[^ ]* /[^ ]*/aerotow( .*)? run( |$)' ;;
        # Sessions that are open outlive the one that listens, and have its name.
        sshd) pgrep -o -f '^sshd: .*\[listener\]' ;;
        *) pgrep -x -o "$1" ;;
    esac
}

state_of() {
    pid=$(pid_of "$1") || { echo "$1 down - -"; return; }
    # "T" is a process stopped by SIGSTOP: there, but it answers nobody.
    # shellcheck disable=SC2046
    set -- "$1" "$pid" $(ps -o stat=,etimes= -p "$pid")
    case ${3:-} in
        '') echo "$1 down - -" ;;
        T*) echo "$1 frozen $2 $4" ;;
        Z*) echo "$1 down - -" ;;
        *) echo "$1 running $2 $4" ;;
    esac
}

is_up() { [ "$(state_of "$1" | cut -d' ' -f2)" != down ]; }

# wait_until SECONDS COMMAND...: true as soon as the command is.
wait_until() {
    tries=$(( $1 * 10 )); shift
    while [ $tries -gt 0 ]; do
        "$@" >/dev/null 2>&1 && return 0
        tries=$(( tries - 1 )); sleep 0.1
    done
    return 1
}

start() {
    is_up "$1" && return 0
    case $1 in
        munged) runuser -u munge -- munged ;;
        mariadbd)
            setsid runuser -u mysql -- mariadbd </dev/null >>/var/log/mysql/testbed.log 2>&1 &
            wait_until 30 mariadb-admin --no-defaults -u root ping || die "mariadbd does not answer" ;;
        slurmdbd)
            rm -f /run/slurm/slurmdbd.pid; slurmdbd
            wait_until 30 sacctmgr -n -P show cluster || die "slurmdbd does not answer" ;;
        slurmctld) rm -f /run/slurm/slurmctld.pid; slurmctld ;;
        sshd) /usr/sbin/sshd ;;
        slurmrestd) start_slurmrestd ;;
        stunnel4) stunnel4 /etc/testbed/stunnel.conf >>/var/log/testbed-stunnel.log 2>&1 ;;
        slurmd) start_slurmd ;;
        condor)
            [ -e /etc/condor/config.d/50-aerotow ] || { say "condor: not configured yet"; return 0; }
            condor_master ;;
        aerotow)
            [ "$(id -un)" = aerotow ] || die "start aerotow as user aerotow"
            setsid aerotow --config /etc/aerotow/aerotow.toml run </dev/null >>/var/lib/aerotow/factory.log 2>&1 & ;;
        *) die "no daemon '$1'" ;;
    esac || die "$1 did not start"
}

# slurmd gets a user namespace of its own with an identity map. Without it Slurm 24 and 26 die in an unprivileged
# container at any job with --export=NONE ("fatal: clone: Operation not permitted"), and no version measures memory.
start_slurmd() {
    rm -f /run/slurm/slurmd.pid
    mapped=/run/testbed-mapped.$$
    unshare -U sh -c "until [ -e $mapped ]; do sleep .05; done; rm -f $mapped; exec slurmd" &
    child=$!
    sleep .2
    echo "0 0 65536" > /proc/$child/uid_map && echo "0 0 65536" > /proc/$child/gid_map || die "no user namespace"
    : > "$mapped"
    wait $child
}

# It refuses to run as root or as Slurm's own user. Plain HTTP inside this host only; stunnel4 speaks TLS for it.
# setpriv becomes it; runuser would stay as its parent, stop with it, and leave it a zombie.
start_slurmrestd() {
    SLURMRESTD_SECURITY=disable_unshare_sysv,disable_unshare_files SLURM_JWT=daemon \
        setsid setpriv --reuid=restd --regid=restd --clear-groups slurmrestd -a rest_auth/jwt 127.0.0.1:6820 \
        </dev/null >>/var/log/testbed-slurmrestd.log 2>&1 &
    wait_until 20 curl -s -o /dev/null http://127.0.0.1:6820/ || die "slurmrestd does not answer"
}

stop() {  # stop NAME SIGNAL
    pid=$(pid_of "$1") || return 0
    kill -s "$2" "$pid"
    kill -s CONT "$pid" 2>/dev/null
    wait_until 30 gone "$pid" || die "$1 (pid $pid) does not end after $2"
}

gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

heal() {
    [ -e $READY ] || [ "${1:-}" = first ] || die "this host never came up"
    for daemon in $DAEMONS; do
        case $(state_of "$daemon") in
            *' frozen '*) kill -s CONT "$(pid_of "$daemon")"; say "$daemon: continued" ;;
            *' down '*) start "$daemon" && say "$daemon: started" ;;
        esac
    done
}

prepare_slurm() {
    install -d -o munge -g munge -m 0755 /run/munge /var/lib/munge
    install -d -o munge -g munge -m 0700 /var/log/munge /etc/munge
    install -o munge -g munge -m 0400 /etc/testbed/munge.key /etc/munge/munge.key
    rm -f /etc/testbed/munge.key
    install -d -o slurm -g slurm -m 0755 /run/slurm /var/log/slurm /var/lib/slurm /var/lib/slurm/slurmctld
    # As the package has it: others may enter, and each job's own directory below it is its user's alone.
    install -d -m 0755 /var/lib/slurm/slurmd
    install -d -m 0755 /run/sshd
}

# First start of a login host: an accounting database of its own, then the accounts of /etc/testbed/accounts.
prepare_accounting() {
    install -d -o mysql -g mysql -m 0755 /run/mysqld /var/log/mysql
    mariadb-install-db --user=mysql --auth-root-authentication-method=normal --skip-test-db >/dev/null || die "mariadb-install-db"
    start munged
    start mariadbd
    password=$(head -c 24 /dev/urandom | base64 | tr -dc 'A-Za-z0-9')
    mariadb --no-defaults -u root <<SQL || die "no accounting database"
CREATE DATABASE slurm_acct_db;
CREATE USER slurm@localhost IDENTIFIED BY '$password', slurm@127.0.0.1 IDENTIFIED BY '$password';
GRANT ALL ON slurm_acct_db.* TO slurm@localhost, slurm@127.0.0.1;
SQL
    (umask 077; sed "s/^StoragePass=.*/StoragePass=$password/" /etc/testbed/slurmdbd.conf > /etc/slurm/slurmdbd.conf)
    (umask 077; head -c 32 /dev/urandom > /var/lib/slurm/jwt.key)
    chown slurm:slurm /etc/slurm/slurmdbd.conf /var/lib/slurm/jwt.key
    start slurmdbd
    while read -r line; do
        # The line is a list of sacctmgr words.
        # shellcheck disable=SC2086
        sacctmgr -i $line >/dev/null || die "sacctmgr $line"
    done < /etc/testbed/accounts
    # A controller killed before it ever saved its state cannot start again ("No Assoc usage file to recover"). It saves
    # every five minutes and at its end, so it ends once, now; then a fault test may kill it at any time.
    start slurmctld
    wait_until 20 sh -c 'scontrol ping | grep -q UP' || die "slurmctld does not answer"
    stop slurmctld TERM
    [ -e /var/lib/slurm/slurmctld/assoc_usage ] || die "slurmctld saved no state"
}

# A certificate for every name and address of this host, from an authority that signs once and forgets its key.
prepare_tls() {
    dir=/etc/testbed/tls
    names="DNS:$(hostname -f)$(for one in $(hostname -I); do printf ',IP:%s' "$one"; done)"
    (
        umask 077; mkdir -p $dir && cd $dir || exit 1
        openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -keyout ca.key -out ca.pem -subj "/CN=test-bed $CLUSTER" \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign &&
            openssl req -newkey rsa:2048 -nodes -keyout rest.key -out rest.csr -subj "/CN=$(hostname -f)" &&
            printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' "$names" >rest.ext &&
            printf 'authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n' >>rest.ext &&
            openssl x509 -req -days 3650 -in rest.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile rest.ext -out rest.pem &&
            rm -f ca.key rest.csr rest.ext
    ) >/var/log/testbed-tls.log 2>&1 || die "no certificate: $(cat /var/log/testbed-tls.log)"
}

prepare_users() {
    while IFS=: read -r name uid; do
        id "$name" >/dev/null 2>&1 || useradd -m -u "$uid" -s /bin/bash "$name"
        chmod 0700 "/home/$name"
    done < /etc/testbed/users
}

init() {
    rm -f $READY
    case $ROLE in
        login) prepare_slurm; prepare_accounting; prepare_tls; ssh-keygen -A >/dev/null ;;
        node) prepare_slurm ;;
        cm | ap | htc) prepare_users ;;
    esac
    heal first
    : > $READY
    say "$ROLE ready"
    trap 'exit 0' TERM INT
    # The shell waits for any child, so it also reaps what daemons leave behind.
    while :; do sleep 3600 & wait $!; done
}

case ${1:-} in
    init) init ;;
    start) start "$2" ;;
    stop) stop "$2" TERM ;;
    kill) stop "$2" KILL ;;
    signal) pid=$(pid_of "$2") || die "$2 is down"; kill -s "$3" "$pid" ;;
    heal) heal ;;
    status) [ -e $READY ] && echo "ready" || echo "starting"; for daemon in $DAEMONS ${WATCHED:-}; do state_of "$daemon"; done ;;
    *) die "unknown command '${1:-}'" ;;
esac
