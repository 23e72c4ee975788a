"""A ring in huge pages: really in them, used like any other, and in small ones where there are none."""

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from ring_parts import is_whole, put, ring_spec

from embodichain.ring import pages
from embodichain.ring.host import SHARED_MEMORY, journal_path, rings
from embodichain.ring.open import attach_ring, create_ring, restore_ring

_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def mount(folder: Path, size: str):
    """A file system in huge pages, mounted in the block."""
    folder.mkdir()
    if _LIBC.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"huge=always,size={size}".encode()) != 0:
        pytest.skip(f"this process may not mount file systems: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        _LIBC.umount2(str(folder).encode(), 2)


@pytest.fixture
def mounted(tmp_path):
    """A file system in huge pages, mounted for this test."""
    with mount(tmp_path / "huge pages", "128m") as folder:  # mounts are told with blanks escaped
        yield folder


def huge_kib(path: Path) -> int:
    """How much of this process's mappings of a file is in huge pages [KiB]."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and ":" not in line.split()[0]:
            ours = line.endswith(str(path))
        elif ours and line.startswith("ShmemPmdMapped:"):
            total += int(line.split()[1])
    return total


def test_a_ring_in_huge_pages_is_used_like_any_other(mounted, tmp_path):
    assert mounted in pages.folders()
    spec = ring_spec(num_slots=8, max_reads=2, words=1 << 17)  # 1 MiB each
    with create_ring(spec, "huge") as ring:
        assert ring.path.parent in pages.folders()
        assert ring.path in rings()
        assert journal_path(ring.path).parent not in pages.folders(), "a journal is no use of scarce memory"
        for number in range(4):
            put(ring, number)
        with attach_ring(ring.path) as other, other.sample(4) as lease:
            assert all(is_whole(sample) for sample in lease)
        assert huge_kib(ring.path) >= 4 * 1024, "the kernel was asked for huge pages and gave small ones"
        ring.snapshot(tmp_path / "snapshot")
        path = ring.path
    assert not path.exists()
    with restore_ring(tmp_path / "snapshot", "huge") as again, again.sample(4) as lease:
        assert again.path.parent in pages.folders()
        assert all(is_whole(sample) for sample in lease)


def test_a_ring_lies_in_the_first_huge_pages_with_room_for_it_and_in_small_ones_if_there_is_none(tmp_path, monkeypatch, caplog):
    spec = ring_spec(num_slots=8, words=1 << 17)
    with mount(tmp_path / "small", "4m") as small, mount(tmp_path / "large", "18m") as large:
        monkeypatch.setattr(pages, "folders", lambda: [small, large])
        with create_ring(spec, "huge") as first, create_ring(spec, "huge") as second:
            assert (first.path.parent, second.path.parent) == (large, SHARED_MEMORY)
            assert "does not fit" in caplog.text and str(small) in caplog.text and str(large) in caplog.text
            first.snapshot(tmp_path / "snapshot")
            with restore_ring(tmp_path / "snapshot", "huge") as third:
                assert third.path.parent == SHARED_MEMORY
        del first, second, third  # and with them their memory
        with restore_ring(tmp_path / "snapshot", "huge") as third:
            assert third.path.parent == large


def test_without_huge_pages_the_ring_has_small_ones_and_says_how_to_get_others(monkeypatch, caplog):
    monkeypatch.setattr(pages, "folders", lambda: [])
    with create_ring(ring_spec(), "huge") as ring:
        assert ring.path.parent == SHARED_MEMORY
        put(ring, 1)
    assert "no huge pages" in caplog.text and "mount -t tmpfs -o huge=always" in caplog.text


def test_only_file_systems_in_huge_pages_that_we_may_write_to_count(tmp_path):
    inside = str(tmp_path).replace(" ", r"\040")
    mounts = f"""tmpfs /dev/shm tmpfs rw,nosuid 0 0
tmpfs {inside} tmpfs rw,relatime,size=65536k,huge=always 0 0
tmpfs {inside} tmpfs rw,huge=never 0 0
hugetlbfs {inside} hugetlbfs rw,huge=always 0 0
tmpfs /nowhere/at/all tmpfs rw,huge=within_size 0 0
"""
    assert pages.folders(mounts) == [tmp_path]
