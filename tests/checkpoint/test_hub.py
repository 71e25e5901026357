"""The hub over the wire, from a server on this machine: what is taken, and what answers and is no hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_deit.checkpoint.load import load_model
from stand_in_hub import COMMIT, serving
from weights_examples import plain_state, refused, same, timm_folder, vit_folder

constants = pytest.importorskip("huggingface_hub.constants", reason="hub: needs it")


@pytest.fixture(autouse=True)
def _waits_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def point(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What HF_ENDPOINT does when it is set before the import."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize("kind", [vit_folder, timm_folder])
def test_a_repository(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = plain_state()
    folder, cache = kind(tmp_path / "repository", state), tmp_path / "cache"
    with serving(folder) as address:
        point(monkeypatch, address)
        for name in ("hub:org/name", f"hub:org/name@{COMMIT}"):
            loaded = load_model(name, cache_dir=cache)
            assert same(loaded, state)
            assert loaded.source == name
        assert "it has no revision v9" in refused("hub:org/name@v9", cache_dir=cache)
    again = load_model(f"hub:org/name@{COMMIT}", cache_dir=cache)  # the server is gone
    assert again.sha256 == loaded.sha256


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("<html>sign in</html>", "is no Hugging Face hub (JSONDecodeError"),
        ("{}", "is no Hugging Face hub (KeyError"),
        ("[]", "is no Hugging Face hub ("),
        ("null", "is no Hugging Face hub ("),
        ('"text"', "is no Hugging Face hub ("),
        ("", "is no Hugging Face hub ("),
        ("circle", "is no Hugging Face hub: it redirects in a circle"),
        ("404", "answers 404"),
        ("418", "answers 418"),
        ("403", "the hub denies it (403): log in with `hf auth login`, or set HF_TOKEN"),
        ("gated", "it is gated: accept its terms"),
        ("gated-files", "it is gated: accept its terms"),
        ("private", "no such repository, or it is private: then log in"),
        ("cut", "the download was cut short: peer closed connection"),
        ("changed", "is not the file that the hub has"),
    ],
)
def test_what_answers(
    mode: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = vit_folder(tmp_path / "repository")
    with serving(folder, mode) as address:
        point(monkeypatch, address)
        message = refused("hub:org/name", cache_dir=tmp_path / "cache")
    assert message.startswith("hub:org/name")
    assert expected in message
    assert "not reachable" not in message
    assert (address in message) == ("no Hugging Face hub" in message or " answers " in message)
    if mode in ("gated", "private", "403"):
        assert "HF_TOKEN" in message
    assert capfd.readouterr().err == ""


def test_nothing_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    with serving(tmp_path / "none") as address:
        pass
    point(monkeypatch, address)
    message = refused("hub:org/name", cache_dir=tmp_path / "cache")
    assert "not in the cache, and not reachable" in message


def test_a_cache_that_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = vit_folder(tmp_path / "repository"), tmp_path / "cache"
    with serving(folder) as address:
        point(monkeypatch, address)
        load_model("hub:org/name", cache_dir=cache)
    for name in ("config.json", "model.safetensors"):
        (path,) = cache.glob(f"models--org--name/snapshots/*/{name}")
        content = path.read_bytes()
        path.resolve().write_bytes(content.replace(b"64", b"32", 1))
        message = refused(f"hub:org/name@{COMMIT}", cache_dir=cache)
        assert f"{name} is not the file that the hub has" in message
        assert f"delete {path.resolve()} and run again" in message
        path.resolve().write_bytes(content)
    assert load_model(f"hub:org/name@{COMMIT}", cache_dir=cache).config.depth == 2


def test_an_adapter_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = vit_folder(tmp_path / "repository")
    (folder / "adapter_config.json").write_text("{}")
    with serving(folder) as address:
        point(monkeypatch, address)
        assert "holds an adapter" in refused("hub:org/name", cache_dir=tmp_path / "cache")
