"""The report of a run: `report.json` with all metrics, and `report.html`, a page that shows them.

build       builds `report.json` from the ledger; `report.schema.json` is its JSON schema
reporter    writes both files during a run, or again afterwards
memory      samples the peak memory of a run
page        renders the page from the templates in `templates/`
headline    the main result in a sentence, and the key metrics at the top
tables, plots, training, timeline, nodes, svg
            tables and plots of the page; plots are converted to inline SVG
gallery, images, box_confidence, text
            prompts with responses, evidence, pairs and critiques; embedded images; how sure their boxes are; text for the page
prompts     finds single prompts of a run for the command `evaluate.py show`
"""
