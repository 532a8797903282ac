import os

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file

from cifake_utils import CifakeError, profiles, weights
from cifake_utils.support import fingerprint

FULL = profiles.PROFILES["full"]


def save(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)


def refusal(call) -> str:
    with pytest.raises(CifakeError) as caught:
        call()
    return str(caught.value)


def test_quantised_weights_come_back_within_half_a_step():
    state = {"conv.weight": torch.randn(8, 4, 3, 3), "bn.weight": torch.randn(8), "bn.count": torch.tensor(3)}
    state["measure.scale"] = torch.randn(8)  # a buffer of the layer of dimensions
    packed = weights.quantise(state)
    assert packed["conv.weight"].dtype == torch.int8
    again = weights.dequantise(packed)
    assert again.keys() == state.keys()
    step = state["conv.weight"].flatten(1).abs().amax(1) / 127
    error = (again["conv.weight"] - state["conv.weight"]).flatten(1).abs().amax(1)
    assert (error <= step / 2 + 1e-6).all()
    for name in ("bn.weight", "bn.count", "measure.scale"):
        assert torch.equal(again[name], state[name])


def test_offline_backbone_says_what_it_is_once(capsys, monkeypatch):
    monkeypatch.setattr(weights, "_named", set())
    assert weights.OFFLINE.stat().st_size < 26e6
    with safe_open(weights.OFFLINE, "pt") as file:
        metadata = file.metadata()
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
    save(state, path)
    monkeypatch.setenv("CIFAKE_WEIGHTS", str(path))
    loaded = weights.load(FULL)
    assert loaded.name == path.name and "fc.weight" not in loaded.state
    assert torch.equal(loaded.state["conv1.weight"], state["conv1.weight"].float())


class Runs:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("echo this must not run",)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [None, b"", b"this is text\n" * 20, b"<!DOCTYPE html>", bytes(2000), "a folder"])
def test_no_weights_file(tmp_path, suffix, content):
    path = tmp_path / f"bad{suffix}"
    if content == "a folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    text = refusal(lambda: weights.read_file(path))
    reason = {None: "no such file", "a folder": "a folder"}.get(content, "can't be read as a state dict (")
    assert reason in text and str(path) in text and "CIFAKE_PROFILE=sample" in text and "weights_only" not in text


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated_file(tmp_path, suffix, share):
    path = tmp_path / f"half{suffix}"
    save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert f"{path} can't be read as a state dict (" in refusal(lambda: weights.read_file(path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (3, "holds a int."),
        ([torch.ones(1)], "holds a list."),
        (torch.ones(1), "holds a Tensor."),
        ({"state_dict": {"a": torch.ones(1)}, "epoch": 3}, "called 'state_dict'; save only the one with the weights"),
        ({"conv1.weight": 1.5}, "(the first is 'conv1.weight')"),
        ({1: torch.ones(1)}, "(the first is 1)"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, "dense real tensors (the first is 'a')"),
        ({"a": torch.ones(2).to_sparse()}, "dense real tensors (the first is 'a')"),
        ({"a": torch.ones(2, device="meta")}, "dense real tensors (the first is 'a')"),
        ({"a": Runs()}, ".system)"),
        (torch.nn.Linear(1, 1), "(torch.nn.modules.linear.Linear)"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pickle_of_something_else(tmp_path, capfd, content, reason):
    path = tmp_path / "bad.pth"
    torch.save(content, path)
    text = refusal(lambda: weights.read_file(path))
    assert str(path) in text and reason in text and "weights_only" not in text
    assert "this must not run" not in capfd.readouterr().out


@pytest.mark.skipif(not hasattr(torch, "quantize_per_tensor"), reason="this torch has no quantised tensors")
@pytest.mark.filterwarnings("ignore")
def test_quantised_tensors(tmp_path):
    torch.save({"a": torch.quantize_per_tensor(torch.ones(1), 0.1, 0, torch.qint8)}, tmp_path / "bad.pth")
    assert "dense real tensors (the first is 'a')" in refusal(lambda: weights.read_file(tmp_path / "bad.pth"))


@pytest.fixture(scope="module")
def resnet50():
    """A ResNet50's state dict."""
    return torchvision.models.resnet50().state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("conv1.weight", None, "the first is conv1.weight"),
        ("conv1.weight", torch.zeros(64, 3, 3, 3), "the first is conv1.weight"),
        ("layer1.0.bn1.weight", torch.ones(64, dtype=torch.int32), "1 weights of type torch.int32"),
        ("layer1.0.bn1.weight", torch.ones(64) * float("nan"), "in 1 of 318 tensors; the first is layer1.0.bn1.weight"),
        ("layer1.0.bn1.weight", torch.full((64,), 1e300, dtype=torch.float64), "infinite or NaN"),
    ],
    ids=["missing", "shape", "integers", "NaN", "beyond float32"],
)
def test_resnet50_that_cannot_work(tmp_path, monkeypatch, resnet50, suffix, name, value, reason):
    state = {key: kept for key, kept in (resnet50 | {name: value}).items() if kept is not None}
    path = tmp_path / f"bad{suffix}"
    save(state, path)
    monkeypatch.setenv("CIFAKE_WEIGHTS", str(path))
    text = refusal(lambda: weights.load(FULL))
    assert path.name in text and reason in text and "CIFAKE_PROFILE=sample" in text


def test_old_torch_and_data_parallel_are_taken(tmp_path, monkeypatch, resnet50):
    old = {f"module.{name}": value for name, value in resnet50.items() if not name.endswith("num_batches_tracked")}
    save(old, tmp_path / "old.pth")
    monkeypatch.setenv("CIFAKE_WEIGHTS", str(tmp_path / "old.pth"))
    loaded = weights.load(FULL)
    assert loaded.hash == weights._weights(resnet50, "new").hash
    torchvision.models.resnet50(num_classes=1).load_state_dict(loaded.state, strict=False)


def test_damaged_download_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CIFAKE_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half of it")
    assert refusal(lambda: weights.load(FULL)).startswith(f"{file} is damaged")


def test_no_weights_and_no_network_names_both_ways_out(tmp_path, monkeypatch):
    monkeypatch.delenv("CIFAKE_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_args, **_kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(CifakeError, match=r"unreachable.*CIFAKE_WEIGHTS.*CIFAKE_PROFILE=sample"):
        weights.load(FULL)
