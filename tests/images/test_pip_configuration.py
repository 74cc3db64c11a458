"""pip's settings, as uv hears them."""

from __future__ import annotations

import os

from clary.images.pip_configuration import variables_for_uv


def environment(tmp_path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, **more}


def test_an_index_in_the_environment_is_passed_on(tmp_path):
    found = variables_for_uv(
        environment(
            tmp_path,
            PIP_INDEX_URL="https://u:p@one/simple",
            PIP_EXTRA_INDEX_URL="https://a https://b",
        )
    )
    assert found == {
        "UV_DEFAULT_INDEX": "https://u:p@one/simple",
        "UV_INDEX": "https://a https://b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_a_configuration_file_is_read_and_the_environment_is_stronger(tmp_path):
    file = tmp_path / "pip.conf"
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    file.write_text(
        f"[global]\nindex-url = https://file/simple\nfind-links =\n  {wheels}\n  /not/there\n"
        "[install]\ntrusted-host = inside\n"
    )
    found = variables_for_uv(
        {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(file), "PIP_INDEX_URL": "https://stronger"}
    )
    assert found["UV_DEFAULT_INDEX"] == "https://stronger"
    assert found["UV_FIND_LINKS"] == str(wheels)
    assert found["UV_INSECURE_HOST"] == "inside"


def test_what_is_set_for_uv_itself_stays(tmp_path):
    found = variables_for_uv(
        environment(tmp_path, PIP_INDEX_URL="https://a", UV_INDEX_URL="https://b")
    )
    assert "UV_DEFAULT_INDEX" not in found


def test_a_broken_configuration_file_is_passed_over(tmp_path):
    file = tmp_path / "pip.conf"
    file.write_text("no section\n")
    assert variables_for_uv({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(file)}).keys() <= {
        "SSL_CERT_FILE",
        "UV_FIND_LINKS",
        "UV_INDEX",
        "UV_INDEX_STRATEGY",
        "UV_DEFAULT_INDEX",
    }
