"""What was tried, what became of it, and what was found."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.finding import Finding


@dataclass
class Report:
    """`Report` counts what was tried, and writes findings. outcomes: of each target."""

    folder: Path
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    findings: dict[tuple[str, str, str], Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def count(self, target: str, outcome: str, number: int = 1) -> None:
        self.outcomes.setdefault(target, Counter())[outcome] += number

    def add(self, finding: Finding) -> None:
        self.count(finding.target, f"FINDING {finding.kind}")
        if finding.key not in self.findings:
            self.findings[finding.key] = finding.write(self.folder)
            print(f"finding: {finding.kind}: {finding.signature}: {self.findings[finding.key]}", flush=True)

    def add_file(self, target: str, path: Path) -> None:
        """Add an input that a coverage-guided process has written. The text beside it begins with the signature."""
        text = path.with_suffix(".txt")
        signature = text.read_text().partition("\n")[0] if text.exists() else path.name.partition("-")[0]
        self.count(target, "FINDING")
        if self.findings.setdefault((target, "input", signature), path) is path:
            print(f"finding: {target}: {signature}: {path}", flush=True)

    def print(self) -> None:
        print()
        for target, outcomes in sorted(self.outcomes.items()):
            counts = ", ".join(f"{outcome} {number}" for outcome, number in outcomes.most_common(12))
            total = outcomes.total()
            print(f"{target:18} {self.seconds[target]:6.0f} s {total:9} inputs   {counts}")
        for note in self.notes:
            print(note)
        print(f"{len(self.findings)} findings" + (":" if self.findings else ""))
        for (target, kind, signature), path in self.findings.items():
            print(f"  {target}: {kind}: {signature}\n    {path}")
