"""Who is alive and whose a ring is: told by locks of the kernel, across namespaces, forks, `execve` and restarts under one name."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ring_parts import die_with_parent, eventually, fork, kill, put, ring_spec, start, write

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring import layout, locks
from embodichain.ring.host import PREFIX, SHARED_MEMORY, remove_stale
from embodichain.ring.ring import Ring

PID_NAMESPACE = ("--pid", "--fork", "--kill-child")
CONTAINER = (*PID_NAMESPACE, "--mount-proc")
TIME_NAMESPACE = ("--time", "--monotonic", "1000", "--boottime", "1000", "--fork", "--kill-child")


def can_unshare(*options) -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run(["unshare", *options, "true"], check=False, capture_output=True).returncode == 0
    return False


in_namespaces = pytest.mark.skipif(not can_unshare(*CONTAINER), reason="needs root, and unshare, to make a pid namespace")

MEMBER = """
import os, sys, time
from embodichain.ring.ring import Ring
ring = Ring.attach(sys.argv[1])
slot = ring.reserve()
for name, view in slot.items():
    view[...] = 7
print("holds", flush=True)
sys.stdin.readline()
slot.publish()
print("published", flush=True)
sys.stdin.readline()
"""
OWNER = """
import sys, time
sys.path.insert(0, {tests!r})
from ring_parts import ring_spec
from embodichain.ring.ring import Ring
ring = Ring.create(ring_spec(num_slots={slots}, words={words}), sys.argv[1])
print("up", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def process(options, script, *arguments):
    """A Python process in namespaces of its own, which ends with the block."""
    command = [*(("unshare", *options) if options else ()), sys.executable, "-c", script, *map(str, arguments)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def owner_script(slots=2, words=8):
    return OWNER.format(tests=str(Path(__file__).parent), slots=slots, words=words)


@in_namespaces
@pytest.mark.parametrize("options", [CONTAINER, PID_NAMESPACE], ids=["own proc", "outer proc"])
def test_a_writer_in_another_pid_namespace_is_left_alone_while_it_lives_and_reaped_when_it_is_killed(options):
    with Ring.create(ring_spec(num_slots=1)) as ring:
        with process(options, MEMBER, ring.path) as member:
            assert member.stdout.readline() == "holds\n"
            assert ring.reap() == 0
            with pytest.raises(RingTimeout, match="1 being written"):
                ring.reserve(timeout_s=0.1)
            member.stdin.write("\n")
            member.stdin.flush()
            assert member.stdout.readline() == "published\n"
            assert ring.stats().ready == 1
        eventually(lambda: ring.reap() + ring.stats().reaped == 1)
        for _ in range(3):
            ring.acquire(1, 5.0).release()
        with process(options, MEMBER, ring.path) as member:
            assert member.stdout.readline() == "holds\n"
        put(ring, 1, timeout_s=60.0)
        assert (ring.stats().reaped, ring.stats().reaped_slots) == (2, 1)


@in_namespaces
def test_rings_of_killed_containers_are_removed_and_those_of_living_ones_are_not(tmp_path):
    with process(CONTAINER, owner_script(), tmp_path / f"{PREFIX}alive") as alive:
        assert alive.stdout.readline() == "up\n"
        for number in range(2):
            with process(CONTAINER, owner_script(), tmp_path / f"{PREFIX}dead-{number}") as dead:
                assert dead.stdout.readline() == "up\n"
        eventually(lambda: not Ring.create(ring_spec(), tmp_path / f"{PREFIX}mine").close() and len(list(tmp_path.iterdir())) == 1)
        with Ring.attach(tmp_path / f"{PREFIX}alive") as ring:
            put(ring, 1)


@in_namespaces
def test_a_half_made_ring_of_a_living_container_is_finished_undisturbed():
    path = SHARED_MEMORY / f"{PREFIX}half-made-{os.getpid()}"

    def there() -> list[Path]:
        return list(SHARED_MEMORY.glob(f"{path.name}*"))

    def create_another() -> None:
        Ring.create(ring_spec(num_slots=1, words=1)).close()

    with process(CONTAINER, owner_script(slots=64, words=1 << 20), path) as owner:
        eventually(there)
        while owner.poll() is None and not path.exists():
            create_another()
        assert owner.stdout.readline() == "up\n"
    eventually(lambda: not create_another() and not there())


@pytest.mark.skipif(not can_unshare(*TIME_NAMESPACE), reason="needs root, and unshare, to make a time namespace")
def test_another_time_namespace_may_not_attach_is_told_why_and_does_no_harm(tmp_path):
    script = (
        "import sys\nfrom embodichain.ring.ring import Ring\nfrom embodichain.errors import RingError\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom ring_parts import ring_spec\n"
        "try: Ring.attach(sys.argv[1])\nexcept RingError as error: print(error, flush=True)\n"
        f"Ring.create(ring_spec(), sys.argv[1] + '-other').close()\nprint('created', flush=True)"
    )
    with Ring.create(ring_spec(), tmp_path / f"{PREFIX}here") as ring:
        with process(TIME_NAMESPACE, script, ring.path) as other:
            assert "time namespace" in other.stdout.readline()
            assert other.stdout.readline() == "created\n"
        assert ring.path.exists()
        put(ring, 1)


def own(path, up):
    ring = Ring.create(ring_spec(num_slots=1), path)
    put(ring, 1)
    up.set()
    time.sleep(600)


def wait_for_more(path, up, outcome):
    ring = Ring.attach(path)
    up.set()
    try:
        ring.acquire(1, 0.0).release()
        ring.reserve(timeout_s=600.0)
    except RingClosed as error:
        outcome.put(str(error))


@pytest.mark.parametrize("name", [f"{PREFIX}fixed", "a-name-of-ones-own"])
def test_a_participant_of_the_dead_owners_ring_does_not_remove_the_new_owners_ring_of_the_same_name(tmp_path, name):
    path, outcome = tmp_path / name, fork.Queue()
    ups = [fork.Event() for _ in range(3)]
    first = start(own, path, ups[0])
    assert ups[0].wait(120)
    worker = start(wait_for_more, path, ups[1], outcome)
    assert ups[1].wait(120)
    eventually(lambda: Ring.attach(path).stats().waiting_writers == 1)
    os.kill(worker.pid, signal.SIGSTOP)
    kill(first)
    first.join()
    second = start(own, path, ups[2])
    assert ups[2].wait(120)
    os.kill(worker.pid, signal.SIGCONT)
    assert "died without closing" in outcome.get(timeout=120)
    with Ring.attach(path) as ring:
        assert ring.stats().ready == 1
    for process_ in (second, worker):
        kill(process_)
        process_.join()


def replace_the_program(path, what):
    ring = Ring.attach(path)
    ring.acquire(1, 5.0)
    slot = ring.reserve(5.0)
    what.set()
    assert slot
    os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])


def test_execve_gives_up_what_the_old_program_held():
    with Ring.create(ring_spec(num_slots=2)) as ring:
        put(ring, 1)
        held = fork.Event()
        child = start(replace_the_program, ring.path, held)
        assert held.wait(120)
        eventually(lambda: ring.reap() == 1)
        assert child.is_alive()
        stats = ring.stats()
        assert (stats.held, stats.writing, stats.participants) == (0, 0, 1)
        kill(child)
        child.join()


def close_everything_and_wait(path, done):
    ring = Ring.attach(path)
    slot = ring.reserve(5.0)
    os.closerange(3, 256)
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(64)]  # descriptors of the same numbers, of other files
    assert ring.reap() == 0, "nobody looks dead through somebody else's descriptor"
    assert others
    write(slot, 5)
    time.sleep(1.0)
    slot.publish()
    time.sleep(600)


def test_a_process_that_closes_all_its_descriptors_stays_alive_and_takes_nobody_for_dead():
    with Ring.create(ring_spec(num_slots=1)) as ring:
        child = start(close_everything_and_wait, ring.path, None)
        eventually(lambda: ring.stats().writing == 1)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert ring.reap() == 0
        eventually(lambda: ring.stats().ready == 1)
        kill(child)
        child.join()


def leave_a_child_behind(path, pids):
    ring = Ring.attach(path)
    slot = ring.reserve(5.0)
    assert slot
    pid = os.fork()
    if not pid:
        time.sleep(600)
    pids.put(pid)
    time.sleep(600)


def test_a_forked_child_does_not_keep_its_dead_parents_slot():
    with Ring.create(ring_spec(num_slots=1)) as ring:
        pids = fork.Queue()
        parent = start(leave_a_child_behind, ring.path, pids)
        orphan = pids.get(timeout=120)
        try:
            kill(parent)
            parent.join()
            assert ring.reap() == 1
            put(ring, 1)
        finally:
            os.kill(orphan, signal.SIGKILL)


def fork_in_another_thread_while_locking(path, pids, make):
    """Another thread forks right after the first lock was taken, unless the fork waits."""
    take, forked = locks.try_lock, threading.Event()

    def run():
        pid = os.fork()
        if not pid:
            time.sleep(600)
            os._exit(0)
        pids.put(pid)
        forked.set()

    def and_fork(descriptor, at):
        taken = take(descriptor, at)
        locks.try_lock = take
        threading.Thread(target=run, daemon=True).start()
        forked.wait(1.0)
        return taken

    locks.try_lock = and_fork
    ring = make(path)
    slot = ring.reserve(5.0)
    assert slot
    assert forked.wait(20)
    pids.put(0)
    time.sleep(600)


def own_one_slot(path):
    return Ring.create(ring_spec(num_slots=1), path)


@pytest.mark.parametrize("make", [Ring.attach, own_one_slot])
def test_a_child_that_another_thread_forks_while_a_lock_is_taken_does_not_keep_it(tmp_path, make):
    path = SHARED_MEMORY / f"{PREFIX}{os.getpid()}-{tmp_path.name}"
    with contextlib.ExitStack() as stack:
        ring = stack.enter_context(own_one_slot(path)) if make == Ring.attach else None
        pids = fork.Queue()
        parent = start(fork_in_another_thread_while_locking, path, pids, make)
        orphan = pids.get(timeout=120)
        try:
            assert pids.get(timeout=120) == 0
            kill(parent)
            parent.join()
            if ring is not None:
                assert ring.reap() == 1
                put(ring, 1)
            else:
                assert remove_stale(path.parent, path.name) == [path]
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_128_that_only_write_fit_beside_32_that_may_read():
    with Ring.create(ring_spec(num_slots=4)) as ring:
        readers = [Ring.attach(ring.path) for _ in range(layout.MAX_READERS - 1)]
        writers = [Ring.attach(ring.path, reads=False) for _ in range(128)]
        with pytest.raises(RingError, match="all of its 128 participants that only write"):
            Ring.attach(ring.path, reads=False)
        with pytest.raises(RingError, match="attach with reads=True"):
            writers[0].acquire(1, 0.0)
        for number, writer in enumerate(writers):
            put(writer, number)
            for reader in readers[:3]:
                with reader.sample(1, 0.0) as batch:
                    assert batch[0].trajectory_id == number
        slots = [writer.reserve() for writer in writers[-4:]]
        assert ring.stats().writing == 4
        for slot in slots[:2]:
            write(slot, 1)
            slot.publish()
        for writer in writers:
            writer.close()
        stats = ring.stats()
        assert (stats.writing, stats.free, stats.ready, stats.refused, stats.participants) == (0, 2, 2, 0, layout.MAX_READERS)
        for reader in readers:
            reader.close()
