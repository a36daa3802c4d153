"""`paperloop report RUN...`: what a set of run folders says, as a table, figures, report.md and report.json.

Agents are pooled where method, configuration and the trainer's label for the agent are equal. The table gives, for
each group, the last value of each metric: a statistic over its agents with its bootstrap interval.
"""

from paperloop_lab.report.build import report, report_command
from paperloop_lab.report.groups import Final, Group
from paperloop_lab.report.reading import Run
from paperloop_lab.report.tables import Report

__all__ = ["Final", "Group", "Report", "Run", "report", "report_command"]
