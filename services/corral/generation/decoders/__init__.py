"""From token ids to logits: plain functional decoders for the families that people fine-tune.

`base.Decoder` is what generation needs of any of them; `opening.open_decoder` finds the right one for
a folder. Knows nothing of text, sampling or requests.
"""
