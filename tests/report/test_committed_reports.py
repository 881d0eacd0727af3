"""Reports under reports/results are today's: made by this numerics version, and their words what their runs give."""

import pytest

from gitbench.files import resource
from gitbench.report.results import load_results
from gitbench.study.verify import moved_on

RESULTS = load_results(resource("reports/results"))


@pytest.mark.parametrize("result", RESULTS, ids=[f"{each.ablation}.{each.profile}.{each.data}" for each in RESULTS])
def test_no_committed_report_is_stale(result):
    fix = f"run `{result.manifest['command']}` again and `gitbench publish {result.ablation}`"
    stale = moved_on(result.origin.numerics)
    assert not stale, f"{stale}: {fix}"
    assert not result.origin.notes, f"{'; '.join(result.origin.notes)}: {fix}"
