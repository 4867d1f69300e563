#!/bin/sh
# next-suite HERE NEXT "PACKAGES": offer PACKAGES from Debian suite NEXT, and nothing else of it.
# The address is the one this machine already uses for suite HERE: no mirror is named in this project.
set -eu
here=$1 next=$2 packages=$3
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null \
    | sed -nE -e "s|^deb +(\[[^]]*\] +)?([^ ]+) +$here +.*|\2|p" -e 's|^URIs: *([^ ]+).*|\1|p' | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "next-suite: no apt source for $here found in /etc/apt" >&2; exit 1; }
echo "deb $mirror $next main" > "/etc/apt/sources.list.d/$next.list"
{
    printf 'Package: *\nPin: release n=%s\nPin-Priority: -10\n\n' "$next"
    printf 'Package: %s\nPin: release n=%s\nPin-Priority: 990\n' "$packages" "$next"
} > "/etc/apt/preferences.d/$next"
