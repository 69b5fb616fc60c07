"""How each shipped asset is made from nothing: one module each, run by `jobs/build_assets.py`."""
