"""Which message goes next."""

from __future__ import annotations

import random

from webhook_receiver import job_id

from gnomon.server.webhooks.waiting import PER_DESTINATION, Waiting


def name(number: int) -> str:
    return f"msg_{job_id(number)}_{number:020d}"


def test_hosts_come_in_turn_and_the_oldest_message_of_each_goes_first():
    waiting = Waiting(concurrency=3)
    for number, (next_at, host) in enumerate([(3.0, "a"), (1.0, "a"), (2.0, "a"), (4.0, "b"), (99.0, "d")]):
        waiting.put(name(number), next_at, host)
    assert waiting.take(10.0) == [name(1), name(3), name(2)]
    waiting.arrived(name(3))
    waiting.drop(name(3))
    # A place is free, but two messages are on the way to the only host that has more.
    assert waiting.take(10.0) == []
    waiting.drop(name(1))
    waiting.arrived(name(1))
    assert waiting.take(10.0) == [name(0)]
    assert waiting.next_in_s(10.0, 1000.0) == 89.0
    assert waiting.next_in_s(10.0, 1.0) == 1.0


def test_the_backlog_of_slow_hosts_does_not_keep_a_quick_one_waiting():
    waiting = Waiting(concurrency=4)
    for number in range(100):
        waiting.put(name(number), 1.0, f"slow-{number % 10}")
    waiting.put(name(100), 4.0, "quick")
    on_the_way = waiting.take(5.0)
    sent = len(on_the_way)
    while name(100) not in on_the_way:
        done = on_the_way.pop(0)
        waiting.drop(done)
        waiting.arrived(done)
        on_the_way += waiting.take(5.0)
        sent += 1
    # Once every host had its turn, not after all the older messages.
    assert sent <= 11


def test_a_message_that_was_not_taken_comes_again_at_its_time_and_only_once():
    waiting = Waiting(concurrency=8)
    waiting.put(name(1), 1.0, "a")
    assert waiting.take(1.0) == [name(1)]
    waiting.put(name(1), 1.0, "a")
    assert waiting.take(1.0) == []
    waiting.postpone(name(1), 6.0)
    waiting.arrived(name(1))
    assert waiting.take(5.0) == []
    assert waiting.next_in_s(5.0, 9.0) == 1.0
    assert waiting.take(6.0) == [name(1)]
    waiting.arrived(name(1))
    assert waiting.take(6.0) == [name(1)]


def test_a_job_is_held_until_its_last_message_is_dropped():
    waiting = Waiting(concurrency=8)
    first, second = f"msg_{job_id(1)}_{0:020x}", f"msg_{job_id(1)}_{1:020x}"
    for message in (first, second, first):
        waiting.put(message, 1.0, "a")
    waiting.drop(first)
    waiting.drop(first)
    assert waiting.holds(job_id(1)) and not waiting.holds(job_id(2))
    waiting.drop(second)
    assert not waiting.holds(job_id(1))
    waiting.postpone(second, 2.0)
    assert len(waiting) == 0 and waiting.take(9.0) == [] and waiting.known() == set()


def test_in_any_order_of_events_every_message_goes_and_no_limit_is_broken():
    chance = random.Random(4)
    waiting = Waiting(concurrency=5)
    host_of = {name(number): chance.choice("abcd") for number in range(300)}
    for message, host in host_of.items():
        waiting.put(message, chance.uniform(0.0, 50.0), host)
    on_the_way: list[str] = []
    gone: set[str] = set()
    now = 0.0
    while len(gone) < len(host_of):
        for message in waiting.take(now):
            assert message not in gone and message not in on_the_way
            on_the_way.append(message)
        assert len(on_the_way) <= 5
        assert all([host_of[m] for m in on_the_way].count(host) <= PER_DESTINATION for host in "abcd")
        if on_the_way:
            message = on_the_way.pop(chance.randrange(len(on_the_way)))
            if chance.random() < 0.7:
                waiting.drop(message)
                gone.add(message)
            else:
                waiting.postpone(message, now + chance.uniform(0.0, 5.0))
            waiting.arrived(message)
        now += 0.1
    assert len(waiting) == 0
