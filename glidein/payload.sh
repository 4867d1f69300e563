#!/bin/sh
# HTCondor's USER_JOB_WRAPPER in a pilot: runs one payload as its child, and ends exactly as the payload ended.
#
# Why it is there: scancel, preemption and the time limit send SIGTERM to every process of the Slurm job, payloads too.
# A payload without a handler dies of it before HTCondor's starter has learnt anything, and the starter would report
# the job as completed, killed by signal 15. This wrapper gets the same signal and survives. When the pilot has been
# told to stop (pilot.sh makes the file "stopping") it keeps quiet about the payload's death until the starter's log
# says that the starter has been told too. From then on the starter hands the job back as evicted, however it ended,
# and the access point runs it elsewhere.
#
# The payload's own signals, handlers and standard files are as they would be without the wrapper. HTCondor's
# condor_pid_ns_init stands between for the exact wait status, which a shell does not tell: 128 + n may be either.
# Builtins and absolute names only: the environment, PATH too, is the payload's.

pass() { # one signal on to the payload
    [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
}

nap() { # one second, or less when a signal comes
    /bin/sleep 1 &
    wait $! 2>/dev/null
}

main() {
    told='' child='' raw='' word=''
    trap 'told=1; pass TERM' TERM
    for signal in HUP INT QUIT USR1 USR2; do
        # shellcheck disable=SC2064 # the name is wanted as it is now
        trap "pass $signal" $signal
    done
    here=${0%/*}
    echo started >>"$here/payloads"
    init=$here/condor/libexec/condor_pid_ns_init
    [ -x "$init" ] || exec "$@" # an HTCondor without it: better unguarded than not at all
    status=$here/run/payload.$$
    exec 3<&0 # a background command's stdin would else be /dev/null
    _CONDOR_PID_NS_INIT_STATUS_FILENAME=$status "$init" "$@" <&3 3<&- &
    child=$!
    exec 3<&-
    while wait "$child"; kill -0 "$child" 2>/dev/null; do :; done
    [ ! -r "$status" ] || read -r word raw <"$status"
    /bin/rm -f "$status"

    if [ "$word" = ExecFailed: ]; then
        # As a shell would. HTCondor's own file for a wrapper's errors makes 25.14.1 restart the job without end.
        echo "pilot: cannot run $1: errno $raw" >&2
        [ "$raw" != 2 ] || exit 127
        exit 126
    fi
    raw=${raw:-15} # the guard itself was killed, before it could write
    if [ "$raw" != 0 ] || [ -n "$told" ]; then
        PATH=/usr/bin:/bin count=0
        nap # let a signal that is being sent to all reach us and pilot.sh too
        while [ -e "$here/stopping" ] && [ $count -lt 120 ] &&
            ! grep -q "(pid:$PPID) Shutdown[GF]" "$here"/log/StarterLog.*; do
            nap
            count=$((count + 1))
        done
    fi
    number=$((raw & 127))
    if [ $number -ne 0 ]; then
        ulimit -c 0
        trap - TERM HUP INT QUIT USR1 USR2
        kill -$number $$
    fi
    exit $((raw >> 8 & 255))
}

main "$@"
