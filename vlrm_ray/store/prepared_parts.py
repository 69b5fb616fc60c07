"""Prepared parts: the candidates of a round's parts, made ahead of their critiques.

    runs/<name>/round-0002/prepared/part-00000.parquet   all columns of the rows so far; it exists once it is complete

A prepared part is one file, which is written atomically and holds checksums of its pages. It is removed when its round is
gathered; until then a resumed run starts from it, whether it still makes candidates ahead or not.
"""

import io
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq

from vlrm_ray.errors import UserError
from vlrm_ray.store.filesystem import storage_errors
from vlrm_ray.store.ledger import Ledger


class PreparedParts:
    """Reads and writes the prepared parts of a round."""

    def __init__(self, ledger: Ledger, round_: int) -> None:
        """Use the folder of a round."""
        self.ledger, self.folder = ledger, ledger.round_folder(round_, "prepared")

    def numbers(self) -> list[int]:
        """Numbers of the prepared parts."""
        return [int(name[5:-8]) for name in self.ledger.names(self.folder, "part-", ".parquet")]

    def put(self, part: int, rows: pa.Table) -> None:
        """Commit a prepared part."""
        sink = io.BytesIO()
        pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
        self.ledger.put(self._name(part), sink.getvalue())

    def get(self, part: int) -> pa.Table:
        """The rows of a prepared part.

        Raises:
            UserError: the file is missing or damaged.
        """
        name = self._name(part)
        data = self.ledger.get(name)
        try:
            return pq.read_table(io.BytesIO(data or b""), page_checksum_verification=True)
        except (pa.ArrowInvalid, OSError):
            where = self.ledger.location(name)
            raise UserError(f"{where} is damaged; delete it, then run the same command again") from None

    def quarantined(self, part: int) -> list[str]:
        """Why each row of a prepared part is quarantined, "" for the others; [] if there is no such part, or a damaged one."""
        table = self.ledger.read_table(self._name(part), ["quarantined"])
        return [] if table is None else list(table.column("quarantined").to_pylist())

    def remove(self, part: int) -> None:
        """Delete a prepared part, so that it is made again."""
        path = self.ledger.path(self._name(part))
        with storage_errors("delete", path), suppress(FileNotFoundError):
            self.ledger.fs.delete_file(path)

    def clear(self) -> None:
        """Delete all prepared parts."""
        self.ledger.remove(self.folder)

    def _name(self, part: int) -> str:
        return f"{self.folder}/part-{part:05d}.parquet"
