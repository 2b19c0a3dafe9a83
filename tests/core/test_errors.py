"""Suggestions of near names."""

from vitbench.core.errors import nearest


def test_near_names_are_found_among_many():
    sizes = ("tiny", "small", "base", "large")
    known = [
        f"vit_{size}_patch{n}_{px}" for size in sizes for n in range(8, 40) for px in range(100, 400, 20)
    ]
    assert nearest("vit_bsae_patch16_220", known)[0] == "vit_base_patch16_220"
    assert nearest("vit_base_pach16_220", known)[0] == "vit_base_patch16_220"
    assert nearest("nothing like it", known) == ()
