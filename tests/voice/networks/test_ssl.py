"""Network on a pre-trained model: layers, freezing, state dicts."""

import json

import torch
from torch import nn

from mmestim.voice.networks import SSLNet


def test_layers_match_torchaudio(ssl_model, required_config, noise):
    model, config = ssl_model
    network = SSLNet(2, model.state_dict(), config=required_config(config)).eval()
    x = noise(8000, 2)
    x /= x.square().mean(1, keepdim=True).sqrt()
    layers, _ = model.extract_features(x)
    if config["encoder_layer_norm_first"]:
        layers[-1] = model.encoder.transformer.layer_norm(layers[-1])
    entering = model.encoder.transformer._preprocess(
        model.encoder.feature_projection(model.feature_extractor(x, None)[0])
    )
    normalized = [nn.functional.layer_norm(layer, (32,)) for layer in (entering, *layers)]
    with torch.no_grad():
        network.layer_weights.copy_(torch.tensor([0.0, 1.0, 2.0]))
    mixed = sum(s * layer for s, layer in zip(torch.tensor([0.0, 1.0, 2.0]).softmax(0), normalized, strict=True))
    expected = network.head(network.project(mixed).relu().mean(1))
    torch.testing.assert_close(network(x)[0], expected, atol=1e-5, rtol=1e-4)


def test_frozen_backbone_gets_no_dropout_and_no_gradient(ssl_model, required_config, noise):
    model, config = ssl_model
    network = SSLNet(2, model.state_dict(), config=required_config(config)).train()
    assert not any(module.training for module in network.backbone.modules())
    assert network.project.training
    assert torch.equal(network(noise(6000))[0], network(noise(6000))[0])  # no dropout
    network(noise(6000))[0].sum().backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert trained == {"layer_weights", "project.weight", "project.bias", "head.weight", "head.bias"}
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())


def test_config_and_state_dict_rebuild_the_network(ssl_model, required_config, noise):
    model, config = ssl_model
    network = SSLNet(2, model.state_dict(), config=required_config(config)).eval()
    rebuilt = SSLNet(2, config=json.loads(json.dumps(network.config))).eval()
    rebuilt.load_state_dict(network.state_dict())
    x = noise(6000)
    assert torch.equal(rebuilt(x)[0], network(x)[0])


def test_network_may_have_fewer_layers_than_the_weights(ssl_model, required_config):
    model, config = ssl_model
    network = SSLNet(2, model.state_dict(), config=required_config(config) | {"encoder_num_layers": 1})
    assert network.layer_weights.shape == (2,)
