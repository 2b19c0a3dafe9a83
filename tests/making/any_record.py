"""Hypothesis strategies for any record that the schema allows, however odd: what a board must be made of all the same."""

from hypothesis import strategies as st

from tests.making.bad_input import NASTY
from vitbench.core.job import Component, Job, SuiteContext
from vitbench.core.record import (
    BackboneFacts,
    Check,
    Confusion,
    Cost,
    DataFacts,
    Env,
    Extraction,
    Failure,
    LoadReport,
    Metric,
    Record,
    Trial,
)  # fmt: skip

LARGEST = 2**63 - 1
SCRIPTS = (
    "שלום", "مرحبا بالعالم", "हिन्दी", "日本語", "한국어", "ไทย", "Ελλάδα", "кириллица", "👩‍🔬🏳️‍🌈", "𝔘𝔫𝔦", "e\u0301",
    "</script><script>alert(1)</script>", "<!--", "]]>", "&amp;", "=1+1", "+1", "-1", "@x", "a,b;c\td", '"', "'", "a\nb",
    "a\rb", "a\r\nb", "\x00", "\x7f", "\x1b[2J", "\u2028", "\ufeff", "\ufffe", "\u202egnp", "|", "\\", "$x_1^2$", "%", "#", "~",
    "{{ 1 }}", "NaN", "null", "None", "Infinity", "1e999", "x" * 3000, "caf\\xe9",
)  # fmt: skip
TEXT = st.sampled_from(SCRIPTS) | NASTY
NAME = TEXT.filter(bool)
FRACTION = st.sampled_from([0.0, -0.0, 5e-324, 1e-12, 1 / 3, 0.5, 1 - 2**-53, 1.0]) | st.floats(0, 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.sampled_from([0, 1, 2**31, 2**53 + 1, LARGEST]) | st.integers(0, LARGEST)
AMOUNT = st.sampled_from([0.0, 5e-324, 1e27, 1.0]) | st.floats(0, 1e27)
VALUE = (
    st.none()
    | st.booleans()
    | FLOAT
    | st.sampled_from([2**1023 - 1, -(2**1023) + 1, 2**64])
    | st.integers(-3, 3)
    | TEXT
)
OPTIONS = st.dictionaries(NAME, VALUE | st.lists(VALUE, max_size=2), max_size=2)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)


def few(inner, most=2):
    """Up to so many, as a tuple."""
    return st.lists(inner, max_size=most).map(tuple)


def components(names):
    """A component of one of a few names: several records share rows, columns and boards."""
    return st.builds(
        Component, name=st.sampled_from(names), version=st.sampled_from(["1", "2"]), label=NAME, argument=st.just("") | TEXT,
        options=OPTIONS, contents=st.dictionaries(NAME, TEXT, max_size=1),
    )  # fmt: skip


BACKBONES = components(["raw_pixels", "timm", "odd"])
TASKS = components(["digits", "vtab/cifar", "vtab/dmlab", "cifar10"])
PROTOCOLS = components(["knn", "ridge_probe", "finetune"])
BUDGETS = st.sampled_from(["full", "1k", "1-shot", "5-shot", "999999-shot"])
SUITES = st.builds(
    SuiteContext, name=TEXT, tasks=few(NAME), seeds=st.sampled_from([1, 2, LARGEST]),
    published=few(st.sampled_from(["vit2021-t9", "", "nope"]) | TEXT, 1),
)  # fmt: skip
METRICS = st.dictionaries(
    st.just("top1") | NAME,
    st.builds(Metric, value=FRACTION, ci_low=FRACTION, ci_high=FRACTION, n=COUNT.filter(bool)),
    max_size=2,
)
CURVES = st.dictionaries(st.sampled_from(["step", "loss", "odd"]), few(st.none() | FLOAT, 70), max_size=3)
TRIALS = st.builds(
    Trial, options=st.fixed_dictionaries({"base_lr": VALUE}) | OPTIONS, split=st.sampled_from(["val", "train"]),
    metric=st.just("top1") | TEXT, value=st.none() | FLOAT, chosen=st.booleans(), note=TEXT,
    certificate=st.dictionaries(st.just("relative_gap") | NAME, FLOAT, max_size=2), curve=CURVES,
)  # fmt: skip
LOADS = st.builds(
    LoadReport, in_file=COUNT, used=COUNT, left_out=TEXTS, unused=TEXTS, initialised=TEXTS, taken=TEXT
)
TRIPLES = st.tuples(FLOAT, FLOAT, FLOAT)
FACTS = st.builds(
    BackboneFacts, family=TEXT, weights=st.sampled_from(["pretrained", "untrained", "none", "unknown"]), pretrain_data=TEXT,
    source=TEXT, params=COUNT, feature_dim=COUNT, size_px=COUNT, mean=TRIPLES, std=TRIPLES, weights_digest=TEXT,
    load=st.none() | LOADS, trained_on=st.none() | TEXTS, licence=TEXT,
    pretrain_tpu_v3_core_days=st.none() | st.just(1e300) | st.floats(0, 1e308),
)  # fmt: skip
DATA = st.builds(
    DataFacts, group=TEXT, dataset=TEXT, num_classes=COUNT, n_train=COUNT, n_val=COUNT, n_test=COUNT, skipped=TEXTS,
    fingerprints=st.dictionaries(st.just("test") | NAME, TEXT, max_size=2), departures=TEXTS, version=TEXT,
)  # fmt: skip
CONFUSIONS = st.builds(
    Confusion, classes=TEXTS, matrix=few(few(COUNT)), mistakes=few(st.tuples(TEXT, TEXT, COUNT))
)
EXTRACTIONS = st.builds(
    Extraction, key=TEXT, images=COUNT, shared=st.booleans(), device=TEXT, devices=st.integers(1, 2**40),
    seconds=st.none() | AMOUNT, core_seconds=st.none() | AMOUNT, flops=st.none() | COUNT, energy_joules=st.none() | AMOUNT,
    peak_memory_bytes=st.none() | COUNT, created=TEXT,
)  # fmt: skip
COSTS = st.builds(
    Cost, seconds=st.dictionaries(st.sampled_from(["build", "data", "adapt"]) | NAME, AMOUNT, max_size=3), device=TEXT,
    device_kind=st.sampled_from(["cpu", "cuda"]), peak_memory_bytes=COUNT, flops_per_image=st.none() | COUNT,
    images_forward=COUNT, images_backward=COUNT, energy_joules=st.none() | AMOUNT, devices=st.integers(1, 2**40),
    core_seconds=st.none() | AMOUNT, extractions=st.none() | few(EXTRACTIONS),
    overhead=st.dictionaries(st.just("warm-up") | NAME, AMOUNT, max_size=2),
)  # fmt: skip
CHECKS = st.builds(Check, item=TEXT, ok=st.sampled_from([True, False, None]), reason=TEXT)
FAILURES = st.builds(Failure, kind=TEXT, message=TEXT, where=TEXT, phase=TEXT)
ENVS = st.builds(
    Env, python=TEXT, platform=TEXT, device=TEXT, threads=COUNT, git_commit=TEXT,
    packages=st.dictionaries(st.just("vitbench") | NAME, TEXT, max_size=2),
)  # fmt: skip


@st.composite
def jobs(draw, axes):
    """A job whose parts are drawn from these few, so that records meet on boards."""
    backbones, tasks, protocols, suites = axes
    return Job(
        suite=draw(st.sampled_from(suites)), backbone=draw(st.sampled_from(backbones)), task=draw(st.sampled_from(tasks)),
        protocol=draw(st.sampled_from(protocols)), budget=draw(BUDGETS), seed=draw(st.sampled_from([0, 1, 2**31 - 1])),
        limit=draw(st.sampled_from([None, None, 1, LARGEST])), dtype=draw(st.sampled_from(["float32", "bfloat16"])),
        resolution_px=draw(st.sampled_from([None, None, 4096])),
    )  # fmt: skip


def of_job(job):
    """Any record of a job: a score or a failure, every optional field present or absent."""
    fields = {
        "trials": few(TRIALS, 3), "backbone": st.none() | FACTS, "data": st.none() | DATA, "preprocess": TEXT,
        "conformance": few(CHECKS), "notes": TEXTS, "cost": st.none() | COSTS, "confusion": st.none() | CONFUSIONS,
        "worst": few(COUNT),
    }  # fmt: skip
    always = {"key": st.just(job.key), "job": st.just(job), "env": ENVS, "created": TEXT}
    some = st.fixed_dictionaries(always, optional=fields)
    ok = st.fixed_dictionaries({"status": st.just("ok"), "metrics": METRICS})
    no_score = st.fixed_dictionaries({"status": st.just("failed"), "failure": FAILURES})
    return st.builds(lambda head, rest: Record(**head, **rest), ok | no_score, some)


@st.composite
def records(draw, most=4):
    """A run's records, of at most two backbones, tasks and protocols."""
    axes = [draw(st.lists(part, min_size=1, max_size=2)) for part in (BACKBONES, TASKS, PROTOCOLS, SUITES)]
    found = draw(st.lists(jobs(axes), min_size=1, max_size=most, unique_by=lambda job: job.key))
    return [draw(of_job(job)) for job in found]
