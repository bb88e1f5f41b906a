#!/bin/sh
# The same in a shell, where the descriptor is 3. The call is JSON on stdin; this one ignores it.
cat >/dev/null
for step in 1 2 3; do
    sleep 0.1
    echo "{\"progress\": 0.$((step * 33)), \"message\": \"step $step\"}" >&3
    echo "did step $step" >&2
done
echo '{"args": [3]}'
