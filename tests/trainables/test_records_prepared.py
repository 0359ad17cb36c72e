"""Prepared records: what is stored is what the readers give, keyed by content and form, and what is wrong is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kdsearch.spaces.errors import UnknownNameError, UsageError
from kdsearch.trainables.data import DataError
from kdsearch.trainables.data.marker import MARKER_FILE
from kdsearch.trainables.records import (
    EcgReader,
    EcgRecord,
    EcgSettings,
    Part,
    Scaling,
    Shares,
    divide,
    features,
    find_records,
    load_patients,
    load_records,
    prepared,
    prepared_files,
    sample_records,
)
from kdsearch.trainables.records.cache import Cache, CacheError
from kdsearch.trainables.records.prepared import prepared_hours, prepared_signals, stored_signal
from kdsearch.trainables.records.prepared_files import Content, files_or_sample

LATER_NS = 10_000_000_000
SHORT = EcgSettings(window_s=2.0, rate_hz=100)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a sample of each set, not to be changed."""
    root = tmp_path_factory.mktemp("made-up")
    for name in ("physionet2021", "hangzhou", "physionet2019", "eicu"):
        sample_records(name, root)
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def ecg_root(everything: Path, folder: Path, count: int = 8) -> Path:
    """Return a data root with a few ECG records that may be changed."""
    (folder / "physionet2021").mkdir(parents=True)
    for path in sorted((everything / "physionet2021").glob("MADE*"))[: 2 * count]:
        shutil.copy(path, folder / "physionet2021")
    return folder


def hours_root(everything: Path, folder: Path, count: int = 12) -> Path:
    """Return a data root with a few patients that may be changed."""
    (folder / "physionet2019").mkdir(parents=True)
    for path in sorted((everything / "physionet2019").rglob("*.psv"))[:count]:
        shutil.copy(path, folder / "physionet2019")
    return folder


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forbid that records are read from now on."""

    def fail(*_: object) -> None:
        raise AssertionError("read again")

    def forbid() -> None:
        monkeypatch.setattr(prepared, "_SIGNALS", dict.fromkeys(prepared._SIGNALS, fail))
        monkeypatch.setattr(prepared, "_HOURS", dict.fromkeys(prepared._HOURS, fail))

    return forbid


# -- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [EcgSettings(), EcgSettings(window_s=12.0, scale_leads=False)])
def test_signals_are_those_of_the_reader(everything: Path, cache: Path, settings: EcgSettings) -> None:
    records, summary = load_records(everything, settings)
    held = prepared_signals("physionet2021", everything, settings, cache=cache)
    assert held.names == records.names
    assert np.array_equal(held.samples, records.samples)
    assert held.summary == summary
    assert held.is_sample
    assert isinstance(held.stored, np.memmap)
    assert held.stored.dtype == np.int16
    signals, labels = held.batch(np.arange(len(held)))
    assert signals.dtype == np.float32
    assert np.array_equal(labels, records.labels)
    deviation = records.signals.std(axis=2, keepdims=True)
    assert (np.abs(signals - records.signals) <= 1e-3 * deviation).all()
    padding = np.arange(settings.window) >= records.samples[:, None]
    assert padding.any() is np.True_
    assert (signals.transpose(0, 2, 1)[padding] == 0).all()


def test_a_batch_is_in_the_order_asked_for(everything: Path, cache: Path) -> None:
    held = prepared_signals("physionet2021", everything, SHORT, cache=cache)
    chosen = np.array([7, 3, 3, 99, 0])
    signals, labels = held.batch(chosen)
    assert signals.shape == (5, 12, 200)
    for at, record in enumerate(chosen):
        alone, own = held.batch(np.array([record]))
        assert np.array_equal(alone[0], signals[at])
        assert np.array_equal(own[0], labels[at])
    assert held.batch(chosen[:0])[0].shape == (0, 12, 200)


@given(
    arrays.arrays(np.float32, (3, 50), elements=st.floats(-1e9, 1e9, width=32, allow_subnormal=True)),
)
def test_a_stored_signal_is_off_by_half_a_step_at_most(signal: np.ndarray) -> None:
    whole, steps = stored_signal(signal)
    again = whole * steps[:, None].astype(np.float64)
    peak = np.abs(signal).max(axis=1, keepdims=True)
    # half a step, what the float32 of the step adds at most, and what is too small for a step in float32
    bound = peak / 65_534 + peak * np.finfo(np.float32).eps + 32_767 * np.finfo(np.float32).smallest_subnormal
    assert (np.abs(again - signal) <= bound).all()
    assert (again[signal == 0] == 0).all()


def test_the_worst_scaled_lead_is_within_the_bound() -> None:
    signal = np.full((1, 2_000), -1 / np.sqrt(1_999), dtype=np.float32)  # mean 0, deviation 1, one peak
    signal[0, 5] = np.sqrt(1_999)
    assert signal.mean() == pytest.approx(0, abs=1e-6)
    assert signal.std() == pytest.approx(1)
    whole, steps = stored_signal(signal)
    assert np.abs(whole * steps[:, None] - signal).max() < 7e-4


@pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="the system does not tell which pages are held"
)
def test_pages_of_a_batch_are_let_go(everything: Path, cache: Path) -> None:
    held = prepared_signals("physionet2021", everything, cache=cache)

    def kilobytes() -> int:
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        for line in lines:
            if line.endswith(f"{held.digest}/signals"):
                return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
        raise AssertionError("not mapped")

    held.stored.sum()
    assert kilobytes() > 4_000
    held.batch(np.arange(len(held)))
    assert kilobytes() == 0


# -- what entries are keyed by --------------------------------------------------------------------------------------


def test_what_is_there_is_not_read_again(everything: Path, cache: Path, unread: Callable[[], None]) -> None:
    signals = prepared_signals("physionet2021", everything, cache=cache)
    hours = prepared_hours("physionet2019", everything, cache=cache)
    unread()
    again = prepared_signals("physionet2021", everything, EcgSettings(window_s=10), cache=cache)
    assert again.digest == signals.digest
    assert np.array_equal(again.stored, signals.stored)
    assert again.summary == signals.summary
    assert str(again.summary) == str(signals.summary)
    assert prepared_hours("physionet2019", everything, cache=cache).summary == hours.summary
    with pytest.raises(AssertionError, match="read again"):
        prepared_signals("physionet2021", everything, SHORT, cache=cache)


def test_every_setting_has_its_entry(everything: Path, cache: Path) -> None:
    root = everything
    forms = (
        SHORT,
        EcgSettings(window_s=1.0, rate_hz=200),
        EcgSettings(window_s=2.0, rate_hz=100, scale_leads=False),
    )
    signals = {prepared_signals("physionet2021", root, form, cache=cache).digest for form in forms}
    assert len(signals) == 3
    elsewhere = Scaling(np.zeros(40), np.ones(40))
    hours = {
        prepared_hours("physionet2019", root, cache=cache).digest,
        prepared_hours("physionet2019", root, cache=cache, indicators=True).digest,
        prepared_hours("physionet2019", root, cache=cache, shares=Shares(seed=1)).digest,
        prepared_hours("physionet2019", root, cache=cache, scaling=elsewhere).digest,
        prepared_hours("physionet2019", root, cache=cache, scaling=Scaling(np.ones(40), np.ones(40))).digest,
    }
    assert len(hours) == 5
    same = prepared_hours("physionet2019", root, cache=cache, shares=Shares(seed=2), scaling=elsewhere)
    assert same.digest in hours  # the division changes no number then


def test_equal_contents_elsewhere_are_the_same_entry(
    everything: Path, tmp_path: Path, cache: Path, unread: Callable[[], None]
) -> None:
    root = ecg_root(everything, tmp_path / "one")
    bad = next((root / "physionet2021").glob("*.mat"))
    bad.write_bytes(b"")
    first = prepared_signals("physionet2021", root, SHORT, cache=cache)
    shutil.copytree(root, tmp_path / "two")
    (tmp_path / "two" / "physionet2021" / "README").touch()
    unread()
    again = prepared_signals("physionet2021", tmp_path / "two", SHORT, cache=cache)
    assert again.digest == first.digest
    assert again.summary.folder == tmp_path / "two" / "physionet2021"
    assert again.summary.others == first.summary.others + 1
    assert [problem.path for problem in again.summary.left_out] == [
        str(tmp_path / "two" / "physionet2021" / bad.with_suffix(".hea").name)
    ]


def change_samples(folder: Path) -> None:
    path = min(folder.glob("*.mat"))
    path.write_bytes(path.read_bytes()[:-2] + b"\1\1")


def change_header(folder: Path) -> None:
    path = min(folder.glob("*.hea"))
    path.write_text(path.read_text() + "# Dx: 164889003\n")


def rename(folder: Path) -> None:
    for path in sorted(folder.glob("*0001.*")):
        path.rename(folder / f"A{path.suffix}")


def remove(folder: Path) -> None:
    for path in sorted(folder.glob("*0001.*")):
        path.unlink()


def lose_samples(folder: Path) -> None:
    min(folder.glob("*.mat")).unlink()


def move(folder: Path) -> None:
    (folder / "deeper").mkdir()
    for path in sorted(folder.glob("*0001.*")):
        path.rename(folder / "deeper" / path.name)


def link_to_nowhere(folder: Path) -> None:
    (folder / "nowhere.hea").symlink_to(folder / "nothing")


@pytest.mark.parametrize(
    "change", [change_samples, change_header, rename, remove, lose_samples, move, link_to_nowhere]
)
def test_other_files_are_another_entry(
    everything: Path, tmp_path: Path, cache: Path, change: Callable[[Path], None]
) -> None:
    root = ecg_root(everything, tmp_path)
    first = prepared_signals("physionet2021", root, SHORT, cache=cache)
    change(root / "physionet2021")
    assert prepared_signals("physionet2021", root, SHORT, cache=cache).digest != first.digest


def test_a_made_up_set_is_never_taken_for_a_real_one(everything: Path, tmp_path: Path, cache: Path) -> None:
    root = ecg_root(everything, tmp_path)
    real = prepared_signals("physionet2021", root, SHORT, cache=cache)
    shutil.copy(everything / "physionet2021" / MARKER_FILE, root / "physionet2021")
    made_up = prepared_signals("physionet2021", root, SHORT, cache=cache)
    assert not real.is_sample
    assert made_up.is_sample
    assert made_up.digest != real.digest


def test_a_digest_is_remembered_once_files_have_settled(
    everything: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ecg_root(everything, tmp_path)
    files, store = find_records("physionet2021", root), Cache(cache)
    taken: list[int] = []
    digest = prepared_files._digest
    monkeypatch.setattr(prepared_files, "_digest", lambda files: (taken.append(1), digest(files))[1])

    def later() -> int:
        return time.time_ns() + LATER_NS

    def at_once() -> int:
        return files.records[0].stat().st_ctime_ns

    first = Content.of(
        files, store, now_ns=at_once
    )  # another change in this tick of the clock would not show
    assert Content.of(files, store, now_ns=later).digest == first.digest
    assert len(taken) == 2
    assert Content.of(files, store, now_ns=later).digest == Content.of(files, store).digest == first.digest
    assert len(taken) == 2
    path = files.records[0]
    times = path.stat()
    path.write_text(path.read_text().replace("NSR", "RSN").replace("1000", "2000"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, same time of modification
    assert path.stat().st_size == times.st_size
    assert Content.of(files, store, now_ns=later).digest != first.digest
    for memory in (cache / "digests").iterdir():
        memory.write_text("abc")
    assert Content.of(files, store, now_ns=later).digest != first.digest
    assert len(taken) == 4
    shutil.rmtree(cache / "digests")
    (cache / "digests").touch()  # cannot be remembered: read again
    Content.of(files, store, now_ns=later)
    assert len(taken) == 5


# -- what is wrong with files ---------------------------------------------------------------------------------------


def test_a_bad_file_is_counted_and_a_folder_of_them_ends_the_run(
    everything: Path, tmp_path: Path, cache: Path
) -> None:
    root = ecg_root(everything, tmp_path)
    bad, *rest = sorted((root / "physionet2021").glob("*.hea"))
    bad.write_bytes(b"")
    for _ in range(2):
        held = prepared_signals("physionet2021", root, SHORT, cache=cache)
        assert held.summary.read == len(held) == 7
        assert [Path(problem.path) for problem in held.summary.left_out] == [bad]
        assert held.batch(np.arange(7))[0].shape == (7, 12, 200)
    for path in rest:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="8 problems"):
        prepared_signals("physionet2021", root, SHORT, cache=cache)
    assert len(list((cache / "prepared").iterdir())) == 1
    root = hours_root(everything, tmp_path / "hours")
    for path in (root / "physionet2019").glob("*.psv"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="12 problems"):
        prepared_hours("physionet2019", root, cache=cache)
    assert len(list((cache / "prepared").iterdir())) == 1


def test_files_that_change_while_they_are_read_are_told(
    everything: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ecg_root(everything, tmp_path)

    class Late(EcgReader):
        def __iter__(self) -> Iterator[EcgRecord]:
            yield from super().__iter__()
            change_header(root / "physionet2021")

    monkeypatch.setattr(prepared, "_SIGNALS", {"physionet2021": Late})
    with pytest.raises(DataError, match="changed while they were read"):
        prepared_signals("physionet2021", root, SHORT, cache=cache)
    assert not list((cache / "prepared").iterdir())


def test_unknown_and_absent_sets_are_told(everything: Path, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UnknownNameError, match="physionet2021, hangzhou"):
        prepared_signals("physionet2019", everything, cache=cache)
    with pytest.raises(UnknownNameError, match="physionet2019, eicu"):
        prepared_hours("physionet2021", everything, cache=cache)
    for prepare, name in ((prepared_signals, "physionet2021"), (prepared_hours, "physionet2019")):
        with pytest.raises(DataError, match="no such folder"):
            prepare(name, tmp_path, cache=cache)
    with pytest.raises(UsageError, match="too few"):
        prepared_hours("physionet2019", hours_root(everything, tmp_path, 2), cache=cache)


def test_too_little_room_for_signals(everything: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = shutil.disk_usage(everything)._replace(free=4_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(CacheError, match=r"0\.0 GB left"):  # 100 records of 48 kB
        prepared_signals("physionet2021", everything, cache=cache)
    assert len(prepared_signals("physionet2021", everything, SHORT, cache=cache)) == 100


# -- hours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indicators", [False, True])
def test_hours_are_standardised_with_the_training_part_alone(
    everything: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, *, indicators: bool
) -> None:
    monkeypatch.setattr(prepared, "PIECE", 7)
    patients, summary = load_patients(everything)
    parts = divide("physionet2019", patients.names)
    scaling = Scaling.fit(patients.take(parts[Part.TRAINING]))
    held = prepared_hours("physionet2019", everything, indicators=indicators, cache=cache)
    assert held.names == patients.names
    assert np.array_equal(held.values, features(patients, scaling, indicators=indicators))
    assert held.values.shape[1] == (80 if indicators else 40)
    assert isinstance(held.values, np.memmap)
    assert np.array_equal(held.labels, patients.labels)
    assert np.array_equal(held.offsets, patients.offsets)
    assert np.array_equal(held.septic, patients.septic)
    assert np.array_equal(held.hours, patients.hours)
    assert held.scaling.mean.tolist() == scaling.mean.tolist()
    assert held.scaling.scale.tolist() == scaling.scale.tolist()
    assert {part: list(places) for part, places in held.parts.items()} == {
        part: list(places) for part, places in parts.items()
    }
    assert held.summary == summary
    assert held.is_sample


def test_the_scaling_does_not_see_the_other_parts(everything: Path, tmp_path: Path, cache: Path) -> None:
    root = hours_root(everything, tmp_path)
    first = prepared_hours("physionet2019", root, cache=cache)
    for part, same in ((Part.VALIDATION, True), (Part.TEST, True), (Part.TRAINING, False)):
        path = root / "physionet2019" / f"{first.names[first.parts[part][0]]}.psv"
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *("250|" + row.partition("|")[2] for row in rows)]) + "\n")
        changed = prepared_hours("physionet2019", root, cache=cache)
        assert changed.digest != first.digest
        assert (changed.scaling.mean[0] == first.scaling.mean[0]) is np.bool_(same)


def test_a_scaling_from_elsewhere(everything: Path, tmp_path: Path, cache: Path) -> None:
    patients, _ = load_patients(hours_root(everything, tmp_path, 2))
    scaling = Scaling(np.linspace(0, 90, 40), np.append(np.linspace(1, 9, 39), np.inf))
    held = prepared_hours("physionet2019", tmp_path, scaling=scaling, cache=cache)
    assert np.array_equal(held.values, features(patients, scaling, indicators=False))
    assert held.scaling.scale.tolist() == scaling.scale.tolist()
    assert held.parts == {}  # two patients cannot be divided, and need not


def test_a_batch_of_hours_is_padded_with_zeros(everything: Path, cache: Path) -> None:
    held = prepared_hours("physionet2019", everything, indicators=True, cache=cache)
    chosen = np.array([5, 80, 5, 33])
    values, labels, real = held.batch(chosen)
    assert values.shape == (4, held.hours[chosen].max(), 80)
    assert values.dtype == np.float32
    assert real.dtype == np.bool_
    assert labels.shape == real.shape == values.shape[:2]
    for at, patient in enumerate(chosen):
        rows = slice(held.offsets[patient], held.offsets[patient + 1])
        length = held.hours[patient]
        assert real[at].tolist() == [True] * length + [False] * (real.shape[1] - length)
        assert np.array_equal(values[at, :length], held.values[rows])
        assert np.array_equal(labels[at, :length], held.labels[rows])
    assert (values[~real] == 0).all()
    assert (labels[~real] == 0).all()
    assert held.batch(chosen[:0])[0].shape == (0, 0, 80)


def test_most_hours_keeps_the_first(everything: Path, cache: Path) -> None:
    held = prepared_hours("physionet2019", everything, cache=cache)
    chosen = np.arange(20)
    values, labels, real = held.batch(chosen)
    cut = held.batch(chosen, most_hours=15)
    for whole, first in zip((values, labels, real), cut, strict=True):
        assert first.shape[1] == 15
        assert np.array_equal(first, whole[:, :15])
    assert held.batch(chosen, most_hours=1_000)[0].shape == values.shape
    with pytest.raises(UsageError, match="most_hours"):
        held.batch(chosen, most_hours=0)


# -- sets from elsewhere, and made-up ones --------------------------------------------------------------------------


def test_sets_from_elsewhere_have_the_same_form(everything: Path, cache: Path) -> None:
    own = prepared_hours("physionet2019", everything, indicators=True, cache=cache)
    hours = prepared_hours("eicu", everything, indicators=True, scaling=own.scaling, cache=cache)
    assert hours.values.shape[1] == 80
    assert np.isfinite(hours.values).all()
    assert hours.summary.name == "eicu"
    assert len(hours) == hours.summary.facts["patients"]
    signals = prepared_signals("hangzhou", everything, cache=cache)
    assert signals.stored.shape == (len(signals), 12, 2_000)
    assert signals.labels.shape == (len(signals), 26)
    assert signals.summary.name == "hangzhou"


@pytest.mark.parametrize("given", [False, True])
def test_a_made_up_set_stands_in_for_one_that_is_not_there(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, *, given: bool
) -> None:
    monkeypatch.delenv("KDSEARCH_DATA", raising=False)
    root = tmp_path / "data" if given else None
    if root is not None:
        (root / "physionet2021").mkdir(parents=True)
    hours = prepared_hours("physionet2019", root, or_sample=True, cache=cache)
    assert hours.is_sample
    assert hours.summary.folder == cache / "samples" / "physionet2019"
    again = prepared_hours("physionet2019", root, or_sample=True, cache=cache)
    assert again.digest == hours.digest
    with pytest.raises(DataError):
        prepared_hours("physionet2019", root, cache=cache)
    shutil.rmtree(hours.summary.folder)
    hours.summary.folder.mkdir()  # somebody tidied up
    assert prepared_hours("physionet2019", root, or_sample=True, cache=cache).digest == hours.digest


def test_a_broken_set_is_an_error_even_if_a_made_up_one_would_do(
    everything: Path, tmp_path: Path, cache: Path
) -> None:
    with pytest.raises(DataError, match="does not exist"):
        prepared_signals("physionet2021", tmp_path / "nowhere", or_sample=True, cache=cache)
    (tmp_path / "challenge-2021-1.0.3").mkdir()
    with pytest.raises(DataError, match=r"\.hea files"):
        prepared_signals("physionet2021", tmp_path, or_sample=True, cache=cache)
    root = ecg_root(everything, tmp_path / "data")
    for path in (root / "physionet2021").glob("*.hea"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="8 problems"):
        prepared_signals("physionet2021", root, or_sample=True, cache=cache)
    assert not (cache / "samples").exists()


def test_the_real_set_is_preferred(everything: Path, tmp_path: Path, cache: Path) -> None:
    root = ecg_root(everything, tmp_path)
    held = prepared_signals("physionet2021", root, SHORT, or_sample=True, cache=cache)
    assert not held.is_sample
    assert len(held) == 8


def test_a_made_up_set_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"cache cannot be written to .*file.*: Not a directory\n") as caught:
        prepared_signals("physionet2021", tmp_path, or_sample=True, cache=tmp_path / "file")
    assert "read" not in caught.value.message
    assert "KDSEARCH_CACHE" in caught.value.hint


def test_a_made_up_set_that_another_process_wrote_meanwhile_is_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def twice(name: str, root: Path) -> Path:
        sample_records(name, root)
        return sample_records(name, root)  # exists already

    monkeypatch.setattr(prepared_files, "sample_records", twice)
    files = files_or_sample("physionet2019", tmp_path, Cache(cache), or_sample=True)
    assert files.is_sample
    assert len(files.records) == 120


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on this system")
def test_processes_that_start_at_once_share_what_is_made(tmp_path: Path, cache: Path) -> None:
    code = (
        "import sys\n"
        "from kdsearch.trainables.records import prepared\n"
        "held = prepared.prepared_hours('physionet2019', sys.argv[1], or_sample=True, cache=sys.argv[2])\n"
        "print(held.digest, len(held), float(held.values.astype(float).sum()))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path, cache], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = {process.communicate(timeout=60)[0] for process in processes}
    assert len(told) == 1
    assert " 120 " in told.pop()
    assert len(list((cache / "prepared").iterdir())) == 1


# -- the real files -------------------------------------------------------------------------------------------------


def real(name: str) -> Path:
    """Return the data root, or skip with what is missing."""
    root = os.environ.get("KDSEARCH_DATA")
    if not root:
        pytest.skip("KDSEARCH_DATA is not set: no real data sets")
    if not (Path(root) / name).is_dir():
        pytest.skip(f"KDSEARCH_DATA has no folder {name}")
    return Path(root)


@pytest.mark.data
def test_the_real_records_are_stored_to_a_thousandth_of_a_deviation(cache: Path) -> None:
    root = real("physionet2021")
    records, summary = load_records(root)
    held = prepared_signals("physionet2021", root, cache=cache)
    assert held.summary == summary
    signals, labels = held.batch(np.arange(len(held)))
    assert np.array_equal(labels, records.labels)
    assert np.abs(signals - records.signals).max() < 7e-4
