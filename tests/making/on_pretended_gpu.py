"""What runs on the pretended GPU: `python tests/making/on_pretended_gpu.py WHAT`; prints JSON."""

import gc
import json
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))
import vitbench
from tests.making.pretended import Counts
from vitbench.api import Adapted, InputSpec, Protocol, Provenance
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.batch_size import BatchSize
from vitbench.compute.meter import Meter
from vitbench.core.registry import register_backbone, register_protocol
from vitbench.data.arrays import array_split
from vitbench.data.decoded_cache import DecodedCache
from vitbench.data.preprocess import preset
from vitbench.data.resize import KERNELS
from vitbench.engine import worker
from vitbench.engine.feature_cache import FeatureCache
from vitbench.engine.features import FeatureReader
from vitbench.protocols.finetune import checkpoint, micro_batch, train
from vitbench.protocols.finetune.trainer import Trainer
from vitbench.protocols.heads.trainer import HeadTrainer
from vitbench.protocols.recipes import Recipe

STEPS, SIZE_PX, WIDTH, FEW, LARGE, BATCHES = 12, 32, 64, 16, 64, 6
RECIPE = Recipe(steps=STEPS, warmup_steps=2, base_lr=0.03, clip_norm=1.0)
ROOM_STEP, MOST_ROOMS = 20 * 2**20, 40  # bytes: what torch takes of a GPU at once
SUITE = """
name: pretended
dtype: bfloat16
preprocess: squash
budgets: [full]
backbones: [small-transformer]
tasks: [digits]
protocols: [{}]
"""


class Small(nn.Module):
    """A transformer whose patches are embedded by a product: cuDNN's convolutions are not pretended."""

    input, feature_dim = InputSpec(SIZE_PX, (0.5,) * 3, (0.5,) * 3), WIDTH
    provenance = Provenance(family="ViT", weights="untrained", pretrain_data="none")

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3 * 64, WIDTH)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(2)
        )
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.02, generator=torch.Generator().manual_seed(0))

    def tokens(self, images):
        patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = self.embed(patches)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def features(self, images):
        return self.tokens(images).mean(1)


torch.backends.cudnn.enabled = False  # it is not pretended
torch.backends.cuda.enable_cudnn_sdp(False)
# What nobody computes is zero: features are equal, and answers are no.
worker.refuse_faulty = lambda *_: None
torch.isfinite = lambda numbers: torch.ones(len(numbers), dtype=torch.bool)


@register_backbone("small-transformer")
def small_transformer():
    """Two layers."""
    return Small()


@register_protocol("breaking")
@dataclass(frozen=True)
class Breaking(Protocol):
    """Writes down its seed, GPU and process; with seed 0 it breaks the GPU for its process."""

    def depends_on_seed(self, budget):
        return True

    def adapt(self, data):
        with Path(os.environ["SEEN"]).open("a") as file:  # short lines are appended whole
            file.write(json.dumps([data.seed, torch.cuda.current_device(), os.getpid()]) + "\n")
        if data.seed == 0:
            Counts().set("error", 719)
        torch.zeros(8, device=data.device)
        return Adapted(data.backbone, lambda x: torch.zeros(len(x), data.num_classes), False)


def watch(kind, method, counts):
    """A list that gets the counters' change over each call of a method."""
    changes, plain = [], getattr(kind, method)

    def watched(*arguments, **named):
        before = counts.now()
        result = plain(*arguments, **named)
        changes.append([after - first for after, first in zip(counts.now(), before, strict=True)])
        return result

    setattr(kind, method, watched)
    return changes


def batches(count, size, size_px=SIZE_PX):
    """Batches that are on the GPU already."""
    images = torch.zeros(size, 3, size_px, size_px, device="cuda")
    return [(images, torch.zeros(size, dtype=torch.long).cuda())] * count


def training(counts):
    """The counters' changes at each step of two pieces."""
    micro_batch.size_for = lambda *_: 8
    changes = watch(Trainer, "step", counts)
    train(Small().cuda(), batches(STEPS, 16), 10, RECIPE, dtype="bfloat16")
    return changes


def checkpoints(counts):
    """The counters' changes over each checkpoint, a write of which is waited for with the next."""
    checkpoint.EVERY_S = 0
    changes = watch(checkpoint.Checkpoint, "keep", counts)
    with tempfile.TemporaryDirectory() as folder, checkpoint.Checkpoints(Path(folder)) as kept:
        train(Small().cuda(), batches(STEPS, 16), 10, RECIPE, checkpoint=kept.checkpoint("run", {}))
    return changes


def extraction(counts):
    """The counters' changes at each extraction, of train and of test: of 64 images, of 16, and of 64 again."""
    plain = FeatureReader._batches
    FeatureReader._batches = lambda *arguments: iter(list(plain(*arguments)))
    changes = watch(FeatureReader, "_batches", counts)
    for limit in (4 * FEW, FEW, 4 * FEW):
        records_of("knn", limit=limit)
    return changes


def passes(counts):
    """The counters' changes over passes of BATCHES batches: of small and of large images: two that decode, two cached."""
    BatchSize.choose = lambda size, _forward: setattr(size, "size", FEW) or FEW
    changes = watch(FeatureReader, "extract", counts)
    backbone = BuiltBackbone(Small(), "small", {}).cuda().eval()
    for size_px in (20, 200):
        pixels = np.zeros((BATCHES * FEW - 3, size_px, size_px, 3), np.uint8)
        split = array_split(pixels, np.zeros(len(pixels), np.int64), f"{size_px}")
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for decoded in (None, DecodedCache(place), DecodedCache(place), DecodedCache(place)):
                reader = FeatureReader(
                    backbone, preset("fewshot", SIZE_PX), "cuda", "bfloat16", FeatureCache(place), {}, (split,),
                    lambda _done, _total: None, Meter("cuda"), decoded=decoded,
                )  # fmt: skip
                reader.extract(backbone, split)
    return changes


def kernels(counts):
    """The counters' changes over the second call of each resize kernel, of uint8 images."""
    changes, images = {}, torch.zeros(4, 3, 30, 40, dtype=torch.uint8, device="cuda")
    for name, kernel in KERNELS.items():
        for _ in range(2):
            before = counts.now()
            kernel(images, (50, 20), window=(range(5, 45), range(2, 20)))
            changes[name] = [after - first for after, first in zip(counts.now(), before, strict=True)]
    return changes


def whole(_counts):
    """How jobs of a suite end that trains, and that looks for neighbours, and what they say of energy."""
    tuned = "{name: finetune, recipe: own, steps: 25, base_lr: 0.01, batch_size: 16}"
    records = records_of(tuned, "knn", limit=60)
    return [[r.failure.message if r.failure else r.status, r.cost and r.cost.energy_joules] for r in records]


def probes(counts):
    """How jobs of linear and of attentive heads end, and the counters' changes at each of their steps."""
    changes = watch(HeadTrainer, "step", counts)
    linear = "{name: linear_probe, steps: 6, batch_size: 16, inputs: [features, mean]}"
    mae = "{name: linear_probe, recipe: mae, epochs: 2, batch_size: 20, inputs: features, label: mae}"
    attentive = "{name: attentive_probe, steps: 6, batch_size: 16}"
    records = records_of(linear, mae, attentive, limit=60, settings=[f"resolution_px={SIZE_PX}"])
    return [[r.failure.message if r.failure else r.status for r in records], changes]


def broken(_counts):
    """How the jobs of two workers on two GPUs end."""
    records = records_of("breaking", seeds=[0, 1, 2, 3, 4, 5], limit=60, workers=2)
    return [record.failure.kind if record.failure else record.status for record in records]


def memory(counts):
    """For more and more room: the size of pieces that training ends with, or that memory ran out."""
    found = []
    while len(found) < MOST_ROOMS and found[-2:].count(LARGE) < 2:
        gc.collect()
        torch.cuda.empty_cache()
        counts.set("room", (len(found) + 2) * ROOM_STEP)
        try:
            log = train(
                Small().cuda(), batches(3, LARGE, 128), 10, Recipe(steps=3, warmup_steps=0, base_lr=0.01)
            )
            found.append(log.micro_batch_size)
        except torch.OutOfMemoryError:
            found.append(0)
    return found


def records_of(*protocols, **how):
    """The records of a suite in which the transformer runs on the GPU."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VITBENCH_CACHE"] = folder
        suite = Path(folder) / "suite.yaml"
        suite.write_text(SUITE.format(", ".join(protocols)))
        return vitbench.run(suite, Path(folder) / "run", device="cuda", plugins=[__file__], **how)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Attempting to run cuBLAS")  # the first call makes the context
    print(json.dumps(globals()[sys.argv[1]](Counts())))
