"""Object detection: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import json
import os
import threading

import first_party_contract
import numpy
import pytest
from algorithm_contract import SECONDS_MAX
from vision_contract import VisionContract, edit_channel, encoded, fit, frame, image, records

RECORDIO, IMAGES = "application/x-recordio", "application/x-image"
WIDTH, HEIGHT = 96, 80


def scenes(count: int, seed: int = 0) -> list[tuple[numpy.ndarray, list[tuple[int, ...]]]]:
    """One red or blue rectangle on noise; class, left, top, width and height in pixels."""
    random = numpy.random.default_rng(seed)
    found = []
    for at in range(count):
        pixels = random.integers(90, 140, (HEIGHT, WIDTH, 3))
        width, height = random.integers(28, 48, 2)
        left, top = random.integers(0, WIDTH - width), random.integers(0, HEIGHT - height)
        kind = at % 2
        pixels[top : top + height, left : left + width] = (230, 20, 20) if kind else (20, 20, 230)
        found.append((pixels, [(kind, int(left), int(top), int(width), int(height))]))
    return found


def annotation(name: str, boxes: list[tuple[int, ...]]) -> dict:
    return {
        "file": name,
        "image_size": [{"width": WIDTH, "height": HEIGHT, "depth": 3}],
        "annotations": [
            {"class_id": kind, "left": left, "top": top, "width": width, "height": height}
            for kind, left, top, width, height in boxes
        ],
        "categories": [{"class_id": 0, "name": "blue"}, {"class_id": 1, "name": "red"}],
    }


def numbers(boxes: list[tuple[int, ...]]) -> list[float]:
    """The labels of a record."""
    found = [2.0, 5.0]
    for kind, left, top, width, height in boxes:
        found += [kind, left / WIDTH, top / HEIGHT, (left + width) / WIDTH, (top + height) / HEIGHT]
    return found


def metric(log: str, metric_name: str) -> list[float]:
    return first_party_contract.metric(log, "object-detection", metric_name)


class TestObjectDetection(VisionContract):
    name = "object-detection"
    image = image("object-detection")
    content_type = IMAGES
    hyperparameters = {
        "num_classes": "2",
        "num_training_samples": "4",
        "base_network": "resnet-50",
        "mini_batch_size": "4",
        "epochs": "1",
    }
    wrong_hyperparameter = ("image_shape", "299", "'299' is not valid under any of the given")

    @classmethod
    def channels(cls):
        channels = {}
        for name, seed in (("train", 0), ("validation", 1)):
            found = scenes(4, seed)
            channels[name] = {f"{at}.png": encoded(one) for at, (one, _) in enumerate(found)}
            channels[f"{name}_annotation"] = {
                f"{at}.json": json.dumps(annotation(f"{at}.png", boxes)).encode()
                for at, (_, boxes) in enumerate(found)
            }
        return channels

    @classmethod
    def picture(cls):
        return encoded(scenes(1, 2)[0][0])

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, workshop):
        """Long enough to find things, from records."""
        parts = {
            name: {
                f"{name}.rec": records(
                    (numbers(boxes), encoded(pixels)) for pixels, boxes in scenes(count, seed)
                )
            }
            for name, count, seed in (("train", 24, 0), ("validation", 8, 1))
        }
        hyperparameters = {
            **cls.hyperparameters,
            "num_training_samples": "24",
            "optimizer": "adam",
            "learning_rate": "0.002",
            "lr_scheduler_step": "2",
            "epochs": "3",
        }
        return fit(workshop, hyperparameters, parts, RECORDIO)

    def test_shapes_are_found(self, trained):
        scores = metric(trained.log, "validation:mAP")
        assert len(scores) == 3 and max(scores) > 0.5
        losses = metric(trained.log, "train:smooth_l1")
        assert losses[-1] < losses[0] and metric(trained.log, "train:cross_entropy")
        assert "TRAINING STARTS FROM RANDOM WEIGHTS" in trained.log
        names = {path.name for path in trained.model.iterdir()}
        assert names == {"model_algo_1-0000.params", "model_algo_1-symbol.json", "hyperparams.json"}

    def test_csv_in_gives_json_out(self, endpoint):
        """Here: an image in gives classes, scores and boxes out, as shares and in pixels."""
        pixels, boxes = scenes(2, 3)[1]
        answer = endpoint.ask(encoded(pixels), "image/png", "application/json")
        assert (answer.status, answer.content_type) == (200, "application/json")
        found = answer.json()["prediction"]
        assert [len(row) for row in found] == [6] * len(found)
        scores = [row[1] for row in found]
        assert scores == sorted(scores, reverse=True) and 0 < scores[-1] <= scores[0] <= 1
        kind, left, top, width, height = boxes[0]
        assert found[0][0] == kind
        truth = [left / WIDTH, top / HEIGHT, (left + width) / WIDTH, (top + height) / HEIGHT]
        assert numpy.abs(numpy.array(found[0][2:]) - truth).max() < 0.15
        pixels = endpoint.ask(encoded(pixels), "image/png", "application/json;annotation=1").json()
        assert pixels["image_size"] == [{"width": WIDTH, "height": HEIGHT, "depth": 3}]
        best = pixels["annotations"][0]
        assert (best["class_id"], best["score"]) == (kind, pytest.approx(found[0][1]))
        assert best["left"] == round(found[0][2] * WIDTH)

    def test_json_lines_hold_one_prediction_a_line(self, endpoint):
        whole = endpoint.ask(self.picture(), "image/jpeg", "application/json").json()
        line = endpoint.ask(self.picture(), "image/jpeg", "application/jsonlines").body
        assert json.loads(line) == whole and line.endswith(b"}\n") and line.count(b"\n") == 1

    def test_recordio_out_has_one_record_a_row(self, workshop):
        """Here: images with annotations beside train both kinds of networks, and go on."""
        hyperparameters = {
            **self.hyperparameters,
            "base_network": "vgg-16",
            "freeze_layer_pattern": "backbone.features.0",
            "label_width": "100",
        }
        trained = fit(workshop, hyperparameters, self.channels(), IMAGES)
        assert len(metric(trained.log, "validation:mAP")) == 1
        assert "keeps 2 arrays as they are" in trained.log
        assert "label_width=100 has no effect here" in trained.log
        model = {path.name: path.read_bytes() for path in trained.model.iterdir()}
        channels = {**self.channels(), "model": model}
        told = workshop.train(workshop.opt_ml(self.hyperparameters, channels, IMAGES)).failure
        assert "was trained with base_network=vgg-16, this job has resnet-50" in told

    def test_two_hosts_learn_the_same_network(self, workshop):
        hosts = ["127.0.0.1", "127.0.0.2"]
        bases = [
            workshop.opt_ml(
                {**self.hyperparameters, "mini_batch_size": "2"},
                self.channels(),
                IMAGES,
                resourceconfig={"current_host": host, "hosts": hosts},
            )
            for host in hosts
        ]
        programs = [workshop.start(base, TRAINING_JOB_NAME=str(bases[0])) for base in bases]
        try:
            logs = [program.stdout.read() for program in programs]
            assert [program.wait() for program in programs] == [0, 0], logs
        finally:
            for program in programs:
                program.close()
        assert metric(logs[0], "validation:mAP") == metric(logs[1], "validation:mAP")

    def test_a_pipe_of_an_augmented_manifest_brings_images_and_boxes_in_turns(self, workshop):
        base = workshop.opt_ml(self.hyperparameters, {"train": {}}, RECORDIO)
        edit_channel(base, "train", TrainingInputMode="Pipe", RecordWrapperType="RecordIO")
        pipe = base / "input" / "data" / "train_0"
        os.mkfifo(pipe)
        data = b"".join(
            frame(encoded(pixels)) + frame(json.dumps(annotation("", boxes)).encode())
            for pixels, boxes in scenes(4)
        )
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        trained = workshop.train(base)
        writer.join(timeout=SECONDS_MAX)
        assert trained.code == 0, trained.failure
        assert "Found 4 images in channel 'train'" in trained.log

    def test_wrong_annotations_are_told(self, workshop):
        sound = annotation("0.png", [(0, 1, 2, 30, 30)])
        box = sound["annotations"][0]
        for change, told in (
            ({"annotations": [{**box, "class_id": 2}]}, "The class_id 2 of image '0.png'"),
            ({"annotations": [{**box, "width": 0}]}, "a box is empty or lies outside"),
            ({"file": "none.png"}, "there is no image 'none.png' in the channel 'train'"),
            ({"file": "../x"}, "lies outside of its channel"),
            ({"image_size": []}, "Unable to read the annotations of 'a.json'"),
        ):
            document = json.dumps({**sound, **change}).encode()
            channels = {**self.channels(), "train_annotation": {"a.json": document}}
            base = workshop.opt_ml(self.hyperparameters, channels, IMAGES)
            assert told in workshop.train(base).failure
        channels = self.channels()
        del channels["train_annotation"]
        base = workshop.opt_ml(self.hyperparameters, channels, IMAGES)
        assert "Missing required channel: train_annotation" in workshop.train(base).failure
        data = records([([2.0, 5.0, 0.0, 0.1], encoded(scenes(1)[0][0]))])
        base = workshop.opt_ml(self.hyperparameters, {"train": {"a.rec": data}}, RECORDIO)
        assert "4 labels are no header of 2 and boxes of 5" in workshop.train(base).failure
