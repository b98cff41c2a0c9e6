"""`segserve evaluate`: the commands of the package `evaluate`, and `volumes`, which runs jobs as well."""

from segserve.commands.evaluate_volumes import evaluate_volumes
from segserve.evaluate.cli import app

app.command("volumes")(evaluate_volumes)
