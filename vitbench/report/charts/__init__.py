"""Charts of records and boards, one file each; the page and `--figures` draw those in CHARTS, in this order."""

from vitbench.report.charts.chart import Chart
from vitbench.report.charts.cost import COST
from vitbench.report.charts.intervals import GROUPS, SEEDS
from vitbench.report.charts.pretraining import PRETRAINING
from vitbench.report.charts.robustness import ROBUSTNESS
from vitbench.report.charts.shots import SHOTS
from vitbench.report.charts.trials import TRIALS

CHARTS: tuple[Chart, ...] = (COST, ROBUSTNESS, GROUPS, SEEDS, TRIALS, PRETRAINING, SHOTS)
