"""The bundled demo model: its corpus, tokenizer, network, training, export and evaluation."""
