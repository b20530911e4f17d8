"""Which head does what: the heads of a model measured on a corpus, with gold answers or without. Begin with `report`.

gold        questions and right answers: corpus (from a path to them), conllu, coreference, links, task_corpora
pass        measuring -> windows, forward_pass -> layout -> definition (with runs) or kernels/head_sums -> totals
choice      the best head of each relation, chosen on one half and reported on the other, beside baselines
report      heads.json and tables: choice, examples, ablation; page_data is what its page shows
"""

from sightline.head_roles.report import heads

__all__ = ["heads"]
