from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.unit.cli.builders import Corral
from tests.unit.cli.fake_server import FakeTrainer, serving

from corral.cli.main import run
from corral.cli.profiles import Profiles, choose_target, load_profiles, save_profiles
from corral.cli.target import Target
from corral.errors import InvalidRequestError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own: where the profiles are."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CORRAL_SERVER", raising=False)
    monkeypatch.delenv("CORRAL_PROFILE", raising=False)
    return tmp_path / "config" / "corral" / "profiles.toml"


def test_profiles_are_read_as_they_were_written(config: Path) -> None:
    awkward = Target("unix:/run/corral.sock", 'k"e\\y\x7f = ü')
    written = Profiles({"a": Target("a:1")}).with_target("lab-2", awkward)

    save_profiles(config, written)

    assert load_profiles(config) == written
    assert load_profiles(config).current == "lab-2"


def test_the_file_is_its_owners_only_from_its_first_moment(config: Path) -> None:
    save_profiles(config, Profiles().with_target("a", Target("a:1", "secret")))

    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700


def test_a_file_that_others_can_read_is_not_used(config: Path) -> None:
    save_profiles(config, Profiles().with_target("a", Target("a:1", "secret")))
    config.chmod(0o640)

    with pytest.raises(InvalidRequestError, match="mode 640") as caught:
        choose_target(None)
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("text", ["profiles = 3", "[profiles.a]\nkey = 'x'", "what?"])
def test_a_file_that_was_spoilt_is_named(config: Path, text: str) -> None:
    config.parent.mkdir(parents=True)
    config.touch(mode=0o600)
    config.write_text(text)

    with pytest.raises(InvalidRequestError, match=r"profiles\.toml is not valid"):
        load_profiles(config)


def test_the_nearest_wish_decides_which_server_is_used(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_target(None) == Target("127.0.0.1:7470")
    known = Profiles({"a": Target("a:1", "ka"), "b": Target("b:1"), "c": Target("c:1")}, "a")
    save_profiles(config, known)
    assert choose_target(None) == Target("a:1", "ka")
    monkeypatch.setenv("CORRAL_PROFILE", "b")
    assert choose_target(None) == Target("b:1")
    monkeypatch.setenv("CORRAL_SERVER", "d:1")
    assert choose_target(None) == Target("d:1")
    assert choose_target("c") == Target("c:1")
    with pytest.raises(InvalidRequestError, match="nope"):
        choose_target("nope")


def test_login_is_remembered_until_logout(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = FakeTrainer()
    with serving(trainer) as address:
        assert run(["login", "--server", address, "--name", "lab", "--key", "k-1"]) == 0
        said = capsys.readouterr()
        assert run(["version"]) == 0
        assert f"server 9.9.9 at {address}" in capsys.readouterr().out

    assert said.out == ""
    assert "9.9.9" in said.err
    assert "k-1" not in said.err
    assert trainer.authorizations == ["Bearer k-1"] * 2
    assert run(["profiles"]) == 0
    assert "k-1" not in capsys.readouterr().out
    assert run(["logout"]) == 0
    assert load_profiles(config).targets == {}


def test_a_server_that_does_not_answer_is_remembered_all_the_same(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["login", "--server", "127.0.0.1:1", "--name", "lab"]) == 0

    assert "does not answer" in capsys.readouterr().err
    assert load_profiles(config).current == "lab"


def test_a_profile_can_be_named_anywhere_in_the_line(corral: Corral, config: Path) -> None:
    save_profiles(config, Profiles({"lab": Target("127.0.0.1:1")}))

    for line in (("--profile", "lab", "jobs", "list"), ("jobs", "list", "--profile=lab")):
        code, _, err = corral(*line)
        assert code == 6
        assert "127.0.0.1:1" in err
    assert corral("jobs", "list")[0] == 0


def test_logging_out_where_nobody_is_logged_in_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["logout"]) == 2
    assert run(["logout", "lab"]) == 2
    assert "no profile 'lab'" in capsys.readouterr().err
