"""Semantic segmentation: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import json
import os
import re
import struct
import threading
import zlib

import first_party_contract
import numpy
import pytest
from algorithm_contract import SECONDS_MAX
from vision_contract import VisionContract, edit_channel, encoded, fit, frame, image

from clary.workloads.formats import recordio_protobuf

RECORDIO, IMAGES = "application/x-recordio", "image/png"
HEIGHT, WIDTH = 40, 48


def scenes(count: int, seed: int = 0) -> list[tuple[numpy.ndarray, numpy.ndarray]]:
    """A red and a blue rectangle on grey noise, and the class of each pixel."""
    random = numpy.random.default_rng(seed)
    found = []
    for _ in range(count):
        pixels = random.integers(90, 140, (HEIGHT, WIDTH, 3))
        mask = numpy.zeros((HEIGHT, WIDTH), dtype=numpy.uint8)
        for kind, color in ((1, (230, 20, 20)), (2, (20, 20, 230))):
            height, width = random.integers(14, 26, 2)
            top, left = random.integers(0, HEIGHT - height), random.integers(0, WIDTH - width)
            pixels[top : top + height, left : left + width] = color
            mask[top : top + height, left : left + width] = kind
        found.append((pixels, mask))
    return found


def grey(content: bytes) -> numpy.ndarray:
    """The values of a grey PNG file, whatever filter its lines have."""
    parts, at, size = b"", 8, (0, 0)
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        data = content[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            size = struct.unpack_from(">II", data)
            assert data[8:10] == b"\x08\x00"
        elif kind == b"IDAT":
            parts += data
        at += 12 + length
    width, height = size
    lines = numpy.frombuffer(zlib.decompress(parts), numpy.uint8).reshape(height, width + 1)
    found = numpy.zeros((height, width), dtype=numpy.int64)
    for row, line in enumerate(lines):
        above = found[row - 1] if row else numpy.zeros(width, dtype=numpy.int64)
        found[row] = _unfiltered(int(line[0]), line[1:].astype(int), above)
    return found


def _unfiltered(kind: int, line: numpy.ndarray, above: numpy.ndarray) -> numpy.ndarray:
    if kind in (0, 2):
        return (line + (above if kind else 0)) % 256
    found = numpy.zeros(len(line), dtype=numpy.int64)
    for at in range(len(line)):
        left, corner = (found[at - 1], above[at - 1]) if at else (0, 0)
        guess = {1: left, 3: (left + above[at]) // 2}.get(kind)
        if guess is None:
            ends = (left, above[at], corner)
            guess = min(ends, key=lambda one: abs(left + above[at] - corner - one))
        found[at] = (line[at] + guess) % 256
    return found


def metric(log: str, metric_name: str) -> list[float]:
    return first_party_contract.metric(log, "semantic-segmentation", metric_name)


class TestSemanticSegmentation(VisionContract):
    name = "semantic-segmentation"
    image = image("semantic-segmentation")
    content_type = IMAGES
    answers_json = False
    hyperparameters = {
        "num_classes": "3",
        "num_training_samples": "4",
        "crop_size": "32",
        "base_size": "40",
        "mini_batch_size": "4",
        "epochs": "1",
    }
    wrong_hyperparameter = ("num_classes", "255", "'255' is not valid under any of the given")

    @classmethod
    def channels(cls, training: int = 4):
        channels = {}
        for name, count, seed in (("train", training, 0), ("validation", 6, 1)):
            found = scenes(count, seed)
            channels[name] = {f"{at}.png": encoded(one) for at, (one, _) in enumerate(found)}
            channels[f"{name}_annotation"] = {
                f"{at}.png": encoded(mask) for at, (_, mask) in enumerate(found)
            }
        return channels

    @classmethod
    def picture(cls):
        return encoded(scenes(1, 2)[0][0])

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, workshop):
        hyperparameters = {
            **cls.hyperparameters,
            "num_training_samples": "16",
            "optimizer": "adam",
            "learning_rate": "0.003",
            "epochs": "8",
        }
        return fit(workshop, hyperparameters, cls.channels(16), IMAGES)

    def test_shapes_are_found(self, trained):
        scores = metric(trained.log, "validation:mIOU")
        assert len(scores) == 8 and max(scores) > 0.65
        assert max(metric(trained.log, "validation:pixel_accuracy")) > 0.8
        losses = metric(trained.log, "train:loss")
        assert losses[-1] < losses[0] and metric(trained.log, "train:throughput")
        names = {path.name for path in trained.model.iterdir()}
        assert names == {"model_best.params", "hyperparams.json"}

    def test_csv_in_gives_json_out(self, endpoint):
        """Here: an image in gives a mask of the same size out."""
        for pixels, mask in scenes(3, 5):
            answer = endpoint.ask(encoded(pixels), "image/png", "image/png")
            assert (answer.status, answer.content_type) == (200, "image/png")
            found = grey(answer.body)
            assert found.shape == mask.shape and (found == mask).mean() > 0.75

    def test_json_lines_hold_one_prediction_a_line(self, endpoint):
        """Here: without a wish, the answer is a mask."""
        assert endpoint.ask(self.picture(), "image/jpeg", "*/*").content_type == "image/png"

    def test_recordio_out_has_one_record_a_row(self, endpoint):
        mask = grey(endpoint.ask(self.picture(), "image/jpeg", "image/png").body)
        kind = "application/x-recordio-protobuf"
        answer = endpoint.ask(self.picture(), "image/jpeg", kind)
        (found,) = recordio_protobuf.read_records(answer.body)
        assert found.features["shape"].values.tolist() == [1, 3, HEIGHT, WIDTH]
        probabilities = found.features["target"].values.reshape(3, HEIGHT, WIDTH)
        assert (probabilities.argmax(axis=0) == mask).all()
        assert probabilities.sum(axis=0) == pytest.approx(1, abs=1e-5)
        plain = endpoint.ask(self.picture(), "image/jpeg", "application/x-protobuf").body
        assert answer.body[8 : 8 + len(plain)] == plain

    @pytest.mark.parametrize("algorithm", ["psp", "deeplab"])
    def test_every_head_learns_with_label_maps_and_goes_on(self, workshop, algorithm):
        channels = self.channels()
        channels["train_annotation"] = {
            f"{at}.png": encoded(mask * 3) for at, (_, mask) in enumerate(scenes(4))
        }
        channels["label_map"] = {"train_label_map.json": json.dumps({"scale": "3"}).encode()}
        hyperparameters = {
            **self.hyperparameters,
            "algorithm": algorithm,
            "lr_scheduler": "step",
            "lr_scheduler_step": "1",
            "syncbn": "True",
            "optimizer": "rmsprop",
        }
        trained = fit(workshop, hyperparameters, channels, IMAGES)
        assert "syncbn=True has no effect here" in trained.log
        assert "TRAINING STARTS FROM RANDOM WEIGHTS" in trained.log
        served = workshop.serve(trained.model)
        assert served.ask(self.picture(), "image/png", "image/png").status == 200
        served.close()
        model = {"model_best.params": (trained.model / "model_best.params").read_bytes()}
        again = fit(workshop, hyperparameters, {**channels, "model": model}, IMAGES)
        assert re.search(r"starts from model_best.params: (\d+) of \1 arrays fit", again.log)

    def test_a_pipe_of_an_augmented_manifest_brings_images_and_masks_in_turns(self, workshop):
        base = workshop.opt_ml(self.hyperparameters, {"train": {}}, RECORDIO)
        edit_channel(base, "train", TrainingInputMode="Pipe", RecordWrapperType="RecordIO")
        pipe = base / "input" / "data" / "train_0"
        os.mkfifo(pipe)
        data = b"".join(frame(encoded(one)) for pair in scenes(4) for one in pair)
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        trained = workshop.train(base)
        writer.join(timeout=SECONDS_MAX)
        assert trained.code == 0, trained.failure
        assert "Found 4 images in channel 'train'" in trained.log

    def test_wrong_masks_and_lost_channels_are_told(self, workshop):
        pixels, mask = scenes(1)[0]
        for masks, told in (
            ({"0.png": encoded(mask * 9)}, "The mask '0.png' has the value 9: num_classes is 3"),
            ({"0.png": encoded(pixels)}, "is a picture of mode RGB; masks are PNG files"),
            ({"0.png": b"abc"}, "The mask '0.png' cannot be decoded"),
            ({"0.png": encoded(mask[:20])}, "its mask '0.png' has 48 x 20"),
            ({"1.png": encoded(mask)}, "The image '0.png' in channel 'train' has no mask"),
        ):
            channels = {"train": {"0.png": encoded(pixels)}, "train_annotation": masks}
            base = workshop.opt_ml(self.hyperparameters, channels, IMAGES)
            assert told in workshop.train(base).failure
        base = workshop.opt_ml(self.hyperparameters, {"train": {"0.png": b"1"}}, IMAGES)
        assert "Missing required channel: train_annotation" in workshop.train(base).failure
        step = {**self.hyperparameters, "lr_scheduler": "step"}
        told = workshop.train(workshop.opt_ml(step, self.channels(), IMAGES)).failure
        assert "lr_scheduler_step is required when lr_scheduler is step" in told

    def test_two_hosts_are_refused(self, workshop):
        hosts = {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}
        base = workshop.opt_ml(self.hyperparameters, self.channels(), IMAGES, resourceconfig=hosts)
        assert "trains on a single instance" in workshop.train(base).failure
