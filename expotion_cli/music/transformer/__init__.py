"""MusicGen's decoder, its text encoder and the joint-embedding adapter: the whole network, to be read in one sitting.

Reading order:

1. `config.py`, `delay.py`: the decoder's sizes, and how K codebooks share one sequence.
2. `decoder.py`: the network itself. `DecoderLayer.forward` is one layer, `MusicDecoder.forward` is all of them.
3. `attention.py`: projections, the attention product, the KV cache, and what a layer attends to (`AttentionContext`).
4. `adapter.py`: EXPOTION's side stream and the term it adds to self-attention.
5. `context.py`: the plainest `AttentionContext`, where all rows stand at the same position.
6. `text.py`, `t5.py`: the prompt's states for cross-attention.
7. `onednn.py`: the same layers with packed matrices, for few rows on a CPU.
8. `single_step.py`: the same layers for one position of each row, with as few operations as it takes.
"""
