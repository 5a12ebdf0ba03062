"""What a saved classifier's network is held against: what it answers, and the tensors of each encoder."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping

import torch

from .._data.batches import Batch
from .._networks.multimodal_networks import MultimodalModule
from .._serialization.model_file import TensorSpec
from .._serialization.module_skeleton import CPU
from .._training.devices import seeded


@torch.no_grad()
def probe_outputs(module: MultimodalModule, shapes: Mapping[str, tuple[int, ...]]) -> list[torch.Tensor]:
    """Features of zeros, which every encoder was tried on, and what the head makes of random ones, on the CPU."""
    if any(tensor.device != CPU for tensor in module.state_dict().values()):
        module = copy.deepcopy(module).to(CPU)
    batch = Batch(
        {name: torch.zeros(2, *shape, dtype=torch.float32, device=CPU) for name, shape in shapes.items()}, {}, 2
    )
    with seeded(0, CPU):
        features = module.encode(batch)
        generator = torch.Generator(CPU).manual_seed(0)
        drawn = {
            name: torch.randn(f.shape, generator=generator, dtype=torch.float32, device=CPU)
            for name, f in features.items()
        }
        alone = [module.unimodal_logits(drawn, name) for name in module.names]
        return [*features.values(), *alone, module.fuse(drawn, batch)]


def by_encoder(specs: Mapping[str, TensorSpec]) -> defaultdict[str, dict[str, TensorSpec]]:
    """The tensors of each encoder, by what their names begin with."""
    found: defaultdict[str, dict[str, TensorSpec]] = defaultdict(dict)
    for name, spec in specs.items():
        *place, _ = name.split(".", 4)
        if place[3:] == ["encoder"]:
            found[".".join([*place, ""])][name] = spec
    return found
