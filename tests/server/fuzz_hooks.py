"""Loaded by schemathesis: half of the made-up ids become ids that exist, so that the routes behind them are reached."""

from __future__ import annotations

import json
import os
import random

import schemathesis

KNOWN = json.loads(os.environ["GNOMON_FUZZ_KNOWN"])
"""Path parameter -> values that exist."""

choose = random.Random(0)


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    for name in path_parameters or {}:
        if name in KNOWN and choose.random() < 0.5:
            path_parameters[name] = choose.choice(KNOWN[name])
    return path_parameters


@schemathesis.hook
def map_query(context, query):
    # Waiting is waiting: a minute each for jobs that never end would only make the test long.
    if query and "wait_s" in query:
        query["wait_s"] = 0
    return query
