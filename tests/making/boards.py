"""Records of whole boards, made from one real record with the given scores, seeds and names."""

import numpy as np

from tests.making.jobs import component
from vitbench.core.class_scores import ece
from vitbench.core.job import SuiteContext
from vitbench.core.record import Check, Confusion, Cost, Failure, Metric, Trial
from vitbench.published import VTAB_GROUPS

OURS = {"oxford_flowers102": "flowers102", "oxford_iiit_pet": "pets"}
VTAB = {f"vtab/{OURS.get(name, name)}": group for group, names in VTAB_GROUPS.items() for name in names}
NAMES = (
    "vit_large_patch16_224.orig_in21k", "vit_base_patch16_224.orig_in21k", "vit_base_patch32_224.orig_in21k",
    "vit_huge_patch14_224.orig_in21k", "resnetv2_152x4_bit.goog_in21k", "resnetv2_50x1_bit.goog_in21k",
)  # fmt: skip
RECIPE = {"recipe": "vit", "steps": None, "base_lr": None, "replicas": 1}


def metric(value, n=1000):
    return Metric(value=value, ci_low=max(value - 0.02, 0), ci_high=min(value + 0.02, 1), n=n)


def made(base, backbone, task, seed, value, *, tasks, seeds=3, budget="1k", **changes):
    """One record of fine-tuning with the ViT recipe; `changes` are fields of the record or of its job."""
    argument, group = backbone, changes.pop("group", VTAB.get(task, "vit"))
    family = "BiT" if "bit" in argument else "ViT"
    job = base.job.model_copy(
        update={
            "suite": SuiteContext(name="made", tasks=tuple(tasks), seeds=seeds, published=changes.pop("published", ())),
            "backbone": component("timm", argument.partition(".")[0], argument=argument),
            "task": component(task, task),
            "protocol": changes.pop("protocol", component("finetune", "finetune", **RECIPE)),
            "budget": budget,
            "seed": seed,
        }
    )  # fmt: skip
    facts = base.backbone.model_copy(
        update={"family": family, "weights": "pretrained", "pretrain_data": "ImageNet-21k", "params": 10**8, "size_px": 384,
                "source": "arXiv 2010.11929", **changes.pop("backbone", {})}
    )  # fmt: skip
    cost = Cost(
        seconds={"adapt": 100.0 + 7 * len(argument)}, device="GPU", device_kind="cuda", peak_memory_bytes=2**33,
        flops_per_image=10**10 * len(argument), images_forward=10**6, images_backward=10**6, energy_joules=9e5,
    )  # fmt: skip
    data = base.data.model_copy(update={"group": group, "n_test": 1000})
    checks = tuple(Check(item=item, ok=True) for item in ("not limited", "split", "exact N"))
    return base.model_copy(
        update={"job": job, "key": job.key, "metrics": {"top1": metric(value)}, "backbone": facts, "cost": cost, "data": data,
                "conformance": checks, "trials": (), **changes}
    )  # fmt: skip


def board(base, backbones=NAMES[:4], tasks=tuple(VTAB), seeds=3, **changes):
    """Records of every backbone on every task, with slightly different scores for each seed."""
    generator = np.random.default_rng(0)
    levels = {name: generator.uniform(0.4, 0.9) for name in tasks}
    return [
        made(
            base, name, task, seed, float(np.clip(levels[task] - 0.03 * i + generator.normal(0, 0.005), 0, 1)),
            tasks=tasks, seeds=seeds, **changes,
        )
        for i, name in enumerate(backbones) for task in tasks for seed in range(seeds)
    ]  # fmt: skip


def with_all_that_a_record_can_hold(record):
    """The record with loss curves, trials of a grid, and errors among many classes."""
    steps = tuple(float(step) for step in range(0, 500, 5))
    curve = {"loss": tuple(1 / (1 + step) for step in steps), "step": steps}
    trials = tuple(
        Trial(
            options={"base_lr": rate},
            split="val",
            metric="top1",
            value=0.5 + rate,
            chosen=rate == 0.03,
            curve=curve,
        )
        for rate in (0.001, 0.003, 0.01, 0.03)
    )
    errors = tuple((f"class {i}", f"class {i + 1}", 40 - i) for i in range(20))
    further = {**record.further, "ece": calibration(record.key)}
    return record.model_copy(
        update={"trials": trials, "confusion": Confusion(mistakes=errors), "further": further}
    )


def calibration(key):
    """A calibration error with its bins of 1,000 images, others for every key."""
    generator = np.random.default_rng(int(key[:8], 16))
    confidence = generator.beta(4, 2, 1000)
    return ece(confidence, generator.random(1000) < confidence**1.5, "logits")


def changed(record, *, value=None, n=100, status="ok", **job):
    """A copy of a record with another job and another score."""
    fields = {name: getattr(record.job, name) for name in type(record.job).model_fields}
    for axis in ("backbone", "task", "protocol"):
        if axis in job:
            fields[axis] = fields[axis].model_copy(update={"label": job[axis], "name": job[axis]})
    context = fields["suite"].model_copy(
        update={"tasks": job.get("tasks", fields["suite"].tasks), "seeds": job.get("seeds", 1)}
    )
    fields |= {k: v for k, v in job.items() if k in ("budget", "seed", "limit")} | {"suite": context}
    new = type(record.job)(**fields)
    metrics = (
        {}
        if value is None
        else {"top1": Metric(value=value, ci_low=value - 0.1, ci_high=min(value + 0.1, 1.0), n=n)}
    )
    failure = Failure(kind="X", message="boom") if status == "failed" else None
    return record.model_copy(
        update={"job": new, "key": new.key, "metrics": metrics, "status": status, "failure": failure}
    )
