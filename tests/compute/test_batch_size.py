"""How many images at once: what fits, and less when it did not."""

import pytest
import torch

from vitbench.compute.batch_size import BatchSize, fitting

GB = 10**9


def smallest(limit):
    """A forward that runs out of memory above `limit` images."""
    seen = []

    def forward(images):
        if len(images) > limit:
            raise torch.OutOfMemoryError("no")
        seen.append(len(images))
        return images.sum((1, 2, 3))[:, None]

    return forward, seen


@pytest.mark.parametrize(
    ("limit", "sizes"), [(100, [50]), (32, [32, 18]), (20, [16, 16, 16, 2]), (1, [1] * 50)]
)
def test_a_batch_that_does_not_fit_is_halved(tmp_path, limit, sizes):
    forward, seen = smallest(limit)
    images = torch.rand(50, 3, 2, 2)
    found = BatchSize("cpu", 2, {}, tmp_path, size=64).run(forward, images)
    assert seen == sizes
    assert torch.equal(found, images.sum((1, 2, 3))[:, None])


def test_the_smaller_size_is_remembered(tmp_path):
    forward, seen = smallest(10)
    size = BatchSize("cpu", 2, {}, tmp_path, size=64)
    for _ in range(2):
        size.run(forward, torch.rand(16, 3, 2, 2))
    assert size.size == 8
    assert seen == [8, 8, 8, 8]


def test_one_image_that_does_not_fit_is_an_error(tmp_path):
    with pytest.raises(torch.OutOfMemoryError):
        BatchSize("cpu", 2, {}, tmp_path, size=4).run(smallest(0)[0], torch.rand(4, 3, 2, 2))


@pytest.mark.parametrize(
    ("per_image", "small", "total", "wanted"),
    [
        (0.1 * GB, 1.4 * GB, 80 * GB, 256),  # 1 GB of weights: 470 would fit
        (0.001 * GB, 1 * GB, 80 * GB, 512),
        (10 * GB, 41 * GB, 80 * GB, 4),
        (100 * GB, 401 * GB, 80 * GB, 1),
    ],
)
def test_the_largest_power_of_two_that_fits(per_image, small, total, wanted):
    assert fitting(per_image, int(small), total) == wanted


def test_large_images_go_in_smaller_batches_on_a_cpu(tmp_path):
    assert BatchSize("cpu", 224, {}, tmp_path).choose(lambda images: images) == 64
    assert BatchSize("cpu", 384, {}, tmp_path).choose(lambda images: images) == 16


def test_a_size_that_ran_out_of_memory_is_not_chosen_again(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "GPU")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(BatchSize, "measure", lambda *_: 64)
    size = BatchSize("cuda", 2, {}, tmp_path)
    assert size.choose(lambda images: images) == 64
    size.run(smallest(20)[0], torch.rand(50, 3, 2, 2))
    assert size.size == 16
    monkeypatch.setattr(BatchSize, "measure", lambda *_: pytest.fail("it is cached"))
    assert BatchSize("cuda", 2, {}, tmp_path).choose(lambda images: images) == 16


@pytest.mark.parametrize(("limit", "wanted"), [(3, 2), (1, 1), (5, 4), (7, 4)])
def test_a_trial_that_runs_out_of_memory_finds_what_runs(tmp_path, monkeypatch, limit, wanted):
    """BiT R152x4 at 480 px on 24 GB runs with two images; four, the first trial, do not fit."""
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    seen = []

    def forward(images):
        seen.append(len(images))
        if len(images) > limit:
            raise torch.OutOfMemoryError
        return images

    assert BatchSize("cpu", 8, {}, tmp_path).measure(forward) == wanted
    assert max(seen) <= 8


def test_a_trial_of_one_image_that_does_not_fit_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def forward(images):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        BatchSize("cpu", 8, {}, tmp_path).measure(forward)
