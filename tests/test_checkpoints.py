import torch

from cifake_utils.support import checkpoints, verified


def test_kernels_in_channels_last_are_written_without_a_copy(tmp_path, monkeypatch):
    save_file, written = verified.save_file, {}

    def watched(tensors, path, metadata):
        written.update(tensors)
        save_file(tensors, path, metadata)

    monkeypatch.setattr(verified, "save_file", watched)
    kernel = torch.randn(4, 5, 3, 3)
    module = {"plain": kernel, "last": kernel.to(memory_format=torch.channels_last), "bias": torch.randn(4)}
    checkpoints.save(tmp_path / "c.safetensors", {"module": module}, {"epoch": 3})
    assert all(written[f"module/{name}"].data_ptr() == value.data_ptr() for name, value in module.items())

    loaded, state = checkpoints.load(tmp_path / "c.safetensors")
    assert state == {"epoch": 3} and set(loaded["module"]) == set(module)
    for name, value in module.items():
        assert torch.equal(loaded["module"][name], value) and loaded["module"][name].stride() == value.stride()
