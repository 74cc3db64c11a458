"""Whole training runs: scripts, commands, packages, their ends and their failure texts."""

from __future__ import annotations

import json
import os
import signal
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

SHOW = (
    "import json, os, sys\n"
    "print(json.dumps({'argv': sys.argv, 'cwd': os.getcwd(), 'name': __name__, 'file': __file__,\n"
    "  'path': sys.path[0], 'sm': {k: v for k, v in os.environ.items() if k[:3] == 'SM_'}}))\n"
)


def shown(out: str) -> dict[str, Any]:
    return json.loads(next(line for line in out.splitlines() if line.startswith("{")))


def test_a_script_sees_its_arguments_its_variables_and_its_folder(job, run) -> None:
    code, out, err = run(SHOW, epochs=3, lr=0.1, k="v", flag=True)
    assert code == 0, out + err
    seen = shown(out)
    assert seen["argv"] == ["train.py", "--epochs", "3", "--flag", "True", "-k", "v", "--lr", "0.1"]
    assert seen["cwd"] == seen["path"] == str(job.ml / "code")
    assert (seen["name"], seen["file"]) == ("__main__", "train.py")
    assert seen["sm"]["SM_MODEL_DIR"] == str(job.ml / "model")
    assert seen["sm"]["SM_HP_EPOCHS"] == "3"
    assert job.succeeded and job.failure is None


def test_a_failing_script_leaves_its_error_first_and_its_frames_behind(job, run) -> None:
    code, _, err = run("def f(x):\n    raise ValueError('boom ' + x)\nf('here')\n", epochs=1)
    assert code == 1
    assert job.failure == (
        'ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: boom here\n'
        "  File \"train.py\", line 2, in f\n    raise ValueError('boom ' + x)\n"
        '  File "train.py", line 3, in <module>\n    f(\'here\')"\n'
        f'Command "{sys.executable} train.py --epochs 1"'
    )
    assert "ValueError: boom here" in err
    assert "entry_point.py" not in err
    assert not job.succeeded


def test_exit_codes_are_passed_on(job, run) -> None:
    assert run("import sys; sys.exit(7)")[0] == 7
    assert "ExitCode 7" in job.failure


def test_an_exit_with_a_text_is_a_failure_with_that_text(job, run) -> None:
    assert run("import sys; sys.exit('no data found')")[0] == 1
    assert 'ErrorMessage "no data found"' in job.failure


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (11, "SIGSEGV")])
def test_a_killed_script_is_told_with_the_signal_and_no_guess_why(job, run, number, name) -> None:
    code, _, _ = run(f"import os; os.kill(os.getpid(), {number})")
    assert code == 128 + number
    assert f"ExitCode -{number}\n" in job.failure
    assert f'ExtraInfo "Process killed by {name} (signal {number})"' in job.failure
    assert "Memory" not in job.failure


def test_a_syntax_error_names_its_line(job, run) -> None:
    assert run("x = = 1\n")[0] == 1
    assert 'ErrorMessage "SyntaxError: invalid syntax' in job.failure
    assert 'File "train.py", line 1' in job.failure
    assert "toolkit" not in job.failure.partition("Command")[0]


def test_a_module_that_is_missing_is_told_with_the_scripts_own_line_alone(job, run) -> None:
    assert run("import no_such_module\n")[0] == 1
    assert (
        "ErrorMessage \"ModuleNotFoundError: No module named 'no_such_module'\n"
        '  File "train.py", line 1, in <module>\n    import no_such_module"'
    ) in job.failure


def test_exit_handlers_threads_and_pickles_work_as_in_a_fresh_interpreter(run) -> None:
    code, out, err = run(
        "import atexit, multiprocessing, pickle, threading, time\n"
        "class Thing: pass\n"
        "def work():\n    time.sleep(0.2)\n    print('thread done')\n"
        "def square(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    atexit.register(lambda: print('at exit', pickle.dumps(Thing())[:1]))\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(square, [2, 3]))\n"
        "    threading.Thread(target=work).start()\n"
        "    print('main done')\n"
    )
    assert code == 0, out + err
    lines = [line for line in out.splitlines() if "clary.toolkit" not in line]
    assert lines == ["[4, 9]", "main done", "thread done", r"at exit b'\x80'"]


def test_sigterm_reaches_the_script(job) -> None:
    code = job.source(
        train__py="import os, signal, sys, time\n"
        "def stop(*_):\n    os.write(1, b'saved\\n')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\nos.write(1, b'ready\\n')\ntime.sleep(60)\n"
    )
    job.configure({"sagemaker_program": "train.py", "sagemaker_submit_directory": code})
    process = job.start()
    assert process.stdout is not None
    while "ready" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "saved" in out and job.succeeded


def test_a_process_left_behind_does_not_hold_up_the_end(job, run) -> None:
    started = time.monotonic()
    code, _, err = run(
        "import os, subprocess\n"
        "os.dup2(2, 1)\n"
        "pid = subprocess.Popen(['sleep', '20'], stdout=subprocess.DEVNULL).pid\n"
        "open('pid', 'w').write(str(pid))\n"
        "os._exit(0)\n"
    )
    os.kill(int((job.ml / "code" / "pid").read_text()), signal.SIGKILL)
    assert code == 0, err
    assert time.monotonic() - started < 15


def test_a_shell_script_runs_with_quoted_arguments(job) -> None:
    code = job.source(train__sh='#!/bin/sh\necho "got $2 in $SM_CURRENT_HOST"\nexit 5\n')
    job.configure(
        {
            "sagemaker_program": "train.sh",
            "sagemaker_submit_directory": code,
            "text": "a b; echo c",
        }
    )
    status, out, _ = job.train()
    assert status == 5
    assert "got a b; echo c in algo-1" in out
    assert "./train.sh --text 'a b; echo c'" in job.failure


def test_a_script_in_a_folder_imports_its_neighbours(job) -> None:
    code = job.source(
        src___train__py="import near\nprint(near.WORD)\n", src___near__py="WORD = 'hi'"
    )
    job.configure({"sagemaker_program": "src/train.py", "sagemaker_submit_directory": code})
    status, out, err = job.train()
    assert status == 0, err
    assert "hi" in out


def test_the_channel_named_code_stands_in_for_an_archive(job) -> None:
    folder = job.ml / "input" / "data" / "code"
    folder.mkdir(parents=True)
    (folder / "train.py").write_text("print('from the channel')")
    job.configure({"sagemaker_program": "train.py"}, {"code": {}})
    status, out, _ = job.train()
    assert status == 0 and "from the channel" in out


def test_code_in_a_local_archive_is_unpacked(job, tmp_path: Path) -> None:
    archive = tmp_path / "source.tar.gz"
    folder = Path(job.source(train__py="print('unpacked')"))
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "train.py", "train.py")
    job.configure({"sagemaker_program": "train.py", "sagemaker_submit_directory": str(archive)})
    status, out, _ = job.train()
    assert status == 0 and "unpacked" in out


def test_a_distribution_that_is_not_built_is_refused_by_name(job, run) -> None:
    code, _, _ = run("print('never')", sagemaker_parameter_server_enabled=True)
    assert code == 1
    assert "The job asks for sagemaker_parameter_server_enabled" in job.failure
    assert "is not built" in job.failure


def test_a_distribution_that_is_switched_off_is_no_distribution(run) -> None:
    assert run("print('runs')", sagemaker_torch_distributed_enabled=False)[0] == 0


def test_entry_points_outside_the_code_are_refused(job) -> None:
    code = job.source(train__py="print(1)")
    for name in ("../train.py", "/etc/passwd", "-c", "a b.py", "./train.py", "missing.py"):
        job.configure({"sagemaker_program": name, "sagemaker_submit_directory": code})
        assert job.train()[0] == 1
        assert "entry point" in job.failure


def test_missing_configuration_is_a_framework_error(job) -> None:
    status, _, _ = job.train()
    assert status == 2
    assert job.failure.startswith("Framework Error: \nTraceback")
    assert "resourceconfig.json" in job.failure


def test_the_module_of_a_public_container_is_played_by_us(run) -> None:
    module = {"SAGEMAKER_TRAINING_MODULE": "sagemaker_sklearn_container.training:main"}
    assert run("print('ok')", environ=module)[0] == 0


def test_a_module_of_the_users_image_is_called(job, tmp_path: Path) -> None:
    (tmp_path / "own_framework.py").write_text("def main():\n    print('own main')\n")
    job.configure({})
    environ = {"SAGEMAKER_TRAINING_MODULE": "own_framework:main"}
    path = job.environ()["PYTHONPATH"] + f":{tmp_path}"
    status, out, _ = job.train(PYTHONPATH=path, **environ)
    assert status == 0 and "own main" in out
