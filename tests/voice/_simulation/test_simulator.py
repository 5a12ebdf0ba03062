"""Tests of EditSimulator: plans, records, and the treatment that every clip gets."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.base import clone

from mmestim.voice import LABELS, TAXONOMY, AudioCorpus, AudioError, EditPlan, EditRecord, EditSimulator
from mmestim.voice.taxonomy import Between, OneOf

RATE = 16000
NEEDS_NO_AUDIO = [label for label in LABELS[1:] if label not in ("tts", "vc", "mix")]


def speech(seconds, seed):
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * k * rng.uniform(100, 180) * t) / k for k in range(1, 9))
    waveform = 0.05 * np.clip(np.sin(2 * np.pi * 3 * t) + 0.5, 0, 1) * tone + 1e-3 * rng.normal(size=len(t))
    return waveform.astype(np.float32)


@pytest.fixture(scope="module")
def clips():
    return [speech(2.0 + 0.3 * seed, seed) for seed in range(10)]


@pytest.fixture(scope="module")
def simulated(clips):
    return EditSimulator(random_state=0).simulate(clips)


def assert_same(one, other):
    assert len(one[0]) == len(other[0])
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1] == other[1]


def test_result_does_not_depend_on_the_number_of_workers(clips, simulated):
    simulator = EditSimulator(random_state=0)
    assert_same(simulator.simulate(clips), simulated)
    assert_same(clone(simulator).simulate(clips, n_jobs=2), simulated)
    assert simulator.set_params(random_state=1).simulate(clips)[1] != simulated[1]


def test_plan_of_a_clip_does_not_depend_on_the_number_of_clips(clips, simulated):
    simulator = EditSimulator(random_state=0, sources={"voices": clips})
    few, all_ = simulator.simulate(clips[:3]), simulator.simulate(clips)
    assert_same(few, (all_[0][:3], all_[1][:3]))


def test_every_clip_is_levelled(clips, simulated):
    for clip, waveform, record in zip(clips, *simulated, strict=True):
        assert (waveform.dtype, waveform.ndim) == (np.float32, 1)
        assert np.abs(waveform).max() <= 1
        assert record.duration == pytest.approx(len(waveform) / RATE)
        level = 20 * np.log10(waveform.std() / clip.std()) - record.plan.acquisition.gain
        assert -7.5 < level < 7.5
        assert record.time_map.before[-1] == pytest.approx(len(clip) / RATE)
        assert record.time_map.duration == pytest.approx(record.duration)


def test_without_acquisition_all_clips_are_stored_alike(clips):
    for waveform in EditSimulator(acquisition=False, random_state=0).simulate(clips)[0]:
        assert np.abs(waveform).max() <= 0.99
        np.testing.assert_array_equal(waveform * 32768, np.round(waveform * 32768))  # 16-bit samples.


def test_edits_do_not_depend_on_the_acquisition(clips):
    edited = [EditSimulator(acquisition=is_set, random_state=0).simulate(clips)[1] for is_set in (False, True)]
    assert [record.plan.acquisition is None for record in edited[0]] == [True] * len(clips)
    assert [record.plan.acquisition is None for record in edited[1]] == [False] * len(clips)
    assert [record.steps for record in edited[0]] == [record.steps for record in edited[1]]


def test_unedited_clip_is_only_cropped_and_scaled(clips):
    (waveform,), (record,) = EditSimulator(n_edits=0, acquisition=False, random_state=0).simulate(clips[:1])
    assert (record.labels, record.steps, record.intervals, record.points) == (["unaltered"], [], {}, {})
    first = round((record.plan.trim[0] + record.plan.crop[0]) * RATE)
    kept = clips[0][first : first + len(waveform)] - clips[0].mean()
    # The tolerance covers noise of half a step, at most twice as loud, and rounding.
    np.testing.assert_allclose(waveform, kept * 10 ** (record.gain / 20), atol=2.1 / 32768)
    assert 0 < len(clips[0]) - len(waveform) < 0.4 * RATE + 0.3 * RATE


def test_labels_match_the_intervals_and_points(simulated):
    for waveform, record in zip(*simulated, strict=True):
        done = {step["edit"] for step in record.steps}
        assert set(record.labels) <= done | {"unaltered"}
        assert (record.labels == ["unaltered"]) == (not done)
        assert record.labels == sorted(record.labels, key=LABELS.index)
        assert set(record.intervals) | set(record.points) == set(record.labels) - {"unaltered"}
        for spans in record.intervals.values():
            assert all(0 <= start < end <= len(waveform) / RATE + 1e-9 for start, end in spans)
        categories = [TAXONOMY[label].category for label in done]
        assert len(set(categories)) == len(categories)
        assert record.categories == sorted(
            set(record.categories), key=list(dict.fromkeys(info.category for info in TAXONOMY.values())).index
        )


def test_records_and_plans_round_trip_as_json(simulated):
    for record in simulated[1]:
        assert EditRecord.from_json(record.to_json()) == record
    plan = EditSimulator().draw(np.random.default_rng(0), 4.0, RATE)
    assert EditPlan.from_json(plan.to_json()) == plan


def test_plans_are_reproducible(clips):
    simulator = EditSimulator(edits=NEEDS_NO_AUDIO, n_edits=3)
    for seed in range(5):
        plan = simulator.draw(np.random.default_rng(seed), len(clips[4]) / RATE, RATE)
        assert plan == simulator.draw(np.random.default_rng(seed), len(clips[4]) / RATE, RATE)
        before = clips[4].copy()
        simulator = EditSimulator(edits=NEEDS_NO_AUDIO, n_edits=3)
        waveform, record = simulator.apply(clips[4], plan)
        again, other = EditSimulator().apply(clips[4], EditPlan.from_json(plan.to_json()))
        np.testing.assert_array_equal(waveform, again)
        np.testing.assert_array_equal(clips[4], before)
        assert record == other
        assert record.steps == plan.steps


def test_record_has_every_step(clips, simulated):
    sources = {"tts": clips[:2]}
    simulator = EditSimulator(random_state=1, n_edits=(2, 4), sources=sources, order="random")
    corpus = AudioCorpus([np.pad(clip, 4000).astype(np.float64) / 3 + 0.01 for clip in clips])
    for number, (waveform, record) in enumerate(simulator.iterate(corpus)):
        given = np.pad(clips[number], 4000).astype(np.float64) / 3 + 0.01  # Like most arrays: float64 with an offset.
        again, other = simulator.apply(given, EditRecord.from_json(record.to_json()).plan, corpus)
        np.testing.assert_array_equal(again, waveform)
        assert other.labels == record.labels
        assert other.time_map == record.time_map


def test_inserted_audio_is_outside_other_intervals(clips):
    sources = {"tts": [speech(3.0, 50)]}
    tts = {"edit": "tts", "index": 0, "seconds": 1.0, "at": 1.0, "fade": 0.0}
    paste = {"edit": "paste", "at": 1.5, "length": 0.5, "fade": 0.0, "origin": "clip", "source": 2.2}
    low = {"edit": "low_pass", "cutoff": 1500.0, "slope": 24, "family": "butterworth"}
    simulator = EditSimulator(sources=sources)
    drawn = simulator.set_params(edits=["tts"], n_edits=1).draw(3, 3.2, RATE).steps[0]
    tts = {**drawn, **{key: value for key, value in tts.items() if key in drawn or key in ("at", "fade")}}
    record = simulator.apply(clips[4], EditPlan(3.2, RATE, [low, tts]))[1]
    assert record.intervals["low_pass"] == [pytest.approx((0, 1), abs=1e-3), pytest.approx((2, 4.2), abs=1e-3)]
    record = simulator.apply(clips[4], EditPlan(3.2, RATE, [tts, paste]))[1]
    assert record.intervals["tts"] == [pytest.approx((1, 1.5), abs=1e-3), pytest.approx((2, 2.5), abs=1e-3)]
    # A copy of an interval belongs to the interval, too.
    record = simulator.apply(clips[4], EditPlan(3.2, RATE, [tts, {**paste, "at": 3.0, "source": 1.6}]))[1]
    assert record.intervals["tts"] == [pytest.approx((1, 2), abs=1e-3), pytest.approx((3, 3.4), abs=1e-3)]


def test_repeated_label_has_both_intervals(clips):
    step = {"edit": "low_pass", "cutoff": 1500.0, "slope": 24, "family": "butterworth"}
    steps = [{**step, "start": 0.5, "end": 1.0}, {**step, "start": 1.5, "end": 2.0}]
    spans = EditSimulator().apply(clips[4], EditPlan(3.2, RATE, steps))[1].intervals["low_pass"]
    assert spans == [pytest.approx((0.5, 1.0), abs=1e-3), pytest.approx((1.5, 2.0), abs=1e-3)]


def test_slivers_have_no_label(clips):
    steps = [
        {"edit": "echo", "delay": 0.1, "gain": 0.5, "n_taps": 1, "start": 1.0, "end": 1.4},
        {"edit": "cut", "cuts": [[0.9, 1.37]], "fade": 0.0, "place": "any"},
    ]
    record = EditSimulator().apply(clips[4], EditPlan(3.2, RATE, steps))[1]
    assert (record.labels, record.inaudible) == (["cut"], ["echo"])


def test_sample_grid_does_not_reveal_edits(clips):
    """Scaled 16-bit clips would have gaps in the histogram, filtered ones not, so both get noise."""
    grid = [np.round(0.2 * clip * 32767) / 32768 for clip in clips]
    rough = {}
    for name, edits in (("unaltered", {"n_edits": 0}), ("echo", {"edits": ["echo"], "n_edits": 1})):
        simulator = EditSimulator(**edits, acquisition=False, random_state=0)
        waveforms, _ = simulator.simulate([clip.astype(np.float32) for clip in grid])
        counts = [np.bincount((np.round(w * 32768).astype(int) + 40).clip(0, 80))[1:-1] for w in waveforms]
        rough[name] = np.mean([np.abs(np.diff(np.sqrt(c), 2)).mean() for c in counts])
    assert rough["unaltered"] == pytest.approx(rough["echo"], rel=0.15)


def test_too_few_edits_are_warned_about(clips):
    with pytest.warns(UserWarning, match="3 of 3 clips got fewer than 1 edits"):
        EditSimulator(["cut"], n_edits=1, random_state=0).simulate([speech(0.8, seed) for seed in range(3)])
    with pytest.warns(UserWarning, match="2 of 2 clips got fewer than 1 edits"):  # There is no other voice.
        EditSimulator(["cut", "mix"], n_edits=1, random_state=0).simulate([speech(0.8, 1), speech(0.4, 1)])


def test_speaker_with_a_short_other_clip_gets_another_edit(clips):
    corpus = AudioCorpus([clips[0], clips[0][:1600]])
    corpus.speakers = np.array(["a", "a"])
    simulator = EditSimulator({"paste": "held_out", "cut": "train"}, n_edits=1, random_state=0)
    with pytest.warns(UserWarning, match="1 of 2 clips got fewer than 1 edits"):  # The short clip.
        _, records = simulator.simulate(corpus)
    assert records[0].labels == ["cut"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_unknown_speakers_are_accepted(clips, missing):
    corpus = AudioCorpus(clips)
    corpus.speakers = np.array(["a", "b", "b", "a", "b", *[missing] * 5], dtype=object)
    for record in EditSimulator(["mix"], n_edits=1, random_state=0).simulate(corpus)[1]:
        voice = record.steps[0]["voice"]
        assert voice != record.clip
        if record.clip < 5:
            assert corpus.speakers[voice] in "ab"
            assert corpus.speakers[voice] != corpus.speakers[record.clip]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_short_sentences_continue_with_the_same_voice(clips, missing):
    sentences = AudioCorpus([speech(0.8 + 0.1 * seed, seed) for seed in range(6)])
    sentences.speakers = np.array(["a", missing, "b"] * 2, dtype=object)
    simulator = EditSimulator(["tts"], n_edits=1, sources={"tts": sentences}, random_state=0)
    replaced = [record.steps[0] for record in simulator.simulate(clips)[1] if "following" in record.steps[0]]
    assert any(step["following"] for step in replaced)
    for step in replaced:
        assert {other["index"] % 3 for other in step["following"]} <= {step["index"] % 3}


def test_unreadable_noises_are_skipped(clips, tmp_path):
    soundfile.write(tmp_path / "a.wav", clips[0], RATE)
    (tmp_path / "b.wav").write_bytes(b"no audio")
    edits = {"background_noise": {"kind": OneOf(("file",))}}
    noises = AudioCorpus(tmp_path, on_error="skip")
    _, records = EditSimulator(edits, n_edits=1, noises=noises, random_state=0).simulate(clips)
    assert {record.steps[0]["noise"] for record in records} == {0}
    with pytest.raises(AudioError, match=r"b\.wav"):
        EditSimulator(edits, n_edits=1, noises=tmp_path, random_state=0).simulate(clips)


def test_number_of_edits(clips):
    numbers = []
    simulator = EditSimulator(edits=NEEDS_NO_AUDIO)
    for seed in range(300):
        numbers.append(len(simulator.draw(np.random.default_rng(seed), 5.0, RATE).steps))
    assert set(numbers) == {0, 1, 2, 3}
    assert np.mean(np.array(numbers) == 0) == pytest.approx(0.25, abs=0.08)
    drawn = [simulator.set_params(n_edits=2).draw(np.random.default_rng(s), 5.0, RATE) for s in range(50)]
    assert {len(plan.steps) for plan in drawn} == {2}


def test_labels_are_equally_likely(clips):
    simulator = EditSimulator(edits=NEEDS_NO_AUDIO, n_edits=1)
    drawn = [simulator.draw(np.random.default_rng(seed), 5.0, RATE).steps[0]["edit"] for seed in range(900)]
    counts = np.array([drawn.count(label) for label in NEEDS_NO_AUDIO])
    assert counts.min() > 0.5 * 900 / len(counts)
    assert counts.max() < 1.7 * 900 / len(counts)


@pytest.mark.parametrize("order, share", [("fixed", 1.0), ("canonical", 0.9), ("random", 0.5)])
def test_order_of_edits(order, share):
    simulator = EditSimulator(edits=["cut", "mp3"], n_edits=2, order=order)
    plans = [simulator.draw(np.random.default_rng(seed), 5.0, RATE) for seed in range(300)]
    usual = np.mean([[step["edit"] for step in plan.steps] == ["cut", "mp3"] for plan in plans])
    assert usual == pytest.approx(share, abs=0 if order == "fixed" else 0.08)


def test_intervals_follow_later_edits(clips):
    plan = EditPlan(
        3.2,
        RATE,
        [
            {"edit": "low_pass", "cutoff": 1500.0, "slope": 24, "family": "butterworth", "start": 1.0, "end": 2.0},
            {"edit": "cut", "cuts": [[0.5, 0.75]], "fade": 0.0, "place": "any"},
            {"edit": "speed_change", "rate": 0.8, "engine": "polyphase"},
        ],
        crop=(0.1, 0.2),
        gain=-3.0,
    )
    waveform, record = EditSimulator().apply(clips[4], plan)
    assert record.labels == ["cut", "speed_change", "low_pass"]
    assert record.intervals["low_pass"] == [pytest.approx((0.75 / 0.8 - 0.1, 1.75 / 0.8 - 0.1), abs=1e-3)]
    assert record.points["cut"] == [pytest.approx(0.5 / 0.8 - 0.1, abs=1e-3)]
    assert record.duration == pytest.approx(2.95 / 0.8 - 0.3, abs=1e-3)
    assert record.time_map(1.0) == pytest.approx(0.75 / 0.8 - 0.1, abs=1e-3)
    assert len(waveform) == round(record.duration * RATE)


def test_removed_interval_has_no_label(clips):
    steps = [
        {"edit": "echo", "delay": 0.1, "gain": 0.5, "n_taps": 1, "start": 1.0, "end": 1.4},
        {"edit": "cut", "cuts": [[0.9, 1.5]], "fade": 0.0, "place": "any"},
    ]
    _, record = EditSimulator().apply(clips[4], EditPlan(3.2, RATE, steps))
    assert record.labels == ["cut"]
    assert len(record.steps) == 2


def test_inaudible_edits_are_neither_present_nor_absent():
    low = np.sin(2 * np.pi * 200 * np.arange(2 * RATE) / RATE).astype(np.float32) * 0.3
    steps = [{"edit": "low_pass", "cutoff": 3800.0, "slope": 48, "family": "butterworth"}]
    _, record = EditSimulator().apply(low, EditPlan(2.0, RATE, steps))
    assert (record.labels, record.inaudible) == ([], ["low_pass"])


def test_silence_at_the_ends_is_trimmed_first(clips):
    padded = [np.pad(clip, (8000, 8000)) for clip in clips]
    with_silence, bare = (EditSimulator(edits=NEEDS_NO_AUDIO, random_state=0).simulate(x) for x in (padded, clips))
    for one, other, record in zip(with_silence[0], bare[0], with_silence[1], strict=True):
        assert abs(len(one) - len(other)) < 0.3 * RATE
        assert record.time_map([0.2]) == 0


def test_ranges_can_be_replaced(clips):
    edits = {"low_pass": {"cutoff": Between(2000, 2100)}, "telephone": "train", "paste": "train"}
    simulator = EditSimulator(edits=edits, n_edits=3)
    for seed in range(5):
        steps = simulator.draw(np.random.default_rng(seed), 5.0, RATE).steps
        assert {step["edit"] for step in steps} == set(edits)
        assert all(2000 <= step["cutoff"] <= 2100 for step in steps if step["edit"] == "low_pass")
    held_out = EditSimulator(edits={"opus": "held_out"}, n_edits=1).draw(np.random.default_rng(0), 5.0, RATE)
    assert held_out.steps[0]["bitrate"] == 48


def test_synthetic_speech_comes_from_sources(clips):
    sources = {"tts": [speech(3.0, 50)], "vc": [speech(2.0, 51)]}
    _, records = EditSimulator(edits=["tts", "vc"], n_edits=1, sources=sources, random_state=0).simulate(clips)
    assert {label for record in records for label in record.labels} == {"tts", "vc"}
    whole = [record for record in records if list(record.intervals.values()) == [[(0.0, record.duration)]]]
    assert 0 < len(whole) < len(records)
    assert "tts" not in {s["edit"] for r in EditSimulator(random_state=0).simulate(clips)[1] for s in r.steps}


def test_voices_are_of_other_speakers(clips):
    corpus = AudioCorpus(clips)
    corpus.speakers = np.array(["a", "b"] * 5)
    _, records = EditSimulator(edits=["mix"], n_edits=1, random_state=0).simulate(corpus)
    for number, record in enumerate(records):
        assert (record.steps[0]["voice"] - number) % 2 == 1


def test_unreadable_clip_is_skipped(clips, tmp_path):
    paths = []
    for number, clip in enumerate(clips):
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], clip, RATE, subtype="FLOAT")
    paths[3].write_bytes(b"no audio")
    simulator = EditSimulator(edits=["mix"], n_edits=1, random_state=0)
    with pytest.raises(AudioError, match=r"3\.wav"):
        simulator.simulate(paths)
    corpus = AudioCorpus(paths, on_error="skip")
    waveforms, records = simulator.simulate(corpus, n_jobs=2)
    assert [record.clip for record in records] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert [skipped.index for skipped in corpus.skipped] == [3]
    assert all(record.steps[0]["voice"] != 3 for record in records)
    assert len(waveforms) == 9


def test_corpus_need_not_fit_into_memory(tmp_path):
    paths = []
    for number in range(60):
        paths.append(tmp_path / f"{number:02}.wav")
        soundfile.write(paths[-1], speech(4.0, number), RATE)
    simulator = EditSimulator(edits=["cut", "low_pass", "echo"], n_edits=1, random_state=0)
    tracemalloc.start()
    try:
        n = sum(1 for _ in simulator.iterate(paths))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n == 60
    assert peak < 12e6  # The corpus has 15 MB, and so has the output.


def test_data_frame_of_paths(clips, tmp_path):
    soundfile.write(tmp_path / "a.wav", clips[0], RATE)
    soundfile.write(tmp_path / "b.wav", clips[1], RATE)
    frame = pd.DataFrame({"path": [tmp_path / "a.wav", tmp_path / "b.wav"], "speaker": ["x", "y"]})
    assert len(EditSimulator(random_state=0).simulate(frame)[0]) == 2


def test_impossible_edit_is_an_error(clips):
    corpus = AudioCorpus(clips)
    corpus.speakers = np.array(["a"] * 10)
    with pytest.raises(ValueError, match="edits has 'mix', which needs audio"):
        EditSimulator(["mix"]).simulate(corpus)


def test_unreadable_file_of_a_speaker_loses_no_other_clip(clips, tmp_path):
    paths = [tmp_path / f"{number}.wav" for number in range(4)]
    for path, clip in zip(paths, clips, strict=False):
        soundfile.write(path, clip, RATE)
    paths[1].write_bytes(b"no audio")
    frame = pd.DataFrame({"path": paths, "speaker": ["a", "a", "b", "b"]})
    corpus = AudioCorpus(frame, on_error="skip")
    with pytest.warns(UserWarning, match="1 of 3 clips got fewer than 1 edits"):  # The other clip of "a".
        _, records = EditSimulator({"paste": "held_out"}, n_edits=1, random_state=0).simulate(corpus)
    assert [(record.clip, record.labels[0]) for record in records] == [(0, "unaltered"), (2, "paste"), (3, "paste")]
    assert [skipped.index for skipped in corpus.skipped] == [1]
    for path in paths:
        path.write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"4 of 4 clips: cannot be used\. The first is .*0\.wav"):
        EditSimulator(random_state=0).simulate(corpus)


def test_sources_do_not_replace_voices_of_the_same_speaker(clips):
    corpus = AudioCorpus(clips[:4])
    corpus.speakers = np.array(["a", "a", "b", "b"])
    simulator = EditSimulator({"paste": "held_out"}, n_edits=1, sources={"voices": clips[4:]}, random_state=0)
    assert [record.steps[0]["voice"] for record in simulator.simulate(corpus)[1]] == [1, 0, 3, 2]


def test_measured_responses_supplement_generated_ones(clips):
    simulator = EditSimulator(["reverb"], n_edits=1, impulse_responses=[0.5 ** np.arange(800.0)], random_state=0)
    kinds = {simulator.draw(seed, 3.0, RATE).steps[0]["kind"] for seed in range(40)}
    assert kinds == {"image_source", "decaying_noise", "measured"}


def test_changed_files_are_read_again(clips, tmp_path):
    simulator = EditSimulator(
        {"background_noise": {"kind": OneOf(("file",))}}, n_edits=1, noises=[tmp_path / "n.wav"], random_state=0
    )
    results = []
    for noise in (np.sin(np.arange(32000.0)), np.random.default_rng(0).normal(size=32000)):
        soundfile.write(tmp_path / "n.wav", 0.1 * noise, RATE)
        results.append(simulator.simulate(clips[:1])[0][0])
    assert np.abs(results[0] - results[1]).max() > 1e-3


def test_aac_can_be_chosen_alone(clips):
    aac = {"codec": OneOf(("aac",)), "bitrate": OneOf((32,)), "stream_rate": OneOf((44100,))}
    _, records = EditSimulator({"vorbis_aac": aac}, n_edits=1, random_state=0).simulate(clips[:2])
    assert records[0].steps[0] == {"edit": "vorbis_aac", "codec": "aac", "bitrate": 32, "stream_rate": 44100}


def test_stretched_silence_is_inaudible(clips):
    clip = np.concatenate([clips[0], np.zeros(16000, np.float32), clips[1]])
    start = len(clips[0]) / RATE
    step = {"edit": "speed_change", "rate": 0.8, "engine": "polyphase", "start": start + 0.1, "end": start + 0.9}
    _, record = EditSimulator().apply(clip, EditPlan(len(clip) / RATE, RATE, [step]))
    assert (record.labels, record.inaudible) == ([], ["speed_change"])


def test_two_cuts_at_one_moment_are_one_point(clips):
    steps = [{"edit": "cut", "cuts": [span], "fade": 0.0, "place": "any"} for span in ([1.0, 1.2], [0.5, 1.5])]
    _, record = EditSimulator().apply(clips[9], EditPlan(len(clips[9]) / RATE, RATE, steps))
    assert record.points == {"cut": [0.5]}


def test_step_with_invalid_parameters_is_reported(clips):
    plan = EditPlan(2.0, RATE, [{"edit": "mp3", "bitrte": 32}])
    message = r"the step {'edit': 'mp3', 'bitrte': 32} does not have the parameters of 'mp3'"
    with pytest.raises(ValueError, match=message):
        EditSimulator().apply(clips[0], plan)
    plan = EditPlan(2.0, RATE, [{"edit": "low_pass", "cutoff": 900.0, "slope": 24, "family": "fir", "start": 1.0}])
    with pytest.raises(ValueError, match=r"start=1\.0 and end=None must both be given"):
        EditSimulator().apply(clips[0], plan)


def test_any_seed_is_accepted(clips):
    for seed in (None, np.random.RandomState(0)):
        assert len(EditSimulator(random_state=seed).simulate(clips[:2])[0]) == 2


@pytest.mark.parametrize(
    "parameters, error, message",
    [
        ({"edits": "some"}, ValueError, "edits='some' is not supported. Use one of 'all', a list of labels"),
        ({"edits": ["robot"]}, ValueError, "edits has 'robot'"),
        ({"edits": ["unaltered"]}, ValueError, "edits has 'unaltered'"),
        ({"edits": ["tts"]}, ValueError, "edits has 'tts', which needs audio that was not given"),
        ({"edits": {"paste": "held_out"}}, ValueError, "edits has 'paste', which needs audio that was not given"),
        ({"edits": {"reverb": "implementation"}}, ValueError, "edits has 'reverb', which needs audio"),
        ({"edits": []}, ValueError, "has no label"),
        ({"edits": 5}, TypeError, "edits=5 must be 'all', a list"),
        ({"edits": {"cut": None}}, TypeError, r"edits\['cut'\]=None must be the name of ranges"),
        ({"edits": {"cut": "unseen"}}, ValueError, r"edits\['cut'\]='unseen' is not supported"),
        ({"edits": {"echo": "implementation"}}, ValueError, "no such ranges"),
        ({"edits": {"echo": {"colour": OneOf((1,))}}}, ValueError, r"edits\['echo'\] has 'colour'"),
        ({"edits": {"echo": {"delay": 0.1}}}, TypeError, r"edits\['echo'\]\['delay'\]=0.1 must be a range"),
        ({"n_edits": (3, 1)}, ValueError, "fewest edits first"),
        ({"n_edits": 7}, ValueError, "n_edits=7 must be at least 0 and at most 6"),
        ({"n_edits": (1, 2, 3)}, ValueError, "one number or two"),
        ({"order": "any"}, ValueError, "order='any' is not supported"),
        ({"sample_rate": 4000}, ValueError, "sample_rate=4000 must be at least 8000"),
        ({"sources": {"singing": []}}, ValueError, "sources has 'singing'"),
        ({"sources": "folder"}, TypeError, "sources has type str: it must be a dict"),
        (
            {"edits": ["mp3", "opus"], "n_edits": 2},
            ValueError,
            "at most one edit of a category, and the labels in edits have 1",
        ),
        (
            {"edits": {"background_noise": {"kind": OneOf(("babble",))}}},
            ValueError,
            "which needs audio that was not given",
        ),
        ({"edits": {"distortion": {"kind": Between(0, 1)}}}, TypeError, "must be a OneOf with values from: tanh, clip"),
        ({"edits": {"distortion": {"kind": OneOf(())}}}, ValueError, "has no value to draw"),
    ],
)
def test_invalid_parameters_are_reported(clips, parameters, error, message):
    with pytest.raises(error, match=message):
        EditSimulator(**parameters).simulate(clips[:2])


def test_plan_of_another_clip_is_an_error(clips):
    with pytest.raises(ValueError, match=r"the plan is for 5.000 s"):
        EditSimulator().apply(clips[0], EditPlan(5.0, RATE))
    step = {"edit": "mix", "start": 0.5, "end": 1.0, "snr": 0.0, "voice": 7, "offset": 0.0}
    with pytest.raises(ValueError, match=r"uses number 7 of voices, and there are 0"):
        EditSimulator().apply(clips[0], EditPlan(2.0, RATE, [step]))
    with pytest.raises(ValueError, match="corpus has sample_rate=8000, the simulator 16000"):
        EditSimulator().simulate(AudioCorpus(clips, sample_rate=8000))
    with pytest.raises(ValueError, match="the plan is for 8000 Hz, this simulator for 16000 Hz"):
        EditSimulator().apply(clips[0], EditPlan(4.0, 8000))
    with pytest.raises(ValueError, match="this simulator is for clips at 16000 Hz"):
        EditSimulator().draw(0, 4.0, 8000)


@pytest.mark.parametrize(
    "waveform, message",
    [
        (np.zeros(16000, dtype=np.int16), "shape \\(16000,\\) and dtype int16: it must be a 1-D array of floats"),
        (np.zeros((16000, 2)), "1-D array of floats"),
        (np.full(16000, np.nan), "NaN or infinite"),
    ],
)
def test_invalid_waveforms_are_reported(waveform, message):
    with pytest.raises(ValueError, match=message):
        EditSimulator().apply(waveform, EditPlan(1.0, RATE))


def test_invalid_trim_and_crop_are_reported(clips):
    with pytest.raises(ValueError, match="leaves nothing"):
        EditSimulator().apply(clips[0], EditPlan(2.0, RATE, crop=(1.0, 1.0)))
    with pytest.raises(ValueError, match="leaves nothing"):
        EditPlan(2.0, RATE, trim=(1.0, 1.0))
