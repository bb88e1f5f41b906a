#!/bin/sh
# Call a procedure of the bus over HTTP; for cron, and for any shell. Needs curl and openssl.
#
#   call.sh [-q] [-u URL] [-s FILE] [-t SECONDS] URI [ARGS [KWARGS]]
#
#   URI         what to call, such as com.example.dante.get_free_space
#   ARGS        positional arguments, a JSON array;  - reads it from standard input, where it can
#               be of any length and is not shown by ps
#   KWARGS      keyword arguments, a JSON object
#   -q          quiet: print nothing when the call succeeds
#   -u URL      the router's bridge; default $TASKBUS_CALL_URL, or http://127.0.0.1:9080/call
#   -s FILE     the bridge's key and secret, as two lines key=... and secret=...;
#               default $TASKBUS_CALL_SECRETS, or ../var/secrets/bridge beside this script's folder
#   -t SECONDS  how long to wait for the answer; default 300
#
# Prints the answer, a JSON object. Whether the call runs now or becomes a job is up to the API
# map; a job's answer is its id. Exit status:
#
#   0  the call succeeded
#   1  the call was answered by an error, which standard error names
#   2  used wrongly: nothing was sent
#   3  no answer, or refused before the call was made (wrong secret, wrong clock, not JSON, ...)
set -u
export LC_ALL=C

fail() { status=$1; shift; printf 'call: %s\n' "$*" >&2; exit "$status"; }

usage() {
    printf 'usage: %s [-q] [-u URL] [-s FILE] [-t SECONDS] URI [ARGS [KWARGS]]\n' "${0##*/}"
}

quiet='' timeout=300
url=${TASKBUS_CALL_URL:-http://127.0.0.1:9080/call}
secrets=${TASKBUS_CALL_SECRETS:-$(dirname -- "$0")/../var/secrets/bridge}
while getopts hqs:t:u: option 2>/dev/null; do
    case $option in
        h) usage; exit 0 ;;
        q) quiet=yes ;;
        s) secrets=$OPTARG ;;
        t) timeout=$OPTARG ;;
        u) url=$OPTARG ;;
        *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -lt 1 ] || [ $# -gt 3 ]; then usage >&2; exit 2; fi
uri=$1 args=${2-[]} kwargs=${3-{\}}
[ "$args" != - ] || args=$(cat)

# The router would refuse these as well, but less clearly.
case $uri in
    '' | *[!A-Za-z0-9_.-]*) fail 2 "not a URI: $uri" ;;
esac
case $args in \[*\]) ;; *) fail 2 "ARGS is not a JSON array: $args" ;; esac
case $kwargs in \{*\}) ;; *) fail 2 "KWARGS is not a JSON object: $kwargs" ;; esac
case $timeout in '' | 0* | *[!0-9]*) fail 2 "not a number of seconds: $timeout" ;; esac
case $url in
    *[!A-Za-z0-9:/._~%[\]-]*) fail 2 "not an http URL: $url" ;;
    http://?* | https://?*) ;;
    *) fail 2 "not an http URL: $url" ;;
esac

if ! [ -f "$secrets" ] || ! [ -r "$secrets" ]; then fail 2 "cannot read $secrets"; fi
case $(ls -ldL -- "$secrets") in
    ???????---*) ;;
    *) fail 2 "everybody may use $secrets: chmod 600 it" ;;
esac
key='' secret=''
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
        key=*) key=${line#key=} ;;
        secret=*) secret=${line#secret=} ;;
    esac
done <"$secrets"
case $key in '' | *[!A-Za-z0-9_.-]*) fail 2 "no key=... in $secrets" ;; esac
[ -n "$secret" ] || fail 2 "no secret=... in $secrets"

sha256() { openssl dgst -sha256 -binary; }
hex() { od -An -v -tx1; }

# HMAC-SHA256 of standard input (RFC 2104), spelled out: `openssl dgst -hmac` would show the secret
# to everybody who runs ps, while what the shell's own printf writes is seen by nobody.
hmac() {
    if [ ${#secret} -gt 64 ]; then bytes=$(printf %s "$secret" | sha256 | hex)
    else bytes=$(printf %s "$secret" | hex); fi
    inner='' outer='' count=0
    for byte in $bytes; do
        i=$((0x$byte ^ 0x36)) o=$((0x$byte ^ 0x5c)) count=$((count + 1))
        inner="$inner\\$((i >> 6))$((i >> 3 & 7))$((i & 7))"
        outer="$outer\\$((o >> 6))$((o >> 3 & 7))$((o & 7))"
    done
    while [ $count -lt 64 ]; do inner=$inner'\066' outer=$outer'\134' count=$((count + 1)); done
    # shellcheck disable=SC2059  # formats of nothing but octal bytes, some of them zero
    { printf "$outer"; { printf "$inner"; cat; } | sha256; } | sha256
}

body=$(printf '{"procedure":"%s","args":%s,"kwargs":%s}' "$uri" "$args" "$kwargs")
timestamp=$(date -u +%Y-%m-%dT%H:%M:%S.000Z)
nonce=$(($(od -An -N4 -tu4 /dev/urandom)))
signature=$(printf %s "$key$timestamp" "1$nonce" "$body" | hmac |
    openssl base64 -A | tr +/ -_ | sed s/=/%3D/g)
query="key=$key&timestamp=$timestamp&seq=1&nonce=$nonce&signature=$signature"

# -q: no ~/.curlrc. The signature stays out of the arguments, too: it can be used again for a while.
answer=$(printf %s "$body" | curl -q --silent --globoff --noproxy '*' --max-time "$timeout" \
    --header 'Content-Type: application/json' --header 'Expect:' --data-binary @- \
    --write-out '\n%{http_code}' --config /dev/fd/3 3<<END
url = "$url?$query"
END
)
case $? in
    0) ;;
    28) fail 3 "no answer from $url within $timeout seconds" ;;
    *) fail 3 "cannot reach $url" ;;
esac
newline='
'
status=${answer##*"$newline"} answer=${answer%"$newline"*}
error=$(printf %s "$answer" | sed -n '1s/^{"error": *"\([^"]*\)".*/\1/p')

if [ "$status" != 200 ]; then
    # Where the error is a name, the words are behind it.
    case $error in taskbus.*) error=$answer ;; esac
    fail 3 "$url answered HTTP $status${error:+: $error}"
fi
if [ -n "$error" ]; then
    printf '%s\n' "$answer"
    fail 1 "$uri: $error"
fi
[ -n "$quiet" ] || printf '%s\n' "$answer"
