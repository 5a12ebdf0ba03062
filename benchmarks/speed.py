"""Time of fit and predict: a hand-written torch loop, skorch's defaults and mmestim, in turn; and of balancers.

The same networks, batches and epochs in one process; each round runs every contender, the first
one changing, and the table has the medians over the rounds and their ratios to the hand-written
loop. Times are this machine's; the ratios are what to read.
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

from mmestim import JointClassifier, LateFusionClassifier, UDIClassifier, balancers
from mmestim.encoders.choice import ENCODERS
from mmestim.multimodal._objectives.guidance import jensen_shannon
from mmestim.multimodal._objectives.mutual_information import CLUB

N_CLASSES, EMBEDDING_DIM = 10, 32
SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
# Name: encoder, rows, shape of a sample, epochs.
NETWORKS = {"light": ("mlp", 20_000, (128,), 5), "convolutional": ("conv2d", 2_000, (32, 32), 5)}
# Methods that by default begin after these few epochs, or need more of them.
AT_WORK = {
    "OPM": {"starts": 0},
    "ReconBoost": {"stage_epochs": 1, "rectify_epochs": 1},
    "Relearning": {"interval": 2},
    "Valuation": {"warmup": 0},
}
# What the follower's losses weigh in the UDI rows; small, because random data have nothing to guide by.
GUIDANCE = (1.0, 0.01)


class Net(nn.Module):
    """The network of all contenders."""

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
    """A follower's stage of UDI as a script would have it, the anchor's outputs computed once."""
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
    """Median seconds of each contender over the rounds, after one round that does not count."""
    seconds = defaultdict(list)
    names = list(contenders)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            contenders[name]()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def one_modality(network: str, batch_size: int, rounds: int, device: str) -> dict[str, dict[str, float]]:
    encoder, n_rows, shape, epochs = NETWORKS[network]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, int(np.prod(shape))), dtype=np.float32)
    y = rng.integers(0, N_CLASSES, n_rows)
    settings = {"encoder": encoder, "embedding_dim": EMBEDDING_DIM, "batch_size": batch_size, "max_epochs": epochs}
    ours = LateFusionClassifier(
        **settings, shapes={"x": shape}, early_stopping=False, lr_schedule=None, device=device, random_state=0
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
            shapes={"a": shape, "b": shape},
            guidance=guidance,
            anchor="a",
            encoder=encoder,
            embedding_dim=EMBEDDING_DIM,
            batch_size=batch_size,
            max_epochs=epochs,
            early_stopping=False,
            lr_schedule=None,
            device=device,
            random_state=0,
        )
        return lambda: clf.fit(X, y)

    rules = {"mmestim": GUIDANCE, "mmestim dynamic": "dynamic", "mmestim aligned": "aligned"}
    contenders = {"hand-written": by_hand, **{name: ours(rule) for name, rule in rules.items()}}
    return {"UDI fit": measure(contenders, rounds, device)}


def balancing(network: str, batch_size: int, rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Seconds of one step of joint training by every method, and of a whole fit; plain training is the measure."""
    encoder, n_rows, shape, epochs = NETWORKS[network]
    size, rng = int(np.prod(shape)), np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 2 * size), dtype=np.float32)
    y = rng.integers(0, N_CLASSES, n_rows)
    methods = {"plain": None}
    for name in balancers.__all__:
        method = getattr(balancers, name)
        if issubclass(method, balancers.Balancer) and method is not balancers.Balancer:
            methods[name] = method(**AT_WORK.get(name, {}))
    steps, fits = defaultdict(list), defaultdict(list)
    for turn in range(rounds + 1):
        for name in [*methods][turn:] + [*methods][:turn]:
            clf = JointClassifier(
                {"a": slice(0, size), "b": slice(size, None)},
                shapes={"a": shape, "b": shape},
                encoder=encoder,
                balancer=methods[name],
                embedding_dim=EMBEDDING_DIM,
                batch_size=batch_size,
                max_epochs=epochs,
                n_iter_no_change=epochs,
                lr_schedule=None,
                device=device,
                random_state=0,
            )
            start = time.perf_counter()
            clf.fit(X, y)
            if turn:
                fits[name].append(time.perf_counter() - start)
                # The first epoch may prepare what later ones use.
                steps[name] += [row["dur"] for row in clf.history_ if row["stage"] == "joint" and row["epoch"] > 1]
    n_steps = -(-int(0.9 * n_rows) // batch_size)
    return {
        "joint step": {name: statistics.median(values) / n_steps for name, values in steps.items()},
        "joint fit": {name: statistics.median(values) for name, values in fits.items()},
    }


def report(cases: list[Callable[..., dict[str, dict[str, float]]]], measure: str, path: Path, options: Any) -> None:
    """Run the cases, print the table and store it; ratios are to the contender named `measure`."""
    rows = []
    print(f"| network | batch | task | contender | seconds | ratio to {measure} |\n|---|---|---|---|---|---|")
    for network in options.networks:
        for batch_size in options.batch_sizes:
            for case in cases:
                for task, seconds in case(network, batch_size, options.rounds, options.device).items():
                    for contender, value in seconds.items():
                        ratio = value / seconds[measure]
                        rows.append((network, batch_size, task, contender, f"{value:.4f}", f"{ratio:.2f}"))
                        print("| " + " | ".join(map(str, rows[-1])) + " |", flush=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("network", "batch_size", "task", "contender", "seconds", "ratio"), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = ["loops", "balancers"]
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables, help="what to time (default: all)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads on the CPU (default: %(default)s)")
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


if __name__ == "__main__":
    main()
