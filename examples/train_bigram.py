"""Train a small language model from shuffled records; stop in the middle, and go on.

The model predicts each character from the one before it. What it needs of a checkpoint,
besides its own weights, is where the reader was: a few numbers in a JSON file.
"""

import json
import tempfile
from hashlib import sha256
from pathlib import Path

import numpy as np

from corekit.shuffle import RecordBatch, ShuffledReader

ALPHABET = 128
EPOCHS = 2
RECORDS = 64  # of a batch
RATE = 4.0


class Run:
    """Weights, a reader, and a digest of all records that were trained on."""

    def __init__(self, corpus: Path, checkpoint: Path) -> None:
        self.reader = ShuffledReader(corpus, seed=7, memory_limit="64MiB")
        self.weights = np.zeros((ALPHABET, ALPHABET))
        self.seen = sha256().hexdigest()
        self.checkpoint = checkpoint

    def train(self, stop_after: int | None = None) -> None:
        """Train to the end, or as many batches as a machine lives that is switched off."""
        done = 0
        for epoch in range(self.reader.state_dict()["epoch"], EPOCHS):
            if epoch != self.reader.state_dict()["epoch"]:
                self.reader.set_epoch(epoch)
            for batch in self.reader.iter_batches(RECORDS):
                loss = self.step(batch)
                self.seen = sha256(self.seen.encode() + bytes(batch.data)).hexdigest()
                done += 1
                if done % 50 == 0:
                    self.save()
                if done % 100 == 1:
                    print(f"  epoch {epoch}, record {self.reader.position:6}: loss {loss:.3f}")
                if done == stop_after:
                    return
        self.reader.close()

    def step(self, batch: RecordBatch) -> float:
        """Go down the gradient once; return the loss, in nats for a character."""
        before, after = batch.data[:-1], batch.data[1:]
        # A pair that crosses the edge of two records is none.
        inside = np.ones(len(before), dtype=bool)
        inside[batch.offsets[1:-1] - 1] = False
        before, after = before[inside], after[inside]
        odds = np.exp(self.weights - self.weights.max(axis=1, keepdims=True))
        chances = odds / odds.sum(axis=1, keepdims=True)
        counts = np.zeros_like(self.weights)
        np.add.at(counts, (before, after), 1.0)
        gradient = counts - counts.sum(axis=1, keepdims=True) * chances
        self.weights += RATE * gradient / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return float(-np.log(chances[before, after]).mean())

    def save(self) -> None:
        """Write a checkpoint; an older one stays until this one is complete."""
        state = {
            "reader": self.reader.state_dict(),
            "weights": self.weights.tolist(),
            "seen": self.seen,
        }
        new = self.checkpoint.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.replace(self.checkpoint)

    def load(self) -> None:
        """Go back to the checkpoint."""
        state = json.loads(self.checkpoint.read_text())
        self.reader.load_state_dict(state["reader"])
        self.weights = np.array(state["weights"])
        self.seen = state["seen"]


def write_corpus(path: Path) -> None:
    """Write sentences, sorted: in this order nobody should train on them."""
    subjects = ["the cat", "a dog", "my neighbour", "the old king", "every child", "nobody"]
    verbs = ["sees", "likes", "paints", "follows", "forgets", "hears"]
    objects = ["the moon", "a small house", "two birds", "the river", "red apples", "music"]
    times = ["today", "in spring", "at night", "after lunch", "again and again", "too late"]
    with path.open("w") as file:
        for number in range(20):
            for subject in subjects:
                for verb in verbs:
                    for thing in objects:
                        for time in times:
                            file.write(f"{number}. {subject} {verb} {thing} {time}.\n")


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    write_corpus(folder / "corpus.txt")

    print("a run without interruption")
    whole = Run(folder / "corpus.txt", folder / "whole.json")
    whole.train()

    print("a run that is cut off in its second epoch, behind its last checkpoint")
    first = Run(folder / "corpus.txt", folder / "checkpoint.json")
    first.train(stop_after=540)
    print(f"  cut off at record {first.reader.position}")
    del first

    print("the same run, resumed")
    second = Run(folder / "corpus.txt", folder / "checkpoint.json")
    second.load()
    print(f"  goes on at record {second.reader.position}")
    second.train()

    assert second.seen == whole.seen
    assert np.array_equal(second.weights, whole.weights)
    print("the resumed run saw the same records in the same order, and learned the same weights")
