"""What float32 costs on a GPU is said where it matters, and nowhere else."""

import pytest
import torch

from tests.making.jobs import component, make_job
from vitbench.engine.precision_remark import float32_remark

TUNED = component("finetune", recipe="own", steps=2)


@pytest.fixture
def gpu(monkeypatch):
    """An H100, or a card of another compute capability."""

    def of(capability):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H100")

    return of


def test_fine_tuning_in_float32_on_tensor_cores_is_said(gpu):
    gpu((9, 0))
    jobs = [make_job(protocol=TUNED), make_job(protocol=TUNED, seed=1), make_job()]
    said = float32_remark(jobs, "cuda")
    assert said.startswith("2 fine-tuning jobs will run in float32 on NVIDIA H100")
    assert "--dtype bfloat16" in said


def test_what_costs_nothing_is_not_said(gpu):
    gpu((9, 0))
    assert float32_remark([make_job()], "cuda") == ""  # features once are no hours
    assert float32_remark([make_job(protocol=TUNED, dtype="bfloat16")], "cuda") == ""
    assert float32_remark([make_job(protocol=TUNED)], "cpu") == ""
    gpu((7, 5))  # a T4 has no bfloat16
    assert float32_remark([make_job(protocol=TUNED)], "cuda") == ""
