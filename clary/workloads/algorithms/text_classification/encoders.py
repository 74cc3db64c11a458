"""The encoder that is trained further: the one in channel `model`, else a small one made here.

The channel holds what `save_pretrained` of the transformers library writes, as files or in a
`.tar.gz` (JumpStart's own hold TensorFlow models, which are no use here).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from clary.workloads.algorithms.channels import Channel
from clary.workloads.algorithms.errors import UserError
from clary.workloads.algorithms.job import log
from clary.workloads.toolkit.source_code import unpack

CONFIGURATION = "config.json"
VOCABULARY = 8000
LENGTH_MAX = 128
SMALL = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": LENGTH_MAX,
}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def starting(
    channel: Channel | None, texts: list[str], classes: list[int], dropout: float, *, keep_top: bool
) -> tuple[Any, Any]:
    """(tokenizer, model) to train."""
    with _folder(channel) as folder:
        if folder is not None:
            return _given(folder, classes, dropout, keep_top=keep_top)
    log(
        "There is no transformers model in channel 'model': a small encoder with a vocabulary of "
        "the training data is trained from the start."
    )
    return _small(texts, classes, dropout)


@contextmanager
def _folder(channel: Channel | None) -> Iterator[Path | None]:
    """Where config.json is, in the channel or in an archive of it."""
    if channel is None or not channel.path.is_dir():
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        for archive in sorted(channel.path.rglob("*.tar.gz")):
            unpack(archive, Path(scratch) / archive.name)
        places = sorted([*channel.path.rglob(CONFIGURATION), *Path(scratch).rglob(CONFIGURATION)])
        yield places[0].parent if places else None


def _given(folder: Path, classes: list[int], dropout: float, *, keep_top: bool) -> tuple[Any, Any]:
    try:
        configuration = AutoConfig.from_pretrained(folder, local_files_only=True)
        fits = getattr(configuration, "num_labels", 0) == len(classes)
        if keep_top and not fits:
            raise UserError(
                f"reinitialize_top_layer is False, but the model has {configuration.num_labels} "
                f"classes and the data {len(classes)}."
            )
        configuration.num_labels = len(classes)
        for name in ("hidden_dropout_prob", "dropout", "classifier_dropout"):
            if hasattr(configuration, name):
                setattr(configuration, name, dropout)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, config=configuration, local_files_only=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as problem:
        raise UserError(f"The model in channel 'model' cannot be loaded: {problem}") from problem
    if fits and not keep_top:
        _reinitialize(model)
    log(f"Training {type(model).__name__} of channel 'model' further")
    return tokenizer, model


def top_layer(model: Any) -> list[Any]:
    """The parameters that are not the encoder's."""
    encoder = {id(one) for one in model.base_model.parameters()}
    return [one for one in model.parameters() if id(one) not in encoder]


def _reinitialize(model: Any) -> None:
    for parameter in top_layer(model):
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.02)
        else:
            parameter.data.zero_()


def _small(texts: list[str], classes: list[int], dropout: float) -> tuple[Any, Any]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ids = [(word, tokenizer.token_to_id(word)) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ids
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LENGTH_MAX,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    configuration = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        num_labels=len(classes),
        hidden_dropout_prob=dropout,
        pad_token_id=tokenizer.token_to_id("[PAD]"),
        **SMALL,
    )
    return wrapped, BertForSequenceClassification(configuration)
