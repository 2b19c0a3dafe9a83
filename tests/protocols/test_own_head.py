"""The weights' own classifier: its scores are timm's, on all images, and its classes are the task's or the job is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import create_dataset, create_loader, resolve_data_config

import vitbench
from tests.making.cifar10 import unpack_images
from tests.making.npz import golden, weights
from tests.making.npz import images as images_of
from tests.making.npz import saved as saved_npz
from vitbench.backbones.build import build
from vitbench.core.conformance import Evidence, conformance
from vitbench.core.errors import UsageError
from vitbench.core.own_classifier import OwnClassifier
from vitbench.protocols.own_head import OwnHead
from vitbench.store.predictions import read_predictions
from vitbench.tasks.imagenet import wordnet_ids

QUICK = (
    "vit_tiny_patch16_224",
    "resnetv2_50x1_bit",
    "tf_efficientnet_lite0",
    "convnext_atto",
    "regnety_002",
    "repvit_m0_9",
)
LONG = (
    "vit_base_patch16_clip_224", "vit_small_patch16_rope_224", "beit_base_patch16_224", "resnet18", "efficientnet_b0",
    "mobilenetv3_small_050", "mixer_s32_224", "swin_tiny_patch4_window7_224", "efficientvit_m0", "ghostnet_050", "densenet121",
    "volo_d1_224", "vgg11",
)  # fmt: skip
ARCHITECTURES = (*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG))
AVERAGED = ("deit_tiny_distilled_patch16_224", "levit_128s", "repvit_m0_9", "volo_d1_224")


def saved(name, folder, noise=0.02, **options):
    """A model of timm's with initial weights, no two of which are equal, and the file that has them."""
    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(noise * torch.randn_like(weight))
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous().clone() for key, value in model.state_dict().items()}, path)
    return model, path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_classifier_on_our_features_gives_timms_scores_or_is_refused(name, tmp_path):
    model, path = saved(name, tmp_path, num_classes=30)
    backbone = build(f"timm:{name}", {"checkpoint": path}, "x").eval()
    size_px = backbone.input.size_px
    images = torch.randn(2, 3, size_px, size_px)
    with torch.no_grad():
        expected = model(images)
        if name in AVERAGED:
            with pytest.raises(UsageError, match="own_head"):
                backbone.classifier()
            return
        own = backbone.classifier()
        torch.testing.assert_close(own.module(backbone.features(images)), expected, rtol=1e-4, atol=1e-4)
    assert (own.classes, own.names) == (30, None)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """2,300 of CIFAR-10's JPEGs in class folders; 500 of them are the test split."""
    folder = tmp_path_factory.mktemp("cifar10")
    unpack_images(folder)
    for file in sorted(folder.glob("test/*/*"))[::6]:
        file.unlink()
    return folder


SIDE_PX = 64


def loader_of(model, root):
    """The images of a folder as timm's validate.py reads them: its loader and its transform."""
    data = create_dataset("", root=str(root), split="")
    config = resolve_data_config({"input_size": (3, SIDE_PX, SIDE_PX)}, model=model)
    names = ("interpolation", "mean", "std", "crop_pct", "crop_mode")
    loader = create_loader(
        data, config["input_size"], 32, use_prefetcher=False, num_workers=0, device=torch.device("cpu"),
        **{name: config[name] for name in names},
    )  # fmt: skip
    return data, loader


def centre(model, root):
    """Make initial weights tell images apart, by a bias that gives no class to all of them."""
    classifier = model.get_classifier()
    with torch.no_grad():
        classifier.weight.normal_()
        batch, _ = next(iter(loader_of(model, root)[1]))
        classifier.bias -= model(batch).mean(0)


# Airliner, sports car, hummingbird, tabby, impala, golden retriever, bullfrog, sorrel, container ship and trailer truck.
AS_CIFAR10 = [404, 817, 94, 281, 352, 207, 30, 339, 510, 867]


def take_trained(model):
    """Trained weights, of a package, with ten of its classes: EfficientNet's initial ones give all images nearly one score."""
    trained = build("effnet-lite0", {}, "x")
    own = trained.classifier().module
    model.load_state_dict(trained.module.model.state_dict(), strict=False)
    with torch.no_grad():
        model.get_classifier().weight.copy_(own.weight[AS_CIFAR10])
        model.get_classifier().bias.copy_(own.bias[AS_CIFAR10])


def validated(model, root):
    """Predictions by file, but for those that rounding decides: it changes scores by as much as the layout of memory does."""
    data, loader = loader_of(model, root)
    with torch.inference_mode():
        scores = torch.cat([model(batch) for batch, _ in loader])
        other = torch.cat([model(batch.contiguous(memory_format=torch.channels_last)) for batch, _ in loader])
    best = scores.topk(2, 1).values
    is_clear = ((best[:, 0] - best[:, 1]) > 4 * (scores - other).abs().max()).tolist()
    names = [data.filename(index, absolute=False) for index in range(len(data))]
    found = zip(names, scores.argmax(1).tolist(), is_clear, strict=True)
    return {name: prediction for name, prediction, clear in found if clear}


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # timm's reader
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnetv2_50x1_bit", "tf_efficientnet_lite0"])
def test_predictions_are_those_of_timms_validation_one_by_one(name, images, tmp_path):
    sized = {"img_size": SIDE_PX} if name.startswith("vit") else {}
    model, path = saved(name, tmp_path, noise=0.0, num_classes=10, **sized)
    if name == "tf_efficientnet_lite0":
        take_trained(model)
    else:
        centre(model, images / "train")
    save_file({key: value.contiguous().clone() for key, value in model.state_dict().items()}, path)
    expected = validated(model, images / "test")
    suite = tmp_path / "own.yaml"
    suite.write_text(
        f"name: own\nbudgets: [full]\nbackbones: [{{name: 'timm:{name}', checkpoint: {path}, size_px: {SIDE_PX}}}]\n"
        f"tasks: [{{name: folder, path: {images}}}]\nprotocols: [own_head]\n"
    )
    (record,) = vitbench.run(suite, tmp_path / "run")
    assert record.failure is None
    assert any("they are taken for the task's, in its order" in note for note in record.notes)
    assert "conformant" not in [check.reason for check in record.conformance]
    assert record.cost.images_backward == 0
    table = read_predictions((tmp_path / "run" / "predictions" / f"{record.key}.parquet").read_bytes())
    found = dict(zip(table["name"].str.removeprefix("test/"), table["prediction"], strict=True))
    assert len(expected) >= 500
    assert {image: found[image] for image in expected} == expected
    assert len(set(expected.values())) > 4


def adapted(own, names, **options):
    backbone = SimpleNamespace(classifier=lambda: own)
    notes = []
    data = SimpleNamespace(
        backbone=backbone, num_classes=len(names), class_names=names, device="cpu", note=notes.append
    )
    return OwnHead(**options).adapt(data), notes


def classifier(names=None, classes=5):
    torch.manual_seed(0)
    return OwnClassifier(torch.nn.Linear(4, classes), classes, names)


def test_classes_are_found_by_name():
    own, x = classifier(("a", "b", "c", "d", "e")), torch.randn(3, 4)
    found, notes = adapted(own, ("d", "a"))
    assert torch.equal(found.head(x), own.module(x)[:, [3, 0]])
    assert notes == ["2 of the classifier's 5 classes are the task's, by their names"]
    found, notes = adapted(own, ("a", "b", "c", "d", "e"))
    assert torch.equal(found.head(x), own.module(x))
    assert notes == []


@pytest.mark.parametrize(
    ("own", "names", "said"),
    [
        (
            classifier(("a", "b", "c", "d", "e")),
            ("a", "z"),
            "1 of the task's classes are not among them, such as z",
        ),
        (classifier(), ("a", "b"), "5 classes, the task 2; what they are is not known"),
    ],
)
def test_other_classes_are_refused_with_the_map_that_is_missing(own, names, said):
    with pytest.raises(UsageError, match=rf"{said}(.|\n)*class_map"):
        adapted(own, names)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("1\n2\n3", "has 3 numbers"),
        ("1\n9", "9 is no class"),
        ("1\n1", "stands for two"),
        ("1\nx", "invalid literal"),
        (None, "No such"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(lines, said, tmp_path):
    if lines is not None:
        (tmp_path / "map.txt").write_text(lines)
    with pytest.raises(UsageError, match=said):
        adapted(classifier(), ("a", "b"), class_map=tmp_path / "map.txt")


def test_a_stated_map_is_followed(tmp_path):
    (tmp_path / "map.txt").write_text("4\n0\n")
    own, x = classifier(), torch.randn(3, 4)
    found, notes = adapted(own, ("a", "b"), class_map=tmp_path / "map.txt")
    assert torch.equal(found.head(x), own.module(x)[:, [4, 0]])
    assert notes == ["the classifier's classes are the task's by map.txt"]


def test_the_classes_of_real_weights_are_imagenets():
    """EfficientNet-Lite0's file in a package: its classes are found, in the order of the task."""
    own = build("effnet-lite0", {}, "x").classifier()
    assert own.names == wordnet_ids()
    assert own.module.weight.shape == (1000, 1280)
    assert np.isfinite(own.module.bias.detach().numpy()).all()


def test_what_has_no_classifier_is_refused():
    for name, options in (("timm:resnet18", {"pretrained": False}), ("raw_pixels", {})):
        with pytest.raises(UsageError, match=r"own_head: (.|\n)*use a probe"):
            build(name, options, "x").classifier()


def test_labels_that_the_weights_have_seen_are_no_fault_of_their_own_classifier(tiny_records):
    record = tiny_records[0]
    checks = {}
    for name in ("own_head", "knn"):
        job = record.job.model_copy(
            update={"protocol": record.job.protocol.model_copy(update={"name": name, "options": {}})}
        )
        data = record.data.model_copy(update={"dataset": "imagenet2012"})
        found = conformance(Evidence(job, data, record.metrics["top1"], ("imagenet2012",)))
        checks[name] = {check.item: check.ok for check in found}["weights have not seen this task's labels"]
    assert checks == {"own_head": True, "knn": False}


# ---------------------------------------------------------------- other adapters


def agrees(backbone, network, images):
    """The classifier, whose scores of our features are the network's own."""
    own = backbone.classifier()
    with torch.no_grad():
        torch.testing.assert_close(
            own.module(backbone.features(images)), network(images), rtol=1e-4, atol=1e-4
        )
    return own


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "mobilenet_v3_small",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("vit_b_32", "swin_t")),
    ],
)
def test_torchvisions_checkpoints_have_their_classifier(name, tmp_path):
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.get_model(name, num_classes=7).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    torch.save(network.state_dict(), tmp_path / "own.pth")
    backbone = build(f"torchvision:{name}", {"checkpoint": tmp_path / "own.pth"}, "x").eval()
    own = agrees(backbone, network, torch.randn(2, 3, 224, 224))
    assert (own.classes, own.names) == (7, None)
    without = {key: value for key, value in network.state_dict().items() if value.shape[:1] != (7,)}
    torch.save(without, tmp_path / "bare.pth")
    bare = build(f"torchvision:{name}", {"checkpoint": tmp_path / "bare.pth"}, "x")
    with pytest.raises(UsageError, match="no trained classifier"):
        bare.classifier()


def test_torchvisions_own_weights_have_imagenets_classes(monkeypatch):
    import torchvision

    models = {}

    def get(name, weights=None, **options):  # its file cannot be downloaded here
        torch.manual_seed(1)
        models["made"] = torchvision.models.resnet18(**options).eval()
        models["whole"] = torchvision.models.resnet18(**options).eval()
        models["whole"].load_state_dict(models["made"].state_dict())
        return models["made"]

    monkeypatch.setattr("torchvision.models.get_model", get)
    backbone = build("torchvision:resnet18", {}, "x").eval()
    own = agrees(backbone, models["whole"], torch.randn(2, 3, 224, 224))
    assert own.names == wordnet_ids()
    with pytest.raises(UsageError, match="no trained classifier"):
        build("torchvision:resnet18", {"pretrained": False}, "x").classifier()


@pytest.mark.parametrize(("classes", "named"), [(1000, True), (1000, False), (9, False)])
def test_transformers_classifiers_are_read_and_imagenets_names_known(classes, named, tmp_path):
    import transformers
    from timm.data.imagenet_info import ImageNetInfo

    torch.manual_seed(2)
    labels = ImageNetInfo("imagenet-1k").label_descriptions() if named else [f"L{i}" for i in range(classes)]
    config = transformers.ViTConfig(
        image_size=32, patch_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    network = transformers.ViTForImageClassification(config).eval()
    network.save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    backbone = build(f"hf:{tmp_path}", {}, "x").eval()
    own = agrees(backbone, lambda images: network(images).logits, torch.randn(2, 3, 32, 32))
    assert own.names == (wordnet_ids() if named else None)
    assert own.classes == classes
    with pytest.raises(UsageError, match="pooled by patch_mean"):
        build(f"hf:{tmp_path}", {"pooling": "patch_mean"}, "x").classifier()


@pytest.mark.parametrize(("golden_name", "seed"), [("vit_a", 7), ("vit_b", 7), ("bit_a", 9)])
def test_npz_classifiers_give_the_references_logits(golden_name, seed, tmp_path):
    """Of the released JAX code, on its images."""
    wanted = golden(golden_name)
    arrays = weights(wanted["spec"], golden_name.rpartition("_")[2])
    size_px = 96 if seed == 9 else 64
    backbone = build(f"npz:{saved_npz(arrays, tmp_path)}", {"size_px": size_px}, "x").eval()
    own = backbone.classifier()
    with torch.no_grad():
        found = own.module(backbone.features(images_of(seed, size_px))).numpy()
    assert np.abs(found - wanted["logits"]).max() < 5e-5
    assert (own.classes, own.names) == (wanted["logits"].shape[1], None)
    bare = {name: array for name, array in arrays.items() if "head/" not in name}
    with pytest.raises(UsageError, match="no classifier"):
        build(f"npz:{saved_npz(bare, tmp_path, 'bare.npz')}", {}, "x").classifier()
