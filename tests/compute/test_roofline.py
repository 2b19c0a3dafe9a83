"""Cards that are not here: what they are called, and what a step takes, against arithmetic by hand."""

import pytest

from vitbench.compute import roofline
from vitbench.compute.core_days import devices
from vitbench.core.errors import UsageError

COUNTS = roofline.PassCounts(
    flops=110_000_000_000, attention_flops=10_000_000_000, forward_bytes=400_000_000, step_bytes=1_200_000_000,
    fixed_bytes=0, activation_bytes=600_000_000,
)  # fmt: skip


@pytest.mark.parametrize(
    "name", ["h100", "H100", "h200", "a100", "rtx4090", "RTX 4090", "rtx_4090", "l4", "h100-pcie"]
)
def test_cards_are_found_by_the_names_that_people_use(name):
    assert roofline.card(name).memory_gb_s


def test_an_unknown_card_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"'h10'(.|\n)*h100"):
        roofline.card("h10")
    with pytest.raises(UsageError, match="'tpu-v3-core'"):
        roofline.card("tpu-v3-core")


@pytest.mark.parametrize(
    ("driver", "wanted"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"), ("NVIDIA H200", "h200-sxm"), ("NVIDIA A100-SXM4-80GB", None),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"), ("NVIDIA L4", "l4"), ("Tesla T4", "t4"), ("Some card", None),
    ],
)  # fmt: skip
def test_a_drivers_name_is_a_card_or_none(driver, wanted):
    found = roofline.card_of(driver)
    assert (found and found.id) == wanted


def test_seconds_are_the_sum_of_products_attention_and_traffic():
    h100 = roofline.card("h100")
    by_hand = 3 * (100e9 / (989e12 * 0.66) + 10e9 / (989e12 * 0.40)) + 1.2e9 / (3.35e12 * 0.8)
    assert roofline.step_s(COUNTS, h100, "bfloat16") == pytest.approx(by_hand, rel=1e-12)
    assert roofline.forward_s(COUNTS, h100, "bfloat16") < by_hand / 2
    assert roofline.step_s(COUNTS, h100, "float32") > 4 * by_hand


def test_faster_cards_take_less_and_larger_ones_hold_more():
    by_card = {
        name: roofline.step_s(COUNTS, roofline.card(name), "bfloat16")
        for name in ("h200", "h100", "a100", "l4")
    }
    assert list(by_card.values()) == sorted(by_card.values())
    held = {
        name: roofline.images_at_once(COUNTS, 86_000_000, roofline.card(name))
        for name in ("l4", "h100", "h200")
    }
    assert held == {"l4": 32, "h100": 64, "h200": 128}
    assert roofline.images_at_once(COUNTS, 3_000_000_000, roofline.card("l4")) == 0


def test_every_card_with_a_memory_has_all_its_facts():
    for device in devices():
        facts = (device.float32_tflops, device.memory_gb, device.memory_gb_s, device.memory_source or None)
        assert all(facts) or not any(facts), device.id
