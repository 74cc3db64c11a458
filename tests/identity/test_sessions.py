"""Temporary credentials say what was sealed into them, to this installation only."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from clary.identity.principals import Principal, session_principal
from clary.identity.sealing import SealBroken, install_key, seal, unseal
from clary.identity.sessions import Sessions, issue, issue_work_token, open_work_token

KEY = bytes(range(32))
ROLE = "arn:aws:iam::123456789012:role/service-role/Trainer"
NOW = 1_700_000_000.0


def principal() -> Principal:
    return session_principal("123456789012", ROLE, "AROAEXAMPLE", "job", issued=NOW)


def test_a_session_of_a_role_is_named_as_sts_names_it() -> None:
    who = principal()
    assert who.arn == "arn:aws:sts::123456789012:assumed-role/Trainer/job"
    assert (who.user_id, who.name, who.role_arn) == ("AROAEXAMPLE:job", "Trainer", ROLE)


def test_credentials_open_to_what_was_issued() -> None:
    issued = issue(KEY, principal(), 900, now=NOW, session_policy='{"a": 1}')
    assert issued["AccessKeyId"].startswith("ASIA") and len(issued["AccessKeyId"]) == 20
    assert len(issued["SecretAccessKey"]) == 40
    assert issued["Expiration"] == NOW + 900
    session = Sessions(KEY).open(issued["AccessKeyId"], issued["SessionToken"])
    assert session.secret == issued["SecretAccessKey"]
    assert session.expires == NOW + 900
    assert session.principal.arn == principal().arn
    assert session.principal.access_key == issued["AccessKeyId"]
    assert session.principal.session_policy == '{"a": 1}'
    assert session.principal.limited


def test_every_issue_has_its_own_keys() -> None:
    first, second = (issue(KEY, principal(), 900, now=NOW) for _ in range(2))
    assert first["AccessKeyId"] != second["AccessKeyId"]
    assert first["SecretAccessKey"] != second["SecretAccessKey"]


def test_a_token_is_of_no_use_with_another_key_id_or_installation() -> None:
    first, second = (issue(KEY, principal(), 900, now=NOW) for _ in range(2))
    with pytest.raises(SealBroken):
        Sessions(KEY).open(first["AccessKeyId"], second["SessionToken"])
    with pytest.raises(SealBroken):
        Sessions(b"another".ljust(32)).open(first["AccessKeyId"], first["SessionToken"])


def test_a_changed_token_is_refused_wherever_it_was_changed() -> None:
    issued = issue(KEY, principal(), 900, now=NOW)
    token, sessions = issued["SessionToken"], Sessions(KEY)
    for position in range(0, len(token) - 1, 7):
        other = "A" if token[position] != "A" else "B"
        changed = token[:position] + other + token[position + 1 :]
        with pytest.raises(SealBroken):
            sessions.open(issued["AccessKeyId"], changed)
    for rubbish in ("", "x", "é", "!" * 40, "A" * 100_000):
        with pytest.raises(SealBroken):
            sessions.open(issued["AccessKeyId"], rubbish)


def test_a_work_token_tells_which_work_asks_until_it_expires() -> None:
    work = "arn:aws:sagemaker:us-east-1:123456789012:training-job/a"
    token = issue_work_token(KEY, ROLE, work, NOW + 60)
    claims = open_work_token(KEY, token, now=NOW)
    assert (claims.acts_as, claims.work_arn, claims.expires) == (ROLE, work, NOW + 60)
    with pytest.raises(SealBroken, match="expired"):
        open_work_token(KEY, token, now=NOW + 60)


def test_a_session_token_cannot_pass_for_a_work_token() -> None:
    issued = issue(KEY, principal(), 900, now=NOW)
    with pytest.raises(SealBroken):
        open_work_token(KEY, issued["SessionToken"], now=NOW)


def test_sealing_is_bound_to_its_purpose() -> None:
    sealed = seal(KEY, "one", b"text", b"to")
    assert unseal(KEY, "one", sealed, b"to") == b"text"
    for purpose, bound in (("two", b"to"), ("one", b"other")):
        with pytest.raises(SealBroken):
            unseal(KEY, purpose, sealed, bound)


def test_the_install_key_is_made_once_by_whoever_is_first(tmp_path: Path) -> None:
    home = tmp_path / "home"
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(install_key(home))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and len(found[0]) == 32
    path = home / "install.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in home.iterdir()] == ["install.key"]
    assert install_key(home) == found[0]


def test_a_damaged_install_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "install.key").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"install\.key does not hold a key"):
        install_key(tmp_path)
