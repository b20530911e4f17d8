"""Which head does what: a model's heads held against what is known of a corpus, and described where nothing is known.

gold       documents and the questions about them       corpus    from a path to these, whatever the format
conllu     trees and entities                            brat      mentions and who is meant
links      anybody's own links; plain text; scope        baselines what is found without any model
choice     the best head, chosen on one half and reported on the other
"""
