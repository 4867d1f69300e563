#!/bin/sh
# aerotow's pilot: the Slurm batch script. One argument: its spool directory in the shared home, which holds
#   pilot.env      KEY=value lines, read as data and never executed
#   condor_config  the execution point's configuration, completed here with what only the node knows
#   payload.sh     HTCondor's job wrapper
#   policy.sh      reads what the site's admin lets run here; vo.map is its map of projects to VOs
#   token          the secret; it moves to the node and leaves the home when the pilot has joined or ended
# It leaves end.json there, one line, and log.tail when something went wrong. Each reason has its own exit code:
#   idle 0, lifetime 10, stopped 20, not_joined 21, bad_bundle 22, bad_input 23, no_scratch 24, condor_failed 25,
#   requeued 26
# POSIX sh: tried with dash, bash and busybox. All inside main(), so a script cut short in transfer does nothing.

say() { echo "pilot: $*" >&2; }

number() { case $1 in '' | *[!0-9]* | ?????????????*) return 1 ;; esac; }

read_facts() { # of pilot.env, only the keys we know, each value of harmless characters
    [ -r "$spool/pilot.env" ] || finish bad_input "no readable pilot.env in $spool"
    while IFS= read -r line; do
        case $line in '' | '#'*) continue ;; esac
        key=${line%%=*} value=${line#*=}
        case $value in '' | *[!A-Za-z0-9._:/@+~-]*) finish bad_input "value of $key" ;; esac
        case $key in
        pilot_id) pilot_id=$value ;;
        scratch_dir) scratch_dir=$value ;;
        bundle) bundle=$value ;;
        rules_file) rules_file=$value ;;
        bundle_sha256) bundle_sha256=$value ;;
        walltime_s | stop_before_end_s | retire_margin_s | join_timeout_s | memory_reserve_mib | disk_mib | cores | memory_mib)
            number "$value" || finish bad_input "$key is no number"
            case $key in
            walltime_s) walltime_s=$value ;;
            stop_before_end_s) stop_before_end_s=$value ;;
            retire_margin_s) retire_margin_s=$value ;;
            join_timeout_s) join_timeout_s=$value ;;
            memory_reserve_mib) memory_reserve_mib=$value ;;
            disk_mib) disk_mib=$value ;;
            cores) cores=$value ;;
            memory_mib) memory_mib=$value ;;
            esac
            ;;
        *) finish bad_input "unknown key in pilot.env" ;;
        esac
    done <"$spool/pilot.env"
    for value in "$pilot_id" "$scratch_dir" "$rules_file" "$bundle" "$bundle_sha256" "$walltime_s" "$stop_before_end_s" \
        "$retire_margin_s" "$join_timeout_s" "$memory_reserve_mib" "$disk_mib" "$cores" "$memory_mib"; do
        [ -n "$value" ] || finish bad_input "a key is missing in pilot.env"
    done
    case ${SLURM_RESTART_COUNT:-0} in 0) ;; *) leave_again ;; esac
    case $bundle in /*) ;; *) bundle=$spool/$bundle ;; esac
    case $rules_file in /*) ;; *) rules_file=$spool/$rules_file ;; esac
    for file in token condor_config payload.sh policy.sh vo.map; do
        [ -r "$spool/$file" ] || finish bad_input "no readable $file"
    done
}

leave_again() { # The site runs the job a second time, by its policy or its admin's hand. The token went with the first
    # run and the jobs have gone elsewhere; what the first run has reported still holds.
    earlier=$(head -c 8192 "$spool/end.json" 2>/dev/null)
    first_jobs=$(earlier_number jobs) && jobs_before=$first_jobs
    first_start=$(earlier_number start) && start=$first_start
    first_joined=$(earlier_number joined) && joined_at=$first_joined
    finish requeued "the site ran it again, restart $SLURM_RESTART_COUNT"
}

earlier_number() {
    found=$(printf '%s\n' "$earlier" | sed -n "s/.*\"$1\": \([0-9]*\)[,}].*/\1/p")
    number "$found" && echo "$found"
}

read_shape() { # what Slurm gave, which may be more or less than was asked for
    if number "$SLURM_CPUS_ON_NODE"; then cores=$SLURM_CPUS_ON_NODE; fi
    if number "$SLURM_MEM_PER_NODE"; then
        memory_mib=$SLURM_MEM_PER_NODE
    elif number "$SLURM_MEM_PER_CPU"; then
        memory_mib=$((SLURM_MEM_PER_CPU * cores))
    fi
    slot_mib=$((memory_mib - memory_reserve_mib))
    [ $slot_mib -ge 1 ] && [ "$cores" -ge 1 ] || finish bad_input "$cores cores, $memory_mib MiB: nothing to offer"
    die_at=$((start + walltime_s - stop_before_end_s))
    case ${SLURM_JOB_ID:-0} in *[!0-9_]*) job_id=0 ;; *) job_id=${SLURM_JOB_ID:-0} ;; esac
}

unpack() {
    scratch=$(mktemp -d "$scratch_dir/atw.XXXXXX") || finish no_scratch "cannot make a directory in $scratch_dir"
    free_kib=$(df -Pk "$scratch" | { read -r _ && read -r _ _ _ free _ && echo "$free"; })
    number "$free_kib" || free_kib=0
    # The bundle takes about 50 MiB unpacked, the logs a few.
    [ "$free_kib" -ge $(((disk_mib + 64) * 1024)) ] ||
        finish no_scratch "$((free_kib / 1024)) MiB free in $scratch_dir, $((disk_mib + 64)) wanted"
    # A copy of our own, so that what was checked is what is unpacked.
    cp "$bundle" "$scratch/bundle" || finish bad_bundle "cannot copy $bundle"
    found=$(sha256sum <"$scratch/bundle") || finish bad_bundle "cannot read $bundle"
    [ "${found%% *}" = "$bundle_sha256" ] || finish bad_bundle "sha256 is ${found%% *}, not $bundle_sha256"
    mkdir "$scratch/tree" && tar -xzf "$scratch/bundle" -C "$scratch/tree" || finish no_scratch "cannot unpack"
    rm -f "$scratch/bundle"
    for master in "$scratch"/tree/sbin/condor_master "$scratch"/tree/*/sbin/condor_master; do
        [ ! -x "$master" ] || ln -s "${master%/sbin/condor_master}" "$scratch/condor"
    done
    [ -x "$scratch/condor/sbin/condor_master" ] || finish bad_bundle "no sbin/condor_master in it"
}

configure() {
    for dir in tokens.d passwords.d log lock run spool execute sock; do
        mkdir -m 700 "$scratch/$dir" || finish no_scratch "cannot make $dir"
    done
    chmod 755 "$scratch/execute" # HTCondor asks for it; its parent is ours alone
    cp "$spool/payload.sh" "$scratch/payload.sh" && chmod 700 "$scratch/payload.sh" &&
        cp "$spool/token" "$scratch/tokens.d/pilot" && chmod 600 "$scratch/tokens.d/pilot" &&
        # Slurm's SIGTERM to all would kill HTCondor's process tracker, and startd and starter cannot end without it.
        printf '#!/bin/sh\ntrap "" TERM\nexec "%s" "$@"\n' "$scratch/condor/sbin/condor_procd" >"$scratch/procd.sh" &&
        chmod 700 "$scratch/procd.sh" &&
        cp "$spool/policy.sh" "$spool/vo.map" "$scratch" && chmod 700 "$scratch/policy.sh" &&
        ln -s "$rules_file" "$scratch/site-policy" && ln -s "$spool" "$scratch/home-spool" &&
        {
            cat "$spool/condor_config"
            echo "LOCAL_DIR = $scratch"
            echo "RELEASE_DIR = $scratch/condor"
            echo "NUM_CPUS = $cores"
            echo "MEMORY = $slot_mib"
            echo "GlideinToDie = $die_at"
            echo "GlideinToRetire = $((die_at - retire_margin_s))"
            echo "GlideinSlurmJobId = \"$job_id\""
            echo "GlideinNode = \"$node\""
            "$scratch/policy.sh" # so that the first ad says it, before HTCondor runs it by itself
        } >"$scratch/condor_config" || finish no_scratch "cannot write the configuration"
}

on_signal() { # payload.sh looks for the file: it tells Slurm's SIGTERM to all from HTCondor's own to one
    [ -z "$scratch" ] || : >"$scratch/stopping"
    [ -n "$asked" ] || asked=$(date +%s)
    why=stopped
    [ -z "$master" ] || kill -TERM "$master" 2>/dev/null
    report stopped 20 "told by a signal" # in case Slurm's SIGKILL comes before the true end
}

nap() { # interruptible: a trap runs only between commands or in wait
    sleep "$1" &
    wait $!
}

joined() { # the collector's broker has named this startd, so it took our token and the pool can reach us, and
    # the collector has not refused our ad: it does so without a word, by closing the connection (25.14.1)
    [ -r "$scratch/log/.startd_address" ] && read -r address <"$scratch/log/.startd_address" || return 1
    case $address in *CCBID=*) ;; *) return 1 ;; esac
    grep -q "Initial update sent to collector" "$scratch/log/StartLog" || return 1
    count=$(grep -c "Socket closed when trying to write .* to collector" "$scratch/log/StartLog")
    [ "$count" = "$refusals" ] || { refusals=$count quiet_from=$((now + 40)); }
    [ -n "$quiet_from" ] || quiet_from=$((now + 4)) # a second ad follows the first within 2 s
    [ "$now" -ge "$quiet_from" ]
}

watch_master() { # until it has ended; sets why
    quit='' killed='' refusals=0 quiet_from=''
    while kill -0 "$master" 2>/dev/null; do
        now=$(date +%s)
        if [ -z "$joined_at" ] && joined; then
            joined_at=$now
            rm -f "$spool/token"
            say "joined after $((now - start)) s"
        fi
        if [ -z "$asked" ]; then
            if [ "$now" -ge "$die_at" ]; then
                why=lifetime
            elif [ -z "$joined_at" ] && [ "$now" -ge $((start + join_timeout_s)) ]; then
                why=not_joined
            fi
            if [ -n "$why" ]; then
                asked=$now
                kill -TERM "$master"
            fi
        # Slurm's SIGKILL may come 10 s after its SIGTERM, which payloads have had too, and somebody may wait for the
        # node: what has not ended after 2 s is told to hurry.
        elif [ -z "$quit" ] && [ "$now" -ge $((asked + 2)) ]; then
            quit=1
            kill -QUIT "$master"
        elif [ -z "$killed" ] && [ "$now" -ge $((asked + 20)) ]; then
            killed=1
            kill -KILL "$master"
        fi
        if [ -z "$joined_at$asked" ] || [ -n "$asked" ]; then nap 1; else nap 3; fi
    done
    wait "$master"
    status=$?
    if [ -n "$why" ]; then
        detail="condor_master ended with $status"
        [ $why$refusals = not_joined0 ] || [ $why != not_joined ] || detail="the collector refuses our ad, $detail"
    elif [ -z "$joined_at" ]; then
        why=condor_failed detail="condor_master ended with $status before it joined"
    elif grep -q "No resources have been claimed for" "$scratch"/log/StartLog* 2>/dev/null; then
        why=idle detail="no claim for the idle time"
    elif [ $status -eq 0 ]; then
        why=stopped detail="told by HTCondor"
    else
        why=condor_failed detail="condor_master ended with $status"
    fi
}

report() { # reason, exit code, detail: to the home, complete or not at all
    end=$(date +%s) jobs=$jobs_before
    [ ! -r "$scratch/payloads" ] || jobs=$(($(wc -l <"$scratch/payloads")))
    text=$(printf '%s' "$3" | tr -c 'A-Za-z0-9 ._:/=,()@+-' '?' | cut -c 1-300)
    line="{\"version\": 1, \"pilot_id\": \"$pilot_id\", \"reason\": \"$1\", \"exit_code\": $2, \"start\": $start,"
    line="$line \"joined\": ${joined_at:-null}, \"end\": $end, \"node\": \"$node\", \"cores\": ${cores:-0},"
    line="$line \"memory_mib\": ${memory_mib:-0}, \"jobs\": $jobs, \"detail\": \"$text\"}"
    say "$line"
    echo "$line" >"$spool/.end.json" && mv "$spool/.end.json" "$spool/end.json" || say "cannot write $spool/end.json"
}

finish() { # reason, detail: the one way out
    trap '' TERM INT
    [ -z "$asked" ] || [ "$1" = lifetime ] || [ "$1" = not_joined ] || set -- stopped "$2" # killed tar is no bad bundle
    case $1 in
    idle) code=0 ;; lifetime) code=10 ;; stopped) code=20 ;; not_joined) code=21 ;; bad_bundle) code=22 ;;
    bad_input) code=23 ;; no_scratch) code=24 ;; requeued) code=26 ;; *) code=25 ;;
    esac
    rm -f "$spool/token" "$scratch/tokens.d/pilot"
    report "$1" $code "$2"
    case $1 in
    not_joined | condor_failed)
        for log in "$scratch"/log/MasterLog "$scratch"/log/StartLog; do
            echo "== ${log##*/}" && tail -c 30000 "$log"
        done 2>&1 | tail -c 65536 >"$spool/.log.tail" && mv "$spool/.log.tail" "$spool/log.tail"
        ;;
    esac
    cd / && [ -z "$scratch" ] || rm -rf "$scratch"
    exit $code
}

main() {
    umask 077
    PATH=$PATH:/usr/bin:/bin
    spool=$1 start=$(date +%s)
    pilot_id='' scratch_dir='' rules_file='' bundle='' bundle_sha256='' walltime_s='' stop_before_end_s='' retire_margin_s=''
    join_timeout_s='' memory_reserve_mib='' disk_mib='' cores='' memory_mib=''
    scratch='' master='' joined_at='' why='' asked='' detail='' jobs_before=0
    node=$(printf '%s' "${SLURMD_NODENAME:-$(uname -n)}" | tr -c 'A-Za-z0-9._-' '?')
    [ -d "$spool" ] || { say "no spool directory '$spool'" && exit 23; }
    trap on_signal TERM INT
    read_facts
    read_shape
    unpack
    configure
    cd "$scratch" || finish no_scratch "lost $scratch"
    [ -z "$asked" ] || finish stopped "told before HTCondor started"
    # Nothing of Slurm's or of the login environment reaches HTCondor or a payload.
    env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME="$HOME" USER="$USER" LOGNAME="$LOGNAME" \
        CONDOR_CONFIG="$scratch/condor_config" "$scratch/condor/sbin/condor_master" -f </dev/null &
    master=$!
    watch_master
    finish "$why" "$detail"
}

main "$@"
