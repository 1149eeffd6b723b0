#!/usr/bin/env bash
# The same as http_client.py with curl (7.84 or newer) and sha256sum alone.
#
#     bash http_client.sh mug.ply http://127.0.0.1:8800 mug.zip
#
# A server that wants a token gets the one in GNOMON_TOKEN.
set -euo pipefail

mesh=$1
server=${2:-http://127.0.0.1:8800}
out=${3:-results.zip}
name=$(basename "$mesh")

call() {
    # The token goes in by a file that is none: the list of processes does not show it.
    curl --silent --show-error --fail-with-body \
        --config <(if [ -n "${GNOMON_TOKEN:-}" ]; then echo "header = \"Authorization: Bearer $GNOMON_TOKEN\""; fi) "$@"
}

sha=$(sha256sum "$mesh" | cut -d' ' -f1)
call -o /dev/null -T "$mesh" "$server/v1/files/$sha"
echo "sent $name, sha256 ${sha:0:12}..."

order='{"task": "templates", "params": {"mesh": ["'$name'"], "size": 128}, "files": {"'$name'": "'$sha'"}}'
job=$(call -o /dev/null -w '%header{location}' "$server/v1/jobs" \
    -H 'Content-Type: application/json' -H "Idempotency-Key: $sha-$(date +%s)" -d "$order")
echo "job ${job##*/}"

# Ends when the job does. Of each message only the line with the data is shown.
call -N -H 'Accept: text/event-stream' "$server$job/events" | sed -n 's/^data: /  /p'

call -o "$out" "$server$job/results.zip"
echo "results in $out"
