"""The paper beside us, and the evidence behind a verdict: marked, under their own data, and honest where nothing is known."""

import dataclasses

import numpy as np
import pytest
from gitbench.report.scale import figure_4, scale_figure
from gitbench.study.records import PlannedRun, StudyArm, build_frame, load_study
from helpers_runs import CLAIM, make_work_dir

from gitbench.ablations import load_ablation
from gitbench.judge import judge_study
from gitbench.judge.crossed import crossed_interval
from gitbench.judge.noise import NoiseFloor
from gitbench.report.figures import difference_figure, score_figure, yardstick_lines
from gitbench.report.paper import paper_rows
from gitbench.report.paper_table import NO_NUMBERS, NOT_OBTAINED, beside_markdown, beside_tables, paper_numbers
from gitbench.report.style import COLUMN, PAGE, TEXT, legend_columns, nth_style, style
from gitbench.report.verdict_details import Evidence, evidence_lines, gather_evidence, noise_line
from gitbench.report.view import gather
from gitbench.study.lock import LockDeviation


def load(folder, **options):
    work_dir = make_work_dir(folder, **options)
    study = load_study(work_dir, "decoder_size", "cpu", "scenes")
    frame = build_frame(work_dir, [study])
    return study, frame, tuple(judge_study(study, frame, "grammar"))


@pytest.fixture
def grid(tmp_path):
    """A study of data_scale: nine arms of five seeds, whose scores are their place in the grid."""
    study, frame, _ = load(tmp_path, records_only=True)
    ablation = load_ablation("data_scale")
    arms = tuple(
        StudyArm(name=arm.name, role=arm.role, variants=arm.variants, label=arm.name) for arm in ablation.arms["cpu"]
    )
    pattern = frame[frame["metric"] == "CIDEr"]
    tables = [pattern[pattern["role"] != "arm"]]
    rng = np.random.default_rng(0)
    for index, arm in enumerate(arms):
        own = pattern[pattern["arm"] == "large"].assign(arm=arm.name, label=arm.name)
        tables.append(own.assign(value=60 + 5 * index + rng.normal(0, 1, 5)))
    frame = tables[0].__class__(np.concatenate([table.to_numpy() for table in tables]), columns=frame.columns)
    frame = frame.astype({"replicate": "Int64", "value": "float64", "overridden": "bool"})
    floor = tuple(arm for arm in study.arms if arm.role == "floor")
    runs = tuple(PlannedRun(arm=arm.name, replicate=r, run_key=f"{arm.name}{r}") for arm in arms for r in range(5))
    study = dataclasses.replace(
        study, ablation="data_scale", arms=(*arms, *floor), claims=ablation.claims, runs=runs, axis="encoder"
    )
    return study, frame


def test_both_halves_name_their_data_and_a_second_hand_or_digitised_value_is_marked(grid):
    study, frame = grid
    tables = beside_tables(study, frame, tuple(judge_study(study, frame, "grammar")))
    assert len(tables) == 3
    for table in tables:
        assert table.paper_data and "scenes" in table.here_data and "scenes" not in table.paper_data
        assert all(len(row) == len(table.paper_columns) + len(table.here_columns) for row in table.rows)
    claims, figure, standard = tables
    assert {row[2] for row in claims.rows} == {"D"}
    assert len(figure.rows) == 9 and all(cell.endswith("(D)") for row in figure.rows for cell in row[2:5])
    assert "digitised" in figure.paper_data and "names no split" in figure.paper_data
    assert standard.rows[0][:2] == ("GIT_B", "131.4 points (S)") and "Karpathy test" in standard.paper_data


def test_grid_is_matched_by_rank_and_differences_are_those_of_the_figure(grid):
    study, frame = grid
    _, figure, _ = beside_tables(study, frame, tuple(judge_study(study, frame, "grammar")))
    places = {row[5]: row[:2] for row in figure.rows}
    assert places["small_least"] == ("Base", "4M") and places["large_some"] == ("Huge", "14M")
    assert places["base"] == ("Large", "0.8B")
    saturates, gains = study.claims[:2]
    assert paper_numbers(study, saturates)[0].startswith("\N{MINUS SIGN}1.6 points CIDEr on COCO")  # 132.0 - 133.6
    assert paper_numbers(study, gains)[0].startswith("+4.2 points CIDEr on COCO")  # (144.8 - 142.2) - (132.0 - 133.6)


def test_a_trend_has_the_figures_slope_and_a_level_is_not_the_figures(grid):
    study, _ = grid
    base = study.claims[0]
    along = (("large_least", 0.0), ("large_some", 1.0), ("large_all", 2.0))
    trend = dataclasses.replace(base, kind="trend", treatment="large_all", reference="large_least", along=along)
    values = figure_4().query("benchmark == 'COCO' and size == 'Huge'")["value"].to_numpy()
    theirs, code = paper_numbers(study, trend)
    assert code == "D" and theirs.startswith(
        f"{np.polyfit([0, 1, 2], values, 1)[0]:+.1f} points CIDEr on COCO per step ("
    )
    assert all(f"{value:.1f}" in theirs for value in values)
    level = dataclasses.replace(base, kind="threshold", treatment="large_all", reference="", level=60.0)
    assert paper_numbers(study, level) == (NO_NUMBERS, level.confidence)


def test_what_was_not_obtained_is_said_to_be_so(tmp_path):
    study, frame, verdicts = load(tmp_path, records_only=True)
    tables = beside_tables(study, frame, verdicts)
    assert tables[0].rows[0][1:3] == (NOT_OBTAINED, "SQ") and len(tables) == 2
    text = beside_markdown(tables)
    assert "not obtainable" in text and "131.4 points (S)" in text and "COCO, Karpathy test" in text
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_other_tasks_get_the_papers_own_benchmark_of_that_task(tmp_path):
    study, frame, verdicts = load(tmp_path, records_only=True)
    standard = beside_tables(dataclasses.replace(study, data="scenes-vqa"), frame, verdicts)[-1]
    assert standard.rows[0][:2] == ("GIT_B", "72.72 percent (S)") and "VQAv2, test-dev" in standard.paper_data


def test_figure_4_is_27_numbers_and_stands_on_axes_of_its_own(tmp_path, grid):
    assert len(figure_4()) == 27 and set(figure_4()["images"]) == {4e6, 14e6, 0.8e9}
    make_work_dir(tmp_path / "w", replicates=3)
    content = gather(tmp_path / "w", "decoder_size", "cpu", "scenes")
    assert scale_figure(content, "CIDEr") is None
    study, frame = grid
    claims = content.paper_claims.iloc[:1].assign(numbers="figure_4")
    content = dataclasses.replace(
        content, study=study, frame=frame, paper_claims=claims, amounts={arm.name: 300 for arm in study.arms}
    )
    with style(COLUMN):  # a phone's: one panel below the other
        tall = scale_figure(content, "CIDEr", COLUMN)
    assert tall is not None and len(tall.axes) == 4 and tall.get_figheight() > 2 * tall.get_figwidth() == 2 * COLUMN
    with style(TEXT):
        figure = scale_figure(content, "CIDEr", TEXT)
    assert figure is not None and len(figure.axes) == 4 and figure.get_figwidth() == TEXT
    assert ["digitised" in axes.get_title("left") for axes in figure.axes] == [False, True, True, True]
    theirs = {tuple(line.get_xdata()) for axes in figure.axes[1:] for line in axes.lines if len(line.get_xdata()) == 3}
    assert theirs == {(4e6, 14e6, 0.8e9)}
    ours = [x for line in figure.axes[0].lines for x in line.get_xdata()]
    assert max(ours) < 1e6  # nothing of the paper's on our axis


def test_arms_with_an_amount_are_drawn_over_it_one_line_an_encoder(tmp_path, grid):
    make_work_dir(tmp_path / "w", replicates=3)
    study, frame = grid
    amounts = {arm.name: {"n300": 300, "n1500": 1500, "all": 8000}[arm.variants["amount"]] for arm in study.arms[:-1]}
    content = dataclasses.replace(
        gather(tmp_path / "w", "decoder_size", "cpu", "scenes"), study=study, frame=frame, amounts=amounts
    )
    (axes,) = score_figure(content, "CIDEr").axes
    assert "training images" in axes.get_xlabel()
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["vit_2x64_p8_64", "vit_4x96_p8_64", "vit_6x128_p8_64"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["300", "1,500", "8,000"]


def test_no_two_of_six_arms_look_alike_without_colour():
    looks = [nth_style(index)[1:] for index in range(6)]
    assert len({str(nth_style(index)) for index in range(36)}) == 36
    assert len({marker for marker, _ in looks}) == 6 and len({str(dashes) for _, dashes in looks}) == 6


def test_figures_come_in_the_width_that_is_asked_for(tmp_path):
    _, _, verdicts = load(tmp_path, records_only=True)
    assert difference_figure(verdicts, COLUMN).get_figwidth() == COLUMN
    assert difference_figure(verdicts).get_figwidth() == PAGE


@pytest.mark.parametrize("ceiling, drawn", [(110.0, True), (295.0, False)])
def test_a_ceiling_far_above_is_named_at_the_edge(tmp_path, ceiling, drawn):
    from matplotlib.figure import Figure

    _, frame, _ = load(tmp_path, records_only=True, ceiling=ceiling)
    axes = Figure().add_subplot()
    yardstick_lines(axes, frame, "CIDEr")
    levels = [line.get_ydata()[0] for line in axes.lines]
    assert (ceiling in levels) is drawn
    said = [text.get_text() for text in axes.texts if "ceiling" in text.get_text()]
    assert len(said) == 1 and ("off the axis" in said[0]) is not drawn


def test_evidence_holds_both_intervals_with_shares(tmp_path):
    study, _, verdicts = load(tmp_path)
    evidence = gather_evidence(study, tmp_path, verdicts, {})
    lines = dict(evidence_lines(verdicts[0], evidence["larger-no-better"]))
    crossed = evidence["larger-no-better"].crossed
    assert crossed is not None and crossed.replicates == 5 and crossed.images == 12
    assert (
        "Student-t interval" in lines["seeds, on these test images"] and "n = 5" in lines["seeds, on these test images"]
    )
    assert f"{100 * crossed.image_share:.0f} % images" in lines["seeds and test images"]
    assert lines["looks"] == "no earlier report of this study had another number of seeds"
    assert lines["noise floor"].startswith("not measured")
    assert lines["exact sign-flip test"].startswith("p ")


def test_evidence_without_images_or_with_few_seeds_says_so(tmp_path):
    study, _, verdicts = load(tmp_path, records_only=True, replicates=3)
    found = gather_evidence(study, tmp_path, verdicts, {})["larger-no-better"]
    lines = dict(evidence_lines(verdicts[0], found))
    assert found.crossed is None and lines["seeds and test images"].startswith("not measured")
    assert "cannot reach 0.05 with fewer than 5 seeds" in lines["exact sign-flip test"]


@pytest.mark.parametrize("kind", ["trend", "threshold"])
def test_every_kind_of_claim_has_its_interval_over_seeds_and_images(tmp_path, kind):
    along = (("small", 0.0), ("base", 1.0), ("large", 2.0))
    shape = {"along": along, "reference": "small"} if kind == "trend" else {"reference": "", "level": 60.0}
    claim = CLAIM | {"kind": kind, "margin": 0.0, "margin_unit": "metric"} | shape
    study, _, verdicts = load(tmp_path, claims=(claim,))
    found = gather_evidence(study, tmp_path, verdicts, {})["larger-no-better"]
    assert found.crossed is not None and found.crossed.images == 12
    assert dict(evidence_lines(verdicts[0], found))["seeds and test images"].startswith("95 % interval")


def test_evidence_lists_looks_changes_and_the_family(tmp_path):
    _, _, verdicts = load(tmp_path, records_only=True, claims=(CLAIM, CLAIM | {"name": "again", "reference": "small"}))
    change = LockDeviation(
        name="larger-no-better", what="its margin was 2", when="2026-01-01", kind="changed", runs=3, of=10
    )
    looked = dataclasses.replace(verdicts[0], sequential=True, looks=3, p_sign_flip=None)
    lines = dict(evidence_lines(looked, Evidence(changes=(change,))))
    assert lines["claim as locked beforehand"] == "its margin was 2 (2026-01-01)"
    assert lines["looks"].startswith("looked 3 times") and "valid under looking" in lines["seeds, on these test images"]
    assert "sequential test" in lines and lines["exact sign-flip test"] == "does not hold under looking"
    assert lines["Holm, 2 claims of decoder_size"].endswith("after adjustment")


def test_noise_floor_says_whether_the_difference_reaches_it(tmp_path):
    _, _, verdicts = load(tmp_path, records_only=True)
    floor = NoiseFloor(
        metric="CIDEr",
        sd=1.0,
        sd_low=0.6,
        sd_high=2.0,
        n=10,
        seeds=5,
        mde=2.4,
        false_positive_rate=0.04,
        judged=100,
        better_rate=0.05,
        different_rate=0.05,
        splits=126,
        mean=90.0,
        values=(89.0, 91.0),
    )
    smallest = floor.mde_at(5)
    near, far = (dataclasses.replace(verdicts[0], difference=share * smallest) for share in (0.9, 1.1))
    assert "does not reach" in noise_line(near, floor) and "does not reach" not in noise_line(far, floor)
    assert "4.0 %" in noise_line(far, floor) and f"{smallest:.2f} points" in noise_line(far, floor)
    gains = dataclasses.replace(far, claim=dataclasses.replace(far.claim, kind="interaction"))
    assert "does not reach" in noise_line(gains, floor)  # four arms: the least detectable effect is larger


def test_crossed_shares_add_up():
    found = crossed_interval(np.random.default_rng(0).normal(1, 1, (5, 40)))
    assert found.seed_share + found.image_share + found.rest_share == pytest.approx(1)


def test_gains_that_table_1_prints_follow_from_its_values():
    rows = paper_rows(table="Table 1").set_index("id")
    gains = rows[rows["model"].str.endswith("gain over prior SOTA")]
    assert len(gains) == 28
    for identity, row in gains.iterrows():
        value = float(rows.loc[identity.removesuffix("-gain"), "value"])
        prior = float(rows.loc[identity.rsplit("-", 2)[0] + "-prior_sota", "value"])
        assert value - prior == pytest.approx(float(row["value"]), abs=0.051), identity


@pytest.mark.parametrize("width", [COLUMN, PAGE])
@pytest.mark.parametrize("labels", [["self_2x96", "cross_2x96", "cross_2x96_matched"], ["matched_least"] * 10])
def test_legends_stay_within_their_figure(width, labels):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style(width):
        figure = Figure(figsize=(width, 2), layout="constrained")
        axes = figure.add_subplot()
        for label in labels:
            axes.plot([0, 1], marker="o", label=label)
        legend = figure.legend(loc="outside upper center", ncols=legend_columns(labels, width))
        FigureCanvasAgg(figure).draw()
        box = legend.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    assert box.x0 >= 0 and box.x1 <= width
