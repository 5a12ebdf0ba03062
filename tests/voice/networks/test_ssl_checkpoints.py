"""Pre-trained weights: their names, their files and their errors."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mmestim.voice.networks import SSLNet, load_wav2vec2


def transformers_names(state, config):
    """Rename torchaudio's state dict to the names of transformers, in a model for speech recognition."""
    renamed = {"lm_head.weight": torch.zeros(3, 3), "wav2vec2.masked_spec_embed": torch.zeros(32)}
    for name, value in state.items():
        name = name.removeprefix("encoder.") if "feature_projection" in name else name.replace("transformer.", "")
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        if "in_proj" in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                renamed["wav2vec2." + name.replace("attention.in_proj_", f"{part}_proj.")] = piece
        else:
            renamed["wav2vec2." + name.replace("attention.attention.out_proj", "attention.out_proj")] = value
    return renamed


def test_weights_with_the_names_of_transformers_are_loaded(ssl_model, required_config, noise, tmp_path):
    model, config = ssl_model
    state = transformers_names(model.state_dict(), config)
    torch.save(state, tmp_path / "pytorch_model.bin")
    hf_config = {
        "num_attention_heads": 4,
        "max_bucket_distance": 60,
        "model_type": "wavlm" if "encoder_num_buckets" in config else "wav2vec2",
        "do_stable_layer_norm": config["encoder_layer_norm_first"],
        "conv_dim": [8] * 7,
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    }
    (tmp_path / "config.json").write_text(json.dumps(hf_config))
    (safetensors_folder := tmp_path / "safetensors").mkdir()
    save_file({name: value.contiguous() for name, value in state.items()}, safetensors_folder / "model.safetensors")
    x = noise(8000)
    expected = model.extract_features(x)[0][0]
    for weights, given in (
        (tmp_path, None),
        (tmp_path / "pytorch_model.bin", None),
        (safetensors_folder, required_config(config)),
    ):
        loaded, full_config = load_wav2vec2(weights, given)
        torch.testing.assert_close(loaded.extract_features(x)[0][0], expected, atol=1e-5, rtol=1e-4)
        assert {key: full_config[key] for key in config} == config


@pytest.mark.parametrize("width, n_heads", [(768, 12), (1024, 16)])
def test_numbers_of_heads_are_known_for_published_widths(ssl_configs, width, n_heads):
    config = ssl_configs["base"] | {"encoder_embed_dim": width, "encoder_num_layers": 1, "encoder_pos_conv_groups": 16}
    state = SSLNet(2, config=config | {"encoder_num_heads": n_heads}).backbone.state_dict()
    assert load_wav2vec2(state)[1]["encoder_num_heads"] == n_heads


class Bomb:
    def __reduce__(self):
        return print, ("code of the file ran",)


def test_unusable_weights_raise_errors_and_run_no_code(ssl_configs, tmp_path, capsys):
    state = SSLNet(2, config=ssl_configs["large"]).backbone.state_dict()
    torch.save({"model": Bomb()}, tmp_path / "bomb.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "noise.safetensors").write_bytes(b"\x05" * 50)
    (tmp_path / "noise.pt").write_bytes(b"\x05" * 50)
    (tmp_path / "empty.pt").touch()
    incomplete = {name: value for name, value in state.items() if "layers.1.final" not in name}
    for weights, config, kind, message in [
        (None, None, ValueError, "nothing is downloaded"),
        (tmp_path / "no.pt", None, FileNotFoundError, "does not exist. Nothing is downloaded"),
        (tmp_path, None, FileNotFoundError, "a folder without model.safetensors or pytorch_model.bin"),
        (tmp_path / "bomb.pt", None, ValueError, "contains more than tensors"),
        (tmp_path / "list.pt", None, ValueError, "must be a dict of tensors"),
        (tmp_path / "noise.safetensors", None, ValueError, "cannot be read"),
        (tmp_path / "noise.pt", None, ValueError, "is damaged"),
        (tmp_path / "empty.pt", None, ValueError, "cannot be read"),
        ({"conv.weight": torch.zeros(3)}, None, ValueError, "with the names of torchaudio or transformers"),
        (state, None, ValueError, "config lacks .'encoder_num_heads'.. Pass config="),
        (
            state,
            {"heads": 4},
            ValueError,
            "config has 'heads', which is not an argument of torchaudio's wav2vec2_model",
        ),
        (incomplete, {"encoder_num_heads": 4}, ValueError, "lack 'encoder.transformer.layers.1.final_layer_norm.bias'"),
        (state, {"encoder_num_heads": 4, "encoder_ff_interm_features": 7}, ValueError, "does not match config"),
    ]:
        with pytest.raises(kind, match=message):
            SSLNet(2, weights, config=config)
    assert "code of the file ran" not in capsys.readouterr().out
