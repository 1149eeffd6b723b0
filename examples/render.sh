#!/bin/sh
# Render templates of a CAD file through the Render Server's API, and wait for them.
#
#   gnomon serve --facade render --render-root /data/objects     # in another terminal
#   examples/render.sh /data/objects/mug.ply /data/objects/templates/mug
set -eu

server="${RENDER_SERVER:-http://127.0.0.1:8004}"
cad_path="$1"
output_dir="$2"

# A server that other machines can reach wants a token.
set --
if [ -n "${GNOMON_TOKEN:-}" ]; then
    set -- -H "Authorization: Bearer $GNOMON_TOKEN"
fi

curl -sS --fail-with-body "$@" "$server/health"
echo
curl -sS --fail-with-body "$@" -X POST "$server/render/templates?wait=true&wait_timeout_sec=600" \
    -H "Content-Type: application/json" \
    -d "{\"cad_path\": \"$cad_path\", \"output_dir\": \"$output_dir\"}"
echo
