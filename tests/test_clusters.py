"""Backends of joblib: the same results from processes here, and on clusters whose workers are elsewhere."""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict

import numpy as np
import pytest
from joblib import parallel_config
from joblib.pool import PicklingPool
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV

from mmestim import SliceDict, UDIClassifier
from mmestim.datasets import make_imbalanced_modalities
from mmestim.media import LogMelSpectrogram, MediaError, MediaTransformer
from mmestim.voice import AudioCorpus, AudioError, EditSimulator, VoiceEditDetector, scan_files, write_report

SECONDS_FOR_RAY = 60
LOCAL = ["threading", "multiprocessing", "loky"]
CLUSTERS = ["dask", "ray"]

# joblib 1.5 warns of its own backend of dask.
pytestmark = pytest.mark.filterwarnings("ignore:`apply_async` is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def dask_client(tmp_path_factory):
    """Client of two processes with another working directory and another folder of temporary files."""
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    folder = tmp_path_factory.mktemp("worker")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "local_directory": folder}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        client.run(move_to, str(folder))
        yield client


def move_to(folder):
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder


@pytest.fixture(scope="module")
def ray_cluster():
    """Two workers of ray, whose working directory is that of the start."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    register_ray = pytest.importorskip("ray.util.joblib").register_ray
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    start = "import ray; ray.init('local', num_cpus=1, include_dashboard=False)"
    try:  # In a process that can be ended; a start that hangs could not be interrupted here.
        subprocess.run([sys.executable, "-c", start], timeout=SECONDS_FOR_RAY, capture_output=True, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        pytest.skip(f"ray does not start within {SECONDS_FOR_RAY} s: {(error.stderr or b'').decode()[-500:]}")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    register_ray()
    bases = PicklingPool.__bases__  # The backend of ray replaces them, for that of multiprocessing too.
    yield
    PicklingPool.__bases__ = bases
    ray.shutdown()


@pytest.fixture
def backend(request):
    """Name of a backend, which is active."""
    if request.param in CLUSTERS:
        request.getfixturevalue({"dask": "dask_client", "ray": "ray_cluster"}[request.param])
    with parallel_config(request.param, n_jobs=2):
        yield request.param


@pytest.fixture
def here(recordings, monkeypatch):
    """Names of recordings in the working directory, which no worker has."""
    monkeypatch.chdir(recordings)
    return ["a.wav", "b.wav", "c.wav", "d.mp3", os.path.join("deep", "a.flac"), "nowhere.wav", "empty"]


def comparable(result):
    """Return all fields of a result, with lists in place of arrays."""
    fields = asdict(result)
    fields |= fields.pop("analysis", {})
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}


def without_time(page):
    return re.sub(r"\d{4}-\d\d-\d\d at \d\d:\d\d", "", page.read_text())


on_all_backends = pytest.mark.parametrize("backend", LOCAL + CLUSTERS, indirect=True)
# A fork while threads of other tests run; joblib's backend leaves no choice.
may_fork = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@may_fork
@on_all_backends
def test_voice_results_do_not_depend_on_the_backend(edit_detector, here, tmp_path, backend):
    simulator = EditSimulator(random_state=0, noises=here[:1])
    corpus = AudioCorpus([*here[:3], here[4], "nowhere.wav"], on_error="skip")
    with parallel_config("loky", n_jobs=1):
        alone = list(scan_files(edit_detector, here))
        write_report(alone, tmp_path / "alone.html", edit_detector)
        waveforms, records = simulator.simulate(corpus)
        skipped = corpus.skipped
        analyses = edit_detector.analyze(here[:2])
    results = list(scan_files(edit_detector, here))
    assert [comparable(result) for result in results] == [comparable(result) for result in alone]
    sent = list(scan_files(edit_detector, here, send_files=True))
    assert [comparable(result) for result in sent] == [comparable(result) for result in alone]
    write_report(results, tmp_path / "page.html", edit_detector, send_files=True)
    assert without_time(tmp_path / "page.html") == without_time(tmp_path / "alone.html")
    other_waveforms, other_records = simulator.simulate(corpus)
    assert records == other_records
    assert corpus.skipped == skipped
    for one, other in zip(waveforms, other_waveforms, strict=True):
        assert_array_equal(one, other)
    for one, other in zip(analyses, edit_detector.analyze(here[:2]), strict=True):
        assert comparable(one) == comparable(other)


@may_fork
@pytest.mark.parametrize("backend", ["multiprocessing", *CLUSTERS], indirect=True)
def test_media_do_not_depend_on_the_backend(here, backend):
    media = MediaTransformer({"audio": LogMelSpectrogram(duration=1)}, on_error="absent")
    files = 8 * [*here[:3], "nowhere.wav"]
    with pytest.warns(UserWarning, match="last longer than"), pytest.warns(UserWarning, match="count as absent"):
        expected = media.set_params(n_jobs=1).fit_transform(files)
    reasons = list(map(str, media.skipped_))
    with pytest.warns(UserWarning, match="last longer than"), pytest.warns(UserWarning, match="count as absent"):
        assert_array_equal(media.set_params(n_jobs=None).transform(files)["audio"], expected["audio"])
    assert list(map(str, media.skipped_)) == reasons


# Dask ----------------------------------------------------------------------------------------------


def hide(folder, is_hidden):
    """Make a worker see nothing in a folder."""
    from mmestim.voice._files import paths

    def stat(path):
        if str(path).startswith(folder):
            raise FileNotFoundError(2, "No such file or directory")
        return os.stat(path)

    paths.os = type(sys)("os")
    paths.os.__dict__.update(os.__dict__, stat=stat if is_hidden else os.stat)


def test_files_that_no_worker_has_are_sent_or_named(edit_detector, here, dask_client, tmp_path):
    (alone,) = scan_files(edit_detector, here[:1])
    dask_client.run(hide, os.getcwd(), True)
    try:
        with parallel_config("dask"):
            results = list(scan_files(edit_detector, [here[0], here[5]]))
            assert results[0].reason == (
                "exists here, but a worker does not find it. Mount its folder there under the same path, or pass "
                "send_files=True."
            )
            assert results[1].reason.startswith("does not exist. Correct the path; it is relative to ")
            sent = next(scan_files(edit_detector, here[:2], send_files=True))
            assert comparable(sent) == comparable(alone)
            write_report([alone, alone], tmp_path / "page.html", edit_detector)
            assert "It exists here, but a worker does not find it." in (tmp_path / "page.html").read_text()
            with pytest.raises(AudioError, match="or pass the clips as arrays, which are sent"):
                EditSimulator(random_state=0).simulate(here[:2])
            with pytest.raises(AudioError, match="exists here, but a worker does not find it"):
                edit_detector.analyze(here[:2])
            with pytest.raises(MediaError, match=r"a\.wav: exists here, .* or pass n_jobs=1"):
                MediaTransformer({"audio": LogMelSpectrogram()}).fit_transform(here[:1] * 17)
    finally:
        dask_client.run(hide, os.getcwd(), False)


def test_training_is_local_unless_the_workers_share_a_folder(dask_client, make_voice, tmp_path):
    clips = [make_voice(1.25 + seed / 32, seed) for seed in range(6)]
    detector = VoiceEditDetector(["low_pass", "echo"], window=1.2, model="features", n_clips=24, random_state=0)
    alone = detector.fit(clips).predict_proba(clips)
    n_transitions = dask_client.cluster.scheduler.transition_counter
    with parallel_config("dask"):
        detector.fit(clips)
    assert dask_client.cluster.scheduler.transition_counter == n_transitions
    with parallel_config("dask"):
        detector.set_params(temp_folder=tmp_path).fit(clips)
    assert dask_client.cluster.scheduler.transition_counter > n_transitions
    assert_array_equal(detector.predict_proba(clips), alone)
    assert not list(tmp_path.iterdir())
    for wrong in ("nowhere", 3):
        with pytest.raises(ValueError, match=f"temp_folder={wrong!r} is not the path of a folder"):
            detector.set_params(temp_folder=wrong).fit(clips)


@pytest.mark.parametrize("is_dict", [False, True])
def test_a_search_on_dask_is_that_on_this_machine(dask_client, is_dict):
    data = make_imbalanced_modalities(120, n_classes=2, n_features=10, random_state=0)
    X, y, modalities = data.data, data.target, data.modalities
    if is_dict:
        X, modalities = SliceDict(**{name: X[:, columns] for name, columns in modalities.items()}), None
    clf = UDIClassifier(modalities, max_epochs=2, cv=None, random_state=0)
    search = GridSearchCV(clf, {"lr": [1e-3, 1e-2]}, cv=2)
    alone = search.fit(X, y).cv_results_["mean_test_score"]
    with parallel_config("dask", scatter=[X, y]):
        search.fit(X, y)
    assert_array_equal(search.cv_results_["mean_test_score"], alone)


def test_dask_knows_the_size_of_large_objects(dask_client, edit_detector):
    from dask.sizeof import sizeof

    clips = [np.zeros(1_000_000, np.float32)] * 3 + [np.ones(1_000_000, np.float32)]
    assert 8e6 < sizeof(AudioCorpus(clips)) < 8.1e6
    assert sizeof(AudioCorpus(["a" * 100] * 1_000_000)) > 1e6
    arrays = edit_detector.models_[1.2].model.arrays()
    assert sizeof(edit_detector) > sum(values.nbytes for values in arrays.values())
