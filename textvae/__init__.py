"""Sentence VAEs: encoders, decoders, decoding, text measures and the verbs of the command line."""
