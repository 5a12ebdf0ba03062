"""Recording and storage of clips."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mmestim.voice import EditPlan, EditSimulator
from mmestim.voice._audio.acquisition import RATES, RESAMPLERS, Acquisition, draw_acquisition

RATE = 16000


def tone(frequency, seconds=1.0, amplitude=0.1):
    t = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


def decibels(after, before):
    return 20 * np.log10(after.std() / before.std())


@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("rate", RATES)
def test_a_rate_and_back_keeps_time_and_low_frequencies(resampler, rate):
    clip = tone(500)
    acquisition = Acquisition(recorded_rate=rate, recorded_by=resampler, stored_rate=rate, stored_by=resampler)
    recorded = acquisition.record(clip, RATE)
    stored = acquisition.store(recorded, RATE, np.random.default_rng(0))
    for result in (recorded, stored):
        assert result.dtype == np.float32
        assert_allclose(result[400:-400], clip[400:-400], atol=1e-3)
        assert len(result) == len(clip)


def test_nothing_but_16_bits_by_default():
    clip = tone(440)
    assert Acquisition().record(clip, RATE) is clip
    assert_allclose(Acquisition().store(clip, RATE, np.random.default_rng(0)), clip, atol=0.5 / 32768)


@pytest.mark.parametrize("frequency, expected", [(20, -2), (1000, 0), (7000, 2)])
def test_the_tilt_raises_high_frequencies(frequency, expected):
    clip = tone(frequency, 2.0)
    assert_allclose(decibels(Acquisition(tilt=4.0).record(clip, RATE)[8000:], clip[8000:]), expected, atol=0.1)


@pytest.mark.parametrize("octave", range(7))
def test_the_response_has_its_gain_at_each_octave(octave):
    gains = [3.0, -3.0, 0.0, 2.0, -2.0, 1.0, -1.0]
    clip = tone(min(125 * 2**octave, 7900), 2.0)
    recorded = Acquisition(response=gains).record(clip, RATE)
    assert_allclose(decibels(recorded[8000:], clip[8000:]), gains[octave], atol=0.5)


def test_the_response_is_that_of_a_minimum_phase_filter():
    gains = (3.0, -3.0, 0.0, 2.0, -2.0, 1.0, -1.0)
    impulse = np.zeros(RATE, np.float32)
    impulse[100] = 1.0
    recorded = Acquisition(response=gains).record(impulse, RATE)
    assert not recorded[:100].any()
    # It is invertible by a causal filter, that of the opposite gains.
    restored = Acquisition(response=tuple(-gain for gain in gains)).record(recorded, RATE)
    assert_allclose(restored, impulse, atol=0.01)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("frequency, octaves", [(100, 0), (25, 2), (2000, None)])
def test_the_low_cut_attenuates_low_frequencies(order, frequency, octaves):
    clip = tone(frequency, 2.0)
    recorded = Acquisition(low_cut=100.0, low_cut_order=order).record(clip, RATE)
    expected = 0 if octaves is None else -10 * np.log10(1 + 4.0 ** (order * octaves))
    assert_allclose(decibels(recorded[8000:], clip[8000:]), expected, atol=0.1)


def test_compression_reduces_the_range_by_its_ratio():
    loud, soft = tone(300), tone(300, amplitude=0.01)
    recorded = Acquisition(compression=2.0).record(np.r_[loud, soft], RATE)
    # The average level of both is 3 dB below the loud one, so that half of these 3 dB are taken away.
    assert_allclose(decibels(recorded[4000:12000], loud[4000:12000]), -1.5, atol=0.05)
    assert_allclose(decibels(recorded[20000:28000], soft[4000:12000]), 0, atol=0.05)


def test_a_gate_attenuates_pauses_alone():
    loud, pause = tone(300), tone(300, amplitude=1e-4)
    recorded = Acquisition(gate=20.0).record(np.r_[loud, pause], RATE)
    assert_allclose(decibels(recorded[:15000], loud[:15000]), 0, atol=0.01)
    assert_allclose(decibels(recorded[20000:28000], pause[4000:12000]), -20, atol=0.1)


def test_polarity_offset_and_depth_of_stored_samples():
    clip, rng = tone(200), np.random.default_rng(0)
    stored = Acquisition(is_inverted=True, offset=0.05, bit_depth=32).store(clip, RATE, rng)
    assert_allclose(stored, 0.05 - clip, atol=1e-7)
    assert_allclose(Acquisition(gain=-20, bit_depth=32).store(clip, RATE, rng), 0.1 * clip, atol=1e-7)
    steps = Acquisition(bit_depth=16, has_dither=True).store(clip, RATE, rng) * 32768
    assert_allclose(steps, np.round(steps), atol=1e-3)
    # The dither has a variance of 1/6 of a squared step, the rounding 1/12.
    assert_allclose((steps / 32768 - clip).std() * 32768, 0.5, atol=0.02)


def test_draws_cover_all_rates_and_resamplers():
    drawn = [draw_acquisition(np.random.default_rng(seed)) for seed in range(200)]
    assert {acquisition.stored_rate for acquisition in drawn} == {None, *RATES}
    assert {acquisition.recorded_by for acquisition in drawn} == set(RESAMPLERS)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"recorded_by": "nearest"}, "recorded_by='nearest'"),
        ({"bit_depth": 12}, "bit_depth=12"),
        ({"compression": 0.5}, "compression=0.5"),
        ({"stored_rate": 100}, "stored_rate=100"),
        ({"response": (1.0, 2.0)}, "must be a tuple of 7 gains in dB"),
        ({"response": 1.0}, "response=1.0 must be a tuple"),
        ({"response": (0.0,) * 6 + (99.0,)}, "response=99.0"),
    ],
)
def test_invalid_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        Acquisition(**parameters)


def test_edited_and_unedited_clips_are_acquired_alike():
    """The plan of every clip has an acquisition, it is in its JSON, and it can be switched off."""
    clips = [np.random.default_rng(seed).normal(scale=0.1, size=32000).astype(np.float32) for seed in range(12)]
    _, records = EditSimulator(["low_pass", "cut"], random_state=0).simulate(clips)
    assert all(record.plan.acquisition is not None for record in records)
    assert EditPlan.from_json(records[0].plan.to_json()) == records[0].plan
    waveforms, records = EditSimulator(["low_pass"], acquisition=False, random_state=0).simulate(clips)
    assert all(record.plan.acquisition is None for record in records)
    assert_allclose(waveforms[0] * 32768, np.round(waveforms[0] * 32768), atol=1e-3)
