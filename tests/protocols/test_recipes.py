"""The named recipes, against the tables of the papers and of the released code (docs/protocols.md#fine-tuning)."""

import pytest
import timm

from vitbench.backbones.models.unfilled import on_meta
from vitbench.core.errors import UsageError
from vitbench.protocols.recipes import Case, Recipe, named_recipes, recipes_for
from vitbench.suite import expand, read_suite

SMALL_IMAGE, LARGE_IMAGE = 32 * 32, 96 * 96


def only(name, task="t", examples=1000, area=LARGE_IMAGE, params=0, **changes):
    (recipe, *_) = recipes_for(name, Case(task, examples, area, params), changes).recipes
    return recipe


@pytest.mark.parametrize(
    ("task", "steps", "rates"),
    [
        ("imagenet", 20000, (0.003, 0.01, 0.03, 0.06)),
        ("cifar100", 10000, (0.001, 0.003, 0.01, 0.03)),
        ("cifar10", 10000, (0.001, 0.003, 0.01, 0.03)),
        ("oxford_iiit_pet", 500, (0.001, 0.003, 0.01, 0.03)),
        ("oxford_flowers102", 500, (0.001, 0.003, 0.01, 0.03)),
        ("vtab/kitti_distance", 2500, (0.01,)),
    ],
)
def test_table_4_of_the_vit_paper(task, steps, rates):
    choice = recipes_for("vit", Case(task, 1000, LARGE_IMAGE), {})
    assert choice.departs == ""
    assert tuple(recipe.base_lr for recipe in choice.recipes) == rates
    for recipe in choice.recipes:
        assert (recipe.steps, recipe.batch_size, recipe.clip_norm) == (steps, 512, 1.0)
        assert (recipe.size_px, recipe.resize_px, recipe.decay, recipe.momentum) == (384, 448, "cosine", 0.9)


def test_a_task_that_is_not_in_the_paper_is_noted():
    assert "no setting" in recipes_for("vit", Case("mine", 1000, LARGE_IMAGE), {}).departs


def test_imagenet_in_vit_table2_is_at_512_px_with_averaging():
    recipes = recipes_for("vit-table2", Case("imagenet", 10**6, LARGE_IMAGE), {}).recipes
    assert {(recipe.size_px, recipe.averaging) for recipe in recipes} == {(512, 0.9999)}


# Number of examples, steps, warm-up, decay steps, MixUp: docs/protocols.md#bit-hyper-rule, the released code's column.
RELEASED = [
    (19_999, 500, 100, (200, 300, 400), 0.0),
    (20_000, 10_000, 500, (3000, 6000, 9000), 0.1),
    (499_999, 10_000, 500, (3000, 6000, 9000), 0.1),
    (500_000, 20_000, 500, (6000, 12_000, 18_000), 0.1),
]
PAPER = [
    (19_999, 500, 0, (150, 300, 450), 0.0),
    (20_000, 10_000, 0, (3000, 6000, 9000), 0.1),
    (500_000, 20_000, 0, (6000, 12_000, 18_000), 0.1),
]


@pytest.mark.parametrize(
    ("name", "row", "large"),
    [*(("bit-released", row, (512, 480)) for row in RELEASED), *(("bit", row, (448, 384)) for row in PAPER)],
)
def test_bit_hyperrule(name, row, large):
    examples, steps, warmup, decay, mixup = row
    for area, sizes in ((SMALL_IMAGE, (160, 128)), (96 * 96 - 1, (160, 128)), (96 * 96, large)):
        recipe = only(name, examples=examples, area=area)
        assert (recipe.steps, recipe.warmup_steps, recipe.decay_steps) == (steps, warmup, decay)
        assert (recipe.mixup_alpha, recipe.base_lr, recipe.clip_norm) == (mixup, 0.003, None)
        assert (recipe.resize_px, recipe.size_px) == sizes


def test_only_the_largest_bit_is_trained_at_480_px():
    sizes = {
        params: recipes_for("bit", Case("t", 1000, LARGE_IMAGE, params), {}).recipes[0].size_px
        for params in (382_000_000, 928_340_000)
    }
    assert sizes == {382_000_000: 384, 928_340_000: 480}


def test_bit_released_matches_bits_get_lr_at_every_step():
    """bit_hyperrule.get_lr: linear warm-up, and a division by ten after each boundary."""

    def get_lr(step, supports, base=0.003):
        if step < supports[0]:
            return base * step / supports[0]
        for boundary in supports[1:-1]:
            if boundary < step:
                base /= 10
        return base

    recipe = only("bit-released")
    for step in range(500):
        assert recipe.learning_rate(step) == pytest.approx(
            get_lr(step, (100, 200, 300, 400, 500)), rel=1e-12
        ), step
    assert recipe.learning_rate(200) == pytest.approx(0.003)
    assert recipe.learning_rate(201) == pytest.approx(0.0003)


def test_vtab_light_is_two_learning_rates_by_two_schedules():
    choice = recipes_for("vtab-light", Case("vtab/pets", 1000, LARGE_IMAGE), {})
    found = [(recipe.steps, recipe.base_lr, recipe.decay_steps) for recipe in choice.recipes]
    short, long = (750, 1500, 2250), (3000, 6000, 9000)
    assert found == [(2500, 0.01, short), (2500, 0.1, short), (10000, 0.01, long), (10000, 0.1, long)]


def test_vit_released_uses_inception_crops_and_bfloat16_momentum():
    recipe = only("vit-released", task="cifar10", examples=50_000)
    assert (recipe.crop, recipe.momentum_dtype, recipe.warmup_steps) == ("inception", "bfloat16", 500)


def test_a_suite_overrides_any_field_and_schedules_scale_with_steps():
    recipe = only("bit-released", steps=50, base_lr=0.01)
    assert (recipe.steps, recipe.warmup_steps, recipe.decay_steps, recipe.base_lr) == (
        50,
        10,
        (20, 30, 40),
        0.01,
    )
    assert only("vit", task="vtab/dtd", batch_size=64).batch_size == 64
    grid = recipes_for("own", Case("t", 10, 10), {"base_lr": (0.3, 0.1)}).recipes
    assert [recipe.base_lr for recipe in grid] == [0.1, 0.3]


def test_every_setting_of_every_recipe_has_known_fields_only():
    known = set(Recipe.__dataclass_fields__) | {
        "tasks",
        "examples_below",
        "area_below",
        "params_above",
        "params_below",
        "departs",
        "schedules",
    }
    for name, written in named_recipes().items():
        assert written["source"], name
        assert set(written["common"]) <= known
        for setting in [*written["settings"], *written.get("for_networks", [])]:
            assert set(setting) <= known, name
        assert recipes_for(name, Case("unheard-of", 10**7, 10**6), {}).recipes


# Parameters without a head (timm 1.0.31), and dropout of vit_jax's configurations (VJ:vit_jax/configs/models.py).
DROPOUT = {
    "vit_tiny_patch16_224": 0.0, "vit_small_patch16_224": 0.0, "vit_base_patch16_384": 0.0, "vit_base_patch32_384": 0.0,
    "vit_large_patch32_384": 0.0, "vit_large_patch16_224": 0.1, "vit_large_patch16_384": 0.1, "vit_huge_patch14_224": 0.1,
    "vit_base_r50_s16_224": 0.1, "vit_base_r50_s16_384": 0.1, "vit_large_r50_s32_224": 0.1, "vit_large_r50_s32_384": 0.1,
    "vit_small_r26_s32_384": 0.0, "vit_tiny_r_s16_p8_384": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(("name", "dropout"), DROPOUT.items())
def test_vit_released_drops_out_where_vit_jax_does(name, dropout):
    with on_meta():
        network = timm.create_model(name, num_classes=0)
    params = sum(weight.numel() for weight in network.parameters())
    for task in ("imagenet", "cifar10", "cifar100", "oxford_iiit_pet"):
        for recipe in recipes_for("vit-released", Case(task, 4000, 10**5, params), {}).recipes:
            assert (recipe.dropout, recipe.attention_dropout) == (dropout, 0.0)
        (off,) = recipes_for("vit-released", Case(task, 4000, 10**5, params), {"dropout": 0.0}).recipes
        assert off.dropout == 0.0


def test_resize_px_scales_with_an_overridden_size_px():
    assert only("vit", task="vtab/dtd", size_px=224).resize_px == 261  # 448 of 384
    assert only("bit", examples=100, area=10**6, size_px=240).resize_px == 280  # 448 of 384
    assert only("bit", examples=100, area=100, size_px=256).resize_px == 320  # 160 of 128
    assert only("vit", task="vtab/dtd", size_px=224, resize_px=256).resize_px == 256
    assert only("vit-released", task="vtab/dtd", size_px=224).resize_px is None  # its crop needs none


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "own", "crop": "random"}, "needs resize_px"),
        ({"recipe": "own", "decay": "staircase"}, "needs decay_steps"),
        ({"recipe": "vit-released", "weight_decay": 0.1}, "needs optimiser: sgd without weight_decay"),
        ({"recipe": "vit-released", "optimiser": "adamw"}, "needs optimiser: sgd without weight_decay"),
        ({"recipe": "own", "steps": 10, "warmup_steps": 11}, "exceeds steps"),
        ({"recipe": "vit", "size_px": 224, "resize_px": 200}, "cannot cut size_px 224 from resize_px 200"),
    ],
)
def test_inconsistent_fields_are_usage_errors_before_anything_runs(suite_file, options, message):
    spelled = ", ".join(f"{name}: {value}" for name, value in options.items())
    text = (
        "name: x\nbackbones: [raw_pixels]\ntasks: [digits]\nprotocols:\n  - {name: finetune, "
        + spelled
        + "}\n"
    )
    with pytest.raises(UsageError, match=message):
        expand(read_suite(suite_file(text)))


def test_vit_released_trains_on_train_only_with_a_learning_rate_for_b16():
    assert only("vit-released", task="imagenet").train_only
    assert not only("vit", task="vtab/dtd").train_only
    assert only("vit-released", task="cifar10", params=85_800_000).base_lr == 0.01
    assert only("vit-released", task="cifar10", params=87_460_000).base_lr == 0.03


def test_a_task_that_is_not_in_the_paper_is_noted_by_vit_table2_too():
    assert "no setting" in recipes_for("vit-table2", Case("unheard-of", 10**6, 10**6), {}).departs
    assert recipes_for("vit-table2", Case("oxford_iiit_pet", 3680, 10**6), {}).departs == ""
