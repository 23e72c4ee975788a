"""Bad input: each a clear error that names what was asked, what is there, and leaves nothing behind."""

import errno
import os

import numpy as np
import pytest
from ring_parts import put, ring_spec, shared_memory_files, trajectory_spec

from embodichain.errors import RingError
from embodichain.ring import host, layout
from embodichain.ring.ring import Ring
from embodichain.types import Field, RingSpec, TrajectorySpec


@pytest.fixture
def ring():
    with Ring.create(ring_spec()) as ring:
        yield ring


def patch_header(path, at, value):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(int(value).to_bytes(8, "little"))


def test_wrong_schema_names_both(ring):
    with pytest.raises(RingError, match=r"content uint64\[512\].*asked for .*content uint64\[9\]"):
        Ring.attach(ring.path, trajectory=trajectory_spec(9))
    Ring.attach(ring.path, trajectory=trajectory_spec()).close()


def test_wrong_abi_names_both(ring):
    patch_header(ring.path, layout.AT_ABI, 99)
    with pytest.raises(RingError, match=f"ABI version 99, this build speaks {layout.ABI}"):
        Ring.attach(ring.path)


def test_another_pid_namespace_is_refused(ring):
    patch_header(ring.path, layout.AT_NAMESPACE, 12345)
    with pytest.raises(RingError, match="pid namespace"):
        Ring.attach(ring.path)


def test_a_damaged_specification_is_refused(ring):
    patch_header(ring.path, layout.HEADER_BYTES, 0)
    with pytest.raises(RingError, match="no readable specification"):
        Ring.attach(ring.path)


@pytest.mark.parametrize("size", [0, 100, layout.HEADER_BYTES, 100_000])
def test_a_truncated_file_is_refused(tmp_path, ring, size):
    copy = tmp_path / "ring"
    copy.write_bytes(ring.path.read_bytes()[:size])
    expected = "a header alone has 4096" if size < layout.HEADER_BYTES else "is truncated"
    with pytest.raises(RingError, match=expected):
        Ring.attach(copy)


def test_a_file_that_is_no_ring_is_refused(tmp_path):
    path = tmp_path / "notes"
    path.write_bytes(b"x" * 10_000)
    with pytest.raises(RingError, match=r"no ring at .*notes"):
        Ring.attach(path)
    with pytest.raises(RingError, match=r"no ring at .*absent"):
        Ring.attach(tmp_path / "absent")


def test_a_symbolic_link_is_not_followed(tmp_path, ring):
    link = tmp_path / "link"
    link.symlink_to(ring.path)
    with pytest.raises(RingError, match="cannot open"):
        Ring.attach(link)


def test_an_existing_name_and_an_unwritable_folder_are_refused(ring):
    before = shared_memory_files()
    with pytest.raises(RingError, match="already exists"):
        Ring.create(ring_spec(), ring.path)
    with pytest.raises(RingError, match="cannot create a ring"):
        Ring.create(ring_spec(), "/proc/ring")
    with pytest.raises(RingError, match="cannot create a ring at /nowhere"):
        Ring.create(ring_spec(), "/nowhere/ring")
    assert shared_memory_files() == before
    put(ring, 1)


def test_too_little_memory_names_bytes_asked_and_there():
    before = shared_memory_files()
    with pytest.raises(RingError, match=r"a ring of [\d,]+ bytes does not fit: [\d,]+ bytes (free in|available|left in)"):
        Ring.create(ring_spec(num_slots=1_000_000, words=1 << 20))
    assert shared_memory_files() == before


def test_memory_that_runs_out_while_reserving_leaves_no_file(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = shared_memory_files()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RingError, match="does not fit"):
        Ring.create(ring_spec())
    assert shared_memory_files() == before


def test_the_memory_is_there_from_the_start(ring):
    status = ring.path.stat()
    assert status.st_blocks * 512 >= status.st_size == ring._layout.total_bytes
    free, limit = host.available(ring.path.parent)
    assert free > 0
    assert limit


@pytest.mark.parametrize("batch", [0, -1])
def test_an_empty_batch_is_refused(ring, batch):
    with pytest.raises(RingError, match="cannot come from"):
        ring.sample(batch)


def test_an_unknown_field_lists_those_that_exist(ring):
    with pytest.raises(KeyError, match="content"):
        ring.field("picture")


def test_without_an_id_field_trajectories_are_numbered_by_publication():
    spec = TrajectorySpec(horizon=1, fields=(Field(name="x", shape=(3,), dtype="float64"),))
    with Ring.create(RingSpec(trajectory=spec, num_slots=3)) as ring:
        for value in range(3):
            with ring.reserve() as slot:
                slot["x"][:] = value
        with ring.sample(3, 0.0) as batch:
            assert all(np.array_equal(sample["x"], np.full(3, sample.trajectory_id)) for sample in batch)


@pytest.mark.parametrize("named", [True, False])
def test_a_restored_ring_numbers_its_trajectories_on_from_where_it_was(tmp_path, named):
    fields = (Field(name="x", shape=(3,), dtype="float64"), Field(name="trajectory_id", shape=(), dtype="uint64"))
    spec = TrajectorySpec(horizon=1, fields=fields[: 1 + named])
    seen, given = [], 0
    ring = Ring.create(RingSpec(trajectory=spec, num_slots=6, max_reads=1))
    for life in range(4):
        while ring.stats().free:
            with ring.reserve() as slot:
                slot["x"][:] = given
                if named:
                    slot["trajectory_id"][()] = given
            given += 1
        with ring.sample(4, 0.0) as batch:
            seen += batch.trajectory_ids.tolist()
        ring.snapshot(tmp_path / f"{life}")
        ring.close()
        ring = Ring.restore(tmp_path / f"{life}")
    ring.close()
    assert len(set(seen)) == len(seen) == 16


def test_free_memory_is_that_of_the_processs_own_control_group_and_of_those_around_it(tmp_path):
    def group(path, most, used, names=("memory.max", "memory.current")):
        folder = tmp_path / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, (most, used), strict=True):
            (folder / name).write_text(f"{value}\n")

    group("", "max", 0)
    group("job", 1_000, 400)
    group("job/task", 5_000, 100)
    group("other", 10, 10)
    assert dict(host._left_in_groups("0::/job/task\n", tmp_path)) == {
        600: "left in the control group /job",
        4_900: "left in the control group /job/task",
    }
    assert not dict(host._left_in_groups("0::/elsewhere\n3:cpu:/other\n", tmp_path))
    group("memory/old", 700, 100, ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    assert dict(host._left_in_groups("4:memory:/old\n", tmp_path)) == {600: "left in the control group /old"}


@pytest.mark.parametrize(
    ("groups", "tree", "names", "own", "others"),
    [
        ("0::/job\n", "job", ("memory.max", "memory.current"), "inactive_file", "total_inactive_file"),
        (
            "4:memory:/job\n",
            "memory/job",
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            "total_inactive_file",
            "inactive_file",
        ),
    ],
)
@pytest.mark.parametrize(("cached", "left"), [(700, 720), (0, 20), (980, 1_000), (5_000, 1_000)])
def test_files_that_a_container_has_read_take_no_memory_from_a_ring(tmp_path, groups, tree, names, own, others, cached, left):
    folder = tmp_path / tree
    folder.mkdir(parents=True)
    for name, value in zip(names, (1_000, 980), strict=True):
        (folder / name).write_text(f"{value}\n")
    stat = f"anon 17\nfile 960\nshmem 940\nactive_file 950\n{others} 930\n{own} {cached}\ninactive_anon 920\n"
    (folder / "memory.stat").write_text(stat)
    assert dict(host._left_in_groups(groups, tmp_path)) == {left: "left in the control group /job"}
