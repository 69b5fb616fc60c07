"""Where stages that run elsewhere say how far they are."""


class ProgressBoard:
    """Counts of rows by stage; the driver reads them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.busy: dict[str, float] = {}

    def add(self, stage: str, rows: int, seconds: float = 0.0) -> None:
        """Count rows that left a stage, and the seconds it was busy with them."""
        self.counts[stage] = self.counts.get(stage, 0) + rows
        self.busy[stage] = self.busy.get(stage, 0.0) + seconds

    def take(self) -> dict[str, int]:
        """The rows of each stage so far."""
        return dict(self.counts)

    def seconds(self) -> dict[str, float]:
        """The busy seconds of each stage so far."""
        return dict(self.busy)

    def clear(self) -> None:
        """Begin again, for a new round."""
        self.counts.clear()
        self.busy.clear()
