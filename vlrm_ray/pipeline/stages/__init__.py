"""The stages of the Ray Data graph: each is called with a part of the rows, and returns it with further columns.

stage                     runs in                          reads                     writes
Ingest                    pool                             prompts                   rows with the image's hash
Generate                  async pool that calls policies   prompts, given responses  candidates
(DetectorExpert, TextExpert in `actors/experts.py`)        image                     evidence
SelfLabel                 async pool that calls critics    candidates                the candidates' rewards
VerifyAndPair             pool                             candidates, evidence      claims with verdicts, pairs
Critique                  async pool that calls critics    pairs, evidence           critiques, selected pairs
Commit                    pool                             all columns               a part in the ledger; its tally

With `cluster.overlap` there is a cut before the first stage that calls critics:

CommitCandidates          pool                             all columns so far        a prepared part; its tally
ReadCandidates            pool                             a part's number           all columns of the prepared part
"""

from vlrm_ray.pipeline.stages.commit import Commit, Tally
from vlrm_ray.pipeline.stages.critique import Critique
from vlrm_ray.pipeline.stages.engine_pool import EnginePool
from vlrm_ray.pipeline.stages.generate import Generate
from vlrm_ray.pipeline.stages.ingest import Ingest, prompt_table
from vlrm_ray.pipeline.stages.prepared import CommitCandidates, ReadCandidates, part_table
from vlrm_ray.pipeline.stages.self_label import SelfLabel
from vlrm_ray.pipeline.stages.verify import VerifyAndPair

__all__ = [
    "Commit",
    "CommitCandidates",
    "Critique",
    "EnginePool",
    "Generate",
    "Ingest",
    "ReadCandidates",
    "SelfLabel",
    "Tally",
    "VerifyAndPair",
    "part_table",
    "prompt_table",
]
