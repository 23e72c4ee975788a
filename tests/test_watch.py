"""`embodichain watch`: what runs do, on a page and for programs; real rings, a real server, real clients."""

import contextlib
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import uvicorn
import yaml

from embodichain.cli import main
from embodichain.errors import ConfigError, RunError
from embodichain.metrics import MetricsWriter, read_metrics, without_undone
from embodichain.operations.watch.exposition import exposition
from embodichain.operations.watch.records import Records
from embodichain.operations.watch.server import WatchConfig, application, serve
from embodichain.operations.watch.view import RunView
from embodichain.ring.ledger import Ledger
from embodichain.ring.proof import verify
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, TrajectoryId, camera_spec
from learner.records.files import held
from learner.records.run_folder import RunFolder
from learner.runs.wishes import Wishes

TOKEN = "a token that nobody guesses"
K = 4


def run_folder(path, *, pid: int = 0, steps: int = 30):
    """What a run leaves while it goes on: workers are blocked for half of their time."""
    path.mkdir(parents=True)
    config = {"recipe": "law_cpu", "train": {"steps": 100}, "ring": {"max_reads": K}, "stream": {"workers": 2}}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "sessions.jsonl").write_text(json.dumps({"began": "now", "pid": pid}) + "\n")
    clock = iter(range(10_000))
    metrics = MetricsWriter(path / "metrics.jsonl", clock=lambda: float(next(clock)))
    for step in range(1, steps + 1):
        values = {"loss": 1.0, "loss_video": 0.6, "loss_action": 1.0 / step, "experience_new_pairs": 64.0, "samples_per_s": 8.0}
        metrics.write("train", {"step": step, **values, "experience_age_s": 3.0, "experience_reads": 2.5})
        waited = {"blocked_writer_s": 2.0 * step, "blocked_reader_s": 0.1 * step}  # two workers, two seconds between records
        deaths = {"crash": 1} if step > 20 else {}
        metrics.write("stream", {"step": step, "published": 3 * step, "workers": 2, "deaths": deaths, **waited})
    metrics.write("held_out", {"step": 10, "elapsed_s": 1.0, "loss_action": 0.5})
    metrics.write("held_out", {"step": 20, "elapsed_s": 2.0, "loss_action": 0.25})
    metrics.close()
    return path


@pytest.fixture
def streaming(tmp_path):
    """A run that streams: this process owns its ring, in which two trajectories lie, one of them read once."""
    spec = RingSpec(trajectory=camera_spec(cameras=2, height=8, width=8, horizon=2), num_slots=6, max_reads=K)
    with Ring.create(spec) as ring:
        for sequence in range(2):
            with ring.reserve() as slot:
                for name in slot:
                    slot[name][...] = 0
                slot["rgb"][0, 1] = 200
                slot["num_chunks"][...] = 2
                slot["trajectory_id"][...] = TrajectoryId(worker=0, epoch=0, sequence=sequence).pack()
        ring.acquire(1, 1.0, rng=np.random.default_rng(0)).release()
        yield run_folder(tmp_path / "live", pid=os.getpid()), ring


@contextlib.contextmanager
def served(config: WatchConfig):
    server = uvicorn.Server(uvicorn.Config(application(config), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def get(url: str, **headers: str):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read(), answer.headers


def post(url: str, body: dict, token: str = "") -> tuple[int, dict]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


# ------------------------------------------------------------------------------------------------------------- records


def test_records_are_read_once_and_a_torn_line_waits_for_its_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = Records(path)
    records.read_on()
    path.write_text('{"kind": "train", "step": 1}\n{"kind": "tra')
    records.read_on()
    assert [record["step"] for record in records.of("train")] == [1]
    with path.open("a") as file:
        file.write('in", "step": 2}\nnot json\n')
    records.read_on()
    assert [record["step"] for record in records.of("train")] == [1, 2]


def test_very_many_records_are_thinned_evenly_and_the_last_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"kind": "train", "step": step}) + "\n" for step in range(9_001)))
    records = Records(path)
    records.read_on()
    steps = [record["step"] for record in records.of("train")]
    assert len(steps) < 2100 and steps[0] == 0 and steps[-1] == 9_000
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 8


# ---------------------------------------------------------------------------------------------------------------- view


def test_a_run_that_streams_is_shown_from_its_folder_and_its_ring(streaming):
    path, _ = streaming
    shown = RunView(path).snapshot()
    assert (shown["state"], shown["step"], shown["steps"], shown["published"]) == ("streaming", 30, 100, 90)
    assert shown["experience"]["now"] == 64.0 and shown["trajectories_per_s"] == 1.5
    assert shown["waiting"]["workers"] == pytest.approx(0.5) and shown["waiting"]["learner"] == pytest.approx(0.05)
    assert shown["waiting"]["advice"] == "workers blocked 50%: lower K or add learners"
    assert shown["histogram"] == {"bound": K, "rows": [(0, 1), (1, 1)], "used_up": 0, "of": "trajectories in the ring now"}
    assert sorted(shown["ring"]["letters"]) == list("ffffrr") and sorted(shown["ring"]["left"])[-2:] == [75, 100]
    assert shown["people"][0]["pid"] == os.getpid() and shown["people"][0]["published"] == 2
    assert shown["deaths"] == {"crash": 1} and shown["held_out"] == [(10.0, 0.5), (20.0, 0.25)]
    assert set(shown["losses"]) == {"loss_video", "loss_action"}


def test_a_run_without_a_process_was_killed_and_one_with_a_summary_has_ended(tmp_path):
    path = run_folder(tmp_path / "run", pid=2**22 - 7)
    assert RunView(path).snapshot()["state"] == "killed"
    summary = {"interrupted": False, "steps": 30, "reads_histogram": {"4": 7}, "evaluation": []}
    (path / "summary.json").write_text(json.dumps(summary))
    shown = RunView(path).snapshot()
    assert shown["state"] == "ended" and shown["histogram"]["rows"] == [(4, 7)] and shown["ring"] is None


def test_what_is_no_run_is_refused(tmp_path, capsys):
    with pytest.raises(RunError, match="is not a run folder"):
        RunView(tmp_path)
    assert main(["watch", str(tmp_path), "--json"]) == 2
    assert main(["watch"]) == 2
    assert "there is nothing to watch" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="at least 16 characters"):
        WatchConfig(runs=(tmp_path,), token="1234")


def test_a_killed_run_whose_number_is_another_process_now_is_not_taken_for_alive(tmp_path):
    path = run_folder(tmp_path / "run", pid=os.getpid())
    (path / ".lock").write_text(f"pid {os.getpid()}")
    assert RunView(path).snapshot()["state"] == "killed"
    with held(path):
        assert RunView(path).snapshot()["state"] == "evaluating"


def test_of_a_run_elsewhere_its_files_tell(tmp_path):
    path = run_folder(tmp_path / "run", pid=os.getpid())
    (path / "sessions.jsonl").write_text(json.dumps({"pid": 2**22 - 7, "host": "another-machine"}) + "\n")
    assert RunView(path).snapshot()["state"] == "killed", "it has written nothing for years"
    MetricsWriter(path / "metrics.jsonl").write("train", {"step": 31, "loss": 1.0})
    assert RunView(path).snapshot()["state"] == "streaming"


def test_of_several_rings_it_is_told_whose_the_figures_are(tmp_path):
    path = run_folder(tmp_path / "run", pid=2**22 - 7)
    (path / "config.yaml").write_text((path / "config.yaml").read_text().replace("steps: 100", "nodes: 2\n  steps: 100"))
    run_folder(tmp_path / "node", pid=0, steps=10)
    (tmp_path / "node" / "metrics.jsonl").rename(path / "metrics-1.jsonl")
    view = RunView(path)
    view.snapshot()
    shown = view.snapshot()
    assert (shown["published"], shown["rings"], shown["deaths"]) == (120, 2, {"crash": 1}) and "2 rings" in shown["note"]
    assert RunView(tmp_path / "run").snapshot()["step"] == 30
    spec = RingSpec(trajectory=camera_spec(cameras=1, height=8, width=8, horizon=2), num_slots=2, max_reads=K)
    with Ring.create(spec, tmp_path / "ring-of-a-learner") as ring:
        (path / "ring-1.txt").write_text(str(ring.path))
        assert view.snapshot()["ring"]["num_slots"] == 2, "one of its rings is on this machine"
    assert view.snapshot()["ring"] is None


def test_steps_that_a_resume_undid_are_forgotten(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer, records = MetricsWriter(path), Records(path)
    for step in (1, 2, 3, 4, 3, 4, 5):
        writer.write("train", {"step": step, "loss": float(step)})
        records.read_on()
    assert [record["step"] for record in records.of("train")] == [1, 2, 3, 4, 5]
    assert [record["step"] for record in without_undone(read_metrics(path, "train"))] == [1, 2, 3, 4, 5]
    path.unlink()
    MetricsWriter(path).write("train", {"step": 1, "much": "x" * 4096})
    records.read_on()
    assert [record["step"] for record in records.of("train")] == [1], "another run of the same name"


@pytest.mark.parametrize("config", ["recipe: [", "- 1", "checkpoint: a\nworld: {}\nepisodes: 20\n"])
def test_a_folder_of_something_else_is_refused_by_name(config, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(config)
    assert main(["watch", str(tmp_path), "--json"]) == 2
    assert str(tmp_path) in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------------- server


def test_a_page_events_and_pictures_are_served_and_nothing_from_elsewhere(streaming):
    path, _ = streaming
    with served(WatchConfig(runs=(path,))) as url:
        page, headers = get(url)
        assert b"watch.js" in page and "default-src 'self'" in headers["Content-Security-Policy"]
        assert b"EventSource" in get(f"{url}/watch.js")[0] and b"http" not in get(f"{url}/watch.css")[0]
        with urllib.request.urlopen(f"{url}/api/events", timeout=10) as events:
            assert events.headers["Content-Type"].startswith("text/event-stream")
            lines = [events.readline() for _ in range(4)]  # each event is a line and an empty one
        assert [line[:6] for line in lines] == [b"data: ", b"\n"] * 2
        first, second = (json.loads(line[6:]) for line in lines[::2])
        assert first["runs"][0]["name"] == second["runs"][0]["name"] == "live" and second["time"] > first["time"]
        picture, headers = get(f"{url}/api/runs/0/live.png")
        assert headers["Content-Type"] == "image/png" and picture[:4] == b"\x89PNG"
        for missing in ("/api/runs/1/live.png", "/api/runs/0/pictures/..%2fconfig.yaml", "/server.py", "/other.js"):
            with pytest.raises(urllib.error.HTTPError) as error:
                get(url + missing)
            assert error.value.code in (404, 422)


def test_programs_are_told_health_and_figures(streaming, tmp_path):
    path, _ = streaming
    with served(WatchConfig(runs=(path,))) as url:
        assert get(f"{url}/healthz")[0] == b"alive\n" and get(f"{url}/readyz")[0] == b"live: streaming\n"
        text = get(f"{url}/metrics")[0].decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    labels = 'run="live",recipe="law_cpu"'
    assert samples[f"embodichain_unique_pairs{{{labels}}}"] == "64" and samples[f"embodichain_ring_ready{{{labels}}}"] == "2"
    assert samples[f'embodichain_waiting_share{{{labels},side="workers"}}'] == "0.5"
    assert samples[f"embodichain_stopped{{{labels}}}"] == "0"
    assert samples[f'embodichain_worker_deaths_total{{{labels},cause="crash"}}'] == "1"
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            assert kind == ("counter" if name.endswith("_total") else "gauge") and f"# HELP {name} " in text
    dead = run_folder(tmp_path / "dead", pid=2**22 - 7)
    with served(WatchConfig(runs=(dead,))) as url:
        with pytest.raises(urllib.error.HTTPError) as error:
            get(f"{url}/readyz")
        assert 'embodichain_stopped{run="dead",recipe="law_cpu"} 1' in get(f"{url}/metrics")[0].decode()
    assert error.value.code == 503 and error.value.read() == b"dead: killed\n"


def test_what_is_no_number_stops_neither_page_nor_programs(streaming, tmp_path):
    path, _ = streaming
    with (path / "metrics.jsonl").open("a") as file:
        values = {"loss_action": math.nan, "experience_new_pairs": math.inf, "samples_per_s": 8.0}
        file.write(json.dumps({"kind": "train", "time": 31.0, "step": 31, **values}) + "\n")
    (path / "summary.json").write_text('{"interrupted": false, "evaluation": [{"low": NaN}], "steps": 3}')
    torn = run_folder(tmp_path / "torn")
    (torn / "summary.json").write_text('{"interrupted": fal')
    with served(WatchConfig(runs=(path, torn))) as url:
        with urllib.request.urlopen(f"{url}/api/events", timeout=10) as events:
            told = json.loads(events.readline()[6:], parse_constant=pytest.fail)
        assert json.loads(get(f"{url}/api/snapshot")[0], parse_constant=pytest.fail)["runs"][1]["state"] == "killed"
    shown = told["runs"][0]
    assert shown["step"] == 31 and shown["success"] == [{"low": None}] and shown["experience"]["now"] == 64.0


def test_runs_of_one_name_are_told_apart(tmp_path, monkeypatch):
    good, bad = run_folder(tmp_path / "a" / "run"), run_folder(tmp_path / "b" / "run")
    (good / "summary.json").write_text('{"interrupted": false, "steps": 30}')
    with served(WatchConfig(runs=(good, bad, good))) as url:
        with pytest.raises(urllib.error.HTTPError) as error:
            get(f"{url}/readyz")
        assert error.value.read() == b"b/run: killed\n"
        lines = [line.rsplit(" ", 1)[0] for line in get(f"{url}/metrics")[0].decode().splitlines()]
    assert len(set(lines)) == len(lines)
    monkeypatch.chdir(good)
    assert RunView(Path()).snapshot()["name"] == "run"


def test_the_address_that_is_told_is_the_one_that_is_listened_at(tmp_path):
    run = run_folder(tmp_path / "run")
    command = [sys.executable, "-m", "embodichain.cli", "watch", str(run), "--port", "0"]
    # A job in the background inherits that Ctrl-C is ignored.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heeds)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert get(f"{url}/healthz")[0] == b"alive\n"
        with pytest.raises(ConfigError, match="choose another --port"):
            serve(WatchConfig(runs=(run,), port=int(url.rpartition(":")[2])))
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_a_token_may_be_of_any_letters(streaming):
    path, _ = streaming
    token = "ein Schlüssel, den niemand errät"
    with served(WatchConfig(runs=(path,), token=token)) as url:
        body, headers = b'{"max_reads": 5}', {"Content-Type": "application/json", "Authorization": f"Bearer {token}".encode()}
        asked = urllib.request.Request(f"{url}/api/runs/0/max-reads", body, headers, method="POST")
        assert json.loads(urllib.request.urlopen(asked, timeout=10).read()) == {"asked": {"max_reads": 5}}


def test_names_are_escaped_for_prometheus(streaming):
    path, _ = streaming
    shown = RunView(path).snapshot() | {"name": 'a "run"\\\n'}
    assert 'run="a \\"run\\"\\\\\\n"' in exposition([shown])


def test_a_bound_is_changed_only_with_the_token(streaming):
    path, ring = streaming
    with served(WatchConfig(runs=(path,), token=TOKEN)) as url:
        change = f"{url}/api/runs/0/max-reads"
        assert post(change, {"max_reads": 9})[0] == 401 and post(change, {"max_reads": 9}, "another token entirely")[0] == 401
        assert not (path / "wishes.json").exists()
        assert post(change, {"max_reads": 9}, TOKEN) == (200, {"asked": {"max_reads": 9}})
        with Ledger.open(path / "ledger.bin") as ledger:
            ledger.bound(K)
            metrics = MetricsWriter(path / "metrics.jsonl")
            wishes = Wishes(RunFolder.open(path), ring, ledger, metrics)
            wishes.look(31)
            assert ring.stats().max_reads == 9
            (path / "wishes.json").write_text('{"max_reads": "many"}')
            wishes.look(32)
            metrics.close()
        assert verify(path / "ledger.bin").max_reads == 9 and ring.stats().max_reads == 9
        assert [("refused" in record) for record in read_metrics(path / "metrics.jsonl", "wish")] == [False, True]
        assert post(change, {"max_reads": 0}, TOKEN)[0] == 422 and post(f"{url}/api/runs/3/stop", {}, TOKEN)[0] == 404
    with served(WatchConfig(runs=(path,))) as url:
        status, told = post(f"{url}/api/runs/0/max-reads", {"max_reads": 5}, TOKEN)
        assert status == 403 and "only shows" in told["detail"] and ring.stats().max_reads == 9


RUNNING = """
import signal, sys, time
from pathlib import Path
from embodichain.ring.ring import Ring
from embodichain.types import RingSpec, camera_spec
from learner.records.files import held
from learner.records.files import held
from learner.records.run_folder import RunFolder

folder = RunFolder.open(Path(sys.argv[1]))
spec = RingSpec(trajectory=camera_spec(cameras=1, height=8, width=8, horizon=2), num_slots=2, max_reads=2)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
with held(folder.path), Ring.create(spec):
    folder.begin_session(["embodichain", "run"])
    print("streams", flush=True)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        print("asked to stop", flush=True)
"""


def test_only_the_process_that_works_on_a_run_is_told_to_stop(streaming, tmp_path):
    path, _ = streaming  # a killed run's: its number is now another process's, this one, which owns a ring of its own
    told: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: told.append(number))
    try:
        with served(WatchConfig(runs=(path,), token=TOKEN)) as url:
            for lock in (None, f"pid {os.getpid()}", f"pid {os.getpid() + 1}"):
                if lock is not None:
                    (path / ".lock").write_text(lock)
                assert post(f"{url}/api/runs/0/stop", {}, TOKEN) == (409, {"detail": "the run does not stream now"})
    finally:
        signal.signal(signal.SIGINT, before)
    assert not told
    live = run_folder(tmp_path / "other")
    with (live / "sessions.jsonl").open("a") as file:
        file.write('{"pid": ')  # torn by a full disk
    process = subprocess.Popen([sys.executable, "-c", RUNNING, str(live)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "streams\n"
        with served(WatchConfig(runs=(live,), token=TOKEN)) as url:
            assert post(f"{url}/api/runs/0/stop", {}, TOKEN) == (200, {"stopping": process.pid})
        assert process.communicate(timeout=240)[0] == "asked to stop\n"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_draws_itself_in_a_browser(streaming, width, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path, _ = streaming
    other = run_folder(tmp_path / "other", pid=2**22 - 7)
    with served(WatchConfig(runs=(path, other))) as url, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page, faults = browser.new_page(viewport={"width": width, "height": 800}), []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(url)
        page.click("text=live >> nth=1")
        page.wait_for_selector(".map b.r i")
        assert page.locator("svg polyline").count() >= 6 and page.locator("svg rect").count() == 2
        assert "workers blocked 50%: lower K or add learners" in page.inner_text("main")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("text=compare")
        page.wait_for_selector("text=All runs")
        assert "killed" in page.inner_text("main") and not faults
        browser.close()
