"""What starts processes starts them from anywhere: a script without a guard, standard input, another thread's program."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
from ended import has_ended

from embodichain.errors import ConfigError
from embodichain.processes import Child, Guest, Identity, ProcessDied, call

ROOT = Path(__file__).parent.parent
SCRIPT = """
from embodichain.assets.chain.catalog import AssetsConfig
from embodichain.config import WorldConfig
from embodichain.prepare import prepare

config = WorldConfig(tasks=("handover_block",), assets=AssetsConfig(counts={"block": 1, "pad": 1}, jobs=2))
world = prepare(config)
print(sorted(asset.name for asset in world.assets))
"""


def double(number: int) -> int:
    return 2 * number


def refuse(number: int) -> int:
    raise ConfigError(f"no {number}")


def die(number: int) -> int:
    os.kill(os.getpid(), number)
    return number


def echo(pipe: Connection, prefix: str) -> None:
    while True:
        try:
            pipe.send(prefix + pipe.recv())
        except EOFError:
            return


def never_end(pipe: Connection) -> None:
    pipe.send(os.getpid())
    time.sleep(3600)


@pytest.fixture
def fresh_assets(tmp_path: Path) -> dict[str, str]:
    """An environment in which assets must be built, and reachability tables need not."""
    known = Path(os.environ.get("EMBODICHAIN_CACHE") or Path.home() / ".cache" / "embodichain")
    for table in known.glob("reach-*.npz"):
        (tmp_path / table.name).symlink_to(table)
    return os.environ | {"EMBODICHAIN_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}


def test_a_script_without_a_guard_prepares_a_world(fresh_assets, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=fresh_assets)
    assert result.stdout == "['block_000', 'pad_000']\n", result.stderr


@pytest.mark.slow
def test_a_program_on_standard_input_prepares_a_world(fresh_assets):
    result = subprocess.run([sys.executable, "-"], input=SCRIPT, capture_output=True, text=True, env=fresh_assets)
    assert result.stdout == "['block_000', 'pad_000']\n", result.stderr


def test_a_call_returns_what_the_function_returns_and_raises_what_it_raises():
    assert call(double, 21) == 42
    with pytest.raises(ConfigError, match="no 3"):
        call(refuse, 3)


def test_a_call_whose_process_dies_says_how():
    with pytest.raises(ProcessDied, match=r"die ended with -9"):
        call(die, int(signal.SIGKILL))


def test_a_child_answers_until_the_pipe_is_closed_and_then_ends_by_itself():
    child = Child(echo, "heard ")
    child.pipe.send("this")
    assert child.pipe.recv() == "heard this" and child.is_alive()
    child.pipe.close()
    assert child.join(30.0) == 0 and not child.is_alive()


def test_a_large_argument_arrives_whole():
    child = Child(echo, "x" * 10_000_000)
    child.pipe.send("!")
    assert len(child.pipe.recv()) == 10_000_001
    child.pipe.close()
    child.join()


def test_a_forgotten_child_is_killed():
    child = Child(never_end)
    pid = child.pipe.recv()
    process = psutil.Process(pid)
    assert not has_ended(process)
    del child
    assert has_ended(process)


def test_the_end_of_a_program_ends_its_children():
    code = "import test_processes as t; child = t.Child(t.never_end); print(child.pipe.recv(), flush=True)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
    with contextlib.suppress(psutil.NoSuchProcess):
        assert has_ended(psutil.Process(int(printed)))


def test_a_function_of_the_main_module_is_refused_in_words():
    code = "from embodichain.processes import Child\ndef mine(pipe): pass\nChild(mine)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, env=environment)
    assert "move it into a module" in result.stderr


SPEAKER = """
import os, socket, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], stdin=subprocess.DEVNULL)
wire = socket.socket(fileno=int(sys.argv[1]))
while asked := wire.recv(9):
    os.write(2, (b"line\\n" * int(asked)) + b"the last\\n")
    wire.send(str(sorted(name for name in os.environ if name.startswith("PYTHON"))).encode())
"""


@contextlib.contextmanager
def sleeper():
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print('there', flush=True); time.sleep(600)"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"there\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_process_says_of_itself_what_others_see_of_it():
    child, own = call(Identity.own), Identity.own()
    assert own.pid == os.getpid() and child.pid != own.pid
    assert child.start > own.start > 0 and child.namespace == own.namespace > 0


@pytest.mark.parametrize("stopped", [False, True])
def test_a_signal_reaches_the_process_that_is_meant_though_it_stands_still_and_never_another(stopped):
    with sleeper() as process:
        start = int(Path(f"/proc/{process.pid}/stat").read_text().split()[21])
        right = Identity.own()._replace(pid=process.pid, start=start)
        if stopped:
            process.send_signal(signal.SIGSTOP)
        wrong = [right._replace(start=start - 1), right._replace(start=-1), right._replace(namespace=right.namespace + 1)]
        for identity in wrong:
            assert not identity.send_signal(signal.SIGKILL)
        time.sleep(0.2)
        assert process.poll() is None, "the number is now a stranger's, who lives on"
        assert right.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        for identity in (right, right._replace(pid=0), right._replace(pid=-1), right._replace(pid=2**30)):
            assert not identity.send_signal(signal.SIGKILL)


def test_a_guest_has_its_own_packages_and_its_words_are_kept_but_not_for_ever(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    guest = Guest([sys.executable, "-c", SPEAKER], environment={"PYTHONUTF8": "1"})
    guest.wire.settimeout(60.0)
    for lines, kept in ((3, "line line line the last"), (300_000, "")):
        guest.wire.send(str(lines).encode())
        said = guest.wire.recv(100).decode()
        assert "PYTHONUTF8" in said and "PYTHONPATH" not in said
        assert guest.last_words().endswith("line the last") and len(guest.last_words(40)) <= 40
        guest.forget()
        assert guest.last_words() == kept
    guest.end()
    guest.end()


def test_a_guest_may_end_by_itself_and_takes_its_children_with_it():
    guest = Guest([sys.executable, "-c", SPEAKER], environment={})
    guest.wire.settimeout(60.0)
    guest.wire.send(b"0")
    guest.wire.recv(100)
    assert guest.join(0.0) is None
    (child,) = psutil.Process(guest.pid).children()
    guest.end(grace_s=30.0)
    assert guest.join(0.0) == 0
    assert has_ended(child, 10.0)


def test_the_number_of_a_program_that_has_ended_is_not_another_ones_before_its_group_is_killed(tmp_path):
    """A number is free once its status is collected; whoever then gets it would be killed in its place."""
    noted = tmp_path / "child"
    program = f"import subprocess, sys; child = subprocess.Popen(['sleep', '300']); open({str(noted)!r}, 'w').write(str(child.pid))"
    guest = Guest([sys.executable, "-c", program], environment={})
    try:
        assert guest.join(60.0) == 0
        assert guest.join(0.0) == 0
        assert os.waitid(os.P_PID, guest.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None, "still ours"
        child = psutil.Process(int(noted.read_text()))
    finally:
        guest.end()
    assert has_ended(child, within_s=20.0), "its children go with it"
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_PID, guest.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    guest.end()
