"""The one table of a check: worst first, as text and as Markdown."""

import dataclasses

# What a row may say, the worst first.
FAILED, DIFFERS, LEFT_OUT, INFO, OK = "FAILED", "DIFFERS", "left out", "figure", "ok"
ORDER = (FAILED, DIFFERS, LEFT_OUT, INFO, OK)
HEADER = ("check", "what", "CPU", "device", "ratio", "verdict", "remarks")


@dataclasses.dataclass
class Row:
    check: str
    what: str
    verdict: str
    cpu: str = ""
    device: str = ""
    ratio: float | None = None  # device over CPU, where that is a figure of its own
    note: str = ""
    excess: float = 0  # how far beyond what is allowed; sorts rows of one verdict

    def cells(self):
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} x"
        return (self.check, self.what, self.cpu, self.device, ratio, self.verdict, self.note)


def worst_first(rows):
    """Rows by verdict, then by how much they exceed; figures by their ratio, the slowest first."""
    return sorted(rows, key=lambda row: (ORDER.index(row.verdict), -row.excess, -(row.ratio or 0)))


def text_of(rows):
    lines = [HEADER, *(row.cells() for row in worst_first(rows))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([shown[0], "-" * max(map(len, shown)), *shown[1:]])


def markdown_of(rows):
    def line(cells):
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    return "\n".join([line(HEADER), line(["---"] * len(HEADER)), *(line(row.cells()) for row in worst_first(rows))])


def summary(rows):
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ORDER}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def succeeded(rows):
    return bool(rows) and not any(row.verdict in (FAILED, DIFFERS) for row in rows)


def judged(check, what, value, most, note=""):
    """A row for a difference that may be `most`."""
    good = value <= most  # not for a NaN
    return Row(check, what, OK if good else DIFFERS, device=f"{value:.1e}", note=note or f"at most {most:.0e}",
               excess=0 if good else value / most if value == value else float("inf"))
