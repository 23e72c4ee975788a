"""What the dead leave behind is cleared away, what belongs to the living is not, and what is neither is no hindrance."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ring_parts import eventually, kill, put, ring_spec, start

from embodichain.errors import RingClosed, RingError, RingTimeout
from embodichain.ring import pages
from embodichain.ring.delayed import DelayedDevice
from embodichain.ring.device_ring import DeviceRing
from embodichain.ring.gateway import Gateway
from embodichain.ring.host import PREFIX, SHARED_MEMORY, journal_path, remove_stale_journals
from embodichain.ring.journal import ROOM, Journal, JournalRecord, RecordKind
from embodichain.ring.ring import Ring
from embodichain.types import TrajectoryId


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder of temporary files of this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def create_another() -> None:
    Ring.create(ring_spec(num_slots=1, words=1)).close()


def test_the_journal_of_a_living_gateway_is_never_removed(temporary):
    """Its ring is not seen from here, as in another container: a second gateway would publish what the first has published."""
    path = journal_path(SHARED_MEMORY / f"{PREFIX}77-x")
    assert path.parent == temporary
    journal = Journal(path, timeout_s=0.0)
    journal.append([JournalRecord(1, 0, 0, RecordKind.DONE)])
    create_another()
    with pytest.raises(RingTimeout, match="another process is the gateway"):
        Journal(path, timeout_s=0.0)
    journal.close()
    assert remove_stale_journals() == [path]


CREATE = """
import sys, tempfile
sys.path.insert(0, sys.argv[1])
tempfile.tempdir = sys.argv[2]
from ring_parts import ring_spec
from embodichain.ring.ring import Ring
Ring.create(ring_spec(num_slots=1, words=1)).close()
print("created")
"""


@pytest.mark.parametrize("shm", ["mount -t tmpfs tmpfs", "mount --bind {of}"])
def test_the_journal_of_a_ring_that_another_container_does_not_see_is_left_for_its_next_gateway(temporary, tmp_path, shm):
    """The containers share the folder of the journals, and the gateway is dead and being started again."""
    (tmp_path / "of").mkdir()
    command = (
        f"{shm.format(of=tmp_path / 'of')} /dev/shm && exec {sys.executable} -c '{CREATE}' {Path(__file__).parent} {temporary}"
    )
    with Ring.create(ring_spec()) as ring:
        path = journal_path(ring.path)
        Journal(path, timeout_s=0.0).close()
        done = subprocess.run(["unshare", "--mount", "sh", "-c", command], check=False, capture_output=True, text=True)
        if "created" not in done.stdout:
            pytest.skip(f"needs root, and unshare, to make a mount namespace: {done.stderr[-200:]}")
        assert path.exists()
        create_another()
        assert path.exists()
    create_another()
    assert not path.exists()


def test_the_journal_of_a_living_ring_among_temporary_files_waits_for_the_next_gateway(temporary):
    with Ring.create(ring_spec(), temporary / f"{PREFIX}77-v") as ring:
        path = journal_path(ring.path)
        Journal(path, timeout_s=0.0).close()
        create_another()
        assert path.exists()
    create_another()
    assert not path.exists()


def test_the_journal_of_a_living_ring_in_huge_pages_waits_for_the_next_gateway(temporary, tmp_path, monkeypatch):
    huge = tmp_path / "huge"
    huge.mkdir()
    monkeypatch.setattr(pages, "folders", lambda: [huge])
    with Ring.create(ring_spec(), huge / f"{PREFIX}77-y") as ring:
        path, identity = journal_path(ring.path), TrajectoryId(worker=1, epoch=1, sequence=1)
        assert path.parent == temporary
        arrays = ring.spec.trajectory.allocate()
        arrays["trajectory_id"][()] = identity.pack()
        with Gateway(ring, path) as gateway:
            assert gateway.deliver(arrays, identity)
        create_another()
        with Gateway(ring, path) as successor:
            assert not successor.deliver(arrays, identity)
    create_another()
    assert not path.exists()


def test_what_a_gateway_left_that_was_killed_while_trimming_is_removed(temporary):
    left = temporary / f"{PREFIX}77-z.journal.77-abcdef01.unfinished"
    left.write_bytes(b"x" * 99)
    create_another()
    assert not left.exists()


def test_a_trimmed_journal_holds_nothing_of_an_older_attempt(tmp_path):
    path = tmp_path / "journal"
    old = JournalRecord(7, 0, 0, RecordKind.DONE)
    longer = Journal(tmp_path / f"journal.{os.getpid()}.unfinished", timeout_s=0.0)
    for _ in range(ROOM // 2):
        longer.append([old])
    longer.close()
    journal = Journal(path, timeout_s=0.0)
    journal.trim([JournalRecord(1, 0, 0, RecordKind.DONE)])
    journal.close()
    assert Journal(path, timeout_s=0.0).records == [JournalRecord(1, 0, 0, RecordKind.DONE)]


def test_a_journal_is_not_written_through_a_link_or_into_what_is_no_file(tmp_path):
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(RingError, match=r"cannot open the journal|no file of this user"):
            Journal(tmp_path / name, timeout_s=0.0)
    assert (tmp_path / "precious").read_text() == "keep me"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_journal_that_another_user_put_there_is_refused(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"")
    os.chown(path, 12345, 12345)
    with pytest.raises(RingError, match="no file of this user"):
        Journal(path, timeout_s=0.0)


def test_a_pipe_among_the_rings_is_no_hindrance_and_no_ring():
    path = SHARED_MEMORY / f"{PREFIX}{os.getpid()}-pipe"
    os.mkfifo(path)
    try:
        create_another()
        assert path.exists()
        with pytest.raises(RingError, match="it is no regular file"):
            Ring.attach(path)
    finally:
        path.unlink()


def test_a_ring_on_a_device_that_only_writes_travels_as_one_that_only_writes():
    with DeviceRing.create(ring_spec(), DelayedDevice()) as ring, DeviceRing.attach(ring.path, DelayedDevice(), reads=False) as one:
        with pickle.loads(pickle.dumps(one)) as other, pytest.raises(RingError, match="only writes"):
            other.acquire(1, 0.0)
        put(ring, 1)
        with pickle.loads(pickle.dumps(ring)) as other, other.sample(1) as lease:
            assert len(lease.slots) == 1


@pytest.fixture
def large():
    """A ring of which a snapshot takes its time: 96 MiB."""
    with Ring.create(ring_spec(num_slots=96, words=1 << 17)) as ring:
        for number in range(96):
            with ring.reserve(0.0) as slot:
                for name in slot:
                    slot[name][...] = number
        yield ring


@pytest.mark.parametrize("closes", [False, True], ids=["Ctrl-C", "close"])
def test_a_snapshot_that_is_interrupted_leaves_nothing(large, tmp_path, closes):
    folder = tmp_path / "checkpoints"
    folder.mkdir()

    def interrupt(*_: object) -> None:
        if not any(path.stat().st_size for path in folder.iterdir()):
            return  # it has not begun
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if not closes:
            raise KeyboardInterrupt
        large.close()

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        with pytest.raises(RingClosed if closes else KeyboardInterrupt):
            large.snapshot(folder / "ring-a.snapshot")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert not list(folder.iterdir())


def save_for_ever(folder):
    with Ring.create(ring_spec(num_slots=4, words=1 << 17)) as ring:
        for number in range(4):
            put(ring, number)
        while True:
            ring.snapshot(folder / "ring-a.snapshot")


def test_what_a_killed_writer_of_a_snapshot_left_is_removed_and_that_of_a_living_one_is_not(tmp_path):
    def unfinished():
        return list(tmp_path.glob(".ring-a.snapshot.*"))

    def stopped_amid(pid):
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.003)
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        return any(f".{pid}-" in path.name and path.stat().st_size for path in unfinished())

    dead, living = (start(save_for_ever, tmp_path) for _ in range(2))
    with Ring.create(ring_spec(num_slots=1, words=1)) as ring:
        for writer in (dead, living):
            eventually(lambda writer=writer: stopped_amid(writer.pid))
        kill(dead)
        dead.join()
        ring.snapshot(tmp_path / "ring-a.snapshot")
        assert [f".{living.pid}-" in path.name for path in unfinished()] == [True]
        kill(living)
        living.join()
        ring.snapshot(tmp_path / "ring-a.snapshot")
        assert [path.name for path in tmp_path.iterdir()] == ["ring-a.snapshot"]


@pytest.mark.parametrize("bit", [0, 40, 62, 63])
def test_a_snapshot_whose_end_names_another_place_is_refused(tmp_path, bit):
    path = tmp_path / "snapshot"
    with Ring.create(ring_spec()) as ring:
        put(ring, 1)
        ring.snapshot(path)
    data = bytearray(path.read_bytes())
    data[-24 + bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    with pytest.raises(RingError, match="is damaged"):
        Ring.restore(path)
