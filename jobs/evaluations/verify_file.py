"""Check all responses of a file against their images: a Parquet table of verdicts, and its summary.

Rows are processed in batches that are bounded by the memory of their decoded images, so a file may have any length.
"""

import os
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vlrm_ray.claims import Extractor
from vlrm_ray.errors import BadImage, UserError
from vlrm_ray.experts.verifier import Verifier
from vlrm_ray.experts.vision_experts import BATCH, VisionExperts
from vlrm_ray.ids import sha256_of
from vlrm_ray.pipeline.progress import Progress
from vlrm_ray.pipeline.prompt_rows import COLUMNS, EMBEDDED, NO_RESPONSE, embedded_content, explain, prompt_of_row
from vlrm_ray.report.text import describe_claim, percent
from vlrm_ray.store.decoding import decode
from vlrm_ray.store.filesystem import is_remote, redacted
from vlrm_ray.store.images import BATCH_BYTES, is_uri, is_web, memory_of, read_bytes
from vlrm_ray.store.row_files import read_rows
from vlrm_ray.store.web import download
from vlrm_ray.types import CheckedClaim, ClaimType, Evidence, GivenResponse, PromptRef, Verdict

NO_CLAIM = "no_claim"
"""Reason of a response that makes no checkable claim."""
_MAX_ROWS = 256
"""Largest number of rows in a batch."""
_KNOWN_IMAGES = 4096
"""Images whose evidence is kept, for further rows about them."""
_MAX_SOURCES = 10
"""Largest number of sources that the summary lists."""
_EVIDENCE = pa.struct(
    {
        "kind": pa.string(),
        "text": pa.string(),
        "score": pa.float64(),
        **{corner: pa.float64() for corner in ("x0", "y0", "x1", "y1")},
    }
)
SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "image": pa.string(),
        "sha256": pa.string(),
        "question": pa.string(),
        "response": pa.int32(),
        "source": pa.string(),
        "statement": pa.string(),
        "claim": pa.string(),
        "kind": pa.string(),
        "verdict": pa.string(),
        "confidence": pa.float64(),
        "reason": pa.string(),
        "evidence": pa.list_(_EVIDENCE),
    }
)
"""Columns of the table: one row for each claim. A response without a claim, and a row or response that cannot be used, has
one row with the reason and without a verdict. `response` counts from 0 within the row; -1 stands for the row itself."""


@dataclass
class Summary:
    """Counts of a file.

    Attributes:
        rows: rows of the file.
        images: different images that were inspected; one that comes back much later counts again.
        formats: rows by format.
        quarantined: rows that cannot be used, by reason.
        unusable: responses that cannot be used, by reason.
        claims: claims by kind and verdict.
        responses: by source, the responses that were checked (`checked`), and those of them `without_claim`, with
            a `contradicted` claim, and with supported claims only or besides unverifiable ones (`supported`).
        example: the first row that cannot be used, with what was expected; "" without one.
    """

    rows: int = 0
    images: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    unusable: Counter[str] = field(default_factory=Counter)
    claims: dict[str, Counter[str]] = field(default_factory=lambda: {kind.value: Counter() for kind in ClaimType})
    responses: dict[str, Counter[str]] = field(default_factory=dict)
    example: str = ""

    @property
    def totals(self) -> Counter[str]:
        """The counts of `responses` over all sources."""
        return sum(self.responses.values(), Counter())

    def as_json(self) -> dict[str, Any]:
        """The summary as a JSON object."""
        return {
            "rows": self.rows,
            "images": self.images,
            "formats": dict(self.formats),
            "quarantined": dict(self.quarantined),
            "unusable_responses": dict(self.unusable),
            "claims": {kind: {v.value: counts[v] for v in Verdict} for kind, counts in self.claims.items()},
            "responses": {source: dict(counts) for source, counts in self.responses.items()},
        }


@dataclass(frozen=True)
class FileVerifier:
    """Verifies the responses of files.

    Attributes:
        experts: detector and OCR reader.
        extractor: extracts the claims.
        verifier: checks them.
        hosts: hosts that images may be downloaded from.
    """

    experts: VisionExperts
    extractor: Extractor
    verifier: Verifier
    hosts: Sequence[str] = ()

    def run(self, data: str, images: str, out: Path, progress: Progress) -> Summary:
        """Verify a file and write the table.

        Args:
            data: path or URI of the file; see `vlrm_ray.store.row_formats`.
            images: folder or URI that relative image paths start at; "" means the folder of the file.
            out: the table to write. It appears when it is complete.
            progress: reports the progress.

        Raises:
            UserError: the file cannot be read, or has no rows.
        """
        summary, partial = Summary(), out.with_name(f"{out.name}.partial-{os.getpid()}")
        batches = _Batches(self, summary, data, images)
        try:
            with progress.stage(f"verify {redacted(data)}") as meter, pq.ParquetWriter(partial, SCHEMA) as writer:
                for batch in batches:
                    writer.write_table(pa.Table.from_pylist(self._verdicts(batch, batches.evidence, summary), SCHEMA))
                    meter.set_state(f"{summary.rows:,} rows, {summary.totals['checked']:,} responses")
                if not summary.rows:
                    raise UserError(f"--data {redacted(data)} has no rows; give a file with images and responses")
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)
        return summary

    def _verdicts(
        self, batch: Sequence["_Item"], evidence: OrderedDict[str, Evidence], summary: Summary
    ) -> list[dict[str, Any]]:
        """The table's rows for a batch."""
        texts = [(r.text, i.ref.question) for i in batch if not i.ref.problem for r in i.ref.responses if not r.problem]
        extracted = iter(self.extractor.claims_batch(texts))
        records: list[dict[str, Any]] = []
        for item in batch:
            if item.ref.problem:
                records.append(_record(item, -1, reason=item.ref.problem))
                continue
            seen = evidence[item.sha256]
            for index, response in enumerate(item.ref.responses):
                if response.problem:
                    summary.unusable[response.problem] += 1
                    records.append(_record(item, index, response, response.problem))
                    continue
                checked = self.verifier.check_all(next(extracted).claims, seen)
                _count(summary, response, checked)
                records += [_claim_record(item, index, response, c, seen) for c in checked]
                if not checked:
                    records.append(_record(item, index, response, NO_CLAIM))
        return records


@dataclass(frozen=True)
class _Item:
    """A row of the file: its number, prompt, and image hash."""

    row: int
    ref: PromptRef
    sha256: str = ""


class _Batches:
    """Reads a file into batches of items whose evidence is known.

    Attributes:
        evidence: evidence of the latest images by hash, the last used ones last.
    """

    def __init__(self, owner: FileVerifier, summary: Summary, data: str, images: str) -> None:
        self.owner, self.summary, self.data, self.images = owner, summary, data, images
        self.evidence: OrderedDict[str, Evidence] = OrderedDict()

    def __iter__(self) -> Iterator[list[_Item]]:
        batch: list[_Item] = []
        opened: dict[str, Image.Image] = {}
        for number, row in read_rows(self.data, COLUMNS, invalid="keep"):
            batch.append(self._item(number, row, opened))
            full = len(opened) >= BATCH or sum(map(memory_of, opened.values())) >= BATCH_BYTES
            if full or len(batch) >= _MAX_ROWS:
                self._inspect(opened)
                yield batch
                batch, opened = [], {}
                while len(self.evidence) > _KNOWN_IMAGES:
                    self.evidence.popitem(last=False)
        if batch:
            self._inspect(opened)
            yield batch

    def _item(self, number: int, row: Any, opened: dict[str, Image.Image]) -> _Item:
        """The item of a row; an image without evidence is added to `opened`."""
        summary = self.summary
        summary.rows += 1
        ref, form = prompt_of_row(row, self.data, self.images)
        summary.formats[form] += 1
        problem, sha256, why = ref.problem or ("" if ref.responses else NO_RESPONSE), "", ""
        if not problem:
            try:
                content = self._content(ref.image, row)
                sha256 = sha256_of(content)
                if sha256 in self.evidence:
                    self.evidence.move_to_end(sha256)
                elif sha256 not in opened:
                    opened[sha256] = decode(content)
            except BadImage as error:
                problem = str(error)
                why = f"{problem}: {_explain_image(problem, ref.image)}"
        if problem:
            summary.quarantined[problem] += 1
            summary.example = summary.example or f"row {number}: {why or f'{problem}; {explain(problem, row)}'}"
            ref = PromptRef(ref.image, ref.question, problem)
        return _Item(number, ref, sha256)

    def _content(self, image: str, row: Any) -> bytes:
        """Content of a row's image file; raises BadImage."""
        if image.startswith(EMBEDDED):
            return embedded_content(row) or b""
        if self.owner.hosts and is_web(image):
            return download(image, self.owner.hosts)
        return read_bytes(image)

    def _inspect(self, opened: dict[str, Image.Image]) -> None:
        """Run the experts on images."""
        found = self.owner.experts.inspect([np.asarray(image) for image in opened.values()]) if opened else []
        self.evidence.update(zip(opened, found, strict=True))
        self.summary.images += len(opened)


def _explain_image(problem: str, image: str) -> str:
    """Which image of a well-formed row cannot be used, and what to look at."""
    if image.startswith(EMBEDDED):
        return "the image inside the row"
    if problem == "image_missing" and not is_uri(image):
        return f"no file {image} (relative paths start at the data file; see --images)"
    return redacted(image)


def _record(item: _Item, index: int, response: GivenResponse | None = None, reason: str = "") -> dict[str, Any]:
    return {
        "row": item.row,
        "image": item.ref.image,
        "sha256": item.sha256,
        "question": item.ref.question,
        "response": index,
        "source": response.source if response else "",
        "reason": reason,
        "evidence": [],
    }


def _claim_record(
    item: _Item, index: int, response: GivenResponse, checked: CheckedClaim, evidence: Evidence
) -> dict[str, Any]:
    finding = checked.finding
    boxes = [("object", o.name, o.score, o.box) for o in (evidence.objects[i] for i in finding.objects)]
    boxes += [("word", w.text, w.score, w.box) for w in (evidence.words[i] for i in finding.words)]
    return _record(item, index, response, finding.reason) | {
        "statement": response.text[slice(*checked.claim.span)],
        "claim": describe_claim(checked.claim),
        "kind": checked.claim.type.value,
        "verdict": finding.verdict.value,
        "confidence": finding.confidence,
        "evidence": [
            {"kind": kind, "text": text, "score": score, **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))}
            for kind, text, score, box in boxes
        ],
    }


def _count(summary: Summary, response: GivenResponse, checked: Sequence[CheckedClaim]) -> None:
    verdicts = Counter(c.finding.verdict for c in checked)
    for claim in checked:
        summary.claims[claim.claim.type.value][claim.finding.verdict] += 1
    counts = summary.responses.setdefault(response.source, Counter())
    counts["checked"] += 1
    counts["without_claim"] += not checked
    counts["contradicted"] += verdicts[Verdict.CONTRADICTED] > 0
    counts["supported"] += verdicts[Verdict.SUPPORTED] > 0 and not verdicts[Verdict.CONTRADICTED]


def print_summary(summary: Summary, progress: Progress, seconds: float) -> None:
    """Print the summary of a file that took some seconds."""
    rate = summary.images / max(seconds, 1e-9)
    progress.log(f"{summary.rows:,} rows, read as {_counts(summary.formats)}; {summary.images:,} images, {rate:.2g}/s")
    kinds = [
        [kind, f"{counts.total():,}", *(_share(counts[v], counts.total()) for v in Verdict)]
        for kind, counts in summary.claims.items()
    ]
    every = sum(summary.claims.values(), Counter[str]())
    kinds.append(["all", f"{every.total():,}", *(_share(every[v], every.total()) for v in Verdict)])
    progress.table("claims", ["kind", "claims", *(v.value for v in Verdict)], kinds)
    names = ("contradicted", "supported", "without_claim")
    largest = sorted(summary.responses.items(), key=lambda item: -item[1]["checked"])
    sources = [(source or "(not named)", counts) for source, counts in largest[:_MAX_SOURCES]] if largest else []
    if len(largest) > _MAX_SOURCES:
        rest: Counter[str] = sum((counts for _, counts in largest[_MAX_SOURCES:]), Counter())
        sources.append((f"({len(largest) - _MAX_SOURCES} others)", rest))
    rows = [
        [source, f"{counts['checked']:,}", *(_share(counts[name], counts["checked"]) for name in names)]
        for source, counts in [*sources, ("all", summary.totals)]
    ]
    columns = ["source", "responses", "with a contradicted claim", "supported, none contradicted", "without a claim"]
    progress.table("responses", columns, rows)
    if summary.unusable:
        progress.log(f"responses that cannot be used: {_counts(summary.unusable)}")
    if summary.quarantined:
        progress.log(f"quarantined rows: {_counts(summary.quarantined)} (first: {summary.example})")


def check_any(summary: Summary, out: Path) -> None:
    """Raise UserError if no response of a file could be checked."""
    if not summary.totals["checked"]:
        reasons = summary.quarantined + summary.unusable
        first = f"; {summary.example}" if summary.example else ""
        raise UserError(f"no response was checked: {_counts(reasons)}{first}; correct the rows, which {out} lists")


def _share(count: int, total: int) -> str:
    return f"{count:,} ({percent(count / total)})" if total else "0"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def output_path(out: str) -> Path:
    """The path of an output file; raises UserError if it is no local path of a Parquet file in a folder that exists."""
    path = Path(out)
    if is_remote(out) or not path.parent.is_dir() or path.is_dir():
        raise UserError(f"--out {redacted(out)}: expected a file in an existing local folder; create the folder first")
    if path.suffix != ".parquet":
        raise UserError(f"--out {redacted(out)}: the table is written as Parquet; give a file that ends with .parquet")
    return path
