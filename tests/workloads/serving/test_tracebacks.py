"""Who reads an endpoint's log finds the frames of his own script, and not those of the server around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clary.workloads.serving.script import ScriptError, load_script
from clary.workloads.serving.tracebacks import formatted


def told(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """The lines that the log has of a script that cannot be loaded."""
    (folder / "code").mkdir()
    (folder / "code" / f"{name}.py").write_text(script)
    monkeypatch.syspath_prepend(str(folder))
    environ = {"SAGEMAKER_PROGRAM": f"{name}.py"}
    with pytest.raises(Exception) as caught:
        load_script(str(folder), "sklearn", environ)
    # The frames of this test are none of the server's.
    trace = caught.value.__traceback__
    assert trace is not None
    return formatted(caught.value.with_traceback(trace.tb_next)).splitlines()


def test_a_traceback_has_the_frames_of_the_script_and_the_error(tmp_path, monkeypatch) -> None:
    script = "def model_fn(folder):\n    return {}['weights']\n"
    lines = told(tmp_path, script, monkeypatch, "looks_up")
    assert lines[0] == "Traceback (most recent call last):"
    frames = [line.strip() for line in lines if line.startswith("  File")]
    assert frames == [f'File "{tmp_path}/code/looks_up.py", line 2, in model_fn']
    assert lines[-1] == "KeyError: 'weights'"


def test_an_error_at_import_shows_no_import_machinery(tmp_path, monkeypatch) -> None:
    lines = told(tmp_path, "import no_such_module_of_mine\n", monkeypatch, "imports")
    frames = [line.strip() for line in lines if line.startswith("  File")]
    assert frames == [f'File "{tmp_path}/code/imports.py", line 1, in <module>']
    assert lines[-1] == "ModuleNotFoundError: No module named 'no_such_module_of_mine'"


def test_what_the_server_itself_says_of_a_script_is_one_line() -> None:
    try:
        raise ScriptError("SAGEMAKER_PROGRAM must name the script that serves the model.")
    except ScriptError as problem:
        text = formatted(problem.with_traceback(None))
    assert text == "ScriptError: SAGEMAKER_PROGRAM must name the script that serves the model."


def test_the_causes_of_an_error_are_cut_too() -> None:
    def cause() -> None:
        load_script("/nowhere", "none", {})

    try:
        try:
            cause()
        except ScriptError as problem:
            raise RuntimeError("no model") from problem
    except RuntimeError as problem:
        lines = formatted(problem).splitlines()
    frames = [line.strip() for line in lines if line.startswith("  File")]
    assert {frame.rpartition(", in ")[2] for frame in frames} == {
        "cause",
        "test_the_causes_of_an_error_are_cut_too",
    }
    assert lines[-1] == "RuntimeError: no model"
    assert any(line.startswith("ScriptError: ") for line in lines)
