"""A Transformer trained by Hugging Face's Trainer, with the callback: `python examples/transformers_fine_tuning.py`.

Needs `pip install 'comhe[zoo,transformers]'`. The network is a tiny BERT with random weights, so that nothing is
downloaded; with `AutoModelForSequenceClassification.from_pretrained(...)` in its place the rest stays as it is.
"""

import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from comhe.regularizers import create_regularizer
from comhe.regularizers.integrations.transformers import RegularizerCallback

WORDS, LENGTH = 32, 12


def sentences(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Sentences of numbers; the label says whether most of them are large."""
    words = torch.randint(0, WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
    labels = ((words >= WORDS // 2).sum(1) > LENGTH // 2).long()
    return [
        {"input_ids": x, "attention_mask": torch.ones_like(x), "labels": y} for x, y in zip(words, labels, strict=True)
    ]


def tiny_bert() -> BertForSequenceClassification:
    """Two layers of width 32."""
    sizes = {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": LENGTH}
    return BertForSequenceClassification(BertConfig(num_hidden_layers=2, num_attention_heads=2, num_labels=2, **sizes))


def main(steps: int = 100, count: int = 512) -> dict[str, float]:
    """Train, and return the penalty before and after and the loss on new sentences."""
    torch.manual_seed(0)
    model = tiny_bert()
    # Attention and feed-forward layers by their names; embeddings and the classifier are left alone.
    options = {"weight": {"*encoder*": 1.0, "*": 0.0}, "output_weight": 0.0}
    before = create_regularizer("hs-mhe", model, **options)().item()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=32,
            learning_rate=5e-3,
            logging_steps=20,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=sentences(count, seed=0),
            eval_dataset=sentences(128, seed=1),
            callbacks=[RegularizerCallback("hs-mhe", **options)],  # logs the penalty, saves its state
        )
        trainer.train()
        loss = trainer.evaluate()["eval_loss"]
    after = create_regularizer("hs-mhe", model, **options)().item()
    print(f"penalty {before:.4f} before, {after:.4f} after; loss on new sentences {loss:.4f}")
    return {"before": before, "after": after, "loss": loss}


if __name__ == "__main__":
    main()
