#!/bin/sh
# What the site's own admin lets run here, as attributes of the pilot's slots. HTCondor runs it once a minute, pilot.sh
# once before HTCondor starts. The grammar is that of glidein/siterules.py, and so is the rule: a file that cannot be
# read as a whole closes the pilot, it never means that everything is allowed. Beside this script lie
#   site-policy    a link to the admin's file, which need not be there
#   home-spool     a link to the pilot's directory in the shared home, which must be: else the home itself is away
#   vo.map         lines "project vo"

number() { case $1 in '' | *[!0-9]* | ??????????*) return 1 ;; esac; }

add() { # to a list, the name and what it stands for
    list="$1:$2"
    if [ "$1" = vo ]; then
        while read -r project vo; do
            [ "$vo" != "$2" ] || list="$list,project:$project"
        done <"$here/vo.map"
    fi
}

rule() { # the words of one line
    words=
    for word; do
        case $word in '#'*) break ;; esac
        words="$words $word"
    done
    # shellcheck disable=SC2086 # split into words again
    set -- $words
    case $1 in
    '') return 0 ;;
    pause) paused=true && return 0 ;;
    esac
    [ $# -eq 3 ] || return 1
    case $1 in
    deny | allow)
        case $2 in vo | project | user) ;; *) return 1 ;; esac
        case $3 in *[!a-z0-9_.@+:/-]*) return 1 ;; esac
        [ ${#3} -le 64 ] || return 1
        add "$2" "$3"
        if [ "$1" = deny ]; then denied=$denied,$list; else allowed=$allowed,$list; fi
        ;;
    cap)
        case $2 in max_pilots | max_pending | max_cores) number "$3" ;; *) return 1 ;; esac
        ;;
    *) return 1 ;;
    esac
}

parse() { # the copy; not 0: it is no such file
    size=$(($(wc -c <"$copy")))
    [ $size -le 16384 ] || return 1
    [ $size -eq 0 ] || [ $(($(tail -c 1 "$copy" | wc -l))) -eq 1 ] || return 1
    [ $(($(tr -d '\011\012\040-\176' <"$copy" | wc -c))) -eq 0 ] || return 1
    tr A-Z a-z <"$copy" >"$copy.lower" || return 1
    set -f
    while IFS= read -r line; do
        # shellcheck disable=SC2086 # split into words
        rule $line || return 1
    done <"$copy.lower"
}

fetch() { # 0: the copy is what the file holds; a file that surely is not there holds nothing
    [ -d "$here/home-spool/." ] || return 1
    if [ -e "$here/site-policy" ] && [ ! -f "$here/site-policy" ]; then return 1; fi
    # A home that hangs must not hang us.
    timeout -k 2 15 head -c 16385 "$here/site-policy" >"$copy" 2>"$copy.words" && return 0
    grep -q 'No such file or directory' "$copy.words" && : >"$copy"
}

main() {
    LC_ALL=C
    export LC_ALL
    umask 077
    here=${0%/*} paused=false denied='' allowed=''
    copy=$here/run/site-policy
    fetch && parse || paused=true
    [ $paused = false ] || denied='' allowed=''
    echo "GlideinPaused = $paused"
    echo "GlideinDenied = \"${denied#,}\""
    echo "GlideinAllowed = \"${allowed#,}\""
}

main
