"""The seconds that a plan is said to take on a card, with networks that are compiled where that pays."""

import pytest

from tests.making.jobs import component, make_job
from vitbench.compute import roofline
from vitbench.compute.compiling import COMPILE_S, OF_EAGER_TIME
from vitbench.engine.network_costs import Networks
from vitbench.engine.speeds import CardSpeeds, CompiledSpeeds, FixedSpeeds, Work, choose_speeds

VIT, BIT = "vit_base_patch16_224.augreg_in21k", "resnetv2_50x1_bit.goog_in21k"
# A run of VTAB-1k by the ViT recipe: 2,500 steps of 512 images of 384 px, and a test set of 10,000.
TRAINED, TESTED = 2_500 * 512, 10_000


@pytest.fixture
def networks(tmp_path):
    return Networks(tmp_path)


def job_of(name):
    return make_job(protocol=component("finetune", recipe="vit")).model_copy(
        update={"backbone": component("timm", argument=name, pretrained=False), "dtype": "bfloat16"}
    )


def work_of(networks, job, *, is_long=True):
    flops = networks.counts(job, 384).flops
    trained, tested = 3 * TRAINED * flops, TESTED * flops
    name = job.backbone.spec
    return Work(name, 384, TESTED, TRAINED, trained + tested, long_flops=trained if is_long else 0)


def test_a_compiled_network_is_compiled_once_and_its_long_runs_are_shorter(networks):
    h100 = CardSpeeds(roofline.card("h100"), networks)
    speeds, job = CompiledSpeeds(h100, networks), job_of(VIT)
    work = work_of(networks, job)
    plain = h100.seconds(job, work)
    share = work.long_flops / work.flops
    wanted = plain * (1 - (1 - OF_EAGER_TIME) * share)
    assert "compiled" not in speeds.said
    assert speeds.seconds(job, work) == pytest.approx(wanted + COMPILE_S)
    assert speeds.seconds(job, work) == pytest.approx(wanted)
    assert "compiled networks take 0.82 of the time" in speeds.said


def test_short_runs_and_other_networks_are_not_compiled(networks):
    speeds = CompiledSpeeds(FixedSpeeds("", {}, 1e12), networks)
    for job, is_long in ((job_of(VIT), False), (job_of(BIT), True)):
        work = work_of(networks, job, is_long=is_long)
        assert speeds.seconds(job, work) == speeds.as_it_is.seconds(job, work)
    assert not speeds.graphs


@pytest.mark.parametrize(("name", "is_compiled"), [("vit_tiny_patch16_384", True), ("resnet18", False)])
def test_a_network_outside_the_catalog_is_counted(networks, name, is_compiled):
    job = job_of(name)
    work = Work(job.backbone.spec, 384, 10**6, 0, flops=10**18, long_flops=10**18)
    for each in (networks, Networks(networks._folder.parent)):  # the second reads what the first has counted
        speeds = CompiledSpeeds(FixedSpeeds("", {}, 1e12), each)
        wanted = OF_EAGER_TIME * 1e6 + COMPILE_S if is_compiled else 1e6
        assert speeds.seconds(job, work) == pytest.approx(wanted)


@pytest.mark.parametrize("mode", ["on", "off"])
def test_the_mode_is_the_runs(networks, mode, monkeypatch):
    monkeypatch.setenv("VITBENCH_COMPILE", mode)
    speeds, job = CompiledSpeeds(FixedSpeeds("", {}, 1e12), networks), job_of(BIT)
    work = work_of(networks, job, is_long=False)
    plain = speeds.as_it_is.seconds(job, work)
    assert speeds.seconds(job, work) == (
        plain if mode == "off" else pytest.approx(OF_EAGER_TIME * plain + COMPILE_S)
    )


def test_on_a_cpu_nothing_is_compiled(networks):
    job = job_of(VIT)
    work = work_of(networks, job)
    networks.cost(work.backbone, job)
    found = choose_speeds(networks, {work.backbone: job}, [work], "cpu", None, measure=False)
    assert isinstance(found, FixedSpeeds)
