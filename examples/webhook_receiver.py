"""Receive a gnomon server's webhooks and check their signatures. Needs `pip install standardwebhooks`.

    export GNOMON_WEBHOOK_SECRET=$(gnomon webhooks secret)     # for the `webhook_url` of single jobs
    python webhook_receiver.py --port 9000

`gnomon webhooks add URL` prints the secret of a receiver for all jobs. A server sends to addresses of its own machine
only with `gnomon serve --allow-private-webhooks`.
"""

from __future__ import annotations

import argparse
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

MOST_BYTES = 1_000_000


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what was signed with the secret and 401 to everything else."""

    webhook: Webhook
    seen: set[str] = set()
    timeout = 10

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > MOST_BYTES:
            self.send_error(413)
            return
        body = self.rfile.read(length)
        try:
            # The signature is over the body as it came: parse it only afterwards, which `verify` does.
            event = self.webhook.verify(body, {name.lower(): value for name, value in self.headers.items()})
        except WebhookVerificationError as error:
            print(f"refused: {error}", flush=True)
            self.send_error(401)
            return
        # Answer at once; whatever takes long comes afterwards.
        self.send_response(204)
        self.end_headers()
        message = self.headers["webhook-id"]
        if message in self.seen:
            return
        self.seen.add(message)
        data = event["data"]
        print(f"{event['type']}: job {data['id']} ({data['task']}), error {data['error']}", flush=True)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing but what is printed above."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Print the webhooks of a gnomon server.")
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free one")
    options = parser.parse_args()
    secret = os.environ.get("GNOMON_WEBHOOK_SECRET")
    if not secret:
        print("GNOMON_WEBHOOK_SECRET is not set: `gnomon webhooks secret` prints it", file=sys.stderr)
        return 2
    Receiver.webhook = Webhook(secret)
    with ThreadingHTTPServer(("127.0.0.1", options.port), Receiver) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
