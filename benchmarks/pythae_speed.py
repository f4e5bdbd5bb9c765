"""Speed beside pythae 0.1.2: training images/s and the importance-weighted NLL of the same MLP VAE, in one run.

    python -m venv pythae && pythae/bin/pip install torch==2.13.0 pythae==0.1.2
    python -m benchmarks.pythae_speed --data mnist --pythae pythae/bin/python

Both sides train 784–512–16–512–784 with ReLU, Adam 1e-3 and batches of 64 on MNIST thresholded at 128, and estimate
the NLL of the same number of test images with K draws each; pythae in float32, ours as `textvae` does, with freed
memory kept and in bf16 where `auto` picks it. Each measurement is taken in turn, `--rounds` times, in a process of
its own; the ratio is that of the medians. pythae's side runs in its own environment.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

HIDDEN, LATENT, BATCH, RATE = 512, 16, 64, 1e-3
LEVEL = 128


def pythae_side(folder: Path, num_samples: int) -> dict[str, float]:
    """Runs under pythae's Python: an epoch of its trainer, then its own `get_nll`."""
    import numpy as np
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    train, test = (torch.from_numpy(np.load(folder / f"{name}.npy")).float() for name in ("train", "test"))
    torch.manual_seed(0)
    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce"))
    config = BaseTrainerConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=BATCH, num_epochs=1, learning_rate=RATE
    )
    trainer = BaseTrainer(model, BaseDataset(train, torch.zeros(len(train))), training_config=config)
    trainer.prepare_training()
    start = time.perf_counter()
    trainer.train_step(1)
    train_seconds = time.perf_counter() - start
    model.eval()
    start = time.perf_counter()
    with torch.no_grad():
        nll = -model.get_nll(test, n_samples=num_samples, batch_size=100)
    return {"train": len(train) / train_seconds, "nll": len(test) / (time.perf_counter() - start), "value": float(nll)}


def our_side(folder: Path, num_samples: int) -> dict[str, float]:
    """The same through the training step of every recipe, and `latent.measures.measure_split`, all of it."""
    import numpy as np
    import torch

    from corpora.images import ImageBatches, Images, image_evaluation_batches
    from imagevae.form import ImageForm
    from imagevae.models import VaeConfig
    from imagevae.networks import MlpConfig
    from imagevae.side import IMAGES_AT_ONCE, ROWS_AT_ONCE
    from latent.bound import ElboObjective
    from latent.machine.memory import keep_freed_memory
    from latent.measures import measure_split
    from latent.training import JointUpdate, TrainState, open_accelerator, seed_everything
    from latent.training.seeding import Stream

    keep_freed_memory()
    train, test = (Images(levels=np.load(folder / f"{name}.npy") * np.uint8(255)) for name in ("train", "test"))
    form = ImageForm(channels=1, height=28, width=28, class_names=())
    network = MlpConfig(hidden_sizes=(HIDDEN,), activation="relu")
    accelerator = open_accelerator("auto")
    config = VaeConfig(latent_size=LATENT, network=network)
    model = config.build(form)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    state = TrainState(model, optimizer, accelerator, partial(config.build, form))
    batches = ImageBatches(train, BATCH, 0, "threshold")
    update, objective = JointUpdate(), ElboObjective()
    start = time.perf_counter()
    for step in range(batches.num_batches):
        seed_everything(0, Stream.STEP, step)
        update(state, batches, objective)
        state.step += 1
    train_seconds = time.perf_counter() - start
    start = time.perf_counter()
    found = measure_split(
        state.model,
        list(image_evaluation_batches(test, IMAGES_AT_ONCE)),
        accelerator.device,
        num_samples,
        half_width=None,
        rows_at_once=ROWS_AT_ONCE,
        seed=0,
    )
    seconds = time.perf_counter() - start
    return {"train": len(train) / train_seconds, "nll": len(test) / seconds, "value": found.weighted.estimate.value}


SIDES = {"pythae": pythae_side, "ours": our_side}


def main() -> None:
    """Take the measurements in turn and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with MNIST's idx files")
    parser.add_argument("--pythae", type=Path, help="the Python of an environment with pythae 0.1.2")
    parser.add_argument("--train-images", type=int, default=20_000)
    parser.add_argument("--test-images", type=int, default=1_000)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(SIDES[given.side](given.folder, given.samples)))
        return
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as temporary:
        write_images(given.data, Path(temporary), given.train_images, given.test_images)
        for _ in range(given.rounds):
            for side, python in (("pythae", given.pythae), ("ours", Path(sys.executable))):
                command = [
                    str(python),
                    __file__,
                    "--side",
                    side,
                    "--folder",
                    temporary,
                    "--samples",
                    str(given.samples),
                ]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[side].append(json.loads(done.stdout.splitlines()[-1]))
    print("| | pythae 0.1.2 | ours | ratio |\n|---|---|---|---|")
    for name, label in (("train", "training, images/s"), ("nll", f"NLL at K = {given.samples}, images/s")):
        theirs, ours = (statistics.median(row[name] for row in found[side]) for side in SIDES)
        print(f"| {label} | {theirs:,.1f} | {ours:,.1f} | {ours / theirs:.2f} |")
    values = [f"{side} {statistics.median(row['value'] for row in rows):.2f}" for side, rows in found.items()]
    print(f"\nNLL after this one short epoch, nats: {', '.join(values)}; medians of {given.rounds} rounds")


def write_images(data: Path, folder: Path, num_train: int, num_test: int) -> None:
    """The same thresholded images for both sides."""
    import numpy as np

    from corpora.images import Mnist, load_images

    splits = load_images(Mnist(path=data, binarisation="threshold"))
    for name, images, size in (("train", splits.train, num_train), ("test", splits.test, num_test)):
        np.save(folder / f"{name}.npy", (images.levels[:size] >= LEVEL).astype(np.uint8))


if __name__ == "__main__":
    main()
