"""The host spec is read whole, or refused by name."""

from __future__ import annotations

import json

import pytest

from clary.runner.spec import SpecError, parse, read, under_ml


def test_members_are_read_and_paths_are_derived(make_spec):
    spec = make_spec(
        host="algo-2",
        hosts=["algo-1", "algo-2"],
        inputs=[{"name": "train", "uri": "s3://b/p", "target": "input/data/train"}],
        outputs=[{"name": "model", "source": "model", "uri": "s3://b/m.tar.gz"}],
        checkpoints={"uri": "s3://b/c/", "path": "/opt/ml/checkpoints"},
        metrics=[{"Name": "auc", "Regex": "auc=(.*)"}],
        log={"group": "g", "stream": "s"},
    )
    assert (spec.host_index, spec.leads) == (1, False)
    assert spec.inputs[0].mode == "File"
    assert spec.outputs[0].on == ("success",)
    assert spec.checkpoint_directory == spec.directory / "ml" / "checkpoints"
    assert spec.metrics[0].name == "auc"


def test_checkpoints_outside_of_opt_ml_get_a_directory_of_their_own(make_spec):
    spec = make_spec(checkpoints={"uri": "s3://b/c", "path": "/tmp/x"})
    assert spec.checkpoint_directory == spec.directory / "checkpoints"
    assert under_ml("/opt/ml/../etc") is None


def test_a_missing_or_wrong_member_is_named(tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps({"version": 1, "hosts": ["a"]}))
    with pytest.raises(SpecError, match="spec: host is missing"):
        read(tmp_path / "spec.json")
    with pytest.raises(SpecError, match="version 2"):
        parse({"version": 2})
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(SpecError, match="is not JSON"):
        read(tmp_path / "spec.json")


def test_tokens_are_not_shown(make_spec):
    spec = make_spec(tokens={"role": "hidden"}, credentials={"role": {"SecretAccessKey": "hidden"}})
    assert "hidden" not in repr(spec)
