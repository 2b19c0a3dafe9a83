"""The whole path on a pretended GPU: torch's CUDA code runs, nothing is computed, and what it does is counted.

Not covered: cuDNN, cuSOLVER (the decompositions of ridge and logistic probes), NCCL and Triton.
"""

import json
import sys

import pytest

from tests.making.command import process
from tests.making.paths import TESTS
from tests.making.pretended import build, why_not

pytestmark = [pytest.mark.slow, pytest.mark.xfail(bool(why_not()), reason=why_not(), run=False)]

# Of a step of two pieces, and of a batch of images, of the two layers in tests/making/on_pretended_gpu.py (torch 2.14).
LAUNCHES_A_STEP, LAUNCHES_A_BATCH = 362, 61


# A script on the pretended GPU, which has no cuDNN.
SCRIPT = """
import runpy, sys, torch
torch.backends.cudnn.enabled = False
torch.backends.cuda.enable_cudnn_sdp(False)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    """The variables of a process that has the GPU."""
    return build(tmp_path_factory.mktemp("gpu"))


@pytest.fixture(scope="module")
def gpu(variables):
    """What runs on the pretended GPU prints."""

    def ran(what, **changes):
        script = TESTS / "making" / "on_pretended_gpu.py"
        done = process(script, what, before=(sys.executable,), **variables, **changes)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return ran


def test_a_training_step_waits_for_nothing_and_launches_what_it_did(gpu):
    steps = gpu("training")
    assert len(steps) == 12
    for synchronisations, launches, *others in steps[1:]:  # the first takes a pinned buffer
        assert (synchronisations, *others) == (0, 0, 0, 0)
        assert launches == pytest.approx(LAUNCHES_A_STEP, rel=0.05)


def test_training_does_not_wait_for_a_checkpoint(gpu):
    """A snapshot goes to pinned memory, which the next one takes again; only the thread that writes it waits, once."""
    kept = gpu("checkpoints")
    assert len(kept) == 12
    assert sum(synchronisations for synchronisations, *_ in kept) <= len(kept)
    for _, launches, pageable, pinned, _ in kept[1:]:
        assert (launches, pageable) == (2, 0)  # the losses and the norms are each put together
        assert pinned <= 2  # for those, which grow


def test_extraction_waits_once_a_batch_and_never_for_an_image(gpu):
    """Four times as many images in one batch cost no more of anything."""
    (_, many), (_, few), (_, again) = zip(*[iter(gpu("extraction"))] * 2, strict=True)
    assert many == few == again
    synchronisations, launches, pageable, pinned, drains = few
    assert (synchronisations, pageable, pinned, drains) == (1, 0, 0, 1)
    assert launches == pytest.approx(LAUNCHES_A_BATCH, rel=0.05)


def test_no_wait_stands_between_two_forward_passes(gpu):
    """Of six batches, decoded or cached, small images or large: only the last is waited for with nothing queued behind it."""
    passes = gpu("passes")
    assert len(passes) == 8
    for synchronisations, launches, pageable, _, drains in passes[1:]:  # the first copies the scale of pixels
        assert (synchronisations, pageable, drains) == (6, 0, 1)
        assert launches <= 1.1 * 6 * LAUNCHES_A_BATCH
    assert [pinned for *_, pinned, _ in (passes[3], passes[7])] == [0, 0]  # pinned memory is used again


def test_resize_kernels_keep_their_weights_on_the_device(gpu):
    for synchronisations, _, pageable, pinned, _ in gpu("kernels").values():
        assert (synchronisations, pageable, pinned) == (0, 0, 0)


@pytest.mark.parametrize("gigabytes", ["79.1", "23.6"])
def test_training_and_neighbours_end_well_without_nvml(gpu, gigabytes):
    assert gpu("whole", PRETENDED_GB=gigabytes) == [["ok", None]] * 2


def test_heads_train_without_waiting_for_the_device(gpu):
    ends, steps = gpu("probes")
    assert ends == ["ok"] * 3
    first = [0, 6, len(steps) - 6]  # of each job, which measures how many images fit
    later = [step for i, step in enumerate(steps) if i not in first]
    assert len(later) > 10
    for synchronisations, _, pageable, pinned, _ in later:
        assert (synchronisations, pageable, pinned) == (0, 0, 0)


def test_wherever_memory_runs_out_pieces_are_halved_until_they_fit(gpu):
    """From no room at all to room for a whole batch: an error that says so, then larger and larger pieces."""
    found = gpu("memory")
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] == 64
    assert len(set(found)) > 3


def test_a_broken_gpu_costs_one_job_and_both_gpus_have_work(gpu, tmp_path):
    seen = tmp_path / "seen"
    ends = gpu("broken", PRETENDED_GPUS="2", SEEN=str(seen))
    assert ends == ["AcceleratorError"] + ["ok"] * 5
    jobs = [json.loads(line) for line in seen.read_text().splitlines()]
    assert sorted(seed for seed, _, _ in jobs) == list(range(6))
    assert {device for _, device, _ in jobs} == {0, 1}
    (spoilt,) = {number for seed, _, number in jobs if seed == 0}
    own = [seed for seed, _, number in jobs if number == spoilt]
    assert own[-1] == 0  # its process took no job after it


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("gpu_finetune", "nothing is measured of what is wrong"),
        ("gpu_frozen", "results are not the CPU's"),
    ],
)
def test_where_nothing_is_computed_nothing_is_measured(script, said, variables, tmp_path):
    path, report = TESTS / "benchmarks" / f"{script}.py", tmp_path / "r.json"
    before = (sys.executable, "-c", SCRIPT)
    done = process(path, "--small", "--out", report, before=before, **variables)
    assert done.returncode == 1
    assert said in done.stderr
    assert not report.exists()
