"""Every task trains, is scored and reported through the same runner and record as captioning."""

import dataclasses
import functools
import json

import pandas as pd
import pytest
from helpers_data import with_images
from helpers_judge import claim_of
from helpers_study import TINY, make_study, run_of, tiny_profile

from gitbench.commands.report import make_report
from gitbench.data.scenes.words import WORDS
from gitbench.data.tokenizer import CaptionTokenizer
from gitbench.launch.scheduling import launch
from gitbench.spec import TaskSpec
from gitbench.study.find import find_study
from gitbench.tasks import TASKS, for_task, task_spec

CLAIM = claim_of("equivalent", treatment="small", reference="base", margin=0.05, margin_unit="learned")
ASKED = dataclasses.replace(TINY, claims=(CLAIM, dataclasses.replace(CLAIM, name="in-points", margin_unit="metric")))
SCORES = {"vqa": {"VQA", "EM"}, "read": {"accuracy", "accuracy-closed"}, "classify": {"accuracy", "accuracy-closed"}}
pytestmark = pytest.mark.usefixtures("svg_alone")


def run(task, work_dir, data=None, **options):
    study = make_study(work_dir, ASKED, data=data or TASKS[task].data, task_name=task, **options)
    outcome = launch(study, plain=True)
    assert outcome.failed == () and outcome.completed == 3
    return study


def rows(study, arm):
    folder = run_of(study, arm).folder
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], json.loads((folder / "record.json").read_text()), folder


@pytest.fixture(scope="module")
def study_of(tmp_path_factory):
    """Return a function from a task to its study, trained once."""
    return functools.cache(lambda task: run(task, tmp_path_factory.mktemp(task) / "work"))


@pytest.mark.parametrize("task", ["vqa", "video", "classify", "read"])
def test_a_task_trains_and_is_scored_and_reported(task, study_of, tmp_path):
    study = study_of(task)
    predictions, record, folder = rows(study, "base")
    wanted = SCORES.get(task, {"CIDEr", "BLEU-4", "METEOR", "ROUGE-L", "SceneF1"}) | {"test_nll"}
    assert wanted <= set(record["metrics"]) and record["spec"]["task"]["name"] == task
    per_image = pd.read_parquet(folder / "per_image.parquet")
    assert list(per_image["image_id"]) == [row["image_id"] for row in predictions]
    nll = sum(row["nll"] for row in predictions) / sum(row["tokens"] for row in predictions)
    assert record["metrics"]["test_nll"]["value"] == pytest.approx(nll)
    found = find_study(study.work_dir, "tiny", task=task)
    assert found.name == f"tiny.smoke.{TASKS[task].data}-{task}"
    page = (make_report(found, tmp_path / "out") / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") >= 6
    assert ("<dt>question</dt>" in page) == (task == "vqa")
    assert found.plan.claims[0].metric == TASKS[task].metric


def test_questions_are_answered_one_by_one(study_of):
    """A row a question; its likelihood is that of its own answer, and the images of a batch have several each."""
    predictions, _, folder = rows(study_of("vqa"), "base")
    assert all(row["prefix"].endswith("?") and row["image_id"].startswith(row["image"]) for row in predictions)
    images = {row["image"] for row in predictions}
    assert len(images) == 6 < len(predictions) and len({row["image_id"] for row in predictions}) == len(predictions)
    assert not any(row["caption"].startswith(row["prefix"][:8]) for row in predictions)  # the answer alone
    assert set(pd.read_parquet(folder / "per_image.parquet")["image"]) == images
    tokenizer = CaptionTokenizer.load(folder / "tokenizer.json")
    for row in predictions:  # answer and [SEP] count, nothing of the question
        assert row["tokens"] == len(tokenizer.encode(row["references"][0], 40)) + 1


def test_a_folder_of_questions_is_trained_on_and_the_blind_model_answers_too(tmp_path):
    names = [f"{number}.png" for number in range(30)]
    data = with_images(tmp_path / "rooms", names)
    asked = {"question": "what is it ?", "answers": ["a cup"]}
    questions = [{"question_id": number, "image": name, **asked} for number, name in enumerate(names)]
    (data / "questions.json").write_text(json.dumps(questions))
    study = run("vqa", tmp_path / "work", data=str(data))
    for arm in ("base", "blind"):
        predictions, record, _ = rows(study, arm)
        assert {row["references"][0] for row in predictions} == {"a cup"} and "VQA" in record["metrics"]
    assert "rooms-vqa-" in study.name


def test_closed_vocabulary_writes_labels_only(study_of):
    for arm in ("base", "blind"):
        predictions, record, _ = rows(study_of("read"), arm)
        assert {row["closed"] for row in predictions} <= set(WORDS)
        assert all(-1e4 < row["closed_score"] <= 0 for row in predictions)  # a log-probability
    assert record["metrics"]["accuracy"]["signature"] != record["metrics"]["accuracy-closed"]["signature"]


def test_room_for_questions_and_frames():
    profile = tiny_profile()
    larger = for_task(profile, task_spec("vqa", profile))
    assert larger.text.max_tokens == 40 and larger.evaluate.max_length == 42
    assert for_task(profile, TaskSpec()) is profile
    assert for_task(profile, TaskSpec(name="read")).train.captions_per_image == 1
    assert task_spec("video", profile).frames == profile.frames > 1 and task_spec("read", profile).frames == 0
