"""The commands as a user runs them: on nothing, and on a real server."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from clary.cli.client_environment import in_shell
from clary.cli.commands import COMMANDS
from clary.cli.processes import free_port

HEAVY = ("boto3", "botocore", "sqlalchemy", "cryptography", "uvicorn", "typer", "rich", "asyncio")


def test_help_lists_every_command_and_an_example(clary_command):
    result = clary_command("--help")
    assert result.returncode == 0
    for command in COMMANDS:
        assert command.summary in result.stdout
    assert 'eval "$(clary env)"' in result.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_explains_itself_with_an_example(clary_command, command):
    result = clary_command(command.name, "--help")
    assert result.returncode == 0
    assert command.example in result.stdout


def test_an_unknown_command_is_wrong_usage(clary_command):
    result = clary_command("updwon")
    assert result.returncode == 2
    assert "updwon" in result.stderr


@pytest.mark.parametrize("words", [["--help"], ["up", "--help"], ["env", "--help"]])
def test_help_imports_nothing_heavy(environment, words):
    code = f"import sys; sys.argv = ['clary', *{words!r}]\nimport clary.cli\n"
    code += "try: clary.cli.main()\nexcept SystemExit: pass\nprint('MODULES', *sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    modules = {name.split(".")[0] for name in result.stdout.rsplit("MODULES", 1)[1].split()}
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("words", [["env"], ["logs", "job"]])
def test_commands_that_need_a_server_say_how_to_start_one(clary_command, words):
    result = clary_command(*words, CLARY_PORT=str(free_port()))
    assert result.returncode == 1
    assert "clary up" in result.stderr
    assert result.stdout == ""


def test_a_setting_that_cannot_be_read_is_named(clary_command):
    result = clary_command("status", CLARY_PORT="many")
    assert result.returncode == 1
    assert "CLARY_PORT='many'" in result.stderr


def test_up_on_a_taken_port_offers_a_free_one(clary_command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = clary_command("up", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 1
    assert "is taken" in result.stderr
    assert "clary up --port" in result.stderr


def test_up_with_too_long_a_home_says_so(clary_command, home):
    result = clary_command("up", CLARY_HOME=str(home / ("x" * 120)))
    assert result.returncode == 1
    assert "too long" in result.stderr


def test_doctor_names_a_taken_port_and_the_remedy(clary_command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = clary_command("doctor", "--json", CLARY_PORT=str(taken.getsockname()[1]))
    assert result.returncode == 1
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["port"]["state"] == "problem"
    assert checks["port"]["remedy"].startswith("clary up --port")
    assert checks["Python"]["state"] == "ok"


def test_values_survive_the_shells_they_are_printed_for():
    value = "a 'quoted' $HOME \\ value"
    (line,) = in_shell({"X": value}, "bash")
    shown = subprocess.run(
        ["bash", "-c", f'{line}; printf %s "$X"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == value
    assert in_shell({"X": "it's"}, "fish") == ["set -gx X 'it\\'s';"]
    assert in_shell({"X": "it's"}, "powershell") == ["$Env:X = 'it''s'"]
    assert in_shell({"X": ""}, "bash") == ["unset X"]
    assert in_shell({"X": ""}, "fish") == ["set -e X;"]


CALLS = """
import boto3, os
print(boto3.client("sts").get_caller_identity()["Arn"])
hard = boto3.client("sts", endpoint_url="https://sts.us-east-1.amazonaws.com")
print(hard.get_caller_identity()["Arn"])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One real server for the tests below, started and stopped by the commands themselves."""
    import shutil
    import tempfile

    home = Path(tempfile.mkdtemp(prefix="clary-"))
    unwanted = ("CLARY_", "AWS_", "SAGEMAKER_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(unwanted)}
    environment = {
        **kept, "CLARY_HOME": str(home), "CLARY_PORT": str(free_port()),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }  # fmt: skip

    def command(*words, **variables):
        return subprocess.run(
            [sys.executable, "-m", "clary.cli", *words], env={**environment, **variables},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    started = command("up")
    assert started.returncode == 0, started.stderr
    assert "is up at http://127.0.0.1:" in started.stdout
    command.home, command.environment = home, environment
    yield command
    stopped = command("down")
    assert "Clary is down" in stopped.stdout
    assert not (home / "run" / "server.json").exists()
    shutil.rmtree(home)


def test_a_second_up_says_that_it_is_running_already(server):
    result = server("up")
    assert result.returncode == 0
    assert "running already" in result.stdout


def test_status_tells_the_parts_and_their_health(server):
    result = server("status", "--json")
    assert result.returncode == 0
    status = json.loads(result.stdout)
    assert status["healthy"] is True
    assert {name: child["state"] for name, child in status["children"].items()} == {
        "control": "running",
        "door": "running",
    }


def test_the_exported_session_is_of_the_execution_role(server):
    exported = json.loads(server("env", "--json").stdout)
    assert exported["AWS_ENDPOINT_URL"] == exported["HTTPS_PROXY"]
    assert "127.0.0.1" in exported["NO_PROXY"].split(",")
    assert Path(exported["AWS_CA_BUNDLE"]).read_text().count("BEGIN CERTIFICATE") > 1
    defaults = Path(exported["SAGEMAKER_ADMIN_CONFIG_OVERRIDE"]).read_text()
    assert "TelemetryOptOut: true" in defaults
    assert exported["AWS_SESSION_TOKEN"]


def test_boto3_under_the_evaluated_environment_reaches_even_the_hard_coded_host(server):
    line = f'eval "$({shlex.quote(sys.executable)} -m clary.cli env --shell bash)"'
    line += f" && {shlex.quote(sys.executable)} -c {shlex.quote(CALLS)}"
    result = subprocess.run(
        ["bash", "-c", line], env=server.environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    arn = "arn:aws:sts::123456789012:assumed-role/ClaryExecutionRole/clary-env"
    assert result.stdout.split() == [arn, arn]


def test_the_administrator_s_key_is_exported_on_demand(server):
    exported = json.loads(server("env", "--json", "--admin").stdout)
    assert exported["AWS_ACCESS_KEY_ID"].startswith("AKIA")
    assert "AWS_SESSION_TOKEN" not in exported
    assert "unset AWS_SESSION_TOKEN" in server("env", "--admin", "--shell", "bash").stdout


def test_run_uses_the_running_server_and_passes_the_exit_code_through(server):
    result = server("run", "--", "sh", "-c", "echo $AWS_ENDPOINT_URL; exit 7")
    assert result.returncode == 7
    assert result.stdout.strip() == f"http://127.0.0.1:{server.environment['CLARY_PORT']}"
    killed = server("run", "--", "sh", "-c", "kill -9 $$")
    assert killed.returncode == 137
    missing = server("run", "--", "no-such-command-anywhere")
    assert missing.returncode == 1
    assert "no-such-command-anywhere" in missing.stderr


def test_doctor_finds_nothing_wrong_with_a_running_server(server):
    result = server("doctor")
    assert result.returncode == 0, result.stdout
    assert "PROBLEM" not in result.stdout


def test_run_without_a_server_makes_one_and_leaves_nothing(clary_command, home):
    result = clary_command(
        "run", "--", "sh", "-c", "echo $CLARY_HOME; test -S $CLARY_HOME/run/control.sock",
        CLARY_PORT=str(free_port()),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    used = Path(result.stdout.strip())
    assert used != home
    assert not used.exists()


def test_the_pytest_plugin_gives_a_session_its_own_server(environment, tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import os\n"
        "def test_identity(clary):\n"
        "    arn = clary.client('sts').get_caller_identity()['Arn']\n"
        "    assert arn.endswith('assumed-role/ClaryExecutionRole/clary-env')\n"
        "    assert os.environ['AWS_ENDPOINT_URL'] == clary.endpoint_url\n"
        "    assert clary.environment['HTTPS_PROXY'] == clary.endpoint_url\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p",
         "no:cacheprovider", str(tmp_path)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout


def test_the_pytest_plugin_is_light(environment):
    code = "import sys, clary.pytest_plugin; print(*sys.modules)"
    words = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"boto3", "botocore", "clary.cli"} & set(words)
