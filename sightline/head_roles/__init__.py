"""Which head does what: a model's heads held against what is known of a corpus, and described where nothing is known.

What should be found            What the model does            What follows
    gold      the questions         subject  the model             baselines  what needs no model
    corpus    from a path to them   words    from pieces to words  choice     the best head: chosen here, reported there
    conllu brat links bindings      packs    one pass, tapped         examples   texts that show it
    coreference sentences           measuring, and what it needs      ablation   what is lost without a head
                                                                      report     all of it; pages, what its page shows
"""

from sightline.head_roles.report import heads

__all__ = ["heads"]
