"""Image classification: the contract of all algorithms, and what is its own."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from pathlib import Path

import first_party_contract
import numpy
import pytest
from algorithm_contract import SECONDS_MAX
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from vision_contract import (
    VisionContract,
    as_jpeg,
    edit_channel,
    encoded,
    fit,
    frame,
    image,
    records,
)

RECORDIO, IMAGES = "application/x-recordio", "application/x-image"
CUT = 1300


def digits() -> tuple[list[bytes], numpy.ndarray]:
    found = load_digits()
    return [encoded(one * 15) for one in found.images], found.target


def metric(log: str, metric_name: str) -> list[float]:
    return first_party_contract.metric(log, "image-classification", metric_name)


def squares() -> list[tuple[int, bytes]]:
    """Red on the left, or blue on the right: two classes that are learned in a few steps."""
    random = numpy.random.default_rng(0)
    found = []
    for at in range(24):
        pixels = random.integers(0, 60, (36, 40, 3))
        part = slice(0, 18) if at % 2 else slice(22, 40)
        pixels[:, part, 0 if at % 2 else 2] = 220
        found.append((at % 2, encoded(pixels)))
    return found


def archive(model: Path) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for path in model.iterdir():
            tar.add(path, path.name)
    return target.getvalue()


class TestImageClassification(VisionContract):
    name = "image-classification"
    image = image("image-classification")
    content_type = IMAGES
    hyperparameters = {
        "num_classes": "2",
        "num_training_samples": "16",
        "num_layers": "20",
        "image_shape": "3,32,32",
        "mini_batch_size": "8",
        "epochs": "4",
        "learning_rate": "0.05",
    }
    wrong_hyperparameter = ("num_layers", "19", "'19' is not one of ['18', '34', '50'")

    @classmethod
    def channels(cls):
        found = squares()
        channels = {"train": {}, "train_lst": {}, "validation": {}, "validation_lst": {}}
        for name, part in (("train", found[:16]), ("validation", found[16:])):
            files = {f"set/{at}.jpg": content for at, (_, content) in enumerate(part)}
            lines = [f"{at}\t{label}\tset/{at}.jpg\n" for at, (label, _) in enumerate(part)]
            channels[name] = files
            channels[f"{name}_lst"] = {f"{name}.lst": "".join(lines).encode()}
        return channels

    @classmethod
    def picture(cls):
        return squares()[1][1]

    def broken(self, channels):
        channels["train"]["set/3.jpg"] = channels["train"]["set/3.jpg"][:200]
        return "set/3.jpg"

    def test_csv_in_gives_json_out(self, endpoint):
        """Here: an image in gives the probability of each class out."""
        for label, content in squares()[16:]:
            answer = endpoint.ask(content, "image/jpeg", "application/json")
            assert (answer.status, answer.content_type) == (200, "application/json")
            probabilities = answer.json()
            assert numpy.argmax(probabilities) == label
            assert sum(probabilities) == pytest.approx(1)

    def test_json_lines_hold_one_prediction_a_line(self, endpoint):
        whole = endpoint.ask(self.picture(), "image/jpeg", "application/json").json()
        lines = endpoint.ask(self.picture(), "image/jpeg", "application/jsonlines")
        assert json.loads(lines.body) == {"prediction": whole} and lines.body.endswith(b"}\n")

    def test_recordio_out_has_one_record_a_row(self, endpoint):
        """Here: an image of any size and colour is scaled to what the network takes."""
        grey = encoded(numpy.zeros((100, 7)))
        assert len(endpoint.ask(grey, "image/png", "application/json").json()) == 2

    def test_the_log_has_the_lines_of_the_container(self, trained):
        assert len(metric(trained.log, "validation:accuracy")) == 4
        assert metric(trained.log, "validation:accuracy")[-1] == 1
        assert len(metric(trained.log, "train:accuracy:epoch")) == 4
        assert metric(trained.log, "train:accuracy")
        assert {path.name for path in trained.model.iterdir()} == {
            "image-classification-0004.params",
            "image-classification-symbol.json",
            "model-shapes.json",
        }

    def test_digits_are_told_apart_better_than_by_a_linear_model(self, workshop):
        images, labels = digits()
        halves = [
            records(([float(label)], one) for label, one in zip(some, part, strict=True))
            for some, part in ((labels[:CUT], images[:CUT]), (labels[CUT:], images[CUT:]))
        ]
        rows = load_digits().data
        linear = LogisticRegression(max_iter=200).fit(rows[:CUT] / 16, labels[:CUT])
        trained = fit(
            workshop,
            {
                **self.hyperparameters,
                "num_classes": "10",
                "num_training_samples": str(CUT),
                "image_shape": "1,8,8",
                "mini_batch_size": "32",
                "epochs": "4",
                "lr_scheduler_step": "2",
                "top_k": "2",
            },
            {"train": {"train.rec": halves[0]}, "validation": {"validation.rec": halves[1]}},
            RECORDIO,
        )
        accuracies = metric(trained.log, "validation:accuracy")
        assert accuracies[-1] > linear.score(rows[CUT:] / 16, labels[CUT:])
        assert "Validation-top_k_accuracy_2=0.9" in trained.log

    def test_two_hosts_learn_the_same_network(self, workshop):
        hosts = ["127.0.0.1", "127.0.0.2"]
        bases = [
            workshop.opt_ml(
                {**self.hyperparameters, "epochs": "2"},
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
        assert metric(logs[0], "train:accuracy:epoch") == metric(logs[1], "train:accuracy:epoch")
        assert (bases[0] / "model" / "image-classification-0002.params").exists()
        assert not list((bases[1] / "model").iterdir())

    def test_several_classes_an_image_augmentation_and_checkpoints(self, workshop):
        hyperparameters = {
            **self.hyperparameters,
            "multi_label": "1",
            "use_weighted_loss": "1",
            "augmentation_type": "crop_color_transform",
            "resize": "34",
            "checkpoint_frequency": "1",
            "epochs": "2",
            "optimizer": "adam",
            "learning_rate": "0.01",
            "early_stopping": "true",
            "early_stopping_min_epochs": "1",
            "precision_dtype": "float16",
            "kv_store": "dist_async",
        }
        data = records(([float(label), 1.0], one) for label, one in squares()[:16])
        trained = fit(workshop, hyperparameters, {"train": {"a.rec": data}}, RECORDIO)
        names = {path.name for path in trained.model.glob("*.params")}
        assert names == {f"image-classification-000{at}.params" for at in (1, 2)}
        assert "kv_store=dist_async has no effect here" in trained.log
        assert "precision_dtype=float16 has no effect here" in trained.log
        served = workshop.serve(trained.model)
        probabilities = served.ask(self.picture(), "image/jpeg").json()
        served.close()
        assert len(probabilities) == 2 and all(0 <= one <= 1 for one in probabilities)

    def test_a_pipe_of_an_augmented_manifest_brings_images_and_labels_in_turns(self, workshop):
        base = workshop.opt_ml({**self.hyperparameters, "epochs": "1"}, {"train": {}}, RECORDIO)
        edit_channel(base, "train", TrainingInputMode="Pipe", RecordWrapperType="RecordIO")
        pipe = base / "input" / "data" / "train_0"
        os.mkfifo(pipe)
        data = b"".join(
            frame(content) + frame(str(label).encode()) for label, content in squares()[:16]
        )
        writer = threading.Thread(target=pipe.write_bytes, args=(data,))
        writer.start()
        trained = workshop.train(base)
        writer.join(timeout=SECONDS_MAX)
        assert trained.code == 0, trained.failure
        assert "Found 16 images in channel 'train'" in trained.log

    def test_training_goes_on_from_a_model_and_from_a_checkpoint(self, workshop, trained):
        channels = {**self.channels(), "model": {"model.tar.gz": archive(trained.model)}}
        hyperparameters = {**self.hyperparameters, "epochs": "1", "learning_rate": "0.000001"}
        base = workshop.opt_ml(
            hyperparameters,
            channels,
            IMAGES,
            checkpointconfig={"LocalPath": "/opt/ml/checkpoints"},
        )
        again = workshop.train(base)
        assert again.code == 0, again.failure
        assert "Training starts from model.tar.gz, image-classification-0004.params" in again.log
        assert metric(again.log, "validation:accuracy") == [1]
        config = base / "input" / "config" / "hyperparameters.json"
        config.write_text(json.dumps({**hyperparameters, "epochs": "2"}))
        resumed = workshop.train(base)
        assert "Training continues after epoch 0 from the checkpoint" in resumed.log
        assert len(metric(resumed.log, "validation:accuracy")) == 1

    def test_a_model_of_another_network_is_refused(self, workshop, trained):
        channels = {**self.channels(), "model": {"model.tar.gz": archive(trained.model)}}
        hyperparameters = {**self.hyperparameters, "num_layers": "32"}
        told = workshop.train(workshop.opt_ml(hyperparameters, channels, IMAGES)).failure
        assert "was trained with num_layers=20, this job has 32" in told

    def test_pretrained_weights_that_are_not_at_hand_are_told(self, workshop):
        hyperparameters = {**self.hyperparameters, "use_pretrained_model": "1", "epochs": "1"}
        trained = fit(workshop, hyperparameters, self.channels(), IMAGES)
        assert "TRAINING STARTS FROM RANDOM WEIGHTS" in trained.log

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            (b"0\t2\tset/0.jpg", "The label 2 of image 'set/0.jpg' in channel 'train' is not a"),
            (b"0\tset/0.jpg", "'train.lst', line 1: 2 columns between tabs"),
            (b"0\tcat\tset/0.jpg", "'train.lst', line 1: a label of ['cat'] is not a number"),
            (b"0\t1\tset/none.jpg", "there is no image 'set/none.jpg' in the channel 'train'"),
            (b"0\t1\t../../config/hyperparameters.json", "lies outside of its channel"),
            (b"0\t1\t1\tset/0.jpg", "has 2 labels. Set multi_label=1"),
        ],
    )
    def test_a_wrong_line_of_a_list_is_told(self, workshop, line, told):
        channels = {**self.channels(), "train_lst": {"train.lst": line}}
        trained = workshop.train(workshop.opt_ml(self.hyperparameters, channels, IMAGES))
        assert trained.code == 1 and told in trained.failure

    def test_wrong_shapes_and_lost_channels_are_told(self, workshop):
        channels = self.channels()
        for change, told in (
            ({"image_shape": "3,64,64"}, "has 40 x 36 pixels, less than the image_shape"),
            ({"image_shape": "3,224"}, "'3,224' does not match"),
            ({"image_shape": "2,32,32"}, "with 1 or 3 channels"),
        ):
            base = workshop.opt_ml({**self.hyperparameters, **change}, channels, IMAGES)
            assert told in workshop.train(base).failure
        del channels["train_lst"]
        base = workshop.opt_ml(self.hyperparameters, channels, IMAGES)
        assert "Missing required channel: train_lst" in workshop.train(base).failure
        base = workshop.opt_ml(self.hyperparameters, {"train": {"a.rec": b"abcdefgh"}}, RECORDIO)
        assert "no valid magic number" in workshop.train(base).failure
        empty = workshop.opt_ml(self.hyperparameters, {"train": {}}, RECORDIO)
        assert "the train channel has no image" in workshop.train(empty).failure

    def test_jpeg_files_are_images_in_any_mode_unless_they_are_cut_off(self, workshop, endpoint):
        label, content = squares()[17]
        for mode in ("RGB", "L", "CMYK"):
            jpeg = as_jpeg(workshop, content, mode)
            answer = endpoint.ask(jpeg, "image/jpeg", "application/json")
            assert answer.status == 200
            assert mode == "L" or numpy.argmax(answer.json()) == label
        refused = endpoint.ask(jpeg[: len(jpeg) // 2], "image/jpeg")
        assert refused.status == 400 and b"cannot be decoded" in refused.body
