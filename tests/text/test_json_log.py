"""The log of a service: a line of JSON each, and repeats counted."""

from __future__ import annotations

import io
import json
import logging

import pytest

from acl_runtime.text.json_log import JsonLog, json_log


def test_the_same_message_comes_once_in_a_while_and_says_how_often_it_was_left_out() -> None:
    now, stream = [0.0], io.StringIO()
    log = JsonLog(repeat_s=60, stream=stream, clock=lambda: now[0])
    for second in (0, 1, 59, 61, 62):
        now[0] = float(second)
        log.handle(logging.LogRecord("acl", logging.ERROR, "", 0, "camera %s is away", ("ü\n",), None))
    log.handle(logging.LogRecord("acl", logging.INFO, "", 0, "another", (), None))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines == [
        {"level": "error", "message": "camera ü\n is away"},
        {"level": "error", "message": "camera ü\n is away", "repeats": 2},
        {"level": "info", "message": "another"},
    ]


def test_memory_is_flat_over_messages_that_are_all_different() -> None:
    log = JsonLog(repeat_s=60, stream=io.StringIO())
    for number in range(3000):
        log.handle(logging.LogRecord("acl", logging.INFO, "", 0, f"part {number}", (), None))
    assert len(log._said) == 1000


def test_notes_go_to_stdout_alone_and_their_old_way_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("acl")
    before = logger.handlers[:]
    with json_log(level="warning", repeat_s=60):
        logger.info("not said")
        logger.warning("said")
    assert logger.handlers == before
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == ({"level": "warning", "message": "said"}, "")
