"""The claims that generated statements make, known without reading them, and extractors measured against them."""

from vlrm_ray.claims import Extractor


def extractor_f1(extractor: Extractor, scenes: int, seed: int) -> float:
    """Micro exact-match F1 of an extractor on statements about `scenes` fresh scenes."""
    raise NotImplementedError
