#!/bin/sh
# The worker as a loop of short lives: each process takes one job, runs it and exits.
#
# For those who want every job to start from nothing but this script; "taskbus up" does not need
# it. TERM or INT lets the job in hand finish, then ends the loop.
set -u
child='' stopping=''
stop() {
    stopping=yes
    [ -n "$child" ] || return
    kill -TERM "$child"
    # Told again, because a child in the making does not hear the first time.
    sleep 0.1
    kill -TERM "$child"
} 2>/dev/null
trap stop TERM INT
cd "$(dirname "$0")/.." || exit 1

while [ -z "$stopping" ]; do
    .venv/bin/taskbus worker --name "once-$$" --once &
    child=$!
    # A signal between the last two lines found no child to tell.
    [ -z "$stopping" ] || stop
    # A trapped signal ends the first wait before the child has.
    wait "$child"; status=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
    child=''
    # A worker that cannot even start should not spin.
    [ "$status" -eq 0 ] || [ -n "$stopping" ] || sleep 1
done
