"""Trains a small network on scikit-learn's digits in four processes, and records all of it in one run.

    make demo

Every process logs its loss at each step, and after each epoch one row for each of its samples: the loss, what was
predicted and how surely, and in a table for each epoch the activations of the hidden layer. The rows refer to the table
of digits, so that the ten worst ones can be looked at when the training is over, and a map of the hidden layer, one for
all epochs, shows how the network learns to tell them apart.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeAlias

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import rund
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from sklearn.datasets import load_digits

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

PROCESSES = 4
HIDDEN = 64
BATCH = 32  # samples of each process in one step
LEARNING_RATE = 0.2
MOMENTUM = 0.9
BARRIER_TIMEOUT_S = 60.0

CLASSES = dict(enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]))
LABEL = rund.ColumnSchema(role=rund.ColumnRole.LABEL, value_map=CLASSES)


def main() -> None:
    """Trains, then shows what the daemon kept."""
    parser = argparse.ArgumentParser(description="Trains on digits in four processes and records it.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder of the root and picture")
    arguments = parser.parse_args()
    output: Path = arguments.output.absolute()
    output.mkdir(exist_ok=True)
    # The processes that share a launch id join one run. torchrun and Slurm give one; here, we do.
    os.environ["RUND_LAUNCH_ID"] = str(uuid.uuid4())
    os.environ["RUND_ROOT"] = str(output / "root")
    os.environ["OMP_NUM_THREADS"] = "1"

    parameters = {"epochs": arguments.epochs, "batch": BATCH, "hidden": HIDDEN, "learning_rate": LEARNING_RATE}
    with rund.init("digits", "mlp", "MLP on 8x8 digits, 4 processes", parameters) as run:
        digits = write_digits()
        run.add_input_table(digits)
        train_in_processes(digits.url, arguments.epochs)
        for epoch, accuracy in enumerate(accuracies(samples_of(run))):
            run.add_output_value({"epoch": epoch, "accuracy": accuracy})

    subprocess.run([Path(sys.executable).with_name("rund"), "show", run.url], check=True)
    worst = worst_samples(run, last_epoch=arguments.epochs - 1)
    print_samples(worst)
    picture = output / "digits.png"
    draw(run, worst, picture)
    print(f"\nThe loss curves and these ten digits: {picture}")
    draw_maps(run, output)
    print(f"The daemon goes on until it is told to stop: rund stop --root {output / 'root'}")


def write_digits() -> rund.Table:
    """Writes the data set as an input table. Doing so again gives the table that is there."""
    digits = load_digits()
    return rund.Table.from_dict(
        {"pixels": digits.images.astype(np.uint8), "label": digits.target},
        table_name="all",
        dataset_name="digits",
        project_name="digits",
        description="scikit-learn's handwritten digits, 8x8 pixels of 0 to 16",
        column_schemas={"label": LABEL},
    )


# --- training: what one process does ---


def train(rank: int, digits_url: str, epochs: int, all_reduce: AllReduce) -> None:
    """Trains on every fourth sample, and records it."""
    os.environ["RANK"] = str(rank)
    pixels, labels = read_digits(rund.Table.from_url(digits_url))
    mine = np.arange(rank, len(labels), PROCESSES)
    steps_in_epoch = len(labels) // (PROCESSES * BATCH)
    network, shuffle, step = Network(), np.random.default_rng(rank), 0
    velocity = np.zeros_like(network.parameters)

    with (
        rund.init("digits", "mlp") as run,
        run.metrics_writer("samples", column_schemas={"predicted": LABEL}, foreign_table_url=digits_url) as samples,
    ):
        for epoch in range(epochs):
            for batch in shuffle.permutation(mine)[: steps_in_epoch * BATCH].reshape(-1, BATCH):
                loss, gradient = network.gradient(pixels[batch], labels[batch])
                run.log({"loss": loss, "epoch": epoch}, step)
                velocity = MOMENTUM * velocity - LEARNING_RATE * all_reduce.mean(rank, gradient)
                network.parameters += velocity
                step += 1
            hidden, probabilities = network.forward(pixels[mine])
            samples.add_batch(
                {
                    "example_id": mine,
                    "epoch": np.full(len(mine), epoch),
                    "loss": -np.log(probabilities[np.arange(len(mine)), labels[mine]]),
                    "predicted": probabilities.argmax(axis=1),
                    "confidence": probabilities.max(axis=1),
                }
            )
            # Four writers of one table: they give it the same name.
            with run.metrics_writer(
                f"hidden-{epoch}",
                column_schemas={"predicted": LABEL},
                foreign_table_url=digits_url,
                constants={"epoch": epoch},
            ) as layer:
                # A 2-D float array is kept as a column of embeddings.
                layer.add_batch({"example_id": mine, "predicted": probabilities.argmax(axis=1), "hidden": hidden})


def read_digits(digits: rund.Table) -> tuple[Floats, Integers]:
    """The pixels, 0 to 1, and the labels."""
    rows = digits.to_arrow()
    pixels = np.array(rows.column("pixels").to_pylist(), dtype=np.float64).reshape(len(rows), -1)
    return pixels / 16, rows.column("label").to_numpy()


class Network:
    """One hidden layer and a softmax. The parameters are one vector, so that gradients are averaged at once."""

    def __init__(self) -> None:
        self.parameters: Floats = np.zeros(64 * HIDDEN + HIDDEN + HIDDEN * 10 + 10)
        first, self._bias1, second, self._bias2 = self._parts(self.parameters)
        self._weights1, self._weights2 = first, second
        random = np.random.default_rng(0)  # every process begins with the same weights
        first[:] = random.normal(0, np.sqrt(2 / 64), first.shape)
        second[:] = random.normal(0, np.sqrt(2 / HIDDEN), second.shape)

    def forward(self, pixels: Floats) -> tuple[Floats, Floats]:
        """The activations of the hidden layer, and the probability of each class."""
        hidden = np.maximum(pixels @ self._weights1 + self._bias1, 0)
        scores = hidden @ self._weights2 + self._bias2
        exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, exponents / exponents.sum(axis=1, keepdims=True)

    def gradient(self, pixels: Floats, labels: Integers) -> tuple[float, Floats]:
        """The mean loss of a batch, and its gradient."""
        hidden, probabilities = self.forward(pixels)
        rows = np.arange(len(labels))
        loss = -np.log(probabilities[rows, labels]).mean()
        to_scores = probabilities
        to_scores[rows, labels] -= 1
        to_scores /= len(labels)
        to_hidden = (to_scores @ self._weights2.T) * (hidden > 0)
        gradient = np.empty_like(self.parameters)
        weights1, bias1, weights2, bias2 = self._parts(gradient)
        weights1[:], bias1[:] = pixels.T @ to_hidden, to_hidden.sum(axis=0)
        weights2[:], bias2[:] = hidden.T @ to_scores, to_scores.sum(axis=0)
        return float(loss), gradient

    @staticmethod
    def _parts(vector: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        ends = np.cumsum([64 * HIDDEN, HIDDEN, HIDDEN * 10])
        weights1, bias1, weights2, bias2 = np.split(vector, ends)
        return weights1.reshape(64, HIDDEN), bias1, weights2.reshape(HIDDEN, 10), bias2


# --- four processes that train one network ---


@dataclass(frozen=True)
class AllReduce:
    """Averages a vector over all processes, through memory that they share."""

    memory: ctypes.Array[ctypes.c_double]
    barrier: Barrier

    def mean(self, rank: int, vector: Floats) -> Floats:
        """Gives every process the mean of what they all gave."""
        rows = np.ctypeslib.as_array(self.memory).reshape(PROCESSES, -1)
        rows[rank] = vector
        self.barrier.wait(BARRIER_TIMEOUT_S)
        mean: Floats = rows.mean(axis=0)
        self.barrier.wait(BARRIER_TIMEOUT_S)  # until all have read: the rows are written again in the next step
        return mean


def train_in_processes(digits_url: str, epochs: int) -> None:
    """Runs `train` in all processes, and fails if one of them does."""
    spawn = multiprocessing.get_context("spawn")
    memory = spawn.RawArray(ctypes.c_double, PROCESSES * len(Network().parameters))
    all_reduce = AllReduce(memory, spawn.Barrier(PROCESSES))
    processes = [spawn.Process(target=train, args=(rank, digits_url, epochs, all_reduce)) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if failed := [rank for rank, process in enumerate(processes) if process.exitcode != 0]:
        raise SystemExit(f"training failed in the processes of rank {failed}")


# --- reading: what any process may do, then or later ---


def samples_of(run: rund.Run) -> rund.Table:
    """The rows of samples that all processes wrote."""
    return next(table for table in run.metrics_tables if table.name == "samples")


def accuracies(samples: rund.Table) -> list[float]:
    """The share of samples that were right, by epoch."""
    rows = samples.join(["epoch", "predicted"], ["label"])
    right = pc.equal(rows["predicted"], rows["label"])
    means = rows.append_column("right", right).group_by("epoch").aggregate([("right", "mean")])
    by_epoch: list[float] = means.sort_by("epoch")["right_mean"].to_numpy().tolist()
    return by_epoch


def worst_samples(run: rund.Run, last_epoch: int, count: int = 10) -> pa.Table:
    """The samples with the highest loss in the end, beside the digits that they are about."""
    rows = samples_of(run).join(["example_id", "epoch", "loss", "predicted", "confidence"], ["label", "pixels"])
    return rows.filter(pc.field("epoch") == last_epoch).sort_by([("loss", "descending")]).slice(0, count)


def print_samples(samples: pa.Table) -> None:
    """Prints samples as a table."""
    print("\nThe ten samples with the highest loss:\n")
    print("  example    loss   true    predicted   confidence")
    for row in samples.to_pylist():
        true, predicted = CLASSES[row["label"]], CLASSES[row["predicted"]]
        print(f"  {row['example_id']:7}  {row['loss']:6.3f}   {true:6}  {predicted:9}   {row['confidence']:10.2f}")


def draw(run: rund.Run, worst: pa.Table, path: Path) -> None:
    """Draws the losses of the training, and the worst samples."""
    mpl.use("Agg")
    figure = plt.figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 1.1], wspace=0.04)[0]
    tables = {table.name: table for table in run.metrics_tables}
    draw_losses(left.subplots(), tables["history"], tables["samples"])
    right.suptitle("The ten samples with the highest loss: true → predicted", fontsize=11)
    for axes, row in zip(right.subplots(2, 5).flat, worst.to_pylist(), strict=True):
        axes.imshow(row["pixels"], cmap="gray_r")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{row['label']} → {row['predicted']}", fontsize=13)
        axes.set_xlabel(f"loss {row['loss']:.2f}", fontsize=9)
        axes.spines[:].set_color("lightgray")
    figure.savefig(path, dpi=110)


def draw_losses(axes: Axes, history: rund.Table, samples: rund.Table) -> None:
    """Draws the loss of each process at each step, and the mean over all samples after each epoch."""
    steps = history.to_arrow(["step", "rank", "loss"]).sort_by("step")
    for rank, shade in enumerate(np.linspace(0.35, 0.75, PROCESSES)):
        rows = steps.filter(pc.field("rank") == rank)
        axes.plot(rows["step"], rows["loss"], color=plt.get_cmap("Blues")(shade), linewidth=0.7, label=f"rank {rank}")
    epochs = samples.to_arrow(["epoch", "loss"]).group_by("epoch").aggregate([("loss", "mean")]).sort_by("epoch")
    steps_in_epoch = (pc.max(steps["step"]).as_py() + 1) / len(epochs)
    ends = (epochs["epoch"].to_numpy() + 1) * steps_in_epoch
    axes.plot(ends, epochs["loss_mean"], "o-", color="#d1495b", markersize=4, label="all samples")
    axes.set(xlabel="step", ylabel="cross entropy", yscale="log", ylim=(0.01, None))
    axes.set_title("Loss of four processes that train one network", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)


def draw_maps(run: rund.Run, output: Path) -> None:
    """Draws the hidden layer: one map for all epochs, fitted on the last one."""
    try:
        run.reduce_embeddings_per_dataset(n_components=2, random_state=0)
    except rund.UnsupportedError as error:
        print(f"The maps of the hidden layer are left out: {error}")
        return
    page, picture = output / "digits-map.html", output / "digits-map.png"
    run.plot_embedding(page, color="label")
    run.plot_embedding(picture, color="label", by="epoch")
    print(f"The hidden layer after each epoch, in one space: {picture}")
    print(f"After the last one, to zoom into, coloured by any column: {page}")


if __name__ == "__main__":
    main()
