import pytest
import torch
import torchvision
from safetensors.torch import save_file

from cifake_utils import CifakeError, fingerprint, profiles, weights

FULL = profiles.PROFILES["full"]


def test_quantised_weights_come_back_within_half_a_step():
    state = {"conv.weight": torch.randn(8, 4, 3, 3), "bn.weight": torch.randn(8), "bn.count": torch.tensor(3)}
    packed = weights.quantise(state)
    assert packed["conv.weight"].dtype == torch.int8
    again = weights.dequantise(packed)
    assert again.keys() == state.keys()
    step = state["conv.weight"].flatten(1).abs().amax(1) / 127
    error = (again["conv.weight"] - state["conv.weight"]).flatten(1).abs().amax(1)
    assert (error <= step / 2 + 1e-6).all()
    assert torch.equal(again["bn.weight"], state["bn.weight"]) and again["bn.count"] == 3


def test_offline_backbone_says_what_it_is_once(capsys, monkeypatch):
    monkeypatch.setattr(weights, "_named", set())
    assert weights.OFFLINE.stat().st_size < 26e6
    metadata = weights.offline_metadata()
    assert float(metadata["test_accuracy_float32"]) > 0.7 and float(metadata["test_accuracy_int8"]) > 0.7
    loaded = weights.load(profiles.PROFILES["sample"])
    assert loaded.hash == fingerprint.state_hash(loaded.state)
    assert loaded.name in capsys.readouterr().out
    weights.load(profiles.PROFILES["sample"])
    assert not capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_file(tmp_path, monkeypatch, suffix):
    state = torchvision.models.resnet50().half().state_dict()
    path = tmp_path / f"local{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    monkeypatch.setenv("CIFAKE_WEIGHTS", str(path))
    loaded = weights.load(FULL)
    assert loaded.name == path.name and "fc.weight" not in loaded.state
    assert torch.equal(loaded.state["conv1.weight"], state["conv1.weight"].float())


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (b"junk", "can't be read"), ({"a": torch.ones(1)}, "conv1.weight"), (3, "can't be read")],
)
def test_bad_local_file(tmp_path, monkeypatch, content, reason):
    path = tmp_path / "bad.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    monkeypatch.setenv("CIFAKE_WEIGHTS", str(path))
    with pytest.raises(CifakeError) as caught:
        weights.load(FULL)
    assert reason in str(caught.value) and "CIFAKE_PROFILE=sample" in str(caught.value)


def test_no_weights_and_no_network_names_both_ways_out(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(CifakeError, match=r"unreachable.*CIFAKE_WEIGHTS.*CIFAKE_PROFILE=sample"):
        weights.load(FULL)
