"""The miniatures that ship: their records are true, their weights load, their images and losses can be made again."""

import hashlib
import json
from collections import defaultdict
from itertools import islice

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vitbench
from tests.making.command import vitbench as vitbench_command
from tests.making.miniature_pretraining import script
from vitbench.backbones.build import build
from vitbench.backbones.catalog import catalog
from vitbench.backbones.miniature_records import FAMILIES, FILE, pretrainings, weights_file
from vitbench.backbones.models.miniature_nets import initialise
from vitbench.backbones.models.timm_create import create
from vitbench.compute.flops import forward_flops
from vitbench.core.seeding import seeded

NAMES = list(pretrainings())
MOST_BYTES = 5_000_000  # of all weights together


def test_three_families_are_pretrained_at_four_budgets_that_span_thirty_times():
    spent = defaultdict(list)
    for made in pretrainings().values():
        spent[made.family].append(made.pretrain_flops)
    assert set(spent) == set(FAMILIES)
    for flops in spent.values():
        assert len(flops) >= 4
        assert flops == sorted(flops)
        assert flops[-1] >= 30 * flops[0]


def test_all_weights_together_are_small():
    assert sum(weights_file(name).stat().st_size for name in NAMES) <= MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_a_miniature_is_what_its_record_says(name):
    made = pretrainings()[name]
    assert hashlib.sha256(weights_file(name).read_bytes()).hexdigest() == made.sha256
    backbone = build(f"miniature:{name}", {})
    saved = load_file(weights_file(name))
    assert backbone.params == made.parameters == sum(value.numel() for value in saved.values())
    own = {key.removeprefix("module.").removeprefix("model."): v for key, v in backbone.state_dict().items()}
    assert all(torch.equal(own[key], value.float()) for key, value in saved.items())
    assert backbone.provenance.pretrain_flops == made.pretrain_flops
    assert made.pretrain_flops == 3 * made.forward_flops_per_image * made.images_seen
    without_head = forward_flops(backbone, 32)
    categories = script("images").TOTAL
    assert made.forward_flops_per_image == without_head + 2 * categories * backbone.feature_dim
    assert backbone.provenance.load.unused == ()


def test_a_miniature_takes_other_image_sizes():
    for name in ("vit-1", "bit-1", "hybrid-1"):
        backbone = build(f"miniature:{name}", {"size_px": 48}).eval()
        assert backbone.features(torch.zeros(2, 3, 48, 48)).shape == (2, backbone.feature_dim)


def test_untrained_twins_are_marked_and_differ_by_seed():
    first, same, other = (
        build("miniature:hybrid-2", {"pretrained": False, "init_seed": seed}) for seed in (0, 0, 1)
    )
    assert first.provenance.weights == "untrained"
    assert first.provenance.pretrain_flops == 0
    states = [torch.cat([v.flatten() for v in one.state_dict().values()]) for one in (first, same, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_catalog_and_the_list_say_what_they_cost():
    rows = {entry.alias: entry for entry in catalog() if entry.spec.startswith("miniature:")}
    assert set(rows) == {f"mini-{name}" for name in NAMES}
    assert all(row.pretrain_flops and row.tpu_v3_core_days is None for row in rows.values())
    assert "FLOPs of pre-training, counted" in vitbench_command("list", "backbones", "mini-vit-1").stdout


def test_a_name_that_does_not_exist_is_answered_with_those_that_do():
    done = vitbench_command("check", "miniature:vit-9")
    assert done.returncode == 2
    assert "miniature:vit-" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_images_are_those_that_were_learned_from():
    """Drawn on another processor: the digest was written where the networks were trained."""
    recorded = json.loads(FILE.read_text())["data"]
    images = script("images")
    assert recorded["categories"] == images.CATEGORIES
    assert recorded["first_images_sha256"] == images.digest()


def test_an_image_does_not_depend_on_which_others_are_drawn():
    images = script("images")
    offset = 0
    for count in images.CATEGORIES.values():
        together = images.paint(offset, range(40))
        assert np.array_equal(together[[7, 39]], images.paint(offset, [7, 39]))
        assert not np.array_equal(together[7], images.paint(offset, [7], images.HELD_OUT)[0])
        offset += count


def test_a_record_shows_counted_flops_and_no_core_days(suite_file, tmp_path):
    suite = suite_file(
        "name: m\nbudgets: [1-shot]\nbackbones: [mini-bit-1]\ntasks: [digits]\nprotocols: [ridge_probe]\n"
    )
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.backbone.pretrain_flops == pretrainings()["bit-1"].pretrain_flops
    assert record.backbone.pretrain_tpu_v3_core_days is None
    assert record.backbone.trained_on == ()


LOSS_TOLERANCE = 2e-3  # of losses near 6: float32 sums in another order, over a few steps


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_pretraining_again_begins_with_the_same_losses(family):
    """The smallest checkpoint, for 1 % of its budget, on this processor instead of the GPU that trained it."""
    made = pretrainings()[f"{family}-1"]
    images, training = script("images"), script("training")
    steps = max(1, made.steps // 100)
    model = training.network(family, initialise)
    run = training.Training(model, made.steps, made.peak_learning_rate)
    losses = []
    for order in islice(training.orders(made.train_images, made.steps, made.budget), steps):
        instances = made.train_images // images.TOTAL
        drawn = [images.paint(p // instances, [p % instances])[0] for p in order.positions.tolist()]
        pixels = torch.from_numpy(np.stack(drawn))
        labels = torch.div(order.positions, instances, rounding_mode="floor")
        losses.append(float(run.step(training.altered(pixels, order.numbers), labels)))
    assert losses == pytest.approx(made.first_losses[:steps], abs=LOSS_TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_initial_weights_depend_on_nothing_but_the_seed(family):
    states = []
    for seed in (1, 2):
        with seeded(seed, "noise"):
            model = create(f"mini_{family}")
        initialise(model, 0)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
