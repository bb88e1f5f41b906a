#!/bin/sh
# Send a signed request to the bus's HTTP API; for cron, and for any shell. Needs curl and openssl.
#
#   request.sh [-q] [-u URL] [-k FILE] [-t SECONDS] [-H HEADER]... METHOD PATH [BODY]
#
#   METHOD      GET, POST, PUT, PATCH or DELETE
#   PATH        such as /v1/jobs or '/v1/jobs?limit=3', encoded as it has to be in a URL
#   BODY        JSON;  - reads it from standard input, where ps does not show it
#   -q          quiet: print nothing when the request succeeds
#   -u URL      where the bus is; default $TASKBUS_URL, or http://127.0.0.1:9080
#   -k FILE     the access key, one that was made by "taskbus key create --signing"; default
#               $TASKBUS_KEY_FILE. The key itself is not sent.
#   -t SECONDS  how long to wait for the answer; default 300
#   -H HEADER   one header more, such as 'Idempotency-Key: tonight'; not signed
#
# Prints the answer's body. Exit status:
#
#   0  the request succeeded
#   1  it was answered by an error, which standard error names
#   2  used wrongly: nothing was sent
#   3  no answer, or the key or its signature was refused
set -u
export LC_ALL=C

fail() { status=$1; shift; printf 'request: %s\n' "$*" >&2; exit "$status"; }

usage() {
    printf 'usage: %s [-q] [-u URL] [-k FILE] [-t SECONDS] [-H HEADER]... METHOD PATH [BODY]\n' \
        "${0##*/}"
}

newline='
'
quiet='' timeout=300 headers=''
base=${TASKBUS_URL:-http://127.0.0.1:9080} file=${TASKBUS_KEY_FILE-}
while getopts hH:k:qt:u: option 2>/dev/null; do
    case $option in
        h) usage; exit 0 ;;
        H) case $OPTARG in
               *[\"\\]* | *"$newline"*) fail 2 "not a header: $OPTARG" ;;
               *:*) headers="${headers}header = \"$OPTARG\"$newline" ;;
               *) fail 2 "not a header: $OPTARG" ;;
           esac ;;
        k) file=$OPTARG ;;
        q) quiet=yes ;;
        t) timeout=$OPTARG ;;
        u) base=$OPTARG ;;
        *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -lt 2 ] || [ $# -gt 3 ]; then usage >&2; exit 2; fi
method=$1 target=$2 body=${3-}
[ "$body" != - ] || body=$(cat)

case $method in
    GET | POST | PUT | PATCH | DELETE) ;;
    *) fail 2 "not a method: $method" ;;
esac
case $target in
    *[!A-Za-z0-9/._~%?\&=:@,\;+*\'\(\)\$!-]*) fail 2 "not a path: $target" ;;
    /*) path=${target%%\?*} query='' ;;
    *) fail 2 "not a path: $target" ;;
esac
case $target in *\?*) query=${target#*\?} ;; esac
case $timeout in '' | 0* | *[!0-9]*) fail 2 "not a number of seconds: $timeout" ;; esac
case $base in
    *[!A-Za-z0-9:._[\]/-]*) fail 2 "not an http URL: $base" ;;
    http://?* | https://?*) base=${base%/} ;;
    *) fail 2 "not an http URL: $base" ;;
esac

if ! [ -f "$file" ] || ! [ -r "$file" ]; then fail 2 "cannot read the key in '$file': see -k"; fi
case $(ls -ldL -- "$file") in
    ???????---*) ;;
    *) fail 2 "everybody may use $file: chmod 600 it" ;;
esac
IFS= read -r token <"$file" || [ -n "$token" ] || fail 2 "no key in $file"
case $token in
    *[!a-z0-9_]* | tb_*_*_*) fail 2 "no access key in $file" ;;
    tb_?*_?*) id=${token#tb_} id=${id%%_*} ;;
    *) fail 2 "no access key in $file" ;;
esac

sha256() { openssl dgst -sha256 -binary; }
hex() { od -An -v -tx1; }

# HMAC-SHA256 of standard input (RFC 2104), spelled out as in call.sh: ps would show what openssl is
# given. A whole key is longer than a block of the hash, so its digest is what counts.
hmac() {
    inner='' outer='' count=0
    for byte in $(printf %s "$token" | sha256 | hex); do
        i=$((0x$byte ^ 0x36)) o=$((0x$byte ^ 0x5c)) count=$((count + 1))
        inner="$inner\\$((i >> 6))$((i >> 3 & 7))$((i & 7))"
        outer="$outer\\$((o >> 6))$((o >> 3 & 7))$((o & 7))"
    done
    while [ $count -lt 64 ]; do inner=$inner'\066' outer=$outer'\134' count=$((count + 1)); done
    # shellcheck disable=SC2059  # formats of nothing but octal bytes, some of them zero
    { printf "$outer"; { printf "$inner"; cat; } | sha256; } | sha256
}

send() {
    now=$(date +%s) nonce=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    digest=$(printf %s "$body" | sha256 | hex | tr -d ' \n')
    signature=$(printf '%s\n%s\n%s\n%s\n%s\n%s\n%s\n%s' taskbus-hmac-sha256 "$id" "$now" "$nonce" \
        "$method" "$path" "$query" "$digest" | hmac | hex | tr -d ' \n')
    [ -z "$body" ] || sent='data-binary = "@-"'
    # -q: no ~/.curlrc. What ps shows has neither the body nor the signature.
    printf %s "$body" | curl -q --silent --globoff --path-as-is --noproxy '*' \
        --max-time "$timeout" --request "$method" --write-out '\n%{http_code}' \
        --config /dev/fd/3 3<<END
url = "$base$target"
header = "Authorization: taskbus-hmac-sha256 key=$id,time=$now,nonce=$nonce,signature=$signature"
header = "Content-Type: application/json"
header = "Expect:"
${sent-}
$headers
END
}

tries=5
while :; do
    answer=$(send)
    case $? in
        0) ;;
        28) fail 3 "no answer from $base within $timeout seconds" ;;
        *) fail 3 "cannot reach $base" ;;
    esac
    status=${answer##*"$newline"} answer=${answer%"$newline"*} tries=$((tries - 1))
    # Another request of this key was faster, or the bus has just been started.
    case $status$answer in
        401*taskbus.error.stale_signature*) [ $tries -eq 0 ] || { sleep 1; continue; } ;;
    esac
    break
done
case $status in
    2??) [ -n "$quiet" ] || printf '%s\n' "$answer"; exit 0 ;;
    401) printf '%s\n' "$answer"; fail 3 "$base refuses the key" ;;
    *) printf '%s\n' "$answer"; fail 1 "$method $target was answered by HTTP $status" ;;
esac
