#!/bin/sh
# aerotow site check, on a compute node, in place of a pilot: what a pilot will need there, and nothing else.
# Reads check.env beside it (pilot id, collector's host, its port, scratch directory, MiB wanted there, one a line);
# leaves end.json with a line of findings in "detail".
main() {
    umask 077
    LC_ALL=C PATH=$PATH:/usr/bin:/bin start=$(date +%s) spool=$1
    export LC_ALL PATH
    { read -r pilot_id && read -r host && read -r port && read -r scratch && read -r wanted_mib; } <"$spool/check.env" ||
        exit 23
    missing=''
    for tool in tar gzip sha256sum mktemp df head tail grep tr cut timeout; do
        command -v $tool >/dev/null 2>&1 || missing=$missing,$tool
    done
    net=unknown words=''
    if command -v bash >/dev/null 2>&1; then
        # shellcheck disable=SC2016 # bash shall read it
        words=$(timeout 15 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>&1)
        case $?:$words in
        0:*) net=open words='' ;;
        124:* | *'timed out'*) net=silent ;;
        *refused*) net=refused ;;
        *'not known'* | *'resolution'*) net=unresolved ;;
        *) net=unreachable ;;
        esac
    fi
    free_mib=none
    if dir=$(mktemp -d "$scratch/atw.XXXXXX" 2>/dev/null); then
        free_mib=$(($(df -Pk "$dir" | { read -r _ && read -r _ _ _ free _ && echo "${free:-0}"; }) / 1024))
        rmdir "$dir"
    fi
    node=$(printf '%s' "${SLURMD_NODENAME:-$(uname -n)}" | tr -c 'A-Za-z0-9._-' '?')
    detail="net=$net free_mib=$free_mib missing=${missing#,} words=$words"
    detail=$(printf '%s' "$detail" | tr -c 'A-Za-z0-9 ._:/=,()@+-' '?' | cut -c 1-280)
    printf '{"pilot_id": "%s", "reason": "idle", "exit_code": 0, "start": %s, "joined": null, "end": %s, "node": "%s", ' \
        "$pilot_id" "$start" "$(date +%s)" "$node" >"$spool/.end.json"
    printf '"cores": 1, "memory_mib": 1, "jobs": 0, "detail": "%s"}\n' "$detail" >>"$spool/.end.json"
    mv "$spool/.end.json" "$spool/end.json"
}

main "$@"
