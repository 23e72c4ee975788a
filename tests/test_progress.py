"""What is told without a terminal: the end of each phase, a heartbeat, and JSON lines for whoever collects logs."""

import json
import logging
import subprocess
import sys

from embodichain.progress import Board, JobBoard


def told(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_phase_without_a_terminal_has_a_heartbeat_every_half_minute_and_an_end(capsys):
    now = [0.0]
    with Board(clock=lambda: now[0]) as board:
        for step in range(1, 91):
            now[0] = float(step)
            board.update("learn", step, 90, f"loss {step}")
    assert told(capsys) == [
        "learn: 31 of 90 after 30 s loss 31",
        "learn: 61 of 90 after 60 s loss 61",
        "learn: 90 in 89.0 s loss 90",
    ]


def test_a_phase_that_stands_still_is_not_told_to_have_ended_twice(capsys):
    now = [0.0]
    with Board(clock=lambda: now[0]) as board:
        for second in (0, 40, 80):
            now[0] = second
            board.update("learn", 1, 1)
    assert len(told(capsys)) == 1


def test_lines_are_json_where_the_environment_asks_for_it(capsys, monkeypatch):
    monkeypatch.setenv("EMBODICHAIN_LOG", "json")
    with Board() as board:
        board.update("learn", 2, 2, "loss [1]")
        board.say("a [word] with brackets " + "x" * 300)
    first, second = map(json.loads, told(capsys))
    assert (first["phase"], first["done"], first["note"]) == ("learn", 2, "loss [1]") and "time" in first
    assert second["message"].startswith("a [word] with brackets xxx")


def test_loggers_write_json_too():
    code = (
        "import logging; from embodichain.progress import log_as_json as log; log(); logging.getLogger('a.b').warning('torn %d', 3)"
    )
    environment = {"EMBODICHAIN_LOG": "json", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    told = json.loads(done.stderr)
    assert (told["level"], told["from"], told["message"]) == ("warning", "a.b", "torn 3")
    assert logging.getLogger("a.b").handlers == []


def test_a_job_of_minutes_is_told_when_it_begins_and_not_at_each_stage(capsys):
    with JobBoard("sweep", 2, quiet=False, tells_beginnings=True) as board:
        board.working("k10", "begins, see [a] log")
        board.working("k10", "step 3")
        board.ended("k10", "ended")
        board.working("k2", "begins")
    assert told(capsys) == ["[0/2] k10 begins, see [a] log", "[1/2] k10 ended", "[1/2] k2 begins"]
