"""Small tokenizers of every kind, trained in the test: bytes, byte fallback, WordPiece, Unigram, words, letters."""

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The Law is unbelievable, caf\u00e9 na\u00efve its use.",
    "\u4e2d\u56fd\u4eba\u7231\u4f60 \u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u0932\u093f\u0916\u093e",
    "\ud55c\uad6d\uc5b4 \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd "
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 "
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fb 1\ufe0f\u20e3",
] * 4


def byte_level(prefix: bool, trim: bool) -> Tokenizer:
    output = Tokenizer(models.BPE())
    output.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    letters = pre_tokenizers.ByteLevel.alphabet()
    output.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=letters, show_progress=False)
    )
    output.post_processor = processors.ByteLevel(trim_offsets=trim)
    return output


def byte_fallback() -> Tokenizer:
    """As Llama's: no words before the pieces, and letters that it has not learned as numbers of bytes."""
    output = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    steps = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    output.normalizer = normalizers.Sequence(steps)
    special = ["<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    output.train_from_iterator(
        CORPUS[:1], trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    )
    return output


def word_piece() -> Tokenizer:
    output = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    output.normalizer, output.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    output.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    )
    output.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return output


def unigram() -> Tokenizer:
    output = Tokenizer(models.Unigram())
    output.normalizer, output.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    output.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(vocab_size=160, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False),
    )
    return output


def word_level(pre_tokenizer) -> Tokenizer:
    output = Tokenizer(models.WordLevel(unk_token="<unk>"))
    output.pre_tokenizer = pre_tokenizer
    output.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    return output


KINDS = {
    "GPT-2": lambda: byte_level(False, True),
    "RoBERTa": lambda: byte_level(True, True),
    "untrimmed": lambda: byte_level(True, False),
    "Llama": byte_fallback,
    "WordPiece": word_piece,
    "Unigram": unigram,
    "words": lambda: word_level(pre_tokenizers.Whitespace()),
    "letters": lambda: word_level(pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")),
}
