"""Data sets in the layouts of their authors."""

import os

import numpy as np
import pytest

from mmestim.datasets import (
    load_ave,
    load_crema_d,
    load_kinetics_sounds,
    load_mailabs,
    load_ravdess,
    load_ucf101,
)

AVE = ["Church bell&a&good&0&10", "Bark&b&bad&2&5", "Bark&c&good&1&3"]
KINETICS = "label,youtube_id,time_start,time_end,split"


def relative(paths, folder):
    return [os.path.relpath(path, folder) for path in paths]


def clips_of(*names):
    """Return the files of CREMA-D of some clips."""
    return [
        f"{folder}/{name}.{suffix}" for name in names for folder, suffix in (("AudioWAV", "wav"), ("VideoFlash", "flv"))
    ]


def test_crema_d_reads_names(write):
    folder = write(*clips_of("1002_IEO_FEA_HI", "1001_DFA_HAP_XX"), "AudioWAV/.hidden.wav", "SentenceFilenames.csv")
    clips = load_crema_d(folder)
    assert relative(clips.frame["audio"], folder) == ["AudioWAV/1001_DFA_HAP_XX.wav", "AudioWAV/1002_IEO_FEA_HI.wav"]
    assert relative(clips.frame["video"], folder)[1] == "VideoFlash/1002_IEO_FEA_HI.flv"
    assert clips.frame.loc[1, ["actor", "sentence", "label", "intensity"]].tolist() == ["1002", "IEO", "fear", "HI"]
    assert clips.target.tolist() == clips.frame["label"].tolist() == ["happy", "fear"]
    assert clips.target_names.tolist() == ["fear", "happy"]
    assert clips.groups.tolist() == ["1001", "1002"]
    assert clips.split is None
    assert "Open Database License" in clips.DESCR


def test_crema_d_takes_a_split_and_the_one_odd_name(write):
    folder = write(
        "AudioWAV/1040_ITH_SAD_X.wav", "VideoFlash/1040_ITH_SAD_X.mp4", *clips_of("1001_DFA_ANG_XX", "1002_DFA_NEU_XX")
    )
    write(texts={"train.csv": ["1040_ITH_SAD_XX,SAD"], "test.csv": ["1001_DFA_ANG_XX,ANG"]})
    with pytest.warns(UserWarning, match=r"1 clips are in none of .*: 1002_DFA_NEU_XX. Their split is empty"):
        clips = load_crema_d(folder)
    assert clips.frame["clip"].tolist() == ["1001_DFA_ANG_XX", "1002_DFA_NEU_XX", "1040_ITH_SAD_XX"]
    assert clips.split.tolist() == ["test", "", "train"]
    assert "split" not in clips.frame
    write(texts={"train.csv": ["1040_ITH_SAD_XX,SAD", "1003_DFA_ANG_XX,ANG"]})
    with (
        pytest.warns(UserWarning, match="empty"),
        pytest.raises(FileNotFoundError, match=r"1 of 4 .*1003_DFA_ANG_XX.wav"),
    ):
        load_crema_d(folder)


def test_crema_d_reports_other_names(write):
    folder = write(*clips_of("1001_DFA_ANG_XX"), "AudioWAV/noise.wav")
    with pytest.warns(UserWarning, match=r"1 clips are left out, .* 1001_DFA_ANG_XX: noise\."):
        assert len(load_crema_d(folder).frame) == 1
    for file in clips_of("1001_DFA_ANG_XX"):
        (folder / file).unlink()
    with pytest.raises(ValueError, match="no name is like 1001_DFA_ANG_XX, such as noise"):
        load_crema_d(folder)


def test_ave_reads_the_official_split(write):
    folder = write(*(f"AVE/{name}.mp4" for name in "abc"))
    write(
        texts={
            "Annotations.txt": ["Category&VideoID&Quality&StartTime&EndTime", *AVE],
            "trainSet.txt": AVE[:1],
            "valSet.txt": AVE[2:],
            "testSet.txt": AVE[1:2],
        }
    )
    events = load_ave(folder)
    assert events.target.tolist() == ["Church bell", "Bark", "Bark"]
    assert events.split.tolist() == ["train", "test", "valid"]
    assert events.frame["audio"].tolist() == events.frame["video"].tolist()
    assert relative(events.frame["video"], folder) == ["AVE/a.mp4", "AVE/b.mp4", "AVE/c.mp4"]
    assert events.frame.loc[1, ["quality", "start", "end"]].tolist() == ["bad", 2.0, 5.0]
    write(texts={"valSet.txt": []})
    with pytest.warns(UserWarning, match=r"1 events are in none of .*: c\. Their split is empty"):
        assert load_ave(folder).split.tolist() == ["train", "test", ""]
    write(texts={"valSet.txt": ["Bark&c&good"]})
    with pytest.raises(ValueError, match=r"event 1 of valSet.txt is not Category&VideoID"):
        load_ave(folder)


def test_kinetics_sounds_takes_its_classes_from_kinetics(write):
    folder = write(
        "clips/playing piano/a_000002_000012.mp4", "b_000000_000010.mp4", "clips/c.mp4", "annotations/readme.csv"
    )
    write(
        texts={
            "annotations/train.csv": [KINETICS, "playing piano,a,2,12,train", "yoga,d,0,10,train"],
            "annotations/val.csv": [KINETICS, "stomping,b,0.0,10.0,validate"],
            "annotations/test.csv": ["label,youtube_id,time_start,time_end", "typing,e,0,10", "dribbling_ball,c,5,15"],
        },
    )
    clips = load_kinetics_sounds(folder)
    assert sorted(
        zip(clips.target, clips.groups, clips.split, relative(clips.frame["video"], folder), strict=True)
    ) == [
        ("dribbling basketball", "c", "test", "clips/c.mp4"),
        ("playing piano", "a", "train", "clips/playing piano/a_000002_000012.mp4"),
        ("stomping grapes", "b", "valid", "b_000000_000010.mp4"),
    ]
    with pytest.raises(FileNotFoundError, match=r"1 of 4 rows lack a file: .*/e_000000_000010.mp4"):
        load_kinetics_sounds(folder, n_classes=34)
    with pytest.warns(UserWarning, match="1 of 4 rows"):
        assert len(load_kinetics_sounds(folder, n_classes=34, on_missing="skip").frame) == 3
    with pytest.raises(ValueError, match="n_classes=32 is not supported"):
        load_kinetics_sounds(folder, n_classes=32)


def test_kinetics_without_classes_of_kinetics_sounds(write):
    folder = write(texts={"train.csv": [KINETICS, "yoga,d,0,10,train"]})
    with pytest.raises(ValueError, match=r"no line of train.csv has a class of Kinetics-Sounds"):
        load_kinetics_sounds(folder)
    write(texts={"train.csv": [KINETICS, "singing,d,0,10,holdout"]})
    with pytest.raises(ValueError, match="split 'holdout', none of train, "):
        load_kinetics_sounds(folder)


@pytest.mark.parametrize("with_flow", [False, True])
def test_ucf101_reads_lists_and_optical_flow(write, with_flow):
    folder = write(
        "UCF-101/HandstandPushups/v_HandStandPushups_g01_c02.avi",
        "UCF-101/YoYo/v_YoYo_g08_c01.avi",
        "ucfTrainTestlist/x",
    )
    write(
        texts={
            "ucfTrainTestlist/trainlist02.txt": ["HandstandPushups/v_HandStandPushups_g01_c02.avi 37"],
            "ucfTrainTestlist/testlist02.txt": ["YoYo/v_YoYo_g08_c01.avi", ""],
        }
    )
    names = ["v_HandstandPushups_g01_c02", "v_YoYo_g08_c01"]
    if with_flow:
        write(*(f"ucf101_tvl1_flow/tvl1_flow/{axis}/{name}/frame000001.jpg" for axis in "uv" for name in names))
    videos = load_ucf101(folder, fold=2)
    assert videos.target.tolist() == ["HandstandPushups", "YoYo"]
    assert videos.groups.tolist() == ["HandstandPushups_g01", "YoYo_g08"]
    assert videos.split.tolist() == ["train", "test"]
    assert relative(videos.frame["video"], folder)[1] == "UCF-101/YoYo/v_YoYo_g08_c01.avi"
    assert ("flow_u" in videos.frame) == with_flow
    if with_flow:
        assert relative(videos.frame["flow_v"], folder) == [f"ucf101_tvl1_flow/tvl1_flow/v/{name}" for name in names]
    with pytest.raises(ValueError, match=r"it has no .*/trainlist01.txt and no .*/testlist01.txt"):
        load_ucf101(folder)
    write(texts={"ucfTrainTestlist/testlist02.txt": ["YoYo v_YoYo_g08_c01.avi"]})
    with pytest.raises(ValueError, match=r"testlist02.txt has the line 'YoYo v_YoYo_g08_c01.avi'"):
        load_ucf101(folder, fold=2)


def test_ravdess_pairs_sound_and_pictures_of_a_take(write):
    folder = write(
        "audio/Actor_02/03-01-03-02-01-02-02.wav",
        "video/Actor_02/02-01-03-02-01-02-02.mp4",
        "video/Actor_02/01-01-03-02-01-02-02.mp4",
        "audio/Actor_01/03-02-01-01-01-01-01.wav",
        "video/Actor_01/02-02-01-01-01-01-01.mp4",
        "notes.wav",
    )
    speech = load_ravdess(folder)
    assert speech.target.tolist() == ["happy"]
    assert relative(speech.frame["audio"], folder) == ["audio/Actor_02/03-01-03-02-01-02-02.wav"]
    assert relative(speech.frame["video"], folder) == ["video/Actor_02/01-01-03-02-01-02-02.mp4"]
    columns = ["actor", "sex", "channel", "intensity", "statement", "repetition", "clip"]
    assert speech.frame.loc[0, columns].tolist() == ["02", "female", "speech", "strong", 1, 2, "01-03-02-01-02-02"]
    both = load_ravdess(folder, channel=None)
    assert both.groups.tolist() == ["02", "01"]
    assert load_ravdess(folder, channel="song").target.tolist() == ["neutral"]
    (folder / "video/Actor_01/02-02-01-01-01-01-01.mp4").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 rows lack a file: .*02-02-01-01-01-01-01.mp4"):
        load_ravdess(folder, channel=None)


def test_ravdess_reads_the_sound_of_videos(write):
    takes = load_ravdess(write("01-01-08-01-01-01-24.mp4"))
    assert takes.frame["audio"].tolist() == takes.frame["video"].tolist()
    assert takes.target.tolist() == ["surprised"]


def test_mailabs_is_the_table_of_find_audio(write):
    book = "de_DE/by_book/female/eva_k/haus"
    folder = write(f"{book}/wavs/h_01.wav", f"{book}/wavs/h_02.wav", "de_DE/by_book/mix/dorf/wavs/d_01.wav")
    (folder / book / "metadata.csv").write_text("h_01|Nr. 1|Nummer eins\nh_02|Nr. 2|Nummer zwei\n")
    speech = load_mailabs(folder)
    assert speech.frame.loc[0, ["language", "sex", "speaker", "book", "text"]].tolist() == [
        "de_DE",
        "female",
        "eva_k",
        "haus",
        "Nummer eins",
    ]
    assert relative(speech.frame["audio"], folder)[0] == f"{book}/wavs/h_01.wav"
    np.testing.assert_array_equal(speech.groups, ["eva_k", "eva_k", "de_DE dorf"])
    write("elsewhere.wav")
    with pytest.raises(ValueError, match=r"elsewhere.wav is not in language/by_book"):
        load_mailabs(folder)
