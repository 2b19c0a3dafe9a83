"""The model-index of a model card: read back by Hugging Face's own library, with the values of the records."""

import statistics

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from tests.making.paths import ROOT
from vitbench.core.record import Failure
from vitbench.report.export import export
from vitbench.store.record_file import load


@pytest.fixture(scope="module")
def records():
    return load(ROOT / "reports" / "quickstart")


def test_the_library_reads_the_values_of_the_records(records):
    text = export(records, "model-card").decode()
    index = yaml.safe_load(text)["model-index"]
    assert {entry["name"] for entry in index} == {record.job.backbone.label for record in records}
    count = 0
    for entry in index:
        _, results = model_index_to_eval_results([entry])
        for found in results:
            own = [
                100 * record.metrics["top1"].value
                for record in records
                if record.job.backbone.label == entry["name"]
                and record.job.task.label == found.dataset_name
                and record.job.protocol.label == found.metric_args["protocol"]
                and record.job.budget == found.metric_args["budget"]
            ]
            assert found.metric_value == round(statistics.fmean(own), 2)
            assert found.metric_args["seeds"] == len(own)
            assert (found.task_type, found.metric_type, found.dataset_split) == (
                "image-classification",
                "accuracy",
                "test",
            )
            assert found.metric_args["budget"] in found.metric_name
            count += 1
    cells = {(r.job.backbone.label, r.job.task.label, r.job.protocol.label, r.job.budget) for r in records}
    assert count == len(cells)


def test_it_is_the_head_of_a_card(records):
    own = [record for record in records if record.job.backbone.label == "ViT 4"]
    card = ModelCard(f"---\n{export(own, 'model-card').decode()}---\n# mine\n", ignore_metadata_errors=False)
    assert card.data.model_name == "ViT 4"
    assert len(card.data.eval_results) == len(
        {(r.job.task.label, r.job.protocol.label, r.job.budget) for r in own}
    )


def test_what_failed_is_named(records):
    first = records[0].model_copy(
        update={"status": "failed", "metrics": {}, "failure": Failure(kind="X", message="no")}
    )
    text = export([first, records[1].model_copy(update={"metrics": {}}), *records[2:]], "model-card").decode()
    assert text.count("# no score: ") == 2
    assert f"# no score: {first.job.title}\n" in text
    assert yaml.safe_load(text)["model-index"]
    assert yaml.safe_load(export([first], "model-card").decode())["model-index"] == []
