#!/bin/sh
# The worker as a loop of short lives: each process takes one job, runs it and exits.
#
# For those who want every job to start from nothing but this script; "taskbus up" does not need
# it. TERM or INT lets the job in hand finish, then ends the loop.
set -u
cd "$(dirname "$0")/.." || exit 1
child='' stopping=''
stop() { stopping=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null; }
trap stop TERM INT

while [ -z "$stopping" ]; do
    .venv/bin/taskbus worker --name "once-$$" --once &
    child=$!
    # A trapped signal ends the first wait before the child has.
    wait "$child"; status=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
    child=''
    # A worker that cannot even start should not spin.
    [ "$status" -eq 0 ] || [ -n "$stopping" ] || sleep 1
done
