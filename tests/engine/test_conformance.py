"""A backbone whose weights have seen a task's labels is marked on that cell, and on no other."""

import vitbench
from vitbench.report.page import render

PLUGIN = """\
from torch import nn
from vitbench import register_backbone
from vitbench.api import InputSpec, Provenance

@register_backbone("seen")
class Seen(nn.Module):
    "Trained on CIFAR-10."
    input = InputSpec(8, (0.5,) * 3, (0.5,) * 3)
    feature_dim = 3
    provenance = Provenance("x", "pretrained", "CIFAR-10", trained_on=("cifar10",), pretrain_tpu_v3_core_days=7.5)

    def features(self, images):
        return images.mean((2, 3))
"""


def test_a_cell_whose_labels_were_seen_is_marked(data_dir, suite_file, tmp_path):
    plugin = tmp_path / "seen.py"
    plugin.write_text(PLUGIN)
    suite = suite_file(
        "name: s\nbudgets: [full]\nbackbones: [seen]\ntasks: [cifar10, cifar100]\nprotocols: [ridge_probe]\n"
    )
    first, second = vitbench.run(suite, tmp_path / "run", plugins=[str(plugin)])
    item = "weights have not seen this task's labels"
    assert [check.ok for check in first.conformance if check.item == item] == [False]
    assert [check.ok for check in second.conformance if check.item == item] == [True]
    assert not first.conformant
    assert first.backbone.pretrain_tpu_v3_core_days == 7.5
    assert "the weights were trained on cifar10" in render([first, second])


def test_pixels_that_the_weights_do_not_expect_are_a_warning_on_the_row(suite_file, tmp_path):
    plugin = tmp_path / "shifted.py"
    plugin.write_text(
        PLUGIN.replace('"seen"', '"shifted"').replace(
            'trained_on=("cifar10",)', 'pixel_warning="other pixels"'
        )
    )
    suite = suite_file(
        "name: s\nbudgets: [full]\nbackbones: [shifted]\ntasks: [digits]\nprotocols: [ridge_probe]\n"
    )
    (record,) = vitbench.run(suite, tmp_path / "run", plugins=[str(plugin)])
    assert not record.conformant
    page = render([record])
    assert "other pixels" in page
    assert page.count('class="departs"') == 1
