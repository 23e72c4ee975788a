"""A writer's folder is its own: other people's files stay, a second writer and another layout are refused, in every format."""

from dataclasses import dataclass

import pytest
from exchange_parts import CODEC, ROBOT, begin_run, ended, fill, recording, schema, start

from embodichain.errors import ConfigError
from embodichain.exchange.card import Card
from embodichain.exchange.recorded import DatasetLayout, Recorded
from embodichain.exchange.writers import FORMATS

SPEC = schema(chunk=4, horizon=4)


@dataclass
class Begun:
    """A data set of one format, written with any layout."""

    form: str
    folder: object

    def write(self, numbers, *, spec=SPEC, resume=False):
        layout = DatasetLayout.of(ROBOT, spec)
        with FORMATS.get(self.form)(self.folder, layout, Card(layout=layout, command="test"), resume=resume) as writer:
            for number in numbers:
                writer.add(Recorded.of(recording(number, spec), CODEC))
            return writer.num_episodes


@pytest.fixture(params=FORMATS.built_in)
def begun(request, tmp_path):
    return Begun(request.param, tmp_path / "set")


def files_in(folder):
    """What every file below a folder holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_other_peoples_files_are_byte_equal_after_an_export_into_their_folder(begun, tmp_path):
    begun.write([1, 2])
    (tmp_path / "README.md").write_text("my notes")
    (tmp_path / "film.mkv.partial").write_text("a download")
    before = files_in(tmp_path)
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"README\.md.*--out"):
            Begun(begun.form, tmp_path).write([3], resume=resume)
    assert files_in(tmp_path) == before


def test_what_lies_beside_a_data_set_stays_when_it_goes_on(begun, tmp_path):
    begun.write([1])
    inner = Begun(begun.form, begun.folder / "mine")
    inner.write([1, 2, 4])
    (begun.folder / "film.mkv.partial").write_text("a download")
    (begun.folder / "raw/chunk-000").mkdir(parents=True)
    (begun.folder / "raw/chunk-000/file-007.parquet").write_text("theirs")
    before = files_in(inner.folder)
    assert begun.write([2], resume=True) == 2
    assert files_in(inner.folder) == before and inner.write([], resume=True) == 3
    assert (begun.folder / "film.mkv.partial").read_text() == "a download"
    assert (begun.folder / "raw/chunk-000/file-007.parquet").read_text() == "theirs"


def test_an_export_into_somebody_elses_folder_ends_with_2_and_one_line(tmp_path, no_shared_memory_left):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text("my notes")
    with begin_run(tmp_path / "run", SPEC) as ring:
        fill(ring, range(1))
        export = start("export", "lerobot", "--run", tmp_path / "run", "-n", 1, "-o", tmp_path / "out")
        _, said = ended(export, timeout=240)
    assert export.returncode == 2 and "README.md" in said and "--out" in said and "Traceback" not in said
    assert files_in(tmp_path / "out") == {"README.md": b"my notes"}


def test_an_export_that_died_before_its_first_episode_can_be_begun_again(begun):
    layout = DatasetLayout.of(ROBOT, SPEC)
    writer = FORMATS.get(begun.form)(begun.folder, layout, Card(layout=layout, command="test"))
    del writer  # never closed, as a kill would leave it
    assert begun.write([1]) == 1


def test_another_layout_is_refused_and_changes_nothing(begun):
    begun.write([1])
    before = files_in(begun.folder)
    with pytest.raises(ConfigError, match="width 32, now 64; chunk 4, now 2"):
        begun.write([3], spec=schema(chunk=2, size=64, horizon=4), resume=True)
    assert files_in(begun.folder) == before


def test_a_folder_of_another_format_is_refused(tmp_path):
    Begun("robotwin", tmp_path).write([1])
    with pytest.raises(ConfigError, match="begun as robotwin"):
        Begun("robomimic", tmp_path).write([1], resume=True)
    with pytest.raises(ConfigError, match="no lerobot data set of ours"):
        Begun("lerobot", tmp_path).write([1], resume=True)


def test_a_data_set_that_lost_its_count_is_not_taken_for_a_new_one(tmp_path):
    Begun("lerobot", tmp_path).write([1, 2])
    (tmp_path / "meta/info.json").unlink()
    before = files_in(tmp_path)
    with pytest.raises(ConfigError, match=r"lost meta/info\.json"):
        Begun("lerobot", tmp_path).write([3])
    assert files_in(tmp_path) == before


def test_a_second_writer_is_refused_while_the_first_has_the_folder(begun):
    layout = DatasetLayout.of(ROBOT, SPEC)
    with FORMATS.get(begun.form)(begun.folder, layout, Card(layout=layout, command="test")) as writer:
        writer.add(Recorded.of(recording(1, SPEC), CODEC))
        with pytest.raises(ConfigError, match="being written by another export"):
            begun.write([2], resume=True)
        writer.add(Recorded.of(recording(3, SPEC), CODEC))
    assert begun.write([], resume=True) == 2
    assert not (begun.folder / ".lock").exists()
