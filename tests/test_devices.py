"""What other devices have not got: an Apple GPU no float64, older GPUs no bfloat16."""

import dataclasses

import pytest
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cifake_utils import CifakeError, experiments, fractal, profiles, training
from tests import gpu

SAMPLE = profiles.PROFILES["sample"]
SHORT = dataclasses.replace(SAMPLE, epochs=2, epochs_full=1, epochs_pretext=1, batch_size=6)


class NoFloat64(TorchDispatchMode):
    """Refuses float64, as an Apple GPU does."""

    refuses = True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        for value in tree_leaves((args, kwargs, result)):
            if self.refuses and isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                raise TypeError(f"{function} takes or gives float64, which this device doesn't have.")
        return result


# A head without and with the combined loss, all layers with the pretext before.
@pytest.mark.parametrize("name", ["resnet50_fractal", "resnet50_fractal_loss", "resnet50_rotation"])
def test_a_device_needs_no_float64(name, few, runs, monkeypatch):
    mode, fit = NoFloat64(), fractal.FractalDimension.fit

    def fit_on_the_cpu(self, maps):  # `features._fit` brings the maps there
        maps = list(maps)
        mode.refuses = False
        fit(self, maps)
        mode.refuses = True

    monkeypatch.setattr(fractal.FractalDimension, "fit", fit_on_the_cpu)
    with mode:
        model, record = experiments.train_or_load(name, profile=SHORT)
        experiments.predict_images({name: (model, record)}, few.test.images, SHORT.accelerator())
    assert record.curves["train_loss"]


def test_the_mode_notices_float64():
    with NoFloat64(), pytest.raises(TypeError, match="float64"):
        torch.ones(2).double()


@pytest.fixture
def fresh():
    """Accelerate keeps one device and one precision a process: forget both, before and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), ["no"]),
        ((7, 0), ["fp16"]),
        ((7, 5), ["fp16"]),  # T4
        ((8, 0), ["bf16", "fp16"]),
        ((9, 0), ["bf16", "fp16"]),
        ((12, 0), ["bf16", "fp16"]),
    ],
)
def test_precisions_of_gpus(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # as torch says of all of them
    assert profiles.precisions(CUDA) == expected
    for wish, chosen in {None: expected[0], "no": expected[0], **{name: name for name in expected}}.items():
        monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
        if wish:
            monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", wish)
        assert profiles._precision(CUDA) == chosen


def test_an_apple_gpu_computes_in_float32():
    assert profiles.precisions(torch.device("mps")) == ["no"]


@pytest.mark.parametrize("computed", [True, False])
def test_bfloat16_only_where_the_cpu_computes_it(computed, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: computed)
    assert profiles.precisions(torch.device("cpu")) == (["no", "bf16"] if computed else ["no"])


@pytest.mark.parametrize("wish", ["bfloat16", "BF16", "fp16", "fp8", "float32"])
def test_a_precision_that_is_not_there_is_refused(wish, monkeypatch, with_bfloat16):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", wish)
    with pytest.raises(CifakeError, match=rf"is '{wish}', .* device \(cpu\). Set it to one of: no, bf16;"):
        SAMPLE.accelerator()


@pytest.mark.parametrize(("wish", "precision"), [(None, "no"), ("no", "no"), ("", "no"), ("bf16", "bf16")])
def test_precision_on_a_cpu(wish, precision, monkeypatch, fresh, with_bfloat16):
    if wish is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", wish)
    assert SAMPLE.accelerator().mixed_precision == precision
    assert SAMPLE.accelerator().mixed_precision == precision


def test_another_precision_in_the_same_process_is_refused(monkeypatch, fresh, with_bfloat16):
    SAMPLE.accelerator()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(CifakeError, match=r"sample needs the device cpu with mixed precision 'bf16'.* new process"):
        SAMPLE.accelerator()


@pytest.mark.parametrize("capability", [(6, 1), (8, 0)])
def test_another_device_in_the_same_process_is_refused(capability, monkeypatch, fresh):
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr(PartialState, "default_device", CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    SAMPLE.accelerator()
    with pytest.raises(CifakeError, match=r"full needs the device cuda .* new process"):
        profiles.PROFILES["full"].accelerator()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert profiles.PROFILES["full"].accelerator().device.type == "cpu"


def test_the_comparison_with_a_gpu_finds_no_difference_on_a_cpu(few, runs, tmp_path, capsys):
    through, stopped = gpu.curves_of_a_stopped_training(tmp_path)
    assert len(through) == 3 and through == stopped
    assert gpu.difference_of_dimensions(torch.device("cpu")) == 0
    found = ((0.0, 0.0), (0.2, 0.1), (float("nan"), 1.0))
    assert [gpu.report("a difference", *values) for values in found] == [False, True, True]
    assert [line[:3] for line in capsys.readouterr().out.splitlines()[-3:]] == ["ok ", "BAD", "BAD"]


def test_the_comparison_with_a_gpu_notices_a_checkpoint_that_is_not_used(few, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(training._Run, "restore", lambda *_: None)
    with pytest.raises(RuntimeError, match="went on for 3 epochs"):
        gpu.curves_of_a_stopped_training(tmp_path)
