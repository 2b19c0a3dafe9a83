"""What a job cost is its own: the same in any order, with other workers, from the cache, and after a failure."""

import json

import pytest
import torch

from tests.making.jobs import component, make_job
from tests.making.runs import ran
from tests.making.suites import TUNED
from vitbench.api import Adapted
from vitbench.compute.environment import describe
from vitbench.compute.meter import Meter, Span
from vitbench.core.record import Cost
from vitbench.core.registry import PROTOCOLS
from vitbench.engine import job_cost, queue
from vitbench.engine.job import run_job
from vitbench.engine.worker import Worker
from vitbench.protocols.knn import Knn
from vitbench.report.compute import measured_compute, run_device_seconds
from vitbench.report.page import render
from vitbench.report.tidy import tidy

FIRST_S, BATCH_S = 2.0, 0.02
# A network whose first call in a process takes long, and every other as long as any.
PLUGIN = f"""
import time
import torch
from vitbench.api import InputSpec
from vitbench.core.registry import register_backbone

seen = []

@register_backbone("steady")
class Steady(torch.nn.Module):
    input, feature_dim = InputSpec(8, (0.5,) * 3, (0.5,) * 3), 192

    def features(self, images):
        if images.shape[2] == 8 and images.device.type == "cpu":
            time.sleep({BATCH_S} if seen else {FIRST_S})
            seen.append(1)
        return images.flatten(1)
"""
SUITE = """
name: c
budgets: [2-shot, full]
limit: 150
backbones: [steady]
tasks: [digits]
protocols: [ridge_probe, {name: knn, budgets: [full]}]
preprocess: squash
"""
SPLIT_S = 3 * BATCH_S  # of 150 images, in batches of 64


@pytest.fixture
def run(suite_file, tmp_path, monkeypatch):
    """Run the suite with a cache of this name; the cost of each job by its key."""
    (tmp_path / "steady.py").write_text(PLUGIN)

    def costs(out, cache, **how):
        monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / cache))
        result, _ = ran(suite_file(SUITE), tmp_path / out, plugins=[str(tmp_path / "steady.py")], **how)
        assert [record.failure for record in result.records] == [None] * 3
        return result.records

    return costs


def counted(cost):
    """What does not depend on the clock or on who came first."""
    features = {(each.key, each.images, each.flops) for each in cost.extractions}
    return (
        features,
        cost.images_forward,
        cost.images_backward,
        cost.flops_per_image,
        set(cost.seconds),
        cost.devices,
    )


def is_whole(cost):
    """Whether all features are in the cost, but not the first call in a process; the rest is for a machine that is busy."""
    least = SPLIT_S * len(cost.extractions)
    return (
        least <= cost.seconds["features"] < least + FIRST_S and cost.device_seconds > cost.seconds["features"]
    )


def test_a_job_costs_the_same_in_any_order_and_from_the_cache(run, monkeypatch):
    first = {record.key: record.cost for record in run("first", "a")}
    again = {record.key: record.cost for record in run("again", "a")}
    with monkeypatch.context() as patch:
        original = queue.ordered
        patch.setattr(queue, "ordered", lambda jobs: list(reversed(original(jobs))))
        backwards = {record.key: record.cost for record in run("backwards", "c")}
    own = [
        [any(not each.shared for each in cost.extractions) for cost in costs.values()]
        for costs in (first, backwards)
    ]
    assert own[0] != own[1]  # other jobs came first
    for key, cost in first.items():
        for other in (cost, again[key], backwards[key]):
            assert counted(other) == counted(cost)
            assert is_whole(other)
        assert all(each.shared for each in again[key].extractions)
        assert {each.key: each.seconds for each in cost.extractions} == {
            each.key: each.seconds for each in again[key].extractions
        }
    # The checks of a built network are its first images.
    assert sum(cost.overhead["build"] for cost in first.values()) >= FIRST_S


@pytest.mark.slow
def test_a_job_costs_the_same_with_more_workers(run):
    one, two = ({record.key: record.cost for record in run(f"{n}", f"{n}", workers=n)} for n in (1, 2))
    for key, cost in one.items():
        assert counted(cost) == counted(two[key])
        assert is_whole(cost)
        assert is_whole(two[key])


def test_a_run_counts_shared_features_once_and_a_row_counts_them_for_each_job(run):
    records = run("first", "a")
    row = measured_compute(records)
    assert row.seconds == pytest.approx(sum(record.cost.device_seconds for record in records))
    assert not row.at_least
    extracted = {each.key: each.seconds for record in records for each in record.cost.extractions}
    phases = sum(record.cost.seconds[name] for record in records for name in ("adapt", "test"))
    assert run_device_seconds(records) == pytest.approx(phases + sum(extracted.values()))
    assert run_device_seconds(records) < row.seconds - 2 * SPLIT_S
    again = run("again", "a")  # nobody extracts anything
    phases = sum(record.cost.seconds[name] for record in again for name in ("adapt", "test"))
    assert run_device_seconds(again) == pytest.approx(phases + sum(extracted.values()))
    assert sum(record.cost.work_s for record in again) == pytest.approx(phases)
    shared = tidy(again).query("metric == 'top1'")
    assert shared["shared_seconds"].tolist() == pytest.approx([r.cost.seconds["features"] for r in again])


@pytest.mark.slow
def test_features_of_unknown_cost_make_the_cost_unknown_and_never_zero(run, tmp_path):
    run("first", "a")
    for sidecar in (tmp_path / "a" / "features").glob("*.json"):
        facts = json.loads(sidecar.read_text())
        assert facts.pop("extraction")["seconds"] > 0
        sidecar.write_text(json.dumps(facts))
    records = run("again", "a")
    for record in records:
        cost = record.cost
        assert cost.device_seconds is None
        assert cost.core_seconds is None
        assert "features" not in cost.seconds
        assert cost.images_forward == sum(each.images for each in cost.extractions) > 0
        assert cost.least_device_seconds == pytest.approx(cost.seconds["adapt"] + cost.seconds["test"])
    row = measured_compute(records)
    assert row.at_least
    assert "≥ " in render(records)
    assert tidy(records)["transfer_seconds"].isna().all()


@pytest.mark.slow
def test_a_damaged_statement_of_the_cost_is_unknown(run, tmp_path):
    run("first", "a")
    for sidecar in (tmp_path / "a" / "features").glob("*.json"):
        facts = json.loads(sidecar.read_text())
        facts["extraction"]["seconds"] = -1
        sidecar.write_text(json.dumps(facts))
    assert {record.cost.device_seconds for record in run("again", "a")} == {None}


def test_a_job_that_failed_after_its_extraction_costs_as_much_when_it_is_retried(tmp_path, monkeypatch):
    job = make_job(limit=100)
    with monkeypatch.context() as patch:
        patch.setattr("vitbench.engine.job._JobRun._test_features", lambda *_: 1 / 0)
        assert run_job(job, Worker("cpu", tmp_path)).record.failure.kind == "ZeroDivisionError"
    sidecars = [json.loads(path.read_text()) for path in (tmp_path / "features").glob("*.json")]
    cost = run_job(job, Worker("cpu", tmp_path)).record.cost
    by_key = {each.seconds for each in cost.extractions if each.shared}
    assert by_key == {sidecar["extraction"]["seconds"] for sidecar in sidecars}
    assert [each.shared for each in cost.extractions].count(False) == 1  # those of test


def test_a_cache_that_is_off_changes_no_cost(tmp_path, monkeypatch):
    job = make_job(limit=100)
    kept = run_job(job, Worker("cpu", tmp_path / "a")).record.cost
    monkeypatch.setenv("VITBENCH_FEATURES_GB", "0")
    monkeypatch.setenv("VITBENCH_DECODED_GB", "0")
    assert counted(run_job(job, Worker("cpu", tmp_path / "b")).record.cost) == counted(kept)


def test_a_protocol_warms_up_once_in_a_process_and_not_in_a_jobs_time(tmp_path, registered):
    calls = []

    class Warming(Knn):
        def warm_up(self, device):
            calls.append(device)

    PROTOCOLS.register("warming")(Warming)
    worker = Worker("cpu", tmp_path)
    for k in (1, 2):
        job = make_job(limit=60, protocol=component("warming", k=k))
        assert run_job(job, worker).record.failure is None
    assert calls == ["cpu"]


def test_an_older_record_says_at_least_for_features_that_others_extracted():
    facts = {
        "device": "cpu", "device_kind": "cpu", "peak_memory_bytes": 1, "flops_per_image": 1, "energy_joules": None,
    }  # fmt: skip
    seconds = {"build": 9.0, "data": 7.0, "adapt": 2.0, "test": 1.0}
    probe = Cost(**facts, seconds=seconds, images_forward=0, images_backward=0)
    assert (probe.device_seconds, probe.least_device_seconds) == (None, 3.0)
    assert (probe.work_s, probe.total_s) == (3.0, 19.0)
    tuned = Cost(**facts, seconds=seconds, images_forward=5, images_backward=8)
    assert tuned.device_seconds == 3.0


def test_the_first_look_at_a_gpu_is_after_cuda_has_begun(monkeypatch, tmp_path):
    """The memory counters of a GPU that is not the first cannot be read before."""
    calls = []
    for name in ("init", "set_device", "reset_peak_memory_stats", "max_memory_allocated", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *a, name=name: calls.append((name, *a)) or 0)
    here = describe("cpu")
    monkeypatch.setattr("vitbench.engine.outcome.describe", lambda _device: here)
    outcome = run_job(make_job(), Worker("cuda:1", tmp_path))
    assert outcome.record.status == "failed"  # there is none
    assert calls[:3] == [("init",), ("set_device", "cuda:1"), ("reset_peak_memory_stats", "cuda:1")]


@pytest.mark.slow
def test_two_devices_cost_twice_the_seconds(suite_file, plugin, tmp_path):
    text = TUNED.format(steps=12, rates=[0.1], clip="none")
    text = text.replace("recipe: own", "recipe: own, replicas: 2")
    result, _ = ran(suite_file(text), tmp_path / "run", plugins=[plugin], limit=120)
    (record,) = result.records
    assert record.failure is None
    cost = record.cost
    assert cost.devices == 2
    assert cost.device_seconds == pytest.approx(2 * (cost.seconds["adapt"] + cost.seconds["test"]))
    assert cost.extractions == ()
    assert cost.overhead["warm-up"] > 0


@pytest.mark.parametrize(("others", "expected"), [([2.0, 3.5], 6.5), ([2.0, None], None)])
def test_energy_is_that_of_all_devices_and_unknown_if_one_is(monkeypatch, others, expected):
    meter = Meter("cpu")
    meter.phases["adapt"].add(Span(seconds=4, core_seconds=4, joules=1.0))
    ranks = [[5, joules, 4.0] for joules in others]
    monkeypatch.setattr(job_cost, "gathered", lambda own: [own, *ranks])
    monkeypatch.setattr(job_cost, "devices", lambda: 3)
    cost = job_cost.cost_of(meter, Adapted(None, None, True), "cpu", None)
    assert cost.energy_joules == expected
    assert cost.device_seconds == 3 * 4
    assert cost.core_seconds == 3 * 4
