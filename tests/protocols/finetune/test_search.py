"""The search over base learning rates: validation chooses, and all labels are learned from."""

from types import SimpleNamespace

import pytest
import torch

import vitbench
from tests.making.suites import TUNED, tuned
from vitbench.protocols.finetune import Finetune
from vitbench.protocols.recipes import Recipe
from vitbench.store.heartbeat import HeartbeatWriter
from vitbench.store.status import run_status


def test_validation_chooses_and_all_labels_are_learned_from(suite_file, plugin, tmp_path):
    (record,) = vitbench.run(
        tuned(suite_file, rates=[1e-5, 0.3, 1e30], steps=60), tmp_path / "run", limit=400, plugins=[plugin]
    )
    assert record.failure is None
    *tried, last = record.trials
    assert [trial.options["base_lr"] for trial in tried] == [1e-5, 0.3, 1e30]
    assert [trial.split for trial in tried] == ["val"] * 3
    assert tried[1].value > tried[0].value
    assert [trial.chosen for trial in tried] == [False, True, False]
    assert tried[2].value is None
    assert "not finite" in tried[2].note
    assert last.options["base_lr"] == 0.3
    assert last.chosen
    assert all(len(trial.curve["loss"]) == len(trial.curve["step"]) for trial in record.trials)
    assert last.curve["step"][-1] == 60
    # Trials see train, the last run train and validation.
    assert record.cost.images_backward == 2 * 60 * 32 + 20 * 32 + 60 * 32
    assert not (tmp_path / "run" / "checkpoints").exists() or not list(
        (tmp_path / "run" / "checkpoints").iterdir()
    )


def test_status_says_which_trial_is_at_work_and_on_what(suite_file, plugin, tmp_path, monkeypatch):
    """A job of six trials said "adapt 6/6" from the last step of the first trial on, for minutes."""
    seen = {}
    update = HeartbeatWriter.update

    def watched(writer, *progress):
        update(writer, *progress)
        seen.update(dict.fromkeys((each.phase, each.total) for each in run_status(tmp_path / "run").working))

    monkeypatch.setattr(HeartbeatWriter, "update", watched)
    (record,) = vitbench.run(
        tuned(suite_file, rates=[1e-5, 0.3], steps=3), tmp_path / "run", limit=400, plugins=[plugin]
    )
    images = record.data.n_val
    assert [phase for phase in seen if phase[0].startswith("adapt,")] == [
        ("adapt, trial 1 of 2, training step", 3),
        ("adapt, trial 1 of 2, validation image", images),
        ("adapt, trial 2 of 2, training step", 3),
        ("adapt, trial 2 of 2, validation image", images),
        ("adapt, final run, training step", 3),
    ]


def test_every_field_of_the_recipe_is_in_the_record(suite_file, plugin, tmp_path):
    (record,) = vitbench.run(tuned(suite_file, steps=2), tmp_path / "run", limit=40, plugins=[plugin])
    assert set(record.trials[0].options) == set(Recipe.__dataclass_fields__)


@pytest.mark.slow
def test_at_the_size_of_the_recipe_or_the_next_that_patches_fill(suite_file, tmp_path):
    """Of 36 px with patches of 8, 40 px are made, as 518 of the paper's 512 with patches of 14."""
    backbone = '{name: "timm:vit_tiny_patch16_224", pretrained: false, size_px: 32, patch_px: 8}'
    text = TUNED.format(steps=2, rates=[0.1], clip="none").replace("[small]", f"[{backbone}]")
    path = suite_file(text.replace("batch_size: 32", "batch_size: 32, size_px: 36"))
    (record,) = vitbench.run(path, tmp_path / "run", limit=40)
    assert record.failure is None
    assert record.backbone.size_px == 40
    tokens, width = 25 + 1, 192
    block = (
        24 * tokens * width**2 + 4 * tokens**2 * width
    )  # four and eight products with weights, two of tokens
    assert record.cost.flops_per_image == 12 * block + 25 * 2 * (3 * 8 * 8) * width


def test_where_every_rate_diverges_the_job_says_so(suite_file, plugin, tmp_path):
    (record,) = vitbench.run(
        tuned(suite_file, rates=[1e29, 1e30]), tmp_path / "run", limit=60, plugins=[plugin]
    )
    assert "every run diverged" in record.failure.message


def test_few_examples_make_whole_batches(suite_file, plugin, tmp_path):
    """The rate is the recipe's for its batch: 40 examples are gone through again, each time with a crop and flip of its own."""
    (record,) = vitbench.run(tuned(suite_file, steps=4), tmp_path / "run", limit=20, plugins=[plugin])
    assert record.data.n_train + record.data.n_val == 40
    text = TUNED.format(steps=4, rates=[0.1], clip="none").replace("batch_size: 32", "batch_size: 96")
    (record,) = vitbench.run(suite_file(text), tmp_path / "more", limit=20, plugins=[plugin])
    assert record.failure is None
    assert record.cost.images_backward == 4 * 96


class WithPreLogits(torch.nn.Module):
    """Of ViT-B/16's size with its hidden layer and a classifier, of which fine-tuning drops both; nothing is allocated."""

    def __init__(self, kept=85_800_000, dropped=17_300_000):
        super().__init__()
        self.kept = torch.nn.Parameter(torch.empty(kept, device="meta"))
        self.dropped = torch.nn.Parameter(torch.empty(dropped, device="meta")) if dropped else None

    def trainable(self):
        return WithPreLogits(dropped=0)


@pytest.mark.parametrize(("dropped", "rate"), [(17_300_000, 0.01), (0, 0.01)])
def test_the_released_recipe_goes_by_the_parameters_that_are_trained(dropped, rate):
    """103 million with what is dropped would take 0.03, where the reference takes 0.01."""
    split = type("Split", (), {"__len__": lambda _self: 25_000})()
    data = SimpleNamespace(
        backbone=WithPreLogits(dropped=dropped), train=split, val=split, task="cifar10", resolution_px=None, flip=True,
        crop=True, note=lambda _text: None,
    )  # fmt: skip
    (recipe,) = Finetune(recipe="vit-released")._recipes(data)
    assert recipe.base_lr == rate
