#!/bin/sh
# A small real computation: hash the input again and again for about SECONDS seconds of work on CORES cores,
# then print the checksum of the input, which whoever submitted the job can verify.
set -eu
input=$1 cores=$2 seconds=$3
end=$(($(date +%s) + seconds))
i=0
while [ "$i" -lt "$cores" ]; do
    while [ "$(date +%s)" -lt "$end" ]; do
        sha256sum "$input" >/dev/null
        sleep 1
    done &
    i=$((i + 1))
done
wait
sha256sum "$input" | cut -d' ' -f1
