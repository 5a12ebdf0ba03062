"""Time of fit and predict: a hand-written torch loop, skorch with its defaults, mmestim, and the balancing methods.

All contenders train the same networks on the same batches and epochs in one process. Each round runs every contender,
starting with a different one. The tables have the medians over the rounds and their ratios to a reference contender.
A last table has the fewest seconds of an import, of a fit with checkpoints, of steps on many rows, and of fits of
the networks of folds.
Times depend on the machine; compare the ratios.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from skorch import NeuralNetClassifier
from torch import nn

from _costs import COSTS
from _early_methods import METHODS, early_method
from mmestim import JointClassifier, LateFusionClassifier, UDIClassifier
from mmestim.encoders.choice import ENCODERS
from mmestim.multimodal._objectives.guidance import jensen_shannon
from mmestim.multimodal._objectives.mutual_information import CLUB

N_CLASSES, EMBEDDING_DIM = 10, 32
SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
# mmestim trains alike: its SGD has this momentum, one network has one learning rate throughout.
OURS: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": SGD["lr"],
    "weight_decay": SGD["weight_decay"],
    "lr_schedule": None,
    "cv": None,
}
# Encoder, number of rows, shape of a sample and epochs of each network.
NETWORKS = {"light": ("mlp", 20_000, (128,), 5), "convolutional": ("conv2d", 2_000, (32, 32), 5)}
# Weights of the losses of the follower in UDI. The second is small because random data offer no guidance.
GUIDANCE = (1.0, 0.01)


class Net(nn.Module):
    """Network of all contenders."""

    def __init__(self, encoder: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = ENCODERS[encoder](shape, EMBEDDING_DIM)
        self.head = nn.Linear(EMBEDDING_DIM, N_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x.reshape(-1, *self.shape)))


def hand_fit(net: Net, X: np.ndarray, y: np.ndarray, batch_size: int, epochs: int, device: str) -> None:
    x, y = torch.from_numpy(X).to(device), torch.from_numpy(y).to(device)
    net.to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), **SGD)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), device=device).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()


@torch.no_grad()
def hand_predict(net: Net, X: np.ndarray, batch_size: int, device: str) -> np.ndarray:
    net.eval()
    parts = torch.from_numpy(X).to(device).split(batch_size)
    return np.concatenate([torch.softmax(net(x), 1).cpu().numpy() for x in parts])


def hand_follow(
    net: Net, anchor: Net, X: np.ndarray, X_anchor: np.ndarray, y: np.ndarray, batch_size: int, epochs: int, device: str
) -> None:
    """Train a follower of UDI as a script would, with the outputs of the anchor computed once."""
    x, x_anchor, y = (torch.from_numpy(array).to(device) for array in (X, X_anchor, y))
    with torch.no_grad():
        anchor.eval()
        features_anchor = anchor.encoder(x_anchor.reshape(-1, *anchor.shape))
        log_p_anchor = torch.log_softmax(anchor.head(features_anchor), 1)
    net.to(device).train()
    club = CLUB(EMBEDDING_DIM, EMBEDDING_DIM).to(device)
    optimizer = torch.optim.SGD(net.parameters(), **SGD)
    club_optimizer = torch.optim.Adam(club.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), device=device).split(batch_size):
            features = net.encoder(x[rows].reshape(-1, *net.shape))
            logits, reference = net.head(features), features_anchor[rows]
            club_optimizer.zero_grad()
            club.fitting_loss(reference, features.detach()).backward()
            club_optimizer.step()
            optimizer.zero_grad()
            consistency = jensen_shannon(log_p_anchor[rows], torch.log_softmax(logits, 1)).mean()
            loss = F.cross_entropy(logits, y[rows]) + GUIDANCE[0] * consistency
            (loss + GUIDANCE[1] * club(reference, features)).backward()
            optimizer.step()


def measure(contenders: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """Return the median seconds of each contender over the rounds, after one warm-up round."""
    seconds = defaultdict(list)
    names = list(contenders)
    for round_number in range(rounds + 1):
        first = round_number % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            contenders[name]()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def one_modality(network: str, batch_size: int, rounds: int, device: str) -> dict[str, dict[str, float]]:
    encoder, n_rows, shape, epochs = NETWORKS[network]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, int(np.prod(shape))), dtype=np.float32)
    y = rng.integers(0, N_CLASSES, n_rows)
    settings = {"encoder": encoder, "embedding_dim": EMBEDDING_DIM, "batch_size": batch_size, "max_epochs": epochs}
    ours = LateFusionClassifier(
        **settings, **OURS, shapes={"x": shape}, early_stopping=False, device=device, random_state=0
    )
    skorch_net = NeuralNetClassifier(
        Net,
        module__encoder=encoder,
        module__shape=shape,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        **{f"optimizer__{name}": value for name, value in SGD.items()},
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=device,
    )
    net = Net(encoder, shape)
    fit = {
        "hand-written": lambda: hand_fit(Net(encoder, shape), X, y, batch_size, epochs, device),
        "skorch": lambda: skorch_net.fit(X, y),
        "mmestim": lambda: ours.fit(X, y),
    }
    predict = {
        "hand-written": lambda: hand_predict(net.to(device), X, batch_size, device),
        "skorch": lambda: skorch_net.predict_proba(X),
        "mmestim": lambda: ours.predict_proba(X),
    }
    return {"fit": measure(fit, rounds, device), "predict": measure(predict, rounds, device)}


def udi(network: str, batch_size: int, rounds: int, device: str) -> dict[str, dict[str, float]]:
    encoder, n_rows, shape, epochs = NETWORKS[network]
    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    X = rng.standard_normal((n_rows, 2 * size), dtype=np.float32)
    y = rng.integers(0, N_CLASSES, n_rows)
    blocks = [np.ascontiguousarray(X[:, :size]), np.ascontiguousarray(X[:, size:])]

    def by_hand():
        nets = [Net(encoder, shape), Net(encoder, shape)]
        for net, block in zip(nets, blocks, strict=True):
            hand_fit(net, block, y, batch_size, epochs, device)
        hand_follow(Net(encoder, shape), nets[0], blocks[1], blocks[0], y, batch_size, epochs, device)

    def ours(guidance):
        clf = UDIClassifier(
            {"a": slice(0, size), "b": slice(size, None)},
            **OURS,
            shapes={"a": shape, "b": shape},
            guidance=guidance,
            anchor="a",
            encoder=encoder,
            embedding_dim=EMBEDDING_DIM,
            batch_size=batch_size,
            max_epochs=epochs,
            early_stopping=False,
            device=device,
            random_state=0,
        )
        return lambda: clf.fit(X, y)

    names = ("validated", "dynamic", "aligned")
    rules = {"mmestim": GUIDANCE, **{f"mmestim {name}": name for name in names}}
    contenders = {"hand-written": by_hand, **{name: ours(rule) for name, rule in rules.items()}}
    return {"UDI fit": measure(contenders, rounds, device)}


def balancing(network: str, batch_size: int, rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Return the seconds of one step of joint training and of a whole fit, for plain training and every method."""
    encoder, n_rows, shape, epochs = NETWORKS[network]
    size, rng = int(np.prod(shape)), np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 2 * size), dtype=np.float32)
    y = rng.integers(0, N_CLASSES, n_rows)
    methods = {"plain": None, **{name: early_method(name) for name in METHODS}}
    steps, fits = defaultdict(list), defaultdict(list)
    for round_number in range(rounds + 1):
        for name in [*methods][round_number:] + [*methods][:round_number]:
            clf = JointClassifier(
                {"a": slice(0, size), "b": slice(size, None)},
                **OURS,
                shapes={"a": shape, "b": shape},
                encoder=encoder,
                balancer=methods[name],
                embedding_dim=EMBEDDING_DIM,
                batch_size=batch_size,
                max_epochs=epochs,
                n_iter_no_change=epochs,
                device=device,
                random_state=0,
            )
            start = time.perf_counter()
            clf.fit(X, y)
            if round_number:
                fits[name].append(time.perf_counter() - start)
                # Omit the first epoch, which may include preparation.
                steps[name] += [row["dur"] for row in clf.history_ if row["stage"] == "joint" and row["epoch"] > 1]
    n_steps = -(-int(0.9 * n_rows) // batch_size)
    return {
        "joint step": {name: statistics.median(values) / n_steps for name, values in steps.items()},
        "joint fit": {name: statistics.median(values) for name, values in fits.items()},
    }


def report(cases: list[Callable[..., dict[str, dict[str, float]]]], reference: str, path: Path, options: Any) -> None:
    """Run the cases, print the table and store it, with ratios to the contender `reference`."""
    rows = []
    print(f"| network | batch | task | contender | seconds | ratio to {reference} |\n|---|---|---|---|---|---|")
    for network in options.networks:
        for batch_size in options.batch_sizes:
            for case in cases:
                for task, seconds in case(network, batch_size, options.rounds, options.device).items():
                    for contender, value in seconds.items():
                        ratio = value / seconds[reference]
                        rows.append((network, batch_size, task, contender, f"{value:.4f}", f"{ratio:.2f}"))
                        print("| " + " | ".join(map(str, rows[-1])) + " |", flush=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("network", "batch_size", "task", "contender", "seconds", "ratio"), *rows])


def report_costs(path: Path, options: Any) -> None:
    """Print and store the table of the costs beside the steps, with ratios to the first contender of each."""
    rows = []
    print("\n| cost | contender | seconds | ratio |\n|---|---|---|---|")
    for cost, case in COSTS.items():
        seconds = case(options.rounds, options.device)
        reference = next(iter(seconds.values()))
        for contender, value in seconds.items():
            rows.append((cost, contender, f"{value:.5f}", f"{value / reference:.2f}"))
            print("| " + " | ".join(rows[-1]) + " |", flush=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("cost", "contender", "seconds", "ratio"), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = ["loops", "balancers", "costs"]
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables, help="tables to compute (default: all)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--rounds", type=int, default=5, help="number of timed rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads of torch (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"torch {torch.__version__}, device {options.device}, {options.threads} thread(s)\n")
    if "loops" in options.tables:
        report([one_modality, udi], "hand-written", options.out / "speed.csv", options)
    if "balancers" in options.tables:
        report([balancing], "plain", options.out / "speed-balancers.csv", options)
    if "costs" in options.tables:
        report_costs(options.out / "speed-costs.csv", options)


if __name__ == "__main__":
    main()
