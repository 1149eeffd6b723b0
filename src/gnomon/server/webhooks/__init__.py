"""Signed messages about jobs, to whoever asked for them.

    message.py     which events a job's state stands for, their payload, their id
    endpoints.py   receivers that are registered for all jobs; the secrets that messages are signed with
    deliveries.py  one file for each message, moved between pending/, delivered/ and dead/
    schedule.py    when a failed message is sent again
    sender.py      one POST to a checked address
    announcing.py  makes messages of what changed
    waiting.py     what is due, and how much may be on the way at once
    courier.py     Webhooks: all of it together, and the loop that sends

A message is a file before it is sent, its id follows from what it says and to whom, and it leaves pending/ only after
the receiver took it or it was given up. So a server that is killed at any moment sends each message at least once,
and a receiver that remembers `webhook-id` handles it exactly once. Signatures follow Standard Webhooks.
"""

from gnomon.server.webhooks.courier import Webhooks
from gnomon.server.webhooks.endpoints import Endpoint, Endpoints, check_url
from gnomon.server.webhooks.message import DEFAULT_EVENTS, EVENTS, payload_of

__all__ = ["DEFAULT_EVENTS", "EVENTS", "Endpoint", "Endpoints", "Webhooks", "check_url", "payload_of"]
