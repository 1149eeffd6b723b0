#!/bin/sh
# Ask the pose API with curl, for a request that lies in a file:
#
#     gnomon serve --facade pose-api &
#     gnomon demo -o demo
#     python examples/pose_api_client.py --rgb demo/inputs/object-pose/rgb/*.png \
#         --depth demo/inputs/object-pose/depth/*.png --mask demo/inputs/object-pose/mask.png \
#         --mesh demo/inputs/object-pose/mug.ply --camera 460 460 239.5 179.5 --save request.json
#     sh examples/pose_api.sh request.json
set -eu
request=${1:?usage: pose_api.sh request.json}
url=${POSE_API_URL:-http://127.0.0.1:5000}

# A server that other machines can reach wants a token.
set --
if [ -n "${GNOMON_TOKEN:-}" ]; then
    set -- --header "Authorization: Bearer $GNOMON_TOKEN"
fi

curl --fail-with-body --silent --show-error "$url/"
echo
curl --fail-with-body --silent --show-error "$@" \
    --header 'Content-Type: application/json' --data-binary "@$request" \
    "$url/foundationpose?frames=all"
echo
